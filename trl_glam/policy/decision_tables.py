# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What every batch says about its decisions: the layouts of their action sets, padded to tables, and which is whose.

`PackedBatch` (one row of text a decision) and `EpisodeBatch` (one row of text for many) both build on it, so scoring
and heads need not know which one they have. Only numbers here, no tokenizer and no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch

from ..types import InvalidInputError
from .candidates import CandidateLayout


@dataclass(frozen=True)
class DecisionTables:
    """
    Decisions and their actions. B = decisions asked for, R = distinct ones, U = distinct action sets; D, K, A and C as
    in [`CandidateLayout`], padded to the largest set of the batch.

    Args:
        branch_ids (`torch.Tensor` of shape `(U, D)`), branch_depth (`(U, D)`), branch_mask (`(U, D, D)`),
        read_positions (`(U, K)`), token_ids, token_rows, token_mask (`(U, A, C)`), num_words (`(U, A)`):
            The layouts, padded. A padding position of the branch attends to itself.
        offsets (`torch.Tensor` of shape `(U, A)`):
            float32 calibration offset of each action string.
        head_index (`torch.Tensor` of shape `(U, A)`):
            int64 output of the action head for each action; zeros with a scoring head.
        layout_of (`torch.Tensor` of shape `(R,)`):
            int64 index of each distinct decision's action set.
        row_of (`torch.Tensor` of shape `(B,)`):
            int64 distinct decision of each decision.
        action_mask (`torch.Tensor` of shape `(B, A)`):
            bool, which actions each decision has.
    """

    branch_ids: torch.Tensor
    branch_depth: torch.Tensor
    branch_mask: torch.Tensor
    read_positions: torch.Tensor
    token_ids: torch.Tensor
    token_rows: torch.Tensor
    token_mask: torch.Tensor
    num_words: torch.Tensor
    offsets: torch.Tensor
    head_index: torch.Tensor
    layout_of: torch.Tensor
    row_of: torch.Tensor
    action_mask: torch.Tensor

    @property
    def num_rows(self) -> int:
        """R, the distinct decisions, which are computed."""
        return len(self.layout_of)

    def __len__(self) -> int:
        return len(self.row_of)

    def per_row(self, table: torch.Tensor) -> torch.Tensor:
        """Rows of a layout table: `(U, ...)` -> `(R, ...)`, or `(1, ...)` to broadcast if all rows share a layout."""
        return table if len(table) == 1 else table[self.layout_of]

    def to(self, device: torch.device | str) -> Self:
        """The same batch on a device."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self._tensors()}
        return replace(self, **moved)

    def without_actions(self, keep_branch: int) -> Self:
        """The same decisions with the first `keep_branch` branch positions and nothing to score."""
        return replace(
            self,
            branch_ids=self.branch_ids[:, :keep_branch],
            branch_depth=self.branch_depth[:, :keep_branch],
            branch_mask=self.branch_mask[:, :keep_branch, :keep_branch],
            read_positions=self.read_positions[:, :0],
        )

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, torch.Tensor):
                yield f.name, value


def decision_tables(
    layouts: Sequence[CandidateLayout],
    action_sets: Sequence[tuple[str, ...]],
    layout_of: np.ndarray,
    row_of: np.ndarray,
    pad_id: int,
    offsets: Mapping[str, float] | None,
    head_actions: Sequence[str] | None,
) -> dict[str, Any]:
    """
    The fields of [`DecisionTables`].

    Args:
        layouts (`list[CandidateLayout]`), action_sets (`list[tuple[str, ...]]`):
            The U layouts and their action sets.
        layout_of (`np.ndarray` of shape `(R,)`), row_of (`np.ndarray` of shape `(B,)`):
            As in [`DecisionTables`].
        pad_id (`int`):
            Token id of padding.
        offsets (`dict[str, float]`, *optional*):
            Calibration offset of every action string; 0 without it.
        head_actions (`list[str]`, *optional*):
            The action head's fixed action set.

    Returns:
        `dict[str, torch.Tensor]`: on the CPU.
    """
    tables = _pad_layouts(layouts, pad_id)
    shape = tables["num_words"].shape
    offset_table, head_index = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
    for u, actions in enumerate(action_sets):
        if offsets is not None:
            offset_table[u, : len(actions)] = [offsets[action] for action in actions]
        if head_actions is not None:
            head_index[u, : len(actions)] = _head_outputs(actions, head_actions)
    counts = np.array([layout.num_actions for layout in layouts])[layout_of[row_of]]
    arrays = {
        **tables,
        "offsets": offset_table,
        "head_index": head_index,
        "layout_of": layout_of,
        "row_of": row_of,
        "action_mask": np.arange(shape[1]) < counts[:, None],
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _pad_layouts(layouts: Sequence[CandidateLayout], pad_id: int) -> dict[str, np.ndarray]:
    """Stack layouts of different sizes into `(U, ...)` tables."""
    tables = {}
    for f in fields(CandidateLayout):
        arrays = [getattr(layout, f.name) for layout in layouts]
        shape = np.max([array.shape for array in arrays], axis=0)
        fill = pad_id if f.name in ("branch_ids", "token_ids") else 0
        table = np.full((len(layouts), *shape), fill, arrays[0].dtype)
        for u, array in enumerate(arrays):
            table[(u, *map(slice, array.shape))] = array
        tables[f.name] = table
    # A padding position attends to itself, so that no softmax has nothing to sum over.
    diagonal = np.arange(tables["branch_mask"].shape[1])
    tables["branch_mask"][:, diagonal, diagonal] = True
    return tables


def _head_outputs(row: Sequence[str], head_actions: Sequence[str]) -> list[int]:
    """Which output of the action head stands for each action: by string, else (reworded actions) by position."""
    if set(row) <= set(head_actions):
        return [head_actions.index(action) for action in row]
    if len(row) == len(head_actions):
        return list(range(len(row)))
    raise InvalidInputError(
        f"The actions {list(row)} do not fit the action head, whose {len(head_actions)} outputs stand for "
        f"{list(head_actions)}. Give a subset of them, or as many reworded ones in the same order; head='scoring' "
        "takes any actions."
    )
