# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Causal models: one row per prompt, with the trie of all its actions behind it.

Each row is `[padding, prompt, branch]`. A 4-D mask keeps the branches of the trie apart, `position_ids` are each
token's depth, and the model's own forward is asked for the logits of the last D + 1 columns, so whatever it does to
logits (soft caps, scales) is kept. Left out: models that take no such mask (flash attention, state spaces, ALiBi);
loading finds them, and `plain_pass.py` reads them.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from transformers import PreTrainedModel

from .grouped_attention import grouped, suits
from .packing import PackedBatch
from .prefix_cache import kept_dtype


def forward(lm: PreTrainedModel, batch: PackedBatch) -> tuple[torch.Tensor | None, torch.Tensor]:
    """
    Args:
        lm ([`~transformers.PreTrainedModel`]):
            A causal language model.
        batch ([`PackedBatch`]):
            On the model's device.

    Returns:
        `tuple[torch.Tensor | None, torch.Tensor]`: vocabulary logits of shape `(R, K, V)`, `None` when nothing is to
        be scored, and the value state of shape `(R, d)`: the last hidden state at the last prompt token.
    """
    branch_ids = batch.per_row(batch.branch_ids).expand(batch.num_rows, -1)
    keep = branch_ids.shape[1] + 1
    width = batch.prompt_ids.shape[1] + branch_ids.shape[1]
    attention = grouped if suits(lm, width**2) else nullcontext
    lengths = batch.prompt_mask.sum(-1, keepdim=True)
    prompt_positions = (batch.prompt_mask.cumsum(-1) - 1).clamp(min=0)
    branch_positions = (lengths + batch.per_row(batch.branch_depth)).expand(batch.num_rows, -1)
    hidden_states: list[torch.Tensor] = []
    # What the head reads is the last hidden state of the columns that are kept; asking the model for hidden states
    # would keep those of every layer.
    hook = lm.get_output_embeddings().register_forward_pre_hook(lambda module, args: hidden_states.append(args[0]))
    try:
        with attention(lm):
            logits = lm(
                input_ids=torch.cat([batch.prompt_ids, branch_ids], 1),
                attention_mask=_mask(batch, kept_dtype(lm.dtype, lm.device.type)),
                position_ids=torch.cat([prompt_positions, branch_positions], 1),
                use_cache=False,
                logits_to_keep=keep,
            ).logits
    finally:
        hook.remove()
    value_state = hidden_states[0][:, 0]
    return (logits if batch.read_positions.shape[1] else None), value_state


def _mask(batch: PackedBatch, dtype: torch.dtype) -> torch.Tensor:
    """Additive attention mask of shape `(R or 1, 1, S, S)`, S = P + D."""
    branch_mask = batch.per_row(batch.branch_mask)
    prompt_mask = batch.prompt_mask if batch.is_padded else batch.prompt_mask[:1]
    num_rows = max(len(prompt_mask), len(branch_mask))
    prompt, branch = prompt_mask.shape[1], branch_mask.shape[1]
    allowed = torch.ones(prompt + branch, prompt + branch, dtype=torch.bool, device=prompt_mask.device).tril()
    allowed = allowed.repeat(num_rows, 1, 1)
    allowed[:, :, :prompt] &= prompt_mask[:, None]
    allowed[:, prompt:, prompt:] = branch_mask
    # Padding attends to itself: a softmax over nothing would be NaN and reach the gradients.
    allowed.diagonal(dim1=1, dim2=2).fill_(True)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]
