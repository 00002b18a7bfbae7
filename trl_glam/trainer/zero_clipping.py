# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Gradient clipping under DeepSpeed: each part of the parameters by itself, as on one process.

DeepSpeed clips inside its optimizer, all parameters by one norm. A value head that shares no gradient with the
language model has a norm of its own (see `_PolicyTrainer._clip_grad_norm`), so the two functions of a ZeRO optimizer
that measure and scale the gradient of a parameter group are given the norm of the part that the group belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


class ClippedParts:
    """
    Norms of the parts of a gradient, as a ZeRO optimizer (stages 1 to 3) has measured and clipped them.

    Args:
        optimizer (`deepspeed.runtime.zero.stage_1_and_2.DeepSpeedZeroOptimizer` or `DeepSpeedZeroOptimizer_Stage3`):
            Of an engine. It is changed.
        part_of (`Sequence[int]`):
            Part that each parameter group belongs to, in order; all zeros clip the gradient as a whole.
    """

    def __init__(self, optimizer: Any, part_of: Sequence[int]) -> None:
        # Stage 3 cuts its groups into smaller ones.
        groups = getattr(optimizer, "sub_group_to_group_id", None)
        self._part_of = list(part_of) if groups is None else [part_of[groups[i]] for i in sorted(groups)]
        self._measured: list[torch.Tensor] = []
        self._clipped = 0
        self._clip = optimizer.unscale_and_clip_grads
        self._loss_scale = lambda: optimizer.loss_scale
        for name in ("get_grad_norm_direct", "complete_grad_norm_calculation_for_cpu_offload"):
            setattr(optimizer, name, self._remembered(getattr(optimizer, name)))
        optimizer.unscale_and_clip_grads = self._clip_part

    def norm(self, part: int) -> float:
        """Norm of a part before it was clipped; NaN when it was not finite, and no step was taken."""
        squares = [norm.double() ** 2 for norm, own in zip(self._measured, self._part_of, strict=True) if own == part]
        # DeepSpeed says -1 for a norm that is not finite.
        if any(float(norm) < 0 for norm in self._measured):
            return float("nan")
        return float(torch.stack(squares).sum().sqrt() / self._loss_scale())

    def _remembered(self, measure: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def measure_and_remember(*args: Any, **kwargs: Any) -> torch.Tensor:
            if len(self._measured) == len(self._part_of):
                self._measured.clear()
                self._clipped = 0
            self._measured.append(torch.as_tensor(measure(*args, **kwargs)))
            return self._measured[-1]

        return measure_and_remember

    def _clip_part(self, gradient: Any, total_norm: torch.Tensor) -> None:
        # Called once a group, in order, when all have been measured.
        part = self._part_of[self._clipped]
        self._clipped += 1
        self._clip(gradient, total_norm.new_tensor(self.norm(part) * self._loss_scale()))
