# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Weights as autocast rounds them, kept for all forwards of a policy that acts.

Autocast rounds every weight again in every forward, and a processor's matrix library brings it into a layout of its
own in every product. While a policy acts its weights stand still, so both are done once. What comes out is the same to
the bit. Left out, and rounded in every forward: frozen weights, which autocast does not keep either, so that memory is
what it was; parameters that are sharded, quantized or offloaded; layers that are not `nn.Linear`, such as GPT-2's.
Learning reads the weights themselves, as their gradients do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .._compat import parameters_are_sharded, reorder_weight, reordered_linear, reorders_weights


@contextmanager
def rounded_weights(lm: nn.Module) -> Iterator[None]:
    """
    While it lasts, linear layers keep their rounded weights from their first forward under autocast without gradients
    on. Weights must not change meanwhile, and the model must not be copied; the kept ones, 2 bytes a trained
    parameter, are freed at the end.

    Args:
        lm (`torch.nn.Module`):
            The language model, with float32 weights.
    """
    layers = [] if parameters_are_sharded() else [layer for layer in lm.modules() if _is_plain(layer)]
    for layer in layers:
        layer.__dict__["forward"] = _Rounded(layer)
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _is_plain(layer: nn.Module) -> bool:
    # A subclass computes something else, and so does a layer whose own forward was replaced, as offloading does, or
    # whose weight is no plain tensor.
    if type(layer) is not nn.Linear or "forward" in vars(layer) or type(layer.weight) is not nn.Parameter:
        return False
    return layer.weight.requires_grad and layer.weight.dtype == torch.float32


class _Rounded:
    """The forward of one linear layer."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer
        self._weight: torch.Tensor | None = None
        self._bias: torch.Tensor | None = None

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        device = input.device.type
        if torch.is_grad_enabled() or not torch.is_autocast_enabled(device) or input.dtype == torch.float64:
            return nn.Linear.forward(self._layer, input)
        states = input.to(torch.get_autocast_dtype(device))
        reorders = device == "cpu" and states.dtype == torch.bfloat16 and reorders_weights()
        if self._weight is None:
            weight, bias = self._layer.weight.detach().to(states.dtype), self._layer.bias
            self._bias = None if bias is None else bias.detach().to(states.dtype)
            self._weight = reorder_weight(weight) if reorders else weight
        multiply = reordered_linear if reorders else nn.functional.linear
        return multiply(states, self._weight, self._bias)
