# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""How often a 95 % bootstrap interval over few seeds covers the truth: `python benchmarks/bootstrap_coverage.py`.

Each trial draws the final success rates of a handful of seeds from a Beta distribution (mean .8, standard deviation
.09: the spread between runs that PPO shows), takes the stratified bootstrap interval as the tables do, and asks
whether it holds the distribution's own mean or interquartile mean. Left out: that a success rate is itself measured on
finitely many episodes. Prints the Markdown table of `docs/evaluation.md`; `--output FILE` also writes it as JSON.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from trl_glam.evaluation import statistics


ALPHA, BETA = 15.0, 3.75
NUM_SEEDS = (2, 3, 5, 10, 20)
NUM_TASKS = (1, 5)


def coverage(statistic, truth: float, num_seeds: int, num_tasks: int, num_trials: int, seed: int) -> float:
    """Share of trials whose interval holds `truth`."""
    rng = np.random.default_rng([seed, num_seeds, num_tasks])
    covered = 0
    for trial in range(num_trials):
        scores = rng.beta(ALPHA, BETA, size=(num_seeds, num_tasks))
        low, high = statistics.stratified_bootstrap(scores, statistic=statistic, num_resamples=1000, seed=trial)
        covered += low <= truth <= high
    return covered / num_trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000, help="simulated experiments a cell (default 4000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation (default 0)")
    parser.add_argument("--output", metavar="FILE", help="also write the table as JSON")
    args = parser.parse_args()

    population = np.random.default_rng(args.seed).beta(ALPHA, BETA, size=(1_000_000, 1))
    truths = {
        "mean": (statistics.mean, ALPHA / (ALPHA + BETA)),
        "IQM": (statistics.interquartile_mean, float(statistics.interquartile_mean(population))),
    }
    rows = []
    print(f"| seeds | {' | '.join(f'{name}, {tasks} task(s)' for tasks in NUM_TASKS for name in truths)} |")
    print(f"| {' | '.join(['---'] * (1 + len(NUM_TASKS) * len(truths)))} |")
    for num_seeds in NUM_SEEDS:
        row = {"seeds": num_seeds}
        for num_tasks in NUM_TASKS:
            for name, (statistic, truth) in truths.items():
                row[f"{name}_{num_tasks}"] = coverage(statistic, truth, num_seeds, num_tasks, args.trials, args.seed)
        rows.append(row)
        print(f"| {num_seeds} | {' | '.join(f'{value:.3f}' for name, value in row.items() if name != 'seeds')} |")
    if args.output:
        with open(args.output, "w", encoding="utf-8") as file:
            json.dump({"nominal": 0.95, "trials": args.trials, "seed": args.seed, "coverage": rows}, file, indent=1)


if __name__ == "__main__":
    main()
