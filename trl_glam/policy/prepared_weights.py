# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Weights as matrix products want them, kept for all forwards of a policy that acts in autocast.

Autocast rounds every weight again in every forward, and a processor's matrix library brings it into a layout of its
own in every product. While a policy acts its weights stand still, so both are done once. What comes out is the same to
the bit, but for an output layer that is read in float32, as T5's is: on a CPU its product is taken by another library,
in half the time, and sums in another order.

Left out: frozen weights that autocast rounds, which it does not keep either, so that memory is what it was; parameters
that are sharded, quantized or offloaded; layers that are not `nn.Linear`, such as GPT-2's. Learning reads the weights
themselves, as their gradients do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from .._compat import parameters_are_sharded, reorder_weight, reordered_linear, reorders_weights


@contextmanager
def prepared_weights(lm: PreTrainedModel) -> Iterator[None]:
    """
    While it lasts, linear layers keep what their first forward without gradients made of their weights. Weights must
    not change meanwhile, and the model must not be copied. What is kept, 2 bytes a trained parameter and 4 bytes one
    of an output layer that is read in float32, is freed at the end.

    Args:
        lm ([`~transformers.PreTrainedModel`]):
            The language model, with float32 weights, that autocast rounds.
    """
    layers, output = _layers(lm), lm.get_output_embeddings()
    for layer in layers:
        layer.__dict__["forward"] = _Prepared(layer, layer is output)
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def prepared_bytes(lm: PreTrainedModel, trained: bool = True) -> int:
    """
    Most that [`prepared_weights`] keeps, biases apart.

    Args:
        lm ([`~transformers.PreTrainedModel`]):
            The language model; on the meta device it counts as one on this processor.
        trained (`bool`, *optional*, defaults to `True`):
            Count trained weights; without them an output layer that is read in float32 is left.
    """
    reorders = lm.config.is_encoder_decoder and lm.device.type in ("cpu", "meta") and reorders_weights()
    output = lm.get_output_embeddings() if lm.config.is_encoder_decoder else None
    sizes = {layer: 2 * trained * layer.weight.requires_grad for layer in _layers(lm)}
    if output in sizes:
        sizes[output] = 4 * reorders
    return sum(size * layer.weight.numel() for layer, size in sizes.items())


def _layers(lm: PreTrainedModel) -> list[nn.Linear]:
    """Those that may keep something."""
    if parameters_are_sharded():
        return []
    output = lm.get_output_embeddings()
    return [layer for layer in lm.modules() if _is_plain(layer) and (layer.weight.requires_grad or layer is output)]


def _is_plain(layer: nn.Module) -> bool:
    # A subclass computes something else, and so does a layer whose own forward was replaced, as offloading does, or
    # whose weight is no plain tensor.
    if type(layer) is not nn.Linear or "forward" in vars(layer) or type(layer.weight) is not nn.Parameter:
        return False
    return layer.weight.dtype == torch.float32


class _Prepared:
    """The forward of one linear layer."""

    def __init__(self, layer: nn.Linear, is_output: bool) -> None:
        self._layer = layer
        self._is_output = is_output
        self._kept: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor | None]] = {}

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        dtype = self._dtype(input)
        if dtype is None:
            return nn.Linear.forward(self._layer, input)
        reorders = input.device.type == "cpu" and dtype != torch.float16 and reorders_weights()
        if dtype not in self._kept:
            weight, bias = self._layer.weight.detach().to(dtype), self._layer.bias
            bias = None if bias is None else bias.detach().to(dtype)
            self._kept[dtype] = (reorder_weight(weight) if reorders else weight), bias
        multiply = reordered_linear if reorders else nn.functional.linear
        return multiply(input.to(dtype), *self._kept[dtype])

    def _dtype(self, input: torch.Tensor) -> torch.dtype | None:
        """Of the product, if its weight is to be kept."""
        device = input.device.type
        if torch.is_grad_enabled() or input.dtype == torch.float64:
            return None
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device) if self._layer.weight.requires_grad else None
        reorders = self._is_output and input.dtype == torch.float32 and device == "cpu" and reorders_weights()
        return torch.float32 if reorders else None
