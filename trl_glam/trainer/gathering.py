# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What all processes of a run say together: sums, means and episodes, in the order of one process.

Every function is called by all processes alike; with one process it gives back what that one has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..types import EpisodeRecord


def sum_over_processes(accelerator: Accelerator, numbers: Iterable[float]) -> list[float]:
    """Sum numbers over all processes, in float64."""
    numbers = list(numbers)
    if accelerator.num_processes == 1 or not numbers:
        return numbers
    dtype = torch.float32 if accelerator.device.type == "mps" else torch.float64
    return accelerator.reduce(torch.tensor(numbers, dtype=dtype, device=accelerator.device), "sum").tolist()


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether the flag is up on any process."""
    return sum_over_processes(accelerator, [float(flag)])[0] > 0


# Metrics whose entries are maxima already: a mean of them would depend on how a minibatch is cut.
MAXIMA = ("ppo/ratio_deviation",)


def mean_metrics(accelerator: Accelerator, metrics: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """
    Average metrics over their entries and over all processes; of those in `MAXIMA` the largest entry counts.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Knows the processes.
        metrics (`Mapping[str, Sequence[float]]`):
            Entries of every metric; the same names on all processes, equally many entries of equal weight.

    Returns:
        `dict[str, float]`: in the order of `metrics`.
    """
    means = [float(np.mean(entries)) for entries in metrics.values()]
    sums = sum_over_processes(accelerator, means)
    merged = {name: total / accelerator.num_processes for name, total in zip(metrics, sums, strict=True)}
    maxima = {name: max(metrics[name]) for name in MAXIMA if name in metrics}
    if maxima and accelerator.num_processes > 1:
        largest = accelerator.gather(torch.tensor([list(maxima.values())], device=accelerator.device)).amax(0).tolist()
        maxima = dict(zip(maxima, largest, strict=True))
    return {**merged, **maxima}


def gather_episodes(
    accelerator: Accelerator, records: Sequence[EpisodeRecord], ended_at: Sequence[int]
) -> list[EpisodeRecord]:
    """
    The episodes of all processes, as one process would have seen them end.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Knows the processes.
        records (`Sequence[EpisodeRecord]`):
            Episodes that ended on this process.
        ended_at (`Sequence[int]`):
            Step of the rollout in which each ended.

    Returns:
        `list[EpisodeRecord]`: by (step, global slot).
    """
    pairs = list(zip(ended_at, records, strict=True))
    if accelerator.num_processes > 1:
        pairs = gather_object(pairs)
    return [record for _, record in sorted(pairs, key=lambda pair: (pair[0], pair[1].key.slot))]


def explained_variance(accelerator: Accelerator, returns: np.ndarray, values: np.ndarray) -> float:
    """
    1 - Var(returns - values) / Var(returns) over all processes: 1 is a perfect critic, 0 one that knows the mean.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Knows the processes.
        returns (`np.ndarray` of shape `(T, N)`):
            Regression targets of this process.
        values (`np.ndarray` of shape `(T, N)`):
            What the critic said.

    Returns:
        `float`: NaN when the returns do not vary.
    """
    returns = returns.astype(np.float64)
    errors = returns - values
    moments = [returns.size, returns.sum(), np.square(returns).sum(), errors.sum(), np.square(errors).sum()]
    count, *sums = sum_over_processes(accelerator, map(float, moments))
    total, squares, error, squared_errors = (number / count for number in sums)
    variance = squares - total**2
    # Rounding leaves a trace of returns that are all equal.
    return 1.0 - (squared_errors - error**2) / variance if variance > 1e-12 * squares else float("nan")
