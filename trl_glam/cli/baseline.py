# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam baseline drrn|symbolic --config RECIPE`: train a baseline that has no language model."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from ..types import InvalidInputError
from .recipe import parse_recipe


_MODULES = {"drrn": "drrn", "symbolic": "symbolic_ppo"}
_USAGE = f"""\
usage: trl-glam baseline {{{",".join(_MODULES)}}} --config RECIPE [--any_field v]

Train DRRN or Symbolic-PPO; evaluate it with `trl-glam eval drrn:DIR` or `symbolic:DIR`.
`trl-glam baseline drrn --help` lists the fields.

examples:
  trl-glam baseline drrn --config drrn.cpu --output_dir outputs/drrn
  trl-glam baseline symbolic --config symbolic.cpu --seed 2 --resume_from_checkpoint"""


def main(argv: Sequence[str]) -> int:
    """Train; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if argv else 2
    if argv[0] not in _MODULES:
        raise InvalidInputError(f"There is no baseline {argv[0]!r}: choose one of {', '.join(_MODULES)}.")
    module = importlib.import_module(f"trl_glam.baselines.{_MODULES[argv[0]]}")
    (config,) = parse_recipe(f"baseline {argv[0]}", (module.Config,), argv[1:], module.__doc__.splitlines()[0])
    metrics = module.train(config)
    print(f"Saved the agent in {config.output_dir}. Evaluation: { ({k: round(v, 3) for k, v in metrics.items()}) }")
    return 0
