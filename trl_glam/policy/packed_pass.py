# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""One pass of a language model over a batch: action scores, and states for the heads.

A `PackedBatch` is read here, group by group, by whichever way its model takes; an `EpisodeBatch`, whose texts serve
several decisions, in `episode_pass.py`.
"""

from __future__ import annotations

from functools import partial

import torch
from transformers import PreTrainedModel

from .._compat import parameters_are_sharded
from . import decoder_only, encoder_decoder, episode_pass, plain_pass, t5_rows
from .encoder_cache import EncoderCache
from .episode_batch import EpisodeBatch
from .packing import PackedBatch
from .scoring import action_scores, token_scores


# Prompt tokens that pass through the model at once: enough to keep the device busy, few enough that rows of like
# length stay among themselves (and, on a CPU, in the cache).
TOKENS_PER_GROUP = {"cpu": 1024, "cuda": 16384}
# With the encoder's states at hand few tokens of a row are left, so a group takes more rows; so it does where nothing
# is padded: the decoder's few tokens then read its weights less often.
CACHED_GROUP_FACTOR, UNPADDED_GROUP_FACTOR = 8, 4


def run(
    lm: PreTrainedModel,
    batch: PackedBatch | EpisodeBatch,
    scoring: str,
    with_actions: bool = True,
    cache: EncoderCache | None = None,
    longest_packed: int | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """
    Args:
        lm ([`~transformers.PreTrainedModel`]):
            The model, with an adapter's layers in place if there is one.
        batch ([`PackedBatch`] or [`EpisodeBatch`]):
            On the model's device.
        scoring (`str`):
            `"sum"`, `"token"`, `"word"` or `"paper"`.
        with_actions (`bool`, *optional*, defaults to `True`):
            Whether the actions are scored.
        cache ([`EncoderCache`], *optional*):
            Encoder states of prompts, when the encoder of an encoder-decoder is frozen.
        longest_packed (`int`, *optional*):
            Tokens of the longest row that a causal model reads packed; longer ones are read plainly. No limit if not
            given.

    Returns:
        `tuple[torch.Tensor | None, torch.Tensor]`: scores of shape `(R, A)`, `None` without actions, before
        calibration and temperature; and the hidden states of shape `(R, d)` that the heads read.
    """
    if isinstance(batch, EpisodeBatch):
        return episode_pass.run(lm, batch, scoring, with_actions)
    encoder_first = lm.config.is_encoder_decoder
    forward = partial(encoder_decoder.forward, cache=cache) if encoder_first else decoder_only.forward
    if not with_actions:
        # The decoder's start token gives the state; a causal model has it at the last prompt token.
        batch = batch.without_actions(keep_branch=int(encoder_first))
    scores, states = [], []
    factor = 1 if cache is None else CACHED_GROUP_FACTOR
    if encoder_first and t5_rows.is_usable(lm, batch.prompt_ids.device):
        factor = max(factor, UNPADDED_GROUP_FACTOR)
    for group in batch.split(_group_size(batch.prompt_ids.device) * factor):
        too_long = longest_packed is not None and max(group.row_tokens) > longest_packed
        logits, state = (plain_pass.forward if too_long else forward)(lm, group)
        states.append(state)
        if with_actions:
            tokens = token_scores(logits, group, normalize=scoring != "paper")
            scores.append(action_scores(tokens, group, scoring))
    return (torch.cat(scores) if with_actions else None), torch.cat(states)


def computed_tokens(lm: PreTrainedModel, batch: PackedBatch | EpisodeBatch) -> int:
    """Tokens that pass through the model for a batch, padding included; more in a model that reads plain rows."""
    if isinstance(batch, EpisodeBatch):
        return episode_pass.computed_tokens(lm, batch)
    if lm.config.is_encoder_decoder and t5_rows.is_usable(lm, lm.device):
        # Only the branches are padded.
        return sum(batch.lengths) + batch.num_rows * batch.branch_ids.shape[1]
    return sum(group.total_tokens for group in batch.split(_group_size(lm.device)))


def _group_size(device: torch.device) -> int:
    # Processes that share a layer's parameters must call it equally often, so there all rows form one group.
    return 2**31 if parameters_are_sharded() else TOKENS_PER_GROUP.get(device.type, TOKENS_PER_GROUP["cuda"])
