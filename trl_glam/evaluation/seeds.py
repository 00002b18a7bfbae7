# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Several seeds of one recipe as one row: final success, sample efficiency, steps to a threshold, with intervals.

Reads what training wrote (`trainer_state.json`), of `GLAMTrainer` and of the baselines alike. `trl-glam train --seeds`
prints it at its end, `trl-glam compare` puts two recipes side by side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..types import InvalidInputError
from .results import markdown_table
from .statistics import (
    as_score_matrix,
    median_steps_to_threshold,
    probability_of_improvement,
    sample_efficiency,
    steps_to_threshold,
    stratified_bootstrap,
    summarize_seeds,
)


_SUCCESS = ("rollout/success_rate", "rollout/success_rate_by_return")


@dataclass(frozen=True)
class SeedRun:
    """
    One finished run.

    Args:
        folder (`Path`):
            Where it is.
        env_steps (`tuple[int, ...]`):
            Environment steps at which success was logged.
        success_rates (`tuple[float, ...]`):
            Success over the last 100 training episodes then.
    """

    folder: Path
    env_steps: tuple[int, ...]
    success_rates: tuple[float, ...]

    @classmethod
    def read(cls, folder: str | Path) -> SeedRun:
        """
        Read a run's history.

        Raises:
            [`InvalidInputError`]: when the folder holds no finished run with successes.
        """
        path = Path(folder, "trainer_state.json")
        try:
            history = json.loads(path.read_text(encoding="utf-8"))["log_history"]
        except (OSError, ValueError, KeyError) as error:
            raise InvalidInputError(
                f"{folder} holds no finished run ({type(error).__name__}: {error}); give the folder of a run, or one "
                "of `trl-glam train --seeds`."
            ) from None
        points = {
            int(row["env_steps"]): float(row[name])
            for row in history
            for name in _SUCCESS
            if name in row and row.get("env_steps", 0) > 0
        }
        if not points:
            raise InvalidInputError(
                f"{path} logs no success of training episodes: none has ended, or it is a run of cloning."
            )
        return cls(Path(folder), tuple(sorted(points)), tuple(points[step] for step in sorted(points)))


def read_seed_runs(folder: str | Path) -> list[SeedRun]:
    """The runs of a recipe: those in `seed-*` below the folder, else the folder itself."""
    seeds = sorted(path.parent for path in Path(folder).glob("seed-*/trainer_state.json"))
    return [SeedRun.read(path) for path in seeds or [Path(folder)]]


def seeds_table(groups: Mapping[str, Sequence[SeedRun]], threshold: float = 0.9, confidence: float = 0.95) -> str:
    """
    Markdown table of recipes over their seeds.

    Curves are cut at the shortest run's steps, so that sample efficiencies are of one budget.

    Args:
        groups (`dict[str, list[SeedRun]]`):
            The runs of every recipe; with exactly two, the probability of improvement is added.
        threshold (`float`, *optional*, defaults to `0.9`):
            Success rate whose first step is asked for; runs that never got there count as later than their end.
        confidence (`float`, *optional*, defaults to `0.95`):
            Nominal coverage of the stratified bootstrap's intervals.
    """
    budget = min(run.env_steps[-1] for runs in groups.values() for run in runs)
    finals, efficiencies, rows, warnings = [], [], [], []
    for name, runs in groups.items():
        finals.append([run.success_rates[-1] for run in runs])
        efficiencies.append([sample_efficiency(run.env_steps, run.success_rates, budget) for run in runs])
        final, efficiency = summarize_seeds(finals[-1], confidence), summarize_seeds(efficiencies[-1], confidence)
        reached = [steps_to_threshold(run.env_steps, run.success_rates, threshold) for run in runs]
        median = median_steps_to_threshold([steps for steps, _ in reached], [done for _, done in reached])
        rows.append(
            [
                name,
                str(len(runs)),
                _with_interval(final.mean, final.mean_interval),
                _with_interval(final.iqm, final.iqm_interval),
                _with_interval(efficiency.mean, efficiency.mean_interval),
                f"{f'{median:.0f}' if np.isfinite(median) else 'not reached'} ({sum(d for _, d in reached)} of them)",
            ]
        )
        if final.warning:
            warnings.append(f"Warning: {name}: {final.warning}.")
    header = ["recipe", "seeds", "success, mean", "success, IQM", f"SE to {budget} steps"]
    said = f"{100 * confidence:g} % stratified bootstrap intervals over seeds."
    lines = [
        markdown_table([*header, f"median steps to {threshold:g}"], rows),
        "",
        f"Success of the last 100 training episodes; {said}",
    ]
    if len(groups) == 2:
        first, second = groups
        for what, scores in (("success", finals), ("SE", efficiencies)):
            a, b = map(as_score_matrix, scores)
            low, high = stratified_bootstrap(a, b, statistic=probability_of_improvement, confidence=confidence)
            chance = float(probability_of_improvement(a, b))
            lines.append(f"P({first} has more {what} than {second}) = {chance:.2f} [{low:.2f}, {high:.2f}].")
    return "\n".join([*lines, *warnings])


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
