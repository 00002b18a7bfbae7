# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Value head and action head: small float32 networks on one hidden state of the language model.

They read the decoder's last hidden state at the start token (encoder-decoder) or the last hidden state at the last
prompt token (causal), always in float32 with autocast off.
"""

from __future__ import annotations

import torch
from torch import nn


# Width of GLAM's heads (Carta et al., 2023, https://huggingface.co/papers/2302.02662).
_PAPER_WIDTH = 1024
_STANDARDIZED_WIDTH = 512


def sigmoid_mlp(in_features: int, out_features: int) -> nn.Sequential:
    """GLAM's head: Linear-Sigmoid-Linear-Sigmoid-Linear, 1024 wide, float32."""
    return nn.Sequential(
        nn.Linear(in_features, _PAPER_WIDTH, dtype=torch.float32),
        nn.Sigmoid(),
        nn.Linear(_PAPER_WIDTH, _PAPER_WIDTH, dtype=torch.float32),
        nn.Sigmoid(),
        nn.Linear(_PAPER_WIDTH, out_features, dtype=torch.float32),
    )


class ValueHead(nn.Module):
    """
    Hidden state -> value estimate, in scaled-reward units.

    Args:
        in_features (`int`):
            Width d of the language model.
        kind (`str`):
            `"paper"`: GLAM's [`sigmoid_mlp`]. `"standardized"`: the state is standardized by frozen statistics of some
            prompts (its features hardly vary between prompts, so a head on the raw state explains next to nothing),
            then Linear-ReLU-Linear with a zero last layer: the first values are exactly 0.
    """

    def __init__(self, in_features: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "paper":
            self.mlp = sigmoid_mlp(in_features, 1)
            return
        self.register_buffer("mean", torch.zeros(in_features, dtype=torch.float32))
        self.register_buffer("std", torch.ones(in_features, dtype=torch.float32))
        self.mlp = nn.Sequential(
            nn.Linear(in_features, _STANDARDIZED_WIDTH, dtype=torch.float32),
            nn.ReLU(),
            nn.Linear(_STANDARDIZED_WIDTH, 1, dtype=torch.float32),
        )
        nn.init.zeros_(self.mlp[-1].weight)
        nn.init.zeros_(self.mlp[-1].bias)

    @property
    def dtype(self) -> torch.dtype:
        return self.mlp[0].weight.dtype

    @property
    def is_fitted(self) -> bool:
        """Whether the statistics of the input are there, or not needed."""
        return self.kind == "paper" or bool(self.mean.any())

    def fit(self, states: torch.Tensor) -> None:
        """
        Freeze the statistics that standardize the input.

        Args:
            states (`torch.Tensor` of shape `(n, d)`):
                Hidden states of n prompts; a head of kind `"paper"` ignores them.
        """
        if self.kind == "standardized":
            std, mean = torch.std_mean(states.double(), dim=0, correction=0)
            self.mean.copy_(mean)
            size = states.double().abs().mean()
            if std.max() < 1e-3 * size:
                # A world that always begins alike shows no spread: a twentieth is what prompts usually differ by.
                std = (0.05 * size).clamp(min=1e-8).expand_as(std)
            # A feature that does not vary carries nothing; a floor keeps it from being blown up.
            self.std.copy_(std.clamp(min=1e-4 * std.max().clamp(min=1e-8)))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """`(n, d)` -> `(n,)`."""
        with torch.autocast(state.device.type, enabled=False):
            state = state.to(self.dtype)
            if self.kind == "standardized":
                state = (state - self.mean) / self.std
            return self.mlp(state).squeeze(-1)


class ActionHead(nn.Module):
    """
    Hidden state -> one logit per action of a fixed action set: GLAM's AFlan-T5, NPAE-Flan-T5 and NPA-Flan-T5.

    Args:
        in_features (`int`):
            Width d of the language model.
        num_actions (`int`):
            Size of the action set.
    """

    def __init__(self, in_features: int, num_actions: int) -> None:
        super().__init__()
        self.mlp = sigmoid_mlp(in_features, num_actions)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """`(n, d)` -> `(n, num_actions)`."""
        with torch.autocast(state.device.type, enabled=False):
            return self.mlp(state.to(self.mlp[0].weight.dtype))
