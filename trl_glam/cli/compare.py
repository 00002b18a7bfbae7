# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam compare A/results.json B/results.json`: the paired test of two policies on the same episodes."""

from __future__ import annotations

from ..evaluation.results import compare_results, comparison_table, read_results
from . import common


def main(argv: list[str]) -> int:
    parser = common.CommandParser(
        prog="trl-glam compare",
        description="Compare two evaluations of the same episodes: the difference of the success rates with a "
        "bootstrap interval over episodes, McNemar's exact test, and Holm's adjustment over all tests they share.",
    )
    parser.add_argument("first", metavar="A", help="results.json of `trl-glam eval`, or its folder")
    parser.add_argument("second", metavar="B", help="results.json of another policy on the same suites")
    args = parser.parse_args(argv)

    first, second = read_results(args.first), read_results(args.second)
    comparisons = compare_results(first, second)
    print(comparison_table(comparisons, first["policy"], second["policy"], first["confidence"]))
    return 0
