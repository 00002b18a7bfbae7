# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Show a causal model's output layer the positions that are read off, and no others.

Every causal model passes its output layer once, whatever it does before and after. So its input is where hidden states
are found and where positions are chosen, for any kind of model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel


@contextmanager
def needed_rows(lm: PreTrainedModel, index: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """
    While it lasts, a forward of the model gives logits of the chosen positions.

    Args:
        lm ([`~transformers.PreTrainedModel`]):
            A causal model.
        index (`torch.Tensor` of shape `(n, K)`):
            int64 positions in the flattened `(rows x columns)` of the forward's input.

    Yields:
        `list[torch.Tensor]`: empty; after the forward it holds the last hidden states, of shape `(n, K, d)`. The
        forward's `logits` then are of shape `(n, K, V)`.
    """
    found: list[torch.Tensor] = []

    def choose(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        hidden, width = args[0], args[0].shape[-1]
        found.append(hidden.reshape(-1, width).index_select(0, index.flatten()).view(*index.shape, width))
        return (found[0],)

    hook = lm.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield found
    finally:
        hook.remove()
