# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam import-lamorel PATH`: convert a checkpoint of GLAM's own code (`trl_glam/hub/import_lamorel.py`)."""

from __future__ import annotations

import argparse

from ..hub import import_lamorel
from . import common


_DESCRIPTION = """\
Convert a checkpoint of GLAM's own code (lamorel's model.checkpoint: a language model with its value head, and an
action head if it has one) into the folder of a policy. It is read as tensors only. The policy scores as that code
does: scoring "paper", temperature 1, no calibration.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = common.CommandParser(
        prog="trl-glam import-lamorel", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", metavar="PATH", help="model.checkpoint, or the folder that holds it")
    parser.add_argument("--output_dir", metavar="DIR", required=True, help="folder of the policy")
    parser.add_argument(
        "--base_model",
        metavar="MODEL",
        default="google/flan-t5-large",
        help="the model that was trained: gives shape and tokenizer (default google/flan-t5-large)",
    )
    parser.add_argument("--actions", nargs="+", metavar="A", help="actions of an action head, in its order")
    parser.add_argument(
        "--num_observations", type=common.positive_int, default=3, metavar="N", help="window (default 3)"
    )
    parser.add_argument("--language", choices=("english", "french"), default="english", help="of the prompt")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    policy = import_lamorel(
        args.path,
        args.output_dir,
        base_model=args.base_model,
        actions=args.actions,
        num_observations=args.num_observations,
        language=args.language,
    )
    print(f"{args.output_dir}: a policy of {policy.num_parameters():,} parameters from {args.path}")
    return 0
