# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Evaluation that can be repeated: frozen panels, suites, statistics."""

from .evaluate import EvaluationResult, SuccessRate, evaluate_policy
from .panels import EpisodeGroup, Panel
from .statistics import (
    paired_comparison,
    sample_efficiency,
    stratified_bootstrap,
    summarize_seeds,
    wilson_interval,
)
from .suites import SUITES, SuiteTest, select_tests


__all__ = [
    "SUITES",
    "EpisodeGroup",
    "EvaluationResult",
    "Panel",
    "SuccessRate",
    "SuiteTest",
    "evaluate_policy",
    "paired_comparison",
    "sample_efficiency",
    "select_tests",
    "stratified_bootstrap",
    "summarize_seeds",
    "wilson_interval",
]
