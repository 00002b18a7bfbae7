# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Causal models: one pass over an `EpisodeBatch`, in which a text is read once for all its decisions.

A row is `[text, decision 1, decision 2, ...]`. A decision is its root, a second copy of its prompt's last token, and
behind it the trie of its actions; it sees the text before the root and itself. So all that is read off stands in the
last columns, where `logits_to_keep` returns it, and the text goes on undisturbed: its last token is both.

Long texts go through the model in chunks, each of which attends to the keys and values of those before it, with their
gradients. That leaves out what a causal mask would throw away, half of the attention, and most of the mask. Keys and
values that a [`PrefixCache`] holds are nothing but chunks that were read at an earlier step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from .._compat import parameters_are_sharded
from .episode_batch import EpisodeBatch
from .scoring import action_scores, token_scores


# Tokens of several texts that share a forward, and tokens of one text that pass at once.
TOKENS_PER_GROUP = {"cpu": 1024, "cuda": 16384}
TOKENS_PER_CHUNK = {"cpu": 512, "cuda": 2048}
_NO_LIMIT = 2**31


@dataclass
class _Reading:
    """What one chunk gave: decisions, and their columns in `(rows x columns, ...)`."""

    decisions: list[int]
    roots: list[int]
    logits: torch.Tensor
    hidden: torch.Tensor


def run(
    lm: PreTrainedModel,
    batch: EpisodeBatch,
    scoring: str,
    with_actions: bool = True,
    tokens_per_chunk: int | None = None,
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

    Returns:
        `tuple[torch.Tensor | None, torch.Tensor]`: scores of shape `(R, A)`, `None` without actions, before
        calibration and temperature; and the hidden states of shape `(R, d)` at the prompts' last tokens.
    """
    if not with_actions:
        batch = batch.without_actions(keep_branch=0)
    scores, states, order = [], [], []
    for reading in _read(lm, batch, tokens_per_chunk):
        tables = batch.decisions(reading.decisions)
        roots = torch.tensor(reading.roots, device=reading.hidden.device)
        order += reading.decisions
        states.append(reading.hidden.index_select(0, roots))
        if with_actions:
            widths = torch.tensor([batch.widths[m] for m in reading.decisions], device=roots.device)
            steps = torch.arange(int(widths.max()), device=roots.device)
            columns = roots[:, None] + torch.minimum(steps, widths[:, None] - 1)
            logits = reading.logits.index_select(0, columns.flatten()).view(*columns.shape, -1)
            tokens = token_scores(logits, tables, normalize=scoring != "paper")
            scores.append(action_scores(tokens, tables, scoring))
    back = torch.from_numpy(np.argsort(order)).to(batch.layout_of.device)
    return (torch.cat(scores)[back] if with_actions else None), torch.cat(states)[back]


def computed_tokens(lm: PreTrainedModel, batch: EpisodeBatch) -> int:
    """Tokens that pass through the model for a batch, padding included."""
    total = 0
    for texts, chunk in _groups(lm, batch, None):
        for columns, decisions in _chunks(batch, texts, chunk):
            width = _columns_of_decisions(batch, texts, decisions)[0].shape[1]
            total += len(texts) * (columns.stop - columns.start + width)
    return total


def _read(lm: PreTrainedModel, batch: EpisodeBatch, chunk: int | None) -> Iterator[_Reading]:
    for texts, limit in _groups(lm, batch, chunk):
        yield from _read_group(lm, batch, texts, limit)


def _groups(lm: PreTrainedModel, batch: EpisodeBatch, chunk: int | None) -> list[tuple[range, int]]:
    """Texts that are read side by side, and how many tokens of each pass at once."""
    device = batch.text_ids.device.type
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
    """Columns of some texts that pass at once, and the decisions that stand in them; at least one chunk."""
    width = max(batch.lengths[texts.start : texts.stop])
    num_chunks = max(1, -(-width // chunk))
    size = -(-width // num_chunks)
    decisions: list[list[int]] = [[] for _ in range(num_chunks)]
    for m, end in enumerate(batch.ends.tolist()):
        if batch.text_of[m] in texts:
            root = end - 1 - batch.stored[batch.text_of[m]]
            decisions[min(max(root // size, 0), num_chunks - 1) if size else 0].append(m)
    return [(slice(i * size, min((i + 1) * size, width)), some) for i, some in enumerate(decisions)]


def _read_group(lm: PreTrainedModel, batch: EpisodeBatch, texts: range, chunk: int) -> Iterator[_Reading]:
    """Read some texts side by side, chunk by chunk."""
    rows = slice(texts.start, texts.stop)
    stored, lengths = batch.stored[rows], batch.lengths[rows]
    past = None if batch.cache is None else batch.cache.read(batch.slots[rows], stored)
    device = batch.text_ids.device
    starts, ends_here = (torch.tensor(counts, device=device)[:, None] for counts in (stored, lengths))
    # Position of every key that was read before; beyond every position where there is none.
    kept = torch.arange(0 if past is None else max(stored), device=device).expand(len(texts), -1)
    key_positions = torch.where(kept < starts, kept, _NO_LIMIT)

    chunks = _chunks(batch, texts, chunk)
    # A single chunk that nobody reads on from needs no cache.
    if past is None and (len(chunks) > 1 or batch.cache is not None):
        past = DynamicCache()
    for columns, decisions in chunks:
        index = torch.arange(columns.start, columns.stop, device=device)
        positions = torch.where(index < ends_here, starts + index, _NO_LIMIT)
        key_positions = torch.cat([key_positions, positions], 1)
        reading, branch_width = _forward(lm, batch, texts, columns, key_positions, decisions, past)
        if past is not None and branch_width:
            past.crop(-branch_width)
        if decisions:
            yield reading
    if batch.cache is not None:
        batch.cache.write(batch.slots[rows], stored, batch.texts[rows], past)


def _forward(
    lm: PreTrainedModel,
    batch: EpisodeBatch,
    texts: range,
    columns: slice,
    key_positions: torch.Tensor,
    decisions: list[int],
    past: DynamicCache | None,
) -> tuple[_Reading, int]:
    """One call of the model: the same columns of some texts, and the decisions that stand in them."""
    device = batch.text_ids.device
    decision, node, roots = _columns_of_decisions(batch, texts, decisions)
    width = decision.shape[1]
    decision, node = torch.from_numpy(decision).to(device), torch.from_numpy(node).to(device)
    there, decision = decision >= 0, decision.clamp(min=0)
    layout, is_root, branch = batch.layout_of[decision], node == 0, (node - 1).clamp(min=0)
    ids, depth = batch.root_ids[decision], torch.zeros_like(node)
    if batch.branch_ids.shape[1]:
        ids = torch.where(is_root, ids, batch.branch_ids[layout, branch])
        depth = torch.where(is_root, 0, batch.branch_depth[layout, branch] + 1)
    before = batch.ends[decision] - 1

    num_columns = columns.stop - columns.start
    text_positions = key_positions[:, key_positions.shape[1] - num_columns :]
    # A text's token sees those up to itself, a decision those before its root; padding sees none.
    last_seen = torch.cat(
        [torch.where(text_positions < _NO_LIMIT, text_positions, -1), torch.where(there, before - 1, -1)], 1
    )
    allowed_text = key_positions[:, None] <= last_seen[:, :, None]
    allowed = torch.cat([allowed_text, allowed_text.new_zeros(*allowed_text.shape[:2], width)], 2)
    allowed[:, num_columns:, allowed_text.shape[2] :] = _within_decisions(batch, decision, there, layout, node)
    # Padding attends to itself: a softmax over nothing would be NaN and reach the gradients.
    allowed.diagonal(offset=allowed.shape[2] - allowed.shape[1], dim1=1, dim2=2).fill_(True)
    mask = torch.zeros(allowed.shape, dtype=lm.dtype, device=device)
    mask = mask.masked_fill_(~allowed, torch.finfo(lm.dtype).min)[:, None]

    positions = torch.cat(
        [
            torch.where(text_positions < _NO_LIMIT, text_positions, 0),
            torch.where(there, before + depth, 0),
        ],
        1,
    )
    text_ids = batch.text_ids[texts.start : texts.stop, columns]
    hidden: list[torch.Tensor] = []
    hook = lm.get_output_embeddings().register_forward_pre_hook(lambda module, args: hidden.append(args[0]))
    try:
        logits = lm(
            input_ids=torch.cat([text_ids, ids], 1),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=past is not None,
            # 0 would mean all; a chunk without decisions keeps one column that nobody reads.
            logits_to_keep=max(width, 1),
        ).logits
    finally:
        hook.remove()
    return _Reading(decisions, roots, logits.flatten(0, 1), hidden[0].flatten(0, 1)), width


def _columns_of_decisions(
    batch: EpisodeBatch, texts: range, decisions: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Lay decisions side by side: of each column its decision (-1: padding) and node (0: root), and the roots."""
    used = [0] * len(texts)
    starts = []
    for m in decisions:
        starts.append(used[batch.text_of[m] - texts.start])
        used[batch.text_of[m] - texts.start] += batch.widths[m]
    width = max(used)
    decision, node = np.full((len(texts), width), -1, np.int64), np.zeros((len(texts), width), np.int64)
    roots = []
    for m, start in zip(decisions, starts, strict=True):
        row, columns = batch.text_of[m] - texts.start, slice(start, start + batch.widths[m])
        decision[row, columns], node[row, columns] = m, np.arange(batch.widths[m])
        roots.append(row * width + start)
    return decision, node, roots


def _within_decisions(
    batch: EpisodeBatch, decision: torch.Tensor, there: torch.Tensor, layout: torch.Tensor, node: torch.Tensor
) -> torch.Tensor:
    """Which columns of decisions attend to which, `(rows, width, width)`: to the root, to ancestors, to themselves."""
    sets, size = batch.branch_mask.shape[0], batch.branch_mask.shape[1] + 1
    tree = torch.zeros(sets, size, size, dtype=torch.bool, device=node.device)
    tree[:, :, 0] = True
    tree[:, 1:, 1:] = batch.branch_mask
    same = (decision[:, :, None] == decision[:, None]) & there[:, :, None] & there[:, None]
    return same & tree[layout[:, :, None], node[:, :, None], node[:, None]]
