# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The statistics against published values, closed forms and simulation."""

import numpy as np
import pytest
from scipy import stats

from trl_glam.evaluation import statistics
from trl_glam.types import InvalidInputError


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_matches_newcombe(successes, n, low, high):
    assert statistics.wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_closed_form_at_another_confidence():
    z, p, n = stats.norm.ppf(0.995), 0.3, 50
    center, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = np.array([center - half, center + half]) / (1 + z**2 / n)
    assert statistics.wilson_interval(15, 50, confidence=0.99) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("n", [100, 1000])
def test_wilson_coverage_by_simulation(n):
    rates = np.linspace(0.05, 0.95, 181)
    bounds = np.array([statistics.wilson_interval(k, n) for k in range(n + 1)])
    successes = np.random.default_rng(0).binomial(n, rates[:, None], size=(rates.size, 20_000))
    covered = (bounds[successes, 0] <= rates[:, None]) & (rates[:, None] <= bounds[successes, 1])
    coverage = covered.mean(axis=1)
    assert 0.94 <= coverage.mean() <= 0.96
    assert coverage.min() >= 0.92


@pytest.mark.parametrize(("successes", "n", "confidence"), [(1, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 95)])
def test_wilson_refuses_impossible_counts(successes, n, confidence):
    with pytest.raises(InvalidInputError):
        statistics.wilson_interval(successes, n, confidence)


def test_mcnemar_is_the_two_sided_binomial_test():
    # Six discordant pairs, all one way: 2 / 2**6.
    assert statistics.mcnemar(6, 0) == pytest.approx(2 / 64)
    assert statistics.mcnemar(0, 6) == pytest.approx(2 / 64)
    assert statistics.mcnemar(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert statistics.mcnemar(0, 0) == 1.0


def test_mcnemar_matches_a_published_example():
    # Agresti, "Categorical Data Analysis", approval of the prime minister: 150 against 86 discordant of 1,600.
    assert statistics.mcnemar(150, 86) == pytest.approx(3.7e-5, rel=0.05)
    first = np.repeat([True, True, False, False], [794, 150, 86, 570])
    second = np.repeat([True, False, True, False], [794, 150, 86, 570])
    comparison = statistics.paired_comparison(first, second)
    assert comparison.difference == pytest.approx(0.04)
    # His Wald interval of the paired difference is 0.04 +- 1.96 * 0.0095.
    assert comparison.interval == pytest.approx((0.0214, 0.0586), abs=0.0015)


def test_paired_comparison_needs_the_same_episodes():
    with pytest.raises(InvalidInputError, match="same episodes"):
        statistics.paired_comparison([True, False], [True])


def test_pairing_sees_what_two_intervals_hide():
    first = np.array([True] * 60 + [False] * 40)
    second = first.copy()
    second[:8] = False
    comparison = statistics.paired_comparison(first, second)
    assert comparison.p_value < 0.01 and comparison.interval[0] > 0
    assert statistics.wilson_interval(60, 100)[0] < statistics.wilson_interval(52, 100)[1]


def test_holm_matches_the_textbook():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (10, 1), (3, 7)])
def test_interquartile_mean_is_scipys_trimmed_mean(shape):
    scores = np.random.default_rng(1).normal(size=shape)
    assert statistics.interquartile_mean(scores) == pytest.approx(stats.trim_mean(scores, 0.25, axis=None))


def test_probability_of_improvement_is_mann_whitney_over_tasks():
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 5, size=(6, 3)), rng.integers(0, 5, size=(4, 3))
    expected = np.mean([stats.mannwhitneyu(first[:, k], second[:, k]).statistic / 24 for k in range(3)])
    assert statistics.probability_of_improvement(first, second) == pytest.approx(expected)


def test_stratified_bootstrap_resamples_within_tasks():
    # Runs agree inside each task: any resample has the same mean, whereas pooling tasks would give a wide interval.
    scores = np.tile([0.0, 0.5, 1.0], (4, 1))
    assert statistics.stratified_bootstrap(scores, statistic=statistics.mean) == pytest.approx((0.5, 0.5))


def test_bootstrap_of_a_mean_matches_the_exact_distribution():
    # Three runs 0, 0, 1: the resampled mean is Binomial(3, 1/3) / 3, whose 2.5 % and 97.5 % quantiles are 0 and 1.
    assert statistics.stratified_bootstrap([0.0, 0.0, 1.0], statistic=statistics.mean) == (0.0, 1.0)
    # At 80 %: P(0) = .296 > .1, P(<= 1) = .741 < .9, P(<= 2) = .963.
    interval = statistics.stratified_bootstrap([0.0, 0.0, 1.0], statistic=statistics.mean, confidence=0.8)
    assert interval == pytest.approx((0.0, 2 / 3))


def test_bootstrap_agrees_with_scipy_and_with_its_seed():
    scores = np.random.default_rng(3).normal(size=30)
    reference = stats.bootstrap((scores,), np.mean, method="percentile", n_resamples=20_000, rng=0)
    interval = statistics.stratified_bootstrap(scores, statistic=statistics.mean)
    assert interval == pytest.approx(tuple(reference.confidence_interval), abs=0.02)
    assert interval == statistics.stratified_bootstrap(scores, statistic=statistics.mean)


def test_bootstrap_of_two_score_matrices():
    low, high = statistics.stratified_bootstrap(
        [0.9, 0.8, 0.85], [0.1, 0.2], statistic=statistics.probability_of_improvement
    )
    assert (low, high) == (1.0, 1.0)


@pytest.mark.parametrize("scores", [[], [float("nan"), 1.0], np.zeros((2, 2, 2))])
def test_bootstrap_refuses_what_is_not_scores(scores):
    with pytest.raises(InvalidInputError):
        statistics.stratified_bootstrap(scores)


def test_few_seeds_carry_a_warning():
    assert "only 2 seed" in statistics.summarize_seeds([0.8, 0.9]).warning
    assert statistics.summarize_seeds([0.8, 0.9, 0.7, 0.8, 0.9]).warning is None


def test_sample_efficiency_is_the_mean_over_steps():
    assert statistics.sample_efficiency([100, 200, 300, 400], [0.0, 0.2, 0.6, 0.8]) == pytest.approx(0.4)
    # A rate that stands for three times the steps counts three times.
    assert statistics.sample_efficiency([100, 400], [0.0, 1.0]) == pytest.approx(0.75)
    assert statistics.sample_efficiency([100, 200, 300, 400], [0.0, 0.2, 0.6, 0.8], budget=250) == pytest.approx(
        (0.2 * 100 + 0.6 * 50) / 250
    )


@pytest.mark.parametrize(("steps", "budget"), [([200, 100], None), ([0, 100], None), ([100, 200], 300)])
def test_sample_efficiency_refuses_a_bad_axis(steps, budget):
    with pytest.raises(InvalidInputError):
        statistics.sample_efficiency(steps, [0.1, 0.2], budget=budget)


def test_steps_to_threshold_and_its_censoring():
    assert statistics.steps_to_threshold([100, 200, 300], [0.5, 0.8, 0.7], 0.8) == (200, True)
    assert statistics.steps_to_threshold([100, 200, 300], [0.5, 0.6, 0.7], 0.8) == (300, False)


def test_kaplan_meier_median():
    # Freireich's 6-MP group (1963), the textbook example: 21 patients, median remission of 23 weeks.
    remission = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    steps, reached = remission + censored, [True] * len(remission) + [False] * len(censored)
    assert statistics.median_steps_to_threshold(steps, reached) == 23
    assert statistics.median_steps_to_threshold([100, 200], [False, False]) == float("inf")
    assert statistics.median_steps_to_threshold([100, 200, 300], [True, True, False]) == 200
