# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""One forward's part of an `EpisodeBatch`: columns of its texts, the branches that belong there, and who sees whom.

The layout is `[columns | branches]`, a padded row for every text. Left out: what passes at once, and whether padding
goes along (`episode_pass.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .episode_batch import EpisodeBatch


# Position of a key that nobody sees.
NOWHERE = 2**31


@dataclass
class NewColumns:
    """
    The same columns of some texts, and behind them the branches of the decisions there; all on the model's device.

    Args:
        ids, positions (`torch.Tensor` of shape `(rows, columns + width)`):
            int64 token ids, and their positions; 0 where there is padding.
        is_used (`torch.Tensor` of shape `(rows, columns + width)`):
            bool, `False` where there is padding.
        last_seen (`torch.Tensor` of shape `(rows, columns + width)`):
            int64 position of the last token of the text that each one sees; -1 for padding.
        decision (`torch.Tensor` of shape `(rows, width)`), node (likewise):
            int64 decision of each branch column, and its position in the branch; 0 where there is padding.
        read (`torch.Tensor` of shape `(n, K)`):
            int64, what is read off of each decision, in the flattened `(rows x (columns + width))`.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    is_used: torch.Tensor
    last_seen: torch.Tensor
    decision: torch.Tensor
    node: torch.Tensor
    read: torch.Tensor


def new_columns(
    batch: EpisodeBatch, texts: range, columns: slice, text_positions: torch.Tensor, decisions: list[int]
) -> NewColumns:
    """
    Args:
        batch ([`EpisodeBatch`]):
            On the model's device.
        texts (`range`), columns (`slice`):
            Which rows and which columns of `batch.text_ids`.
        text_positions (`torch.Tensor` of shape `(rows, columns)`):
            int64 position of each of them in its text; `NOWHERE` for padding.
        decisions (`list[int]`):
            Those whose prompts end in these columns.

    Returns:
        [`NewColumns`].
    """
    device = batch.text_ids.device
    decision_of, node_of, read = branch_columns(batch, texts, columns, decisions)
    decision, node = torch.from_numpy(decision_of).to(device), torch.from_numpy(node_of).to(device)
    there, decision = decision >= 0, decision.clamp(min=0)
    is_text = text_positions < NOWHERE
    layout, ends = batch.layout_of[decision], batch.ends[decision]
    ids = batch.text_ids[texts.start : texts.stop, columns]
    positions = torch.where(is_text, text_positions, 0)
    if decision.shape[1]:
        ids = torch.cat([ids, batch.branch_ids[layout, node]], 1)
        positions = torch.cat([positions, torch.where(there, ends + batch.branch_depth[layout, node], 0)], 1)
    # A text's token sees those up to itself, a branch those of its prompt; padding sees none.
    last_seen = torch.cat([torch.where(is_text, text_positions, -1), torch.where(there, ends - 1, -1)], 1)
    is_used = torch.cat([is_text, there], 1)
    return NewColumns(ids, positions, is_used, last_seen, decision, node, torch.from_numpy(read).to(device))


def allowed_keys(batch: EpisodeBatch, new: NewColumns, key_positions: torch.Tensor) -> torch.Tensor:
    """
    Which new columns see which keys: those of the text at the given positions, and behind them the branches.

    Args:
        key_positions (`torch.Tensor` of shape `(rows, keys)`):
            int64, the text's new columns last.

    Returns:
        `torch.Tensor` of shape `(rows, columns + width, keys + width)`: bool.
    """
    width = new.decision.shape[1]
    num_columns = new.ids.shape[1] - width
    there, layout = new.is_used[:, num_columns:], batch.layout_of[new.decision]
    allowed_text = key_positions[:, None] <= new.last_seen[:, :, None]
    allowed = torch.cat([allowed_text, allowed_text.new_zeros(*allowed_text.shape[:2], width)], 2)
    # Inside a branch each position sees its ancestors and itself.
    same = (new.decision[:, :, None] == new.decision[:, None]) & there[:, :, None] & there[:, None]
    tree = batch.branch_mask[layout[:, :, None], new.node[:, :, None], new.node[:, None]] if width else same
    allowed[:, num_columns:, allowed_text.shape[2] :] = same & tree
    # Padding attends to itself: a softmax over nothing would be NaN and reach the gradients.
    allowed.diagonal(offset=allowed.shape[2] - allowed.shape[1], dim1=1, dim2=2).fill_(True)
    return allowed


def additive_mask(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A bool mask is silently wrong under eager attention."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)


def branch_columns(
    batch: EpisodeBatch, texts: range, columns: slice, decisions: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Lay branches side by side behind a chunk of their texts.

    Returns:
        `tuple[np.ndarray, np.ndarray, np.ndarray]`: of each branch column its decision (-1: padding) and its position
        in the branch, of shape `(rows, width)`; and of each decision where its prompt's last token and its branch
        stand in the flattened `(rows x (columns + width))`, of shape `(n, K)`.
    """
    used = [0] * len(texts)
    starts = []
    for m in decisions:
        row = batch.text_of[m] - texts.start
        starts.append(used[row])
        used[row] += batch.widths[m]
    width, num_columns = max(used), columns.stop - columns.start
    decision, node = np.full((len(texts), width), -1, np.int64), np.zeros((len(texts), width), np.int64)
    # What stands behind a shorter branch is not scored; any position will do.
    read = np.zeros((len(decisions), batch.branch_ids.shape[1] + 1), np.int64)
    ends = batch.ends.tolist()
    for i, (m, start) in enumerate(zip(decisions, starts, strict=True)):
        text, count = batch.text_of[m], batch.widths[m]
        row, branch = text - texts.start, np.arange(count)
        decision[row, start : start + count], node[row, start : start + count] = m, branch
        first = row * (num_columns + width)
        read[i] = first + ends[m] - 1 - batch.stored[text] - columns.start
        read[i, 1 : 1 + count] = first + num_columns + start + branch
    return decision, node, read
