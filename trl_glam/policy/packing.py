# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Prompts and action sets -> `PackedBatch`, the tensors one forward reads; identical rows are stored once.

Encoder-decoder prompts are padded on the right. Causal prompts are padded on the left, so that the last prompt
position and the branch behind it are the last D + 1 columns of every row, which is what `logits_to_keep=D + 1`
returns. Only the tokenizer is used here, no parameter. Left out: truncation; a prompt that the model cannot read is an
error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ..types import InvalidInputError
from .candidates import CandidateEncoder, CandidateLayout


logger = logging.getLogger(__name__)

# Longest prompt that the T5 family saw in pretraining; longer ones work, as its positions are relative.
_T5_PRETRAINED_LENGTH = 512


@dataclass(frozen=True)
class PackedBatch:
    """
    One forward's input. B = decisions asked for, R = distinct (prompt, action set) rows, U = distinct action sets; D,
    K, A and C as in [`CandidateLayout`], padded to the largest set of the batch.

    Args:
        prompt_ids (`torch.Tensor` of shape `(R, P)`):
            int64 token ids of the prompts.
        prompt_mask (`torch.Tensor` of shape `(R, P)`):
            bool, false on padding.
        branch_ids (`torch.Tensor` of shape `(U, D)`), branch_depth (`(U, D)`), branch_mask (`(U, D, D)`),
        read_positions
        (`(U, K)`), token_ids, token_rows, token_mask (`(U, A, C)`), num_words (`(U, A)`):
            The layouts, padded. A padding position of the branch attends to itself.
        offsets (`torch.Tensor` of shape `(U, A)`):
            float32 calibration offset of each action string.
        head_index (`torch.Tensor` of shape `(U, A)`):
            int64 output of the action head for each action; zeros with a scoring head.
        layout_of (`torch.Tensor` of shape `(R,)`):
            int64 index of each row's action set.
        row_of (`torch.Tensor` of shape `(B,)`):
            int64 row of each decision.
        action_mask (`torch.Tensor` of shape `(B, A)`):
            bool, which actions each decision has.
        lengths (`tuple[int, ...]`):
            Tokens of each of the R prompts, ascending.
        row_tokens (`tuple[int, ...]`):
            Tokens of each row, prompt and branch, without padding.
        repeated_tokens (`int`):
            Tokens saved by storing identical rows once.
        left_padded (`bool`):
            Which side of the prompts is padded.
    """

    prompt_ids: torch.Tensor
    prompt_mask: torch.Tensor
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
    lengths: tuple[int, ...]
    row_tokens: tuple[int, ...]
    repeated_tokens: int
    left_padded: bool

    @property
    def num_rows(self) -> int:
        """R, the rows that are computed."""
        return len(self.prompt_ids)

    @property
    def is_padded(self) -> bool:
        """Whether any prompt is shorter than another."""
        return self.lengths[0] != self.lengths[-1]

    @property
    def useful_tokens(self) -> int:
        """Tokens of the R rows that are not padding."""
        return sum(self.row_tokens)

    @property
    def total_tokens(self) -> int:
        """Tokens that are computed if the rows are not split, padding included."""
        return self.num_rows * (self.prompt_ids.shape[1] + self.branch_ids.shape[1])

    def __len__(self) -> int:
        return len(self.row_of)

    def per_row(self, table: torch.Tensor) -> torch.Tensor:
        """Rows of a layout table: `(U, ...)` -> `(R, ...)`, or `(1, ...)` to broadcast if all rows share a layout."""
        return table if len(table) == 1 else table[self.layout_of]

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on a device."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self._tensors()}
        return replace(self, **moved)

    def split(self, tokens: int) -> list[PackedBatch]:
        """
        Groups of consecutive rows, which are of like length, each with just the padding it needs.

        Args:
            tokens (`int`):
                A group is closed when its prompts have at least this many tokens, padding included; a last group of
                less than half of it joins the one before.

        Returns:
            `list[PackedBatch]`: with the rows of this batch in order. `row_of` and `action_mask` stay those of the
            whole.
        """
        ends, start = [], 0
        for end, length in enumerate(self.lengths, 1):
            if length * (end - start) >= tokens:
                ends.append(end)
                start = end
        if start < self.num_rows:
            if ends and self.lengths[-1] * (self.num_rows - start) < tokens / 2:
                ends.pop()
            ends.append(self.num_rows)
        return [self] if len(ends) == 1 else [self._rows(a, b) for a, b in zip([0, *ends], ends, strict=False)]

    def _rows(self, start: int, end: int) -> PackedBatch:
        width = self.lengths[end - 1]
        columns = slice(self.prompt_ids.shape[1] - width, None) if self.left_padded else slice(width)
        return replace(
            self,
            prompt_ids=self.prompt_ids[start:end, columns],
            prompt_mask=self.prompt_mask[start:end, columns],
            layout_of=self.layout_of[start:end],
            lengths=self.lengths[start:end],
            row_tokens=self.row_tokens[start:end],
        )

    def without_actions(self, keep_branch: int) -> PackedBatch:
        """The same rows with the first `keep_branch` branch positions and nothing to score."""
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


class Packer:
    """
    Turns prompts and action sets into a [`PackedBatch`].

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the language model.
        candidates ([`CandidateEncoder`]):
            Layouts of the action sets.
        max_positions (`int`, *optional*):
            Tokens the model takes, prompt and action together; `None` for relative positions, which have no limit.
        max_prompts (`int`, *optional*, defaults to `65536`):
            Prompts whose token ids are remembered; the cache empties itself when it is full.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        candidates: CandidateEncoder,
        max_positions: int | None = None,
        max_prompts: int = 65536,
    ) -> None:
        self.tokenizer = tokenizer
        self.candidates = candidates
        self.encoder_decoder = candidates.encoder_decoder
        self.max_positions = max_positions
        self.max_prompts = max_prompts
        # Any id will do as padding, as it is masked everywhere; a tokenizer like GPT-2's names none.
        self.pad_id = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._prompt_ids: dict[str, np.ndarray] = {}
        self._warned = False

    def clear(self) -> None:
        """Forget the token ids of all prompts."""
        self._prompt_ids.clear()

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids of a prompt as the model reads it."""
        return self._ids([self._split(prompt)[0]])[0].tolist()

    def pack(
        self,
        prompts: Sequence[str],
        actions: Sequence[Sequence[str]],
        offsets: Mapping[str, float] | None = None,
        head_actions: Sequence[str] | None = None,
    ) -> PackedBatch:
        """
        Args:
            prompts (`list[str]`):
                B prompts.
            actions (`list[list[str]]`):
                The admissible actions of each; an empty list asks for the value alone.
            offsets (`dict[str, float]`, *optional*):
                Calibration offset of every action string; 0 without it.
            head_actions (`list[str]`, *optional*):
                The action head's fixed action set.

        Returns:
            [`PackedBatch`]: on the CPU.

        Raises:
            [`InvalidInputError`]: no prompts, unequal numbers, empty or repeated action strings, a prompt that is too
            long.
        """
        if isinstance(prompts, str) or len(prompts) != len(actions) or len(prompts) == 0:
            raise InvalidInputError(
                f"{len(prompts)} prompts and {len(actions)} action lists were given; give one or more prompts, and "
                "one list of admissible actions for each."
            )
        keys = [(*self._split(prompt), tuple(row)) for prompt, row in zip(prompts, actions, strict=True)]
        ids_of = dict(zip(dict.fromkeys(keys), self._ids([text for text, _, _ in dict.fromkeys(keys)]), strict=True))
        # Rows of like length stand together, so that a forward can split them into groups with little padding.
        rows = sorted(ids_of, key=lambda key: len(ids_of[key]))
        ids = [ids_of[key] for key in rows]
        lengths = np.array([len(row) for row in ids], np.int64)
        row_index = {key: r for r, key in enumerate(rows)}
        row_of = np.array([row_index[key] for key in keys], np.int64)
        layout_index: dict[tuple, int] = {}
        layout_of = np.array(
            [layout_index.setdefault((row, space), len(layout_index)) for _, space, row in rows], np.int64
        )
        layouts = [self.candidates.layout(row, space) for row, space in layout_index]
        reach = np.array([1 + layout.branch_depth.max(initial=-1) for layout in layouts], np.int64)[layout_of]
        self._check_lengths(lengths, reach)

        prompt_ids = np.full((len(ids), lengths.max()), self.pad_id, np.int64)
        columns = np.arange(prompt_ids.shape[1])
        if self.encoder_decoder:
            prompt_mask = columns < lengths[:, None]
        else:
            prompt_mask = columns >= prompt_ids.shape[1] - lengths[:, None]
        # Both sides go row by row, so one assignment fills every row.
        prompt_ids[prompt_mask] = np.concatenate(ids)

        tables = _pad_layouts(layouts, self.pad_id)
        rows_actions = np.array([layout.num_actions for layout in layouts])[layout_of[row_of]]
        num_actions = tables["num_words"].shape[1]
        offset_table = np.zeros((len(layouts), num_actions), np.float32)
        head_index = np.zeros((len(layouts), num_actions), np.int64)
        for u, (row, _) in enumerate(layout_index):
            if offsets is not None:
                offset_table[u, : len(row)] = [offsets[action] for action in row]
            if head_actions is not None:
                head_index[u, : len(row)] = _head_outputs(row, head_actions)
        row_tokens = lengths + np.array([len(layout.branch_ids) for layout in layouts])[layout_of]
        return PackedBatch(
            prompt_ids=torch.from_numpy(prompt_ids),
            prompt_mask=torch.from_numpy(prompt_mask),
            **{name: torch.from_numpy(table) for name, table in tables.items()},
            offsets=torch.from_numpy(offset_table),
            head_index=torch.from_numpy(head_index),
            layout_of=torch.from_numpy(layout_of),
            row_of=torch.from_numpy(row_of),
            action_mask=torch.from_numpy(np.arange(num_actions) < rows_actions[:, None]),
            lengths=tuple(lengths.tolist()),
            row_tokens=tuple(row_tokens.tolist()),
            repeated_tokens=int(row_tokens[row_of].sum() - row_tokens.sum()),
            left_padded=not self.encoder_decoder,
        )

    def _split(self, prompt: str) -> tuple[str, bool]:
        """The text that is tokenized as prompt, and whether its trailing space goes to the action."""
        if self.encoder_decoder or not prompt.endswith(" "):
            return prompt, False
        return prompt[:-1], True

    def _ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        known = self._prompt_ids
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if len(known) + len(new) > self.max_prompts:
            known.clear()
            new = list(dict.fromkeys(texts))
        if new:
            batch = self.tokenizer(new, truncation=False, verbose=False, return_attention_mask=False)["input_ids"]
            known.update((text, self._finish(ids)) for text, ids in zip(new, batch, strict=True))
        return [known[text] for text in texts]

    def _finish(self, ids: list[int]) -> np.ndarray:
        """The tokenizer's own special tokens at the beginning; at the end one end token (T5) or none (causal)."""
        end = self.tokenizer.eos_token_id
        while ids and ids[-1] == end and len(ids) > (0 if self.encoder_decoder else 1):
            ids = ids[:-1]
        if self.encoder_decoder:
            ids = [*ids, end]
        elif not ids:
            # A causal model without a BOS cannot predict from nothing; its end token separates documents.
            ids = [end]
        return np.array(ids, np.int64)

    def _check_lengths(self, lengths: np.ndarray, reach: np.ndarray) -> None:
        longest = int((lengths + reach).max())
        if self.max_positions is not None and longest > self.max_positions:
            raise InvalidInputError(
                f"A prompt with its actions needs {longest} token positions, the model takes {self.max_positions}. "
                "Use a smaller window (num_observations), a shorter prompt template, or a model with relative or "
                "more positions."
            )
        if self.encoder_decoder and lengths.max() > _T5_PRETRAINED_LENGTH and not self._warned:
            self._warned = True
            logger.warning(
                "A prompt has %d tokens. T5 was pretrained on up to %d; its relative positions read longer prompts "
                "whole, with more time and memory. This is said once.",
                int(lengths.max()),
                _T5_PRETRAINED_LENGTH,
            )


def _pad_layouts(layouts: list[CandidateLayout], pad_id: int) -> dict[str, np.ndarray]:
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
