# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Encoder states of prompts, kept while the encoder is frozen: each prompt is encoded once in a whole run.

With a frozen encoder a training step costs the decoder alone: a few positions and the cross-attention's projections
instead of a hundred prompt tokens through every layer. Causal models have no such part.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .packing import PackedBatch


class EncoderCache:
    """
    Prompt -> the encoder's last hidden state.

    Args:
        max_bytes (`int`, *optional*, defaults to 2 GiB):
            The cache empties itself when it would grow beyond.
    """

    def __init__(self, max_bytes: int = 2**31) -> None:
        self.max_bytes = max_bytes
        self._states: dict[tuple[int, ...], torch.Tensor] = {}
        self._bytes = 0

    def clear(self) -> None:
        """Forget all states; to be called when the encoder's weights change."""
        self._states.clear()
        self._bytes = 0

    @torch.no_grad()
    def encode(
        self, batch: PackedBatch, encoder: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
    ) -> torch.Tensor:
        """
        States of a batch's prompts.

        Args:
            batch ([`PackedBatch`]):
                R prompts, padded on the right to P tokens.
            encoder (`Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]`):
                Ids and mask of shape `(n, P)` -> states of shape `(n, P, d)`; called with the prompts that are new.

        Returns:
            `torch.Tensor` of shape `(R, P, d)`: zeros on padding.
        """
        rows = batch.prompt_ids.tolist()
        keys = [tuple(row[:length]) for row, length in zip(rows, batch.lengths, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self._states]
        if new:
            if self._bytes > self.max_bytes:
                self.clear()
                new = list(range(len(keys)))
            width = batch.lengths[new[-1]]
            ids, mask = batch.prompt_ids[new, :width], batch.prompt_mask[new, :width]
            states = encoder(ids, None if bool(mask.all()) else mask)
            for i, state in zip(new, states, strict=True):
                # A copy, or the padding of the whole batch would be kept alive.
                self._states[keys[i]] = state[: batch.lengths[i]].clone()
                self._bytes += self._states[keys[i]].nbytes
        return torch.nn.utils.rnn.pad_sequence([self._states[key] for key in keys], batch_first=True)
