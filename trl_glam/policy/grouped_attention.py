# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Causal models on processors: attention as plain products over the heads that share keys.

PyTorch's fused kernel for processors takes several times their time where few queries meet many keys and in the
backward pass, and wants keys repeated for every head. What it saves is memory: long texts are still learned with it.

When acting, a text goes on from what its slot has read, without padding and without a copy: new tokens of all texts
stand in one row behind each other, their keys and values are written behind those of the slot in the [`PrefixCache`],
and attention is taken text by text from there. Writing in place has no gradient, so only acting comes this way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AttentionInterface, Cache, PreTrainedModel

from .._compat import attention_implementation, parameters_are_sharded, set_attention_implementation
from .prefix_cache import PrefixCache, kept_dtype


# Families whose layers hand queries, keys and values to transformers' attention interface, and nothing beside them.
_MODEL_TYPES = ("llama", "gpt2", "qwen2", "qwen3")
# Probabilities of a whole text stand in memory at once, in learning those of all layers: for so many pairs of queries
# and keys (2,048 tokens that see what is before them) they take about what its other activations do.
_MOST_PAIRS = 2**21
_GROUPED, _IN_PLACE = "trl_glam_grouped", "trl_glam_in_place"


@dataclass(frozen=True)
class Segment:
    """
    New positions of one text within the row.

    Args:
        columns (`slice`):
            Where they stand in the row.
        place (`int`):
            Place of the text's slot in the cache.
        start (`int`):
            Where their keys begin at that place; they see all before it.
        bias (`torch.Tensor` of shape `(n, n)`):
            0 where a new position sees another one, a large negative number elsewhere.
    """

    columns: slice
    place: int
    start: int
    bias: torch.Tensor


class KeptKeys(Cache):
    """
    What the model's layers take for their cache in one forward.

    Args:
        cache ([`PrefixCache`]):
            Has room for all segments.
        segments (`list[Segment]`):
            New positions, text by text.
    """

    def __init__(self, cache: PrefixCache, segments: Sequence[Segment]) -> None:
        super().__init__(layers=[])
        self.cache = cache
        self.segments = segments

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values, `(1, heads, T, width)`; returns those of all places."""
        keys, values = self.cache.layer(layer_idx, key_states, value_states)
        for segment in self.segments:
            to = slice(segment.start, segment.start + len(segment.bias))
            keys[segment.place, :, to] = key_states[0, :, segment.columns]
            values[segment.place, :, to] = value_states[0, :, segment.columns]
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


def is_usable(lm: PreTrainedModel) -> bool:
    """Whether a model's attention may be replaced, and it pays."""
    # What is computed again in the backward pass would be so with the model's own attention.
    recomputes = lm.training and lm.is_activation_checkpointing
    return (
        lm.device.type == "cpu"
        and lm.config.model_type in _MODEL_TYPES
        and type(lm).__module__.startswith("transformers.models.")
        and attention_implementation(lm.config) == "sdpa"
        and not (recomputes or parameters_are_sharded())
    )


def suits(lm: PreTrainedModel, pairs: int, in_chunks: bool = False) -> bool:
    """
    Whether a text is read with [`grouped`] attention.

    Args:
        lm ([`~transformers.PreTrainedModel`]):
            A causal model.
        pairs (`int`):
            Of the text's queries and keys.
        in_chunks (`bool`, *optional*, defaults to `False`):
            Whether few queries pass at once, so that without gradients little is held at a time.
    """
    return is_usable(lm) and (pairs <= _MOST_PAIRS or (in_chunks and not torch.is_grad_enabled()))


def bytes_per_token(lm: PreTrainedModel) -> int:
    """Of the keys and values of all layers in a [`PrefixCache`]."""
    config = lm.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * kept_dtype(lm.dtype, "cpu").itemsize


@contextmanager
def grouped(lm: PreTrainedModel) -> Iterator[None]:
    """While it lasts, the model's attention is one of plain products; it needs a 4-D mask."""
    with _attention(lm, _GROUPED):
        yield


@contextmanager
def in_place(lm: PreTrainedModel) -> Iterator[None]:
    """While it lasts, the model's attention is that over [`KeptKeys`]; its forwards take `segments`."""
    with _attention(lm, _IN_PLACE):
        yield


@contextmanager
def _attention(lm: PreTrainedModel, name: str) -> Iterator[None]:
    before = attention_implementation(lm.config)
    set_attention_implementation(lm.config, name)
    try:
        yield
    finally:
        set_attention_implementation(lm.config, before)


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """
    Attention of all rows side by side.

    Args:
        query (`torch.Tensor` of shape `(rows, heads, Q, width)`):
            New positions.
        key (`torch.Tensor` of shape `(rows, key heads, K, width)`), value (likewise):
            Those that were read before, and the new ones.
        attention_mask (`torch.Tensor` of shape `(rows or 1, 1, Q, K)`):
            Additive.
        dropout (`float`, *optional*, defaults to `0.0`):
            Of the weights; 0 in models that were loaded here.

    Returns:
        `tuple[torch.Tensor, None]`: of shape `(rows, Q, heads, width)`.
    """
    rows, num_heads, num_queries, width = query.shape
    # Neighbouring heads share keys: `(rows x key heads, heads of each x Q, width)`.
    queries = (query * scaling).to(value.dtype).unflatten(1, (key.shape[1], -1)).flatten(2, 3).flatten(0, 1)
    keys, values = key.to(value.dtype).flatten(0, 1), value.flatten(0, 1)
    scores = torch.bmm(queries, keys.transpose(1, 2)).view(rows, key.shape[1], -1, num_queries, key.shape[2])
    scores += attention_mask[:, :, None]
    weights = nn.functional.dropout(scores.softmax(-1), dropout, training=dropout > 0)
    attended = torch.bmm(weights.flatten(2, 3).flatten(0, 1), values)
    return attended.view(rows, num_heads, num_queries, width).transpose(1, 2), None


def _attend_in_place(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    segments: Sequence[Segment],
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """
    Attention of every segment's queries over its place.

    Args:
        query (`torch.Tensor` of shape `(1, heads, T, width)`):
            New positions.
        key (`torch.Tensor` of shape `(places, key heads, capacity, width)`), value (likewise):
            All that is kept.

    Returns:
        `tuple[torch.Tensor, None]`: of shape `(1, T, heads, width)`.
    """
    num_heads, num_tokens, width = query.shape[1:]
    queries = (query[0] * scaling).to(key.dtype).unflatten(0, (key.shape[1], -1))
    attended = value.new_empty(num_tokens, num_heads, width)
    for segment in segments:
        length, end = len(segment.bias), segment.start + len(segment.bias)
        keys, values = key[segment.place, :, :end], value[segment.place, :, :end]
        some = queries[:, :, segment.columns].flatten(1, 2)
        scores = torch.bmm(some, keys.transpose(1, 2))
        scores.unflatten(1, (-1, length))[..., segment.start :] += segment.bias
        found = torch.bmm(scores.softmax(-1), values).view(num_heads, length, width)
        attended[segment.columns] = found.transpose(0, 1)
    return attended[None], None


AttentionInterface.register(_GROUPED, _attend)
AttentionInterface.register(_IN_PLACE, _attend_in_place)
