# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam compare A B`: two policies on the same episodes, or two recipes over their seeds.

Two `results.json` of `trl-glam eval` give the paired test; two folders of `trl-glam train --seeds` (or of single runs)
give success, sample efficiency and the probability of improvement over seeds.
"""

from __future__ import annotations

from pathlib import Path

from ..evaluation.results import RESULTS_NAME, compare_results, comparison_table, read_results
from ..evaluation.seeds import read_seed_runs, seeds_table
from ..types import InvalidInputError
from . import common


def main(argv: list[str]) -> int:
    parser = common.CommandParser(
        prog="trl-glam compare",
        description="Compare two evaluations of the same episodes (the difference of the success rates with a "
        "bootstrap interval over episodes, McNemar's exact test, and Holm's adjustment over all tests they share), "
        "or two recipes over their seeds (success, sample efficiency, steps to a threshold, probability of "
        "improvement).",
    )
    parser.add_argument(
        "first", metavar="A", help="results.json of `trl-glam eval` or its folder, or a folder of runs"
    )
    parser.add_argument("second", metavar="B", help="the same of another policy or recipe")
    parser.add_argument(
        "--threshold", type=float, default=0.9, help="success rate to reach, over seeds (default: 0.9)"
    )
    args = parser.parse_args(argv)

    folders = [Path(args.first), Path(args.second)]
    if all(_holds_runs(folder) for folder in folders):
        if not 0 < args.threshold <= 1:
            raise InvalidInputError(f"--threshold={args.threshold} is given; it must lie in (0, 1].")
        print(seeds_table({str(folder): read_seed_runs(folder) for folder in folders}, args.threshold))
        return 0
    first, second = read_results(args.first), read_results(args.second)
    comparisons = compare_results(first, second)
    print(comparison_table(comparisons, first["policy"], second["policy"], first["confidence"]))
    return 0


def _holds_runs(folder: Path) -> bool:
    """Whether a folder is of training runs, without an evaluation in it."""
    if not folder.is_dir() or (folder / RESULTS_NAME).is_file():
        return False
    return (folder / "trainer_state.json").is_file() or any(folder.glob("seed-*/trainer_state.json"))
