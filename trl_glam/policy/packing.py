# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Prompts and action sets -> `PackedBatch`, the tensors one forward reads; identical rows are stored once.

Encoder-decoder prompts are padded on the right. Causal prompts are padded on the left, so that the last prompt
position and the branch behind it are the last D + 1 columns of every row, which is what `logits_to_keep=D + 1`
returns. Only the tokenizer is used here, no parameter. Left out: truncation; a prompt that the model cannot read is an
error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ..prompts import PromptTemplate
from ..types import InvalidInputError
from .candidates import CandidateEncoder, CandidateLayout
from .decision_tables import DecisionTables, decision_tables


# What is packed: the text that is tokenized as prompt, whether its trailing space goes to the action, the actions.
Key = tuple[str, bool, tuple[str, ...]]

logger = logging.getLogger(__name__)

# Longest prompt that the T5 family saw in pretraining; longer ones work, as its positions are relative.
_T5_PRETRAINED_LENGTH = 512


@dataclass(frozen=True)
class PackedBatch(DecisionTables):
    """
    One forward's input: one row of text for each distinct (prompt, action set). R, U, D, K, A and C as in
    [`DecisionTables`], whose fields it has too.

    Args:
        prompt_ids (`torch.Tensor` of shape `(R, P)`):
            int64 token ids of the prompts.
        prompt_mask (`torch.Tensor` of shape `(R, P)`):
            bool, false on padding.
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
    lengths: tuple[int, ...]
    row_tokens: tuple[int, ...]
    repeated_tokens: int
    left_padded: bool

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
        max_prompts (`int`, *optional*, defaults to `4096`):
            Prompts (segments of append-only ones) whose token ids are remembered, which is for an update and its
            rollout; the cache empties itself when it is full.

    Attributes:
        template ([`PromptTemplate`] or `None`):
            Says where a causal model's append-only prompts are cut into segments, which are tokenized one by one:
            the token ids of a step's prompt then are the first token ids of the next step's.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        candidates: CandidateEncoder,
        max_positions: int | None = None,
        max_prompts: int = 4096,
    ) -> None:
        self.tokenizer = tokenizer
        self.candidates = candidates
        self.encoder_decoder = candidates.encoder_decoder
        self.max_positions = max_positions
        self.max_prompts = max_prompts
        # Any id will do as padding, as it is masked everywhere; a tokenizer like GPT-2's names none.
        self.pad_id = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.template: PromptTemplate | None = None
        # By the text; by (text, whether it is an action) for what stands inside an append-only prompt.
        self._prompt_ids: dict[str | tuple[str, bool], np.ndarray] = {}
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
        keys, ids_of = self.read(prompts, actions)
        # Rows of like length stand together, so that a forward can split them into groups with little padding.
        rows = sorted(ids_of, key=lambda key: len(ids_of[key]))
        ids = [ids_of[key] for key in rows]
        lengths = np.array([len(row) for row in ids], np.int64)
        row_index = {key: r for r, key in enumerate(rows)}
        row_of = np.array([row_index[key] for key in keys], np.int64)
        layouts, action_sets, layout_of = self.layouts(rows)
        self.check_lengths(lengths, layouts, layout_of)

        prompt_ids = np.full((len(ids), lengths.max()), self.pad_id, np.int64)
        columns = np.arange(prompt_ids.shape[1])
        if self.encoder_decoder:
            prompt_mask = columns < lengths[:, None]
        else:
            prompt_mask = columns >= prompt_ids.shape[1] - lengths[:, None]
        # Both sides go row by row, so one assignment fills every row.
        prompt_ids[prompt_mask] = np.concatenate(ids)

        row_tokens = lengths + np.array([len(layout.branch_ids) for layout in layouts])[layout_of]
        return PackedBatch(
            prompt_ids=torch.from_numpy(prompt_ids),
            prompt_mask=torch.from_numpy(prompt_mask),
            **decision_tables(layouts, action_sets, layout_of, row_of, self.pad_id, offsets, head_actions),
            lengths=tuple(lengths.tolist()),
            row_tokens=tuple(row_tokens.tolist()),
            repeated_tokens=int(row_tokens[row_of].sum() - row_tokens.sum()),
            left_padded=not self.encoder_decoder,
        )

    def read(
        self, prompts: Sequence[str], actions: Sequence[Sequence[str]]
    ) -> tuple[list[Key], dict[Key, np.ndarray]]:
        """What each decision is of, and the token ids of every distinct one's prompt; arguments as in `pack`."""
        if isinstance(prompts, str) or len(prompts) != len(actions) or len(prompts) == 0:
            raise InvalidInputError(
                f"{len(prompts)} prompts and {len(actions)} action lists were given; give one or more prompts, and "
                "one list of admissible actions for each."
            )
        keys = [(*self._split(prompt), tuple(row)) for prompt, row in zip(prompts, actions, strict=True)]
        distinct = list(dict.fromkeys(keys))
        return keys, dict(zip(distinct, self._ids([text for text, _, _ in distinct]), strict=True))

    def layouts(self, rows: Sequence[Key]) -> tuple[list[CandidateLayout], list[tuple[str, ...]], np.ndarray]:
        """The distinct layouts of rows, their action sets, and which is each row's, int64 of shape `(R,)`."""
        index: dict[tuple[tuple[str, ...], bool], int] = {}
        layout_of = np.array([index.setdefault((row, space), len(index)) for _, space, row in rows], np.int64)
        return [self.candidates.layout(*key) for key in index], [actions for actions, _ in index], layout_of

    def _split(self, prompt: str) -> tuple[str, bool]:
        """The text that is tokenized as prompt, and whether its trailing space goes to the action."""
        if self.encoder_decoder or not prompt.endswith(" "):
            return prompt, False
        return prompt[:-1], True

    def _ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        if self.encoder_decoder or self.template is None or not self.template.append_only:
            return self._beginnings(texts)
        cuts = [self.template.segments(text) or [("", False)] for text in texts]
        beginnings = self._beginnings([cut[0][0] for cut in cuts])
        known = self._prompt_ids
        for segment in dict.fromkeys(segment for cut in cuts for segment in cut[1:]):
            if segment not in known:
                known[segment] = np.array(self.candidates.segment_ids(*segment), np.int32)
        return [
            np.concatenate([beginning, *(known[segment] for segment in cut[1:])])
            for beginning, cut in zip(beginnings, cuts, strict=True)
        ]

    def _beginnings(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of whole prompts, or of what append-only ones begin with."""
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
        # Many are kept; batches are int64.
        return np.array(ids, np.int32)

    def check_lengths(self, lengths: np.ndarray, layouts: Sequence[CandidateLayout], layout_of: np.ndarray) -> None:
        """Raise [`InvalidInputError`] for a prompt, `lengths` tokens long, that the model cannot read."""
        reach = np.array([1 + layout.branch_depth.max(initial=-1) for layout in layouts], np.int64)
        longest = int((lengths + reach[layout_of]).max())
        if self.max_positions is not None and longest > self.max_positions:
            raise InvalidInputError(
                f"A prompt with its actions needs {longest} token positions, the model takes {self.max_positions}. "
                "Use a smaller window (num_observations; an append-only prompt has none and grows with the episode, "
                "so shorten episodes or give it a window), a shorter prompt template, or a model with relative or "
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
