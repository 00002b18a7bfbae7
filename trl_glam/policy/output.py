# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What a policy returns, and how an action is chosen from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch


class PolicyOutput(NamedTuple):
    """
    Output of a policy for B decisions. A named tuple, because DDP, FSDP and DeepSpeed look for tensors inside tuples
    (transformers' `ModelOutput` is a dict, whose `values` the field would hide from them).

    Args:
        logits (`torch.Tensor` of shape `(B, A)`):
            float32 logits, -inf where a decision has fewer actions; their softmax is the policy. `None` from a pass
            that only values.
        mask (`torch.Tensor` of shape `(B, A)`):
            bool, which actions each decision has.
        values (`torch.Tensor` of shape `(B,)`):
            float32 value estimates, in scaled-reward units.
    """

    logits: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    values: torch.Tensor | None = None


def choose(log_probs: np.ndarray, generator: np.random.Generator | None = None, greedy: bool = False) -> int:
    """
    Choose an action: one uniform draw through the inverse cumulative distribution in float64, or the most probable
    one.

    Args:
        log_probs (`np.ndarray` of shape `(num_admissible,)`):
            Log-probabilities.
        generator (`np.random.Generator`, *optional*):
            Source of the draw; not used if `greedy`.
        greedy (`bool`, *optional*, defaults to `False`):
            Take the most probable action, the first among equals.

    Returns:
        `int`: index of the action.
    """
    if greedy:
        return int(np.argmax(log_probs))
    cumulative = np.cumsum(np.exp(log_probs.astype(np.float64)))
    # The draw lies in [0, total), so the index is in range and never one of probability 0.
    return int(np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right"))
