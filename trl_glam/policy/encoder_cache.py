# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Encoder states of prompts, kept while the encoder is frozen: each prompt is encoded once in a whole run.

With a frozen encoder a training step costs the decoder alone: a few positions and the cross-attention's projections
instead of a hundred prompt tokens through every layer. Causal models have no such part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


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
        self,
        ids: torch.Tensor,
        lengths: Sequence[int],
        encoder: Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]],
    ) -> list[torch.Tensor]:
        """
        States of prompts.

        Args:
            ids (`torch.Tensor` of shape `(T,)`):
                Token ids of R prompts, one behind the other.
            lengths (`list[int]`):
                Tokens of each; T in all.
            encoder (`Callable[[list[torch.Tensor]], list[torch.Tensor]]`):
                Ids of prompts -> their states, each of shape `(length, d)`; called with the prompts that are new.

        Returns:
            `list[torch.Tensor]`: R states of shape `(length, d)`.
        """
        rows = ids.split(list(lengths))
        keys = [tuple(row.tolist()) for row in rows]
        new = [i for i, key in enumerate(keys) if key not in self._states]
        if new:
            if self._bytes > self.max_bytes:
                self.clear()
                new = list(range(len(keys)))
            for i, state in zip(new, encoder([rows[i] for i in new]), strict=True):
                # A copy, or the states of the whole batch would be kept alive.
                self._states[keys[i]] = state.clone()
                self._bytes += self._states[keys[i]].nbytes
        return [self._states[key] for key in keys]
