# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Append-only prompts -> `EpisodeBatch`: every text once, and the decisions that stand along it.

The prompts of an episode's steps begin with each other, so the longest holds them all. Decisions whose prompts are a
beginning of another prompt in the batch share its row; what has been read before and is kept in a [`PrefixCache`] is
not in the batch at all. Whatever is given comes out right: prompts that share nothing get a row each. Only the
tokenizer is used here; `episode_pass.py` reads the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .decision_tables import DecisionTables, decision_tables
from .packing import Key, Packer
from .prefix_cache import PrefixCache


@dataclass(frozen=True)
class EpisodeBatch(DecisionTables):
    """
    One forward's input: T texts with R decisions on them. R, U and D as in [`DecisionTables`], whose fields it has
    too; its rows are the distinct decisions.

    Args:
        text_ids (`torch.Tensor` of shape `(T, P)`):
            int64 token ids of the texts from the first token that is to be read, padded on the right.
        ends (`torch.Tensor` of shape `(R,)`):
            int64 tokens of each decision's prompt, those read before included.
        lengths (`tuple[int, ...]`):
            Tokens to be read of each text, at least one.
        stored (`tuple[int, ...]`):
            Tokens of each text that were read before and are in the cache.
        text_of (`tuple[int, ...]`), widths (`tuple[int, ...]`):
            Text of each decision, in ascending order, and the positions that its branch adds.
        repeated_tokens (`int`):
            Tokens saved against one row of text for every decision.
        cache ([`PrefixCache`] or `None`):
            Holds what was read before, and takes what will be read.
        slots (`tuple[int | None, ...]`):
            Slot of each text in the cache.
        texts (`tuple[np.ndarray, ...]`):
            Token ids of each whole text, for the cache; empty without one.
    """

    text_ids: torch.Tensor
    ends: torch.Tensor
    lengths: tuple[int, ...]
    stored: tuple[int, ...]
    text_of: tuple[int, ...]
    widths: tuple[int, ...]
    repeated_tokens: int
    cache: PrefixCache | None
    slots: tuple[int | None, ...]
    texts: tuple[np.ndarray, ...]

    @property
    def useful_tokens(self) -> int:
        """Tokens that are computed, without padding."""
        return sum(self.lengths) + sum(self.widths)

    def without_actions(self, keep_branch: int) -> EpisodeBatch:
        """The same decisions with nothing to score."""
        batch = super().without_actions(keep_branch)
        return replace(batch, widths=(0,) * len(self.widths))

    def decisions(self, rows: Sequence[int]) -> DecisionTables:
        """The tables of some distinct decisions."""
        return replace(self, layout_of=self.layout_of[torch.as_tensor(rows, device=self.layout_of.device)])

    def groups(self, tokens: int) -> list[range]:
        """
        Groups of texts of like length.

        Args:
            tokens (`int`):
                A group is closed when it has at least this many tokens, padding and branches included; a last group of
                less than half of it joins the one before.

        Returns:
            `list[range]`: consecutive texts.
        """
        branches = np.bincount(self.text_of, self.widths, minlength=len(self.lengths)).astype(int)
        ends, start = [], 0
        for end in range(1, len(self.lengths) + 1):
            size = (end - start) * (max(self.lengths[start:end]) + branches[start:end].max())
            if size >= tokens:
                ends.append(end)
                start = end
        if start < len(self.lengths):
            if ends and size < tokens / 2:
                ends.pop()
            ends.append(len(self.lengths))
        return [range(a, b) for a, b in zip([0, *ends], ends, strict=False)]


def pack_episodes(
    packer: Packer,
    prompts: Sequence[str],
    actions: Sequence[Sequence[str]],
    offsets: Mapping[str, float] | None = None,
    head_actions: Sequence[str] | None = None,
    cache: PrefixCache | None = None,
    slots: Sequence[int | None] | None = None,
) -> EpisodeBatch:
    """
    Args:
        packer ([`Packer`]):
            Tokenizes.
        prompts, actions, offsets, head_actions:
            As in [`~Packer.pack`].
        cache ([`PrefixCache`], *optional*):
            What was read before. Every distinct prompt then has a row of its own.
        slots (`list[int | None]`, *optional*):
            Slot of each prompt in the cache; `None` for one that is not kept.

    Returns:
        [`EpisodeBatch`]: on the CPU.

    Raises:
        [`InvalidInputError`]: as [`~Packer.pack`] does.
    """
    keys, ids_of = packer.read(prompts, actions)
    slot_of = _slots(keys, slots)
    if cache is None:
        chains = _chains(ids_of)
        stored = [0] * len(chains)
    else:
        cache.claim(slot_of.values())
        chains = [[key] for key in ids_of]
        # The last token is read (again), as it gives the state.
        stored = [min(cache.stored(slot_of[key], ids_of[key]), len(ids_of[key]) - 1) for (key,) in chains]
    # Texts of like length stand together, so that groups of them have little padding.
    order = sorted(range(len(chains)), key=lambda i: len(ids_of[chains[i][-1]]) - stored[i])
    chains, stored = [chains[i] for i in order], [stored[i] for i in order]
    texts = [ids_of[chain[-1]] for chain in chains]
    unread = [text[start:] for text, start in zip(texts, stored, strict=True)]

    rows = [key for chain in chains for key in chain]
    row_index = {key: r for r, key in enumerate(rows)}
    layouts, action_sets, layout_of = packer.layouts(rows)
    ends = np.array([len(ids_of[key]) for key in rows], np.int64)
    packer.check_lengths(ends, layouts, layout_of)
    widths = np.array([len(layout.branch_ids) for layout in layouts], np.int64)[layout_of]
    row_of = np.array([row_index[key] for key in keys], np.int64)
    text_ids = np.full((len(unread), max(map(len, unread))), packer.pad_id, np.int64)
    for i, ids in enumerate(unread):
        text_ids[i, : len(ids)] = ids
    lengths = tuple(map(len, unread))
    alone = (ends + widths)[row_of].sum()
    return EpisodeBatch(
        **decision_tables(layouts, action_sets, layout_of, row_of, packer.pad_id, offsets, head_actions),
        text_ids=torch.from_numpy(text_ids),
        ends=torch.from_numpy(ends),
        lengths=lengths,
        stored=tuple(stored),
        text_of=tuple(i for i, chain in enumerate(chains) for _ in chain),
        widths=tuple(widths.tolist()),
        repeated_tokens=int(alone - sum(lengths) - widths.sum()),
        cache=cache,
        slots=tuple(slot_of[chain[-1]] for chain in chains),
        texts=() if cache is None else tuple(texts),
    )


def _slots(keys: Sequence[Key], slots: Sequence[int | None] | None) -> dict[Key, int | None]:
    """The slot of every distinct key. A slot keeps one text, so further texts of the same slot are not kept."""
    taken: set[int] = set()
    slot_of: dict[Key, int | None] = {}
    for key, slot in zip(keys, slots or [None] * len(keys), strict=True):
        if key not in slot_of:
            slot_of[key] = None if slot in taken else slot
            taken |= set() if slot is None else {slot}
    return slot_of


def _chains(ids_of: Mapping[Key, np.ndarray]) -> list[list[Key]]:
    """Keys whose token ids are beginnings of each other, shortest first."""
    # Big-endian bytes are ordered as the tokens are, and compared in one go.
    as_bytes = {key: ids.astype(">u4").tobytes() for key, ids in ids_of.items()}
    chains: list[list[Key]] = []
    # In reverse lexicographic order a sequence stands right behind those it begins.
    for key in sorted(as_bytes, key=as_bytes.__getitem__, reverse=True):
        if chains and as_bytes[chains[-1][0]].startswith(as_bytes[key]):
            chains[-1].append(key)
        else:
            chains.append([key])
    return [chain[::-1] for chain in chains]
