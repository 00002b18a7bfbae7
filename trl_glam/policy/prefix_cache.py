# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Keys and values of what a causal model has read in each slot, so that a step reads only what is new.

They are true for one set of weights: whoever changes the weights clears the cache. What is kept of a slot is known by
its token ids, so a prompt that goes on otherwise than the last one is read from where it differs. Nothing here is ever
saved. Left out: which slot plays what (`agents.py`), and the forward (`episode_pass.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


logger = logging.getLogger(__name__)


class PrefixCache:
    """
    Slot -> keys and values of every layer.

    Args:
        max_bytes (`int`, *optional*, defaults to 8 GiB):
            Of keys and values together. Slots keep the beginning of their text as far as there is room; the rest is
            read again at every step.

    Attributes:
        num_kept (`int`):
            Tokens that are kept now.
    """

    def __init__(self, max_bytes: int = 2**33) -> None:
        self.max_bytes = max_bytes
        self._ids: dict[int, np.ndarray] = {}
        self._places: dict[int, int] = {}
        # Per layer, `(places, heads, capacity, width)`.
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._warned = False

    @property
    def num_kept(self) -> int:
        return sum(map(len, self._ids.values()))

    def clear(self, slot: int | None = None) -> None:
        """Forget a slot, or all of them and their memory."""
        if slot is not None:
            self._ids.pop(slot, None)
            return
        self._ids.clear()
        self._places.clear()
        self._keys, self._values = [], []

    def stored(self, slot: int | None, ids: np.ndarray) -> int:
        """How many of the first tokens of a text are kept for a slot."""
        kept = None if slot is None else self._ids.get(slot)
        if kept is None:
            return 0
        common = min(len(kept), len(ids))
        differs = kept[:common] != ids[:common]
        return int(differs.argmax()) if differs.any() else common

    def read(self, slots: Sequence[int | None], stored: Sequence[int]) -> DynamicCache | None:
        """
        What is kept for some texts, as a transformers cache.

        Args:
            slots (`Sequence[int | None]`), stored (`Sequence[int]`):
                Slot of each of n texts, and how many of its tokens are to be taken.

        Returns:
            [`~transformers.DynamicCache`]: n rows of `max(stored)` tokens, arbitrary beyond a row's own; `None` if
            that is 0.
        """
        width = max(stored)
        if width == 0:
            return None
        places = torch.tensor([self._places.get(slot, 0) for slot in slots], device=self._keys[0].device)
        cache = DynamicCache()
        for keys, values in zip(self._keys, self._values, strict=True):
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys = keys[:, :, :width].index_select(0, places)
            layer.values = values[:, :, :width].index_select(0, places)
            cache.layers.append(layer)
        return cache

    @torch.no_grad()
    def write(
        self, slots: Sequence[int | None], stored: Sequence[int], texts: Sequence[np.ndarray], read: DynamicCache
    ) -> None:
        """
        Keep what was read.

        Args:
            slots (`Sequence[int | None]`), stored (`Sequence[int]`), texts (`Sequence[np.ndarray]`):
                Slot of each of n texts, how many of its tokens had been kept, and its token ids.
            read ([`~transformers.DynamicCache`]):
                n rows: `max(stored)` columns of what had been kept, then each text's further tokens.
        """
        kept = [(row, slot) for row, slot in enumerate(slots) if slot is not None]
        if not kept:
            return
        if not read.layers:
            raise ValueError("the model kept no keys and values")
        for _, slot in kept:
            self._places.setdefault(slot, len(self._places))
        capacity = self._reserve(max(len(texts[row]) for row, _ in kept), read)
        counts = [max(min(len(texts[row]), capacity) - stored[row], 0) for row, _ in kept]
        rows = np.repeat([row for row, _ in kept], counts)
        places = np.repeat([self._places[slot] for _, slot in kept], counts)
        new = np.concatenate([np.arange(count) for count in counts])
        device = read.layers[0].keys.device
        to, at = torch.from_numpy(places).to(device), torch.from_numpy(np.array(stored)[rows] + new).to(device)
        row, column = torch.from_numpy(rows).to(device), torch.from_numpy(max(stored) + new).to(device)
        for layer, keys, values in zip(read.layers, self._keys, self._values, strict=True):
            keys[to, :, at] = layer.keys[row, :, column]
            values[to, :, at] = layer.values[row, :, column]
        for text, slot in kept:
            self._ids[slot] = texts[text][:capacity]

    def _reserve(self, tokens: int, like: DynamicCache) -> int:
        """Make room for all places and, if `max_bytes` allows, for texts of so many tokens; returns the capacity."""
        per_token = sum(x[0, :, 0].nbytes for layer in like.layers for x in (layer.keys, layer.values))
        limit = self.max_bytes // (per_token * len(self._places))
        places, capacity = (self._keys[0].shape[0], self._keys[0].shape[2]) if self._keys else (0, 0)
        if places >= len(self._places) and (capacity >= tokens or capacity >= limit):
            return capacity
        if tokens > limit and not self._warned:
            self._warned = True
            logger.warning(
                "Keys and values of %d slots with up to %d tokens would need %.1f GB; the first %d tokens of each are "
                "kept, the rest is read again at every step. This is said once.",
                len(self._places),
                tokens,
                per_token * len(self._places) * tokens / 1e9,
                limit,
            )
        # Doubling keeps the copies few.
        wanted = max(capacity, 1 << (tokens - 1).bit_length()) if tokens > capacity else capacity
        capacity = min(wanted, limit)
        self._keys = [_resized(old, len(self._places), capacity, layer.keys) for old, layer in self._old(like, 0)]
        self._values = [_resized(old, len(self._places), capacity, layer.values) for old, layer in self._old(like, 1)]
        self._ids = {slot: ids[:capacity] for slot, ids in self._ids.items()}
        return capacity

    def _old(self, like: DynamicCache, which: int) -> list:
        old = (self._keys, self._values)[which]
        return list(zip(old or [None] * len(like.layers), like.layers, strict=True))


def _resized(old: torch.Tensor | None, places: int, capacity: int, like: torch.Tensor) -> torch.Tensor:
    """`(places, heads, capacity, width)` with what the old one held."""
    # Zeros: what is masked out is still multiplied, by 0, and memory as it comes may hold NaN.
    new = like.new_zeros(places, like.shape[1], capacity, like.shape[3])
    if old is not None:
        kept = min(capacity, old.shape[2])
        new[: len(old), :, :kept] = old[:, :, :kept]
    return new
