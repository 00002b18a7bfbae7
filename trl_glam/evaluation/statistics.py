# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The statistics behind every number that an evaluation prints.

One policy: the Wilson interval. Two policies on the same episodes: McNemar's exact test and a bootstrap of the paired
difference. Several seeds: mean or interquartile mean with a stratified bootstrap, probability of improvement, sample
efficiency, steps to a threshold with censoring. Several comparisons: Holm. SciPy does what SciPy knows; only the
definitions of "Deep RL at the Edge of the Statistical Precipice" (huggingface.co/papers/2108.13264) are written out,
because its own package does not run with current dependencies. Nothing here knows what an episode is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ..types import InvalidInputError


MIN_SEEDS = 5
"""Below this many seeds a bootstrap interval covers clearly less than it says: tables warn."""


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """
    Wilson's score interval for a success rate.

    Args:
        successes (`int`):
            Number of successful episodes, `0 <= successes <= n`.
        n (`int`):
            Number of episodes, at least 1.
        confidence (`float`, *optional*, defaults to `0.95`):
            Nominal coverage, strictly between 0 and 1.

    Returns:
        `tuple[float, float]`: lower and upper bound of the rate, inside [0, 1].

    Raises:
        [`InvalidInputError`]: on a count or a confidence outside its range.
    """
    if n < 1 or not 0 <= successes <= n:
        raise InvalidInputError(f"{successes} successes of {n}: needs at least one trial and 0 <= successes <= n.")
    _check_confidence(confidence)
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class PairedComparison:
    """
    Two policies on the same episodes.

    Args:
        num_episodes (`int`):
            Episodes both have played.
        first_rate, second_rate (`float`):
            Their success rates.
        first_only, second_only (`int`):
            Episodes that only one of them solved: all that the test looks at.
        difference (`float`):
            `first_rate - second_rate`.
        interval (`tuple[float, float]`):
            Percentile bootstrap interval of the difference, over episodes.
        p_value (`float`):
            McNemar's exact two-sided p-value of "both solve the same share".
    """

    num_episodes: int
    first_rate: float
    second_rate: float
    first_only: int
    second_only: int
    difference: float
    interval: tuple[float, float]
    p_value: float


def paired_comparison(
    first: ArrayLike, second: ArrayLike, confidence: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> PairedComparison:
    """
    Compare two policies that played the same episodes.

    Args:
        first, second (`ArrayLike` of shape `(num_episodes,)`):
            Success of each episode, in the same order for both.
        confidence (`float`, *optional*, defaults to `0.95`):
            Nominal coverage of the interval.
        num_resamples (`int`, *optional*, defaults to `10_000`):
            Bootstrap resamples.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resamples.

    Returns:
        [`PairedComparison`]

    Raises:
        [`InvalidInputError`]: when the two are empty or of different lengths.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape or first.size == 0:
        raise InvalidInputError(f"A paired comparison needs the same episodes, got {first.shape} and {second.shape}.")
    _check_confidence(confidence)
    n = first.size
    first_only, second_only = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    # Resampling n pairs with replacement is a multinomial draw over the three values that a difference can take.
    shares = np.array([first_only, second_only, n - first_only - second_only]) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, size=num_resamples)
    low, high = _percentiles((counts[:, 0] - counts[:, 1]) / n, confidence)
    return PairedComparison(
        num_episodes=n,
        first_rate=float(first.mean()),
        second_rate=float(second.mean()),
        first_only=first_only,
        second_only=second_only,
        difference=(first_only - second_only) / n,
        interval=(low, high),
        p_value=mcnemar(first_only, second_only),
    )


def mcnemar(first_only: int, second_only: int) -> float:
    """McNemar's exact two-sided p-value from the two discordant counts (1 when there are none)."""
    if first_only < 0 or second_only < 0:
        raise InvalidInputError(f"Discordant counts cannot be negative, got {first_only} and {second_only}.")
    discordant = first_only + second_only
    return float(stats.binomtest(first_only, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: ArrayLike) -> np.ndarray:
    """
    Holm's step-down adjustment for several comparisons.

    Args:
        p_values (`ArrayLike` of shape `(num_tests,)`):
            Unadjusted p-values.

    Returns:
        `np.ndarray` of shape `(num_tests,)`: adjusted p-values in the given order; reject where they are <= alpha.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(p_values.size, 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


# Statistics over seeds. Each maps scores of shape (..., num_runs, num_tasks) to shape (...), so that all resamples of
# a bootstrap are computed at once.


def mean(scores: np.ndarray) -> np.ndarray:
    """Mean over runs and tasks."""
    return np.mean(scores, axis=(-2, -1))


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """
    Mean of the middle half of all runs and tasks together: a quarter of the scores, rounded down, is dropped at each
    end (huggingface.co/papers/2108.13264).
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)


def probability_of_improvement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """
    Probability that a random run of the first beats a random run of the second on a random task; a tie counts half.

    Args:
        first (`np.ndarray` of shape `(..., num_runs, num_tasks)`):
            Scores of one algorithm.
        second (`np.ndarray` of shape `(..., other_num_runs, num_tasks)`):
            Scores of the other on the same tasks.

    Returns:
        `np.ndarray` of shape `(...)`
    """
    difference = first[..., :, None, :] - second[..., None, :, :]
    return np.mean((np.sign(difference) + 1) / 2, axis=(-3, -2, -1))


def stratified_bootstrap(
    *scores: ArrayLike,
    statistic: Callable[..., np.ndarray] = interquartile_mean,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """
    Percentile interval of a statistic over seeds, resampling runs within every task.

    With few runs it covers less than `confidence`; `docs/evaluation.md` has the measured coverage.

    Args:
        scores (`ArrayLike` of shape `(num_runs, num_tasks)` or `(num_runs,)`):
            One score a run and task; one array, or two for a `statistic` of two (probability of improvement).
        statistic (`Callable`, *optional*, defaults to [`interquartile_mean`]):
            Maps arrays of shape `(num_resamples, num_runs, num_tasks)` to an array of shape `(num_resamples,)`.
        confidence (`float`, *optional*, defaults to `0.95`):
            Nominal coverage.
        num_resamples (`int`, *optional*, defaults to `10_000`):
            Bootstrap resamples.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resamples.

    Returns:
        `tuple[float, float]`: lower and upper bound.

    Raises:
        [`InvalidInputError`]: when scores are empty, not finite, or not one- or two-dimensional.
    """
    _check_confidence(confidence)
    rng = np.random.default_rng(seed)
    resampled = []
    for matrix in map(as_score_matrix, scores):
        num_runs, num_tasks = matrix.shape
        runs = rng.integers(num_runs, size=(num_resamples, num_runs, num_tasks))
        resampled.append(matrix[runs, np.arange(num_tasks)])
    return _percentiles(statistic(*resampled), confidence)


def as_score_matrix(scores: ArrayLike) -> np.ndarray:
    """Scores as float64 of shape `(num_runs, num_tasks)`; a flat list is runs of one task."""
    matrix = np.asarray(scores, dtype=float)
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or matrix.size == 0 or not np.isfinite(matrix).all():
        raise InvalidInputError(
            f"Scores over seeds need shape (num_runs,) or (num_runs, num_tasks) and finite values, got {matrix.shape}."
        )
    return matrix


@dataclass(frozen=True)
class SeedSummary:
    """
    One algorithm over several seeds.

    Args:
        num_seeds (`int`):
            Number of runs.
        mean, iqm (`float`):
            Mean and interquartile mean over runs and tasks.
        mean_interval, iqm_interval (`tuple[float, float]`):
            Their stratified bootstrap intervals.
    """

    num_seeds: int
    mean: float
    mean_interval: tuple[float, float]
    iqm: float
    iqm_interval: tuple[float, float]

    @property
    def warning(self) -> str | None:
        """What a reader must know before believing the intervals; `None` from [`MIN_SEEDS`] seeds on."""
        if self.num_seeds >= MIN_SEEDS:
            return None
        return f"only {self.num_seeds} seed(s): the interval covers less than it says (at least {MIN_SEEDS} advised)"


def summarize_seeds(scores: ArrayLike, confidence: float = 0.95, seed: int = 0) -> SeedSummary:
    """Mean and interquartile mean of `scores` (as in [`stratified_bootstrap`]) with their intervals."""
    matrix = as_score_matrix(scores)
    return SeedSummary(
        num_seeds=matrix.shape[0],
        mean=float(mean(matrix)),
        mean_interval=stratified_bootstrap(matrix, statistic=mean, confidence=confidence, seed=seed),
        iqm=float(interquartile_mean(matrix)),
        iqm_interval=stratified_bootstrap(matrix, confidence=confidence, seed=seed),
    )


def sample_efficiency(env_steps: ArrayLike, success_rates: ArrayLike, budget: int | None = None) -> float:
    """
    GLAM's SE: the success rate averaged over environment steps (huggingface.co/papers/2302.02662).

    Each rate stands for the steps since the one before it, so that uneven spacing weighs evaluations by their reach.

    Args:
        env_steps (`ArrayLike` of shape `(num_points,)`):
            Environment steps at which the rates were measured: positive, increasing.
        success_rates (`ArrayLike` of shape `(num_points,)`):
            The rates.
        budget (`int`, *optional*):
            Average up to this step only, to compare runs of different lengths; at most the last step.

    Returns:
        `float` in [0, 1]
    """
    steps, rates = _curve(env_steps, success_rates)
    end = float(steps[-1] if budget is None else budget)
    if not 0 < end <= steps[-1]:
        raise InvalidInputError(f"budget={budget} must lie in (0, {int(steps[-1])}], the steps that were run.")
    widths = np.diff(np.minimum(steps, end), prepend=0.0)
    return float(np.sum(rates * widths) / end)


def steps_to_threshold(env_steps: ArrayLike, success_rates: ArrayLike, threshold: float) -> tuple[int, bool]:
    """
    First environment step at which the success rate reaches `threshold`.

    Returns:
        `tuple[int, bool]`: the step, and whether it was reached; a run that never did is censored at its last step.
    """
    steps, rates = _curve(env_steps, success_rates)
    reached = np.flatnonzero(rates >= threshold)
    return (int(steps[reached[0]]), True) if reached.size else (int(steps[-1]), False)


def median_steps_to_threshold(steps: Sequence[int], reached: Sequence[bool]) -> float:
    """
    Kaplan-Meier median of [`steps_to_threshold`] over runs: the censored ones count as "later than that".

    Returns:
        `float`: environment steps; `inf` when half of the runs are not known to have got there.
    """
    steps, reached = np.asarray(steps, dtype=float), np.asarray(reached, dtype=bool)
    if steps.size == 0 or steps.shape != reached.shape:
        raise InvalidInputError(f"Needs one step count and one flag a run, got {steps.shape} and {reached.shape}.")
    if not reached.any():
        return float("inf")
    data = stats.CensoredData(uncensored=steps[reached], right=steps[~reached])
    survival = stats.ecdf(data).sf
    # Products of fractions: 0.5 may come out as 0.5000000000000001.
    below = np.flatnonzero(survival.probabilities <= 0.5 + 1e-12)
    return float(survival.quantiles[below[0]]) if below.size else float("inf")


def _curve(env_steps: ArrayLike, success_rates: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    steps, rates = np.asarray(env_steps, dtype=float), np.asarray(success_rates, dtype=float)
    if steps.ndim != 1 or steps.shape != rates.shape or steps.size == 0:
        raise InvalidInputError(f"A curve needs as many steps as rates, got {steps.shape} and {rates.shape}.")
    if np.any(np.diff(steps, prepend=0.0) <= 0):
        raise InvalidInputError("The environment steps of a curve must be positive and increasing.")
    return steps, rates


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence={confidence} must lie strictly between 0 and 1, for example 0.95.")
