# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What the episodes of a rollout say about the policy that played them: success, return, length, success per kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from ..types import EpisodeRecord


def episode_metrics(
    records: Sequence[EpisodeRecord], recent: Collection[bool], success_reported: bool
) -> dict[str, float]:
    """
    Metrics of finished episodes, as `GLAMTrainer` logs them.

    Args:
        records (`Sequence[EpisodeRecord]`):
            The episodes that ended in this rollout.
        recent (`Collection[bool]`):
            Successes of the last 100 episodes: the rate is taken over them, because a rollout ends few.
        success_reported (`bool`):
            Whether the environment says what a success is; a success read off the return is named so.

    Returns:
        `dict[str, float]`: `rollout/success_rate` (of `recent`), and of this rollout's episodes the mean raw return,
        the mean length in steps, their number, and the success rate of every task kind among them.
    """
    name = "success_rate" if success_reported else "success_rate_by_return"
    metrics: dict[str, float] = {}
    if recent:
        metrics[f"rollout/{name}"] = float(np.mean(list(recent)))
    if records:
        metrics["rollout/return"] = float(np.mean([record.episode_return for record in records]))
        metrics["rollout/length"] = float(np.mean([record.length for record in records]))
        metrics["rollout/episodes"] = float(len(records))
    kinds: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        if record.task_kind is not None:
            kinds[record.task_kind].append(record.success)
    for kind, successes in sorted(kinds.items()):
        metrics[f"rollout/{name}/{kind}"] = float(np.mean(successes))
    return metrics
