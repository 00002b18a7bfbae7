# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam pull REPO`: fetch a policy or an interaction log from the Hub into a folder (`trl_glam/hub/pull.py`)."""

from __future__ import annotations

import argparse

from ..hub import pull
from . import common


_DESCRIPTION = """\
Fetch a policy or an interaction log from the Hub into a folder and check every file against the Hub's hash. Pickles
and other unknown kinds of files stay there. An interrupted pull goes on where it stopped. Commands that take a POLICY
or a log take the repository's name too; a pull is for a copy to keep or to change.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = common.CommandParser(
        prog="trl-glam pull", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repo_id", metavar="REPO", help="owner/name of a model or a dataset")
    parser.add_argument("--output_dir", metavar="DIR", help="where to (default: the repository's name, here)")
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit (default main)")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    pulled = pull(args.repo_id, args.output_dir, revision=args.revision)
    print(f"{args.repo_id} ({pulled.repo_type}), revision {pulled.revision}, is in {pulled.folder}")
    if pulled.skipped:
        print(f"left on the Hub: {', '.join(pulled.skipped)}")
    return 0
