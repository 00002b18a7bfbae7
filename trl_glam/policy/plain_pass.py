# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Causal models that read no packed rows: one plain row for each prompt and each longest beginning of its actions.

State spaces, attention kernels without masks, short attention windows and ALiBi all read plain text right. So here
the model gets nothing but token ids, padded on the right, where a causal model cannot see it. Slower than
`decoder_only.py` by about the number of actions, and what that one is checked against.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from .needed_rows import needed_rows
from .packing import PackedBatch


def forward(lm: PreTrainedModel, batch: PackedBatch) -> tuple[torch.Tensor | None, torch.Tensor]:
    """
    The same as [`decoder_only.forward`], by plain rows.

    Args:
        lm ([`~transformers.PreTrainedModel`]):
            A causal language model of any kind.
        batch ([`PackedBatch`]):
            On the model's device.

    Returns:
        `tuple[torch.Tensor | None, torch.Tensor]`: vocabulary logits of shape `(R, K, V)`, `None` when nothing is to
        be scored, and the value state of shape `(R, d)`: the last hidden state at the last prompt token.
    """
    masks, depths = batch.branch_mask.cpu().numpy(), batch.branch_depth.cpu().numpy()
    width, num_reads = batch.prompt_ids.shape[1], batch.branch_ids.shape[1] + 1
    rows: list[torch.Tensor] = []
    # Row and column where each position of the packed row is read: the last of the prompt, then the branch.
    read_rows, read_columns = np.zeros((2, batch.num_rows, num_reads), np.int64)
    layouts = batch.layout_of.tolist()
    for r, (length, row_tokens, layout) in enumerate(zip(batch.lengths, batch.row_tokens, layouts, strict=True)):
        branch = min(row_tokens - length, num_reads - 1)
        prompt = batch.prompt_ids[r, width - length :]
        read_rows[r], read_columns[r] = len(rows), length - 1
        for path in _paths(masks[layout, :branch, :branch]):
            read_rows[r, 1 + path], read_columns[r, 1 + path] = len(rows), length + depths[layout, path]
            rows.append(torch.cat([prompt, batch.branch_ids[layout, torch.from_numpy(path).to(prompt.device)]]))
    ids = pad_sequence(rows, batch_first=True)
    read = torch.from_numpy(read_rows * ids.shape[1] + read_columns).to(ids.device)
    with needed_rows(lm, read) as hidden:
        logits = lm(input_ids=ids, use_cache=False).logits
    return (logits if batch.read_positions.shape[1] else None), hidden[0][:, 0]


def _paths(mask: np.ndarray) -> list[np.ndarray]:
    """From the root to every leaf of a trie: its positions, in order; one empty path if there is no position."""
    if not len(mask):
        return [np.zeros(0, np.int64)]
    # A leaf is seen by itself alone.
    return [np.flatnonzero(mask[leaf]) for leaf in np.flatnonzero(mask.sum(0) == 1)]
