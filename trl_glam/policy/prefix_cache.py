# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Keys and values of what a causal model has read in each slot, so that a step reads only what is new.

They are true for one set of weights: whoever changes the weights clears the cache. What is kept of a slot is known by
its token ids, so a prompt that goes on otherwise than the last one is read from where it differs. Nothing here is ever
saved. Left out: which slot plays what (`agents.py`), and the forward (`episode_pass.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


logger = logging.getLogger(__name__)


def kept_dtype(dtype: torch.dtype, device_type: str) -> torch.dtype:
    """
    In which keys and values are kept: as autocast rounds them for attention. Rotary positions make float32 of them,
    which would be rounded again at every step.
    """
    rounds = dtype == torch.float32 and torch.is_autocast_enabled(device_type)
    return torch.get_autocast_dtype(device_type) if rounds else dtype


class PrefixCache:
    """
    Slot -> keys and values of every layer.

    Args:
        max_bytes (`int`, *optional*, defaults to 8 GiB):
            Of keys and values together. Slots keep the beginning of their text as far as there is room; the rest is
            read again at every step, and texts that need it are not read in place.

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
        # Tokens of every place; layers grow to it when they are written to. Bytes of a token, once there is one.
        self._capacity = 0
        self._per_token: int | None = None
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
        self._capacity, self._per_token = 0, None

    def claim(self, slots: Iterable[int | None]) -> None:
        """
        Give every slot its place, before [`~PrefixCache.stored`] is asked: more places leave each of them less room,
        so what is kept of the others may become shorter.
        """
        for slot in slots:
            if slot is not None:
                self._places.setdefault(slot, len(self._places))
        if self._per_token is not None:
            self._set_capacity(min(self._capacity, self._limit(self._per_token)))

    def stored(self, slot: int | None, ids: np.ndarray) -> int:
        """How many of the first tokens of a text are kept for a slot."""
        kept = None if slot is None else self._ids.get(slot)
        if kept is None:
            return 0
        common = min(len(kept), len(ids))
        differs = kept[:common] != ids[:common]
        return int(differs.argmax()) if differs.any() else common

    def read(
        self, slots: Sequence[int | None], stored: Sequence[int], texts: Sequence[np.ndarray]
    ) -> DynamicCache | None:
        """
        What is kept for some texts, as a transformers cache.

        Args:
            slots (`Sequence[int | None]`), stored (`Sequence[int]`), texts (`Sequence[np.ndarray]`):
                Slot of each of n texts, how many of its tokens are to be taken, and its token ids.

        Returns:
            [`~transformers.DynamicCache`]: n rows of `max(stored)` tokens, arbitrary beyond a row's own; `None` if
            that is 0.
        """
        width = max(stored)
        if width == 0:
            return None
        self._check(slots, stored, texts)
        places = [self._places[slot] if count else 0 for slot, count in zip(slots, stored, strict=True)]
        places = torch.tensor(places, device=self._keys[0].device)
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
        self.claim(slots)
        device, dtype = read.layers[0].keys.device, read.layers[0].keys.dtype
        size = kept_dtype(dtype, device.type).itemsize
        per_token = sum(size * x[0, :, 0].numel() for layer in read.layers for x in (layer.keys, layer.values))
        capacity = self._reserve(max(len(texts[row]) for row, _ in kept), per_token)
        for row, slot in kept:
            # What is written over is forgotten first: there may be no memory for all layers.
            self._ids[slot] = texts[row][: stored[row]]
        counts = [max(min(len(texts[row]), capacity) - stored[row], 0) for row, _ in kept]
        rows = np.repeat([row for row, _ in kept], counts)
        places = np.repeat([self._places[slot] for _, slot in kept], counts)
        new = np.concatenate([np.arange(count) for count in counts])
        to, at = torch.from_numpy(places).to(device), torch.from_numpy(np.array(stored)[rows] + new).to(device)
        row, column = torch.from_numpy(rows).to(device), torch.from_numpy(max(stored) + new).to(device)
        for index, layer in enumerate(read.layers):
            keys, values = self.layer(index, layer.keys, layer.values)
            keys[to, :, at] = layer.keys[row, :, column].to(keys.dtype)
            values[to, :, at] = layer.values[row, :, column].to(values.dtype)
        self.keep([slot for _, slot in kept], [texts[row][:capacity] for row, _ in kept])

    # In place: who writes to `layer` says before what stays true, and afterwards what has been read.

    def holds(self, slots: Sequence[int | None], tokens: int, per_token: int, dtype: torch.dtype) -> bool:
        """Whether so many tokens of some slots, of so many bytes each, have room beside the others, of this dtype."""
        if None in slots or (self._values and self._values[0].dtype != dtype):
            return False
        places = len(self._places.keys() | set(slots))
        return tokens <= self.max_bytes // ((self._per_token or per_token) * places)

    def open(
        self, slots: Sequence[int], stored: Sequence[int], texts: Sequence[np.ndarray], tokens: int, per_token: int
    ) -> list[int]:
        """
        Make room for what [`~PrefixCache.holds`].

        Args:
            slots (`Sequence[int]`), stored (`Sequence[int]`), texts (`Sequence[np.ndarray]`):
                Slot of each of n texts, how many of its tokens stay as they are, and its token ids.
            tokens (`int`), per_token (`int`):
                Tokens that each slot may be given in all, and the bytes of one.

        Returns:
            `list[int]`: places of the slots in every [`~PrefixCache.layer`].
        """
        self._check(slots, stored, texts)
        self.claim(slots)
        for slot, text, count in zip(slots, texts, stored, strict=True):
            # What is written over is forgotten first: the forward may fail.
            self._ids[slot] = text[:count]
        self._reserve(tokens, per_token)
        return [self._places[slot] for slot in slots]

    def keep(self, slots: Sequence[int], texts: Sequence[np.ndarray]) -> None:
        """Take note that these texts have been read into their slots."""
        self._ids.update(zip(slots, texts, strict=True))

    def layer(self, index: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Keys and values of one layer, with the room that was made for them.

        Args:
            index (`int`):
                Layer, in ascending order.
            keys (`torch.Tensor` of shape `(any, heads, any, width)`), values (likewise):
                As the layer makes them.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: of shape `(places, heads, capacity, width)`, to be written to.
        """
        for kept, like in ((self._keys, keys), (self._values, values)):
            if index == len(kept):
                kept.append(_resized(None, len(self._places), self._capacity, like))
            elif (kept[index].shape[0], kept[index].shape[2]) != (len(self._places), self._capacity):
                kept[index] = _resized(kept[index], len(self._places), self._capacity, like)
        return self._keys[index], self._values[index]

    def _check(self, slots: Sequence[int | None], stored: Sequence[int], texts: Sequence[np.ndarray]) -> None:
        if any(self.stored(slot, text) < count for slot, count, text in zip(slots, stored, texts, strict=True)):
            raise ValueError("The cache holds less than when the batch was packed: it was cleared, or read otherwise.")

    def _reserve(self, tokens: int, per_token: int) -> int:
        """Plan for all places and, if `max_bytes` allows, for texts of so many tokens; returns the capacity."""
        self._per_token = self._per_token or per_token
        limit = self._limit(self._per_token)
        if tokens > limit and not self._warned:
            self._warned = True
            logger.warning(
                "Keys and values of %d slots with up to %d tokens would need %.1f GB; the first %d tokens of each are "
                "kept, the rest is read again at every step. This is said once.",
                len(self._places),
                tokens,
                self._per_token * len(self._places) * tokens / 1e9,
                limit,
            )
        # Doubling keeps the copies few.
        wanted = 1 << (tokens - 1).bit_length() if tokens > self._capacity else self._capacity
        self._set_capacity(min(wanted, limit))
        return self._capacity

    def _limit(self, per_token: int) -> int:
        """Tokens of every place that `max_bytes` allows."""
        return self.max_bytes // (per_token * len(self._places))

    def _set_capacity(self, capacity: int) -> None:
        self._capacity = capacity
        self._ids = {slot: ids[:capacity] for slot, ids in self._ids.items()}


def _resized(old: torch.Tensor | None, places: int, capacity: int, like: torch.Tensor) -> torch.Tensor:
    """`(places, heads, capacity, width)` with what the old one held."""
    # Zeros: what is masked out is still multiplied, by 0, and memory as it comes may hold NaN.
    dtype = kept_dtype(like.dtype, like.device.type) if old is None else old.dtype
    new = like.new_zeros(places, like.shape[1], capacity, like.shape[3], dtype=dtype)
    if old is not None:
        kept = min(capacity, old.shape[2])
        new[: len(old), :, :kept] = old[:, :, :kept]
    return new
