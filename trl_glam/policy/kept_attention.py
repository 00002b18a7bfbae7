# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Causal models on processors: texts go on from what their slots have read, without padding and without a copy of it.

New tokens of all texts stand in one row behind each other, so projections and feed-forward layers compute no padding.
Their keys and values are written behind those of the slot in the [`PrefixCache`], and attention is taken text by text
from there, as plain products over the heads that share keys: for few queries and many keys PyTorch's fused kernel for
processors takes several times as long, and it wants keys repeated for every head. Only acting comes this way, as
writing in place has no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import AttentionInterface, Cache, PreTrainedModel

from .._compat import parameters_are_sharded
from .prefix_cache import PrefixCache


# Families whose layers hand queries, keys and values to transformers' attention interface, and nothing beside them.
_MODEL_TYPES = ("llama", "gpt2", "qwen2", "qwen3")
_NAME = "trl_glam_kept"


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
        # Rotary positions make float32 of what autocast will round at every step.
        keys, values = self.cache.layer(layer_idx, _rounded(key_states), _rounded(value_states))
        for segment in self.segments:
            to = slice(segment.start, segment.start + len(segment.bias))
            keys[segment.place, :, to] = key_states[0, :, segment.columns]
            values[segment.place, :, to] = value_states[0, :, segment.columns]
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


def is_usable(lm: PreTrainedModel, device: torch.device) -> bool:
    """Whether a model's attention may be replaced while it acts, and it pays."""
    return (
        device.type == "cpu"
        and not torch.is_grad_enabled()
        and lm.config.model_type in _MODEL_TYPES
        and lm.config._attn_implementation == "sdpa"
        and not parameters_are_sharded()
    )


def dtype(lm: PreTrainedModel) -> torch.dtype:
    """In which keys and values are kept."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else lm.dtype


def bytes_per_token(lm: PreTrainedModel) -> int:
    """Of the keys and values of all layers."""
    config = lm.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * dtype(lm).itemsize


@contextmanager
def kept_attention(lm: PreTrainedModel) -> Iterator[None]:
    """While it lasts, the model's attention is that over [`KeptKeys`]; its forwards take `segments`."""
    before = lm.config._attn_implementation
    lm.config._attn_implementation = _NAME
    try:
        yield
    finally:
        lm.config._attn_implementation = before


def _attend(
    module: torch.nn.Module,
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
    num_key_heads = key.shape[1]
    # Neighbouring heads share keys: `(key heads, heads of each, T, width)`.
    queries = (query[0] * scaling).to(key.dtype).unflatten(0, (num_key_heads, -1))
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


def _rounded(states: torch.Tensor) -> torch.Tensor:
    return states.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else states


AttentionInterface.register(_NAME, _attend)
