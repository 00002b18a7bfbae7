# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Causal models: one pass over an `EpisodeBatch`, in which a text is read once for all its decisions.

A row is `[text, branch 1, branch 2, ...]`. A branch is the trie of a decision's actions; it sees the text up to its
prompt's last token, and its own ancestors. The first token of an action is scored by that last token itself, which the
text goes on from undisturbed.

Long texts go through the model in chunks, each of which attends to the keys and values of those before it, with their
gradients. That leaves out what a causal mask would throw away, half of the attention, and most of the mask. Keys and
values that a [`PrefixCache`] holds are nothing but chunks that were read at an earlier step. Where
`grouped_attention.py` can, they are read where they lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from .._compat import parameters_are_sharded
from . import grouped_attention
from .episode_batch import EpisodeBatch
from .episode_columns import NOWHERE, additive_mask, allowed_keys, branch_columns, new_columns
from .grouped_attention import KeptKeys, Segment, bytes_per_token
from .needed_rows import needed_rows
from .prefix_cache import kept_dtype
from .scoring import action_scores, token_scores


# Tokens of several texts that share a forward, and tokens of one text that pass at once. A step of an episode is
# short, so many must stand side by side before reading the weights is a small part of it.
TOKENS_PER_GROUP = {"cpu": 2048, "cuda": 16384}
TOKENS_PER_CHUNK = {"cpu": 512, "cuda": 2048}
_NO_LIMIT = 2**31


@dataclass
class _Reading:
    """What one chunk gave: n decisions, their logits of shape `(n, K, V)` and hidden states of shape `(n, K, d)`."""

    decisions: list[int]
    logits: torch.Tensor
    hidden: torch.Tensor


def run(
    lm: PreTrainedModel,
    batch: EpisodeBatch,
    scoring: str,
    with_actions: bool = True,
    tokens_per_chunk: int | None = None,
    in_place: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """
    Args:
        lm ([`~transformers.PreTrainedModel`]):
            A causal model, with an adapter's layers in place if there is one.
        batch ([`EpisodeBatch`]):
            On the model's device.
        scoring (`str`):
            `"sum"`, `"token"`, `"word"` or `"paper"`.
        with_actions (`bool`, *optional*, defaults to `True`):
            Whether the actions are scored.
        tokens_per_chunk (`int`, *optional*):
            Tokens of one text that pass at once; what suits the device if not given.
        in_place (`bool`, *optional*, defaults to `True`):
            Read what the cache holds where it lies, if that is possible.

    Returns:
        `tuple[torch.Tensor | None, torch.Tensor]`: scores of shape `(R, A)`, `None` without actions, before
        calibration and temperature; and the hidden states of shape `(R, d)` at the prompts' last tokens.
    """
    if not with_actions:
        batch = batch.without_actions(keep_branch=0)
    scores, states, order = [], [], []
    for reading in _read(lm, batch, tokens_per_chunk, in_place):
        order += reading.decisions
        states.append(reading.hidden[:, 0])
        if with_actions:
            tables = batch.decisions(reading.decisions)
            tokens = token_scores(reading.logits, tables, normalize=scoring != "paper")
            scores.append(action_scores(tokens, tables, scoring))
    back = torch.from_numpy(np.argsort(order)).to(batch.layout_of.device)
    return (torch.cat(scores)[back] if with_actions else None), torch.cat(states)[back]


def computed_tokens(lm: PreTrainedModel, batch: EpisodeBatch) -> int:
    """Tokens that pass through the model for a batch, padding included."""
    total = 0
    for texts, chunk in _groups(lm, batch, None):
        if _room_in_place(lm, batch, texts):
            total += sum(batch.lengths[texts.start : texts.stop])
            total += sum(n for n, text in zip(batch.widths, batch.text_of, strict=True) if text in texts)
            continue
        for columns, decisions in _chunks(batch, texts, chunk):
            width = branch_columns(batch, texts, columns, decisions)[0].shape[1]
            total += len(texts) * (columns.stop - columns.start + width)
    return total


def _read(lm: PreTrainedModel, batch: EpisodeBatch, chunk: int | None, in_place: bool) -> Iterator[_Reading]:
    for texts, limit in _groups(lm, batch, chunk):
        room = _room_in_place(lm, batch, texts) if in_place else 0
        yield from _read_in_place(lm, batch, texts, limit, room) if room else _read_group(lm, batch, texts, limit)


def _groups(lm: PreTrainedModel, batch: EpisodeBatch, chunk: int | None) -> list[tuple[range, int]]:
    """Texts that are read side by side, and how many tokens of each pass at once."""
    device = lm.device.type
    tokens = TOKENS_PER_GROUP.get(device, TOKENS_PER_GROUP["cuda"])
    chunk = chunk or TOKENS_PER_CHUNK.get(device, TOKENS_PER_CHUNK["cuda"])
    if parameters_are_sharded():
        # Processes that share a layer's parameters must call it equally often.
        tokens = chunk = _NO_LIMIT
    elif lm.training and lm.is_activation_checkpointing:
        # A layer that is computed again in the backward pass takes no keys and values from outside.
        chunk = _NO_LIMIT
    return [(texts, chunk) for texts in batch.groups(tokens)]


def _chunks(batch: EpisodeBatch, texts: range, chunk: int) -> list[tuple[slice, list[int]]]:
    """Columns of some texts that pass at once, and the decisions whose prompts end there."""
    width = max(batch.lengths[texts.start : texts.stop])
    num_chunks = -(-width // chunk)
    size = -(-width // num_chunks)
    decisions: list[list[int]] = [[] for _ in range(num_chunks)]
    for m, end in enumerate(batch.ends.tolist()):
        if batch.text_of[m] in texts:
            decisions[(end - 1 - batch.stored[batch.text_of[m]]) // size].append(m)
    return [(slice(i * size, min((i + 1) * size, width)), some) for i, some in enumerate(decisions)]


def _room_in_place(lm: PreTrainedModel, batch: EpisodeBatch, texts: range) -> int:
    """Tokens for which every slot of some texts needs room to be read in place; 0 if they cannot be."""
    if batch.cache is None or torch.is_grad_enabled() or not grouped_attention.is_usable(lm):
        return 0
    branches = np.bincount(batch.text_of, batch.widths, minlength=len(batch.lengths)).astype(int)
    needed = int(max(batch.stored[i] + batch.lengths[i] + branches[i] for i in texts))
    slots = batch.slots[texts.start : texts.stop]
    return needed if batch.cache.holds(slots, needed, bytes_per_token(lm), kept_dtype(lm.dtype, "cpu")) else 0


def _read_in_place(
    lm: PreTrainedModel, batch: EpisodeBatch, texts: range, chunk: int, room: int
) -> Iterator[_Reading]:
    """Read some texts behind what the cache holds of them, chunk by chunk, without padding."""
    rows = slice(texts.start, texts.stop)
    slots, stored, whole = batch.slots[rows], batch.stored[rows], batch.texts[rows]
    places = batch.cache.open(slots, stored, whole, room, bytes_per_token(lm))
    starts, ends_here = torch.tensor(stored)[:, None], torch.tensor(batch.lengths[rows])[:, None]
    for columns, decisions in _chunks(batch, texts, chunk):
        index = torch.arange(columns.start, columns.stop)
        positions = torch.where(index < ends_here, starts + index, NOWHERE)
        new = new_columns(batch, texts, columns, positions, decisions)
        bias = additive_mask(allowed_keys(batch, new, positions), kept_dtype(lm.dtype, "cpu"))
        # All texts in one row, behind each other, without what pads them.
        index_of, segments, end = new.is_used.flatten().cumsum(0) - 1, [], 0
        for row, used in enumerate(new.is_used):
            if (count := int(used.sum())) > 0:
                own = bias[row][used][:, used]
                segments.append(Segment(slice(end, end + count), places[row], stored[row] + columns.start, own))
                end += count
        read = index_of.clamp(min=0)[new.read]
        with needed_rows(lm, read) as hidden, grouped_attention.in_place(lm):
            logits = lm(
                input_ids=new.ids[new.is_used][None],
                attention_mask=bias.new_zeros(1, 1, 1, 1),
                position_ids=new.positions[new.is_used][None],
                past_key_values=KeptKeys(batch.cache, segments),
                use_cache=True,
                segments=segments,
            ).logits
        if decisions:
            yield _Reading(decisions, logits, hidden[0])
    batch.cache.keep(slots, whole)


def _read_group(lm: PreTrainedModel, batch: EpisodeBatch, texts: range, chunk: int) -> Iterator[_Reading]:
    """Read some texts side by side, chunk by chunk."""
    rows = slice(texts.start, texts.stop)
    stored, lengths = batch.stored[rows], batch.lengths[rows]
    past = None if batch.cache is None else batch.cache.read(batch.slots[rows], stored, batch.texts[rows])
    device = batch.text_ids.device
    starts, ends_here = (torch.tensor(counts, device=device)[:, None] for counts in (stored, lengths))
    # Position of every key that was read before; beyond every position where there is none.
    kept = torch.arange(0 if past is None else max(stored), device=device).expand(len(texts), -1)
    key_positions = torch.where(kept < starts, kept, NOWHERE)

    longest = max(first + count for first, count in zip(stored, lengths, strict=True))
    attention = (
        grouped_attention.grouped if grouped_attention.suits(lm, longest**2 // 2, in_chunks=True) else nullcontext
    )
    chunks = _chunks(batch, texts, chunk)
    # A single chunk that nobody reads on from needs no cache.
    if past is None and (len(chunks) > 1 or batch.cache is not None):
        past = DynamicCache()
    for columns, decisions in chunks:
        index = torch.arange(columns.start, columns.stop, device=device)
        positions = torch.where(index < ends_here, starts + index, NOWHERE)
        key_positions = torch.cat([key_positions, positions], 1)
        new = new_columns(batch, texts, columns, positions, decisions)
        mask = additive_mask(allowed_keys(batch, new, key_positions), kept_dtype(lm.dtype, device.type))
        with needed_rows(lm, new.read) as hidden, attention(lm):
            logits = lm(
                input_ids=new.ids,
                attention_mask=mask[:, None],
                position_ids=new.positions,
                past_key_values=past,
                use_cache=past is not None,
            ).logits
        branch_width = new.ids.shape[1] - len(index)
        if past is not None and branch_width:
            past.crop(-branch_width)
        if decisions:
            yield _Reading(decisions, logits, hidden[0])
    if batch.cache is not None:
        batch.cache.write(batch.slots[rows], stored, batch.texts[rows], past)
