# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""When a causal model is loaded: does it read packed rows as it reads plain ones?

The packed pass leans on a 4-D mask, on `position_ids` and on `logits_to_keep`; the pass over episodes also on the keys
and values of what was read before. A model that ignores one of them (ALiBi, state spaces, its own attention kernel)
would score actions wrongly without a word, so a few tokens are scored both ways, and one that differs takes the slower
way, with a warning.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from .._compat import parameters_are_sharded
from . import decoder_only, episode_pass, plain_pass
from .decision_tables import DecisionTables
from .episode_batch import pack_episodes
from .loading import base_of
from .prefix_cache import PrefixCache
from .scoring import action_scores, token_scores


if TYPE_CHECKING:
    from .scoring_policy import ScoringPolicy


logger = logging.getLogger(__name__)

_PROMPTS = ["Goal: go to the red ball. Action: ", "Action: "]
_ACTIONS = ("go forward now", "go left", "stop")
# Each begins with the one before it.
_EPISODE = ["Goal: go.", "Goal: go. Seen: a red ball.", "Goal: go. Seen: a red ball. Seen: a wall and a key."]
# What models raise that are given an argument, a mask or a cache they do not know.
_FAILURES = (TypeError, ValueError, RuntimeError, IndexError, AttributeError, NotImplementedError)


@torch.no_grad()
def reads_packed_rows(policy: ScoringPolicy) -> bool:
    """Whether packed scores equal those of one plain row per prompt and action; says in a warning if they do not."""
    lm = base_of(policy.lm)
    batch = policy.packer.pack(_PROMPTS, [_ACTIONS] * len(_PROMPTS)).to(policy.device)
    expected = _sums(plain_pass.forward(lm, batch)[0], batch)
    try:
        difference = _sums(decoder_only.forward(lm, batch)[0], batch) - expected
    except _FAILURES as error:
        fault = _described(error)
    else:
        if difference.abs().max() <= _tolerance(lm) * expected.abs().max():
            return True
        fault = f"its scores differ by {difference.abs().max().item():.3g}"
    logger.warning(
        "A model of type %r cannot score several actions in one row (%s): each action is read in a row of its own. "
        "Results are the same, but it is slower by about the number of actions. Causal models with full attention and "
        "learned or rotary positions (Llama, Qwen, GPT-2, SmolLM) and the T5 family are fast.",
        policy.config.model_type,
        fault,
    )
    return False


@torch.no_grad()
def reads_episodes(policy: ScoringPolicy) -> bool:
    """Whether the pass over episodes gives the scores of the packed one; says in a warning if it does not."""
    if policy.longest_packed == 0:
        # It was said already that the model takes the slow way.
        return False
    if policy.longest_packed is not None:
        _warn_of_whole_prompts(policy, f"it attends to the last {policy.longest_packed} tokens only")
        return False
    if parameters_are_sharded():
        # Nothing can be read outside of a forward that all processes call.
        return True
    lm, packer = base_of(policy.lm), policy.packer
    actions = [_ACTIONS] * len(_EPISODE)
    packed = packer.pack(_EPISODE, actions).to(policy.device)
    expected = _sums(decoder_only.forward(lm, packed)[0], packed)[packed.row_of]
    try:
        whole = pack_episodes(packer, _EPISODE, actions).to(policy.device)
        found = [episode_pass.run(lm, whole, "sum", tokens_per_chunk=4)[0][whole.row_of]]
        for in_place in (False, True):
            cache = PrefixCache()
            for prompt in _EPISODE:
                step = pack_episodes(packer, [prompt], [_ACTIONS], cache=cache, slots=[0]).to(policy.device)
                found.append(episode_pass.run(lm, step, "sum", in_place=in_place)[0])
    except _FAILURES as error:
        _warn_of_whole_prompts(policy, _described(error))
        return False
    difference = (torch.cat(found) - expected.repeat(3, 1)).abs().max()
    if difference <= _tolerance(lm) * expected.abs().max():
        return True
    _warn_of_whole_prompts(policy, f"its scores differ by {difference.item():.3g}")
    return False


def _sums(logits: torch.Tensor, batch: DecisionTables) -> torch.Tensor:
    return action_scores(token_scores(logits, batch, normalize=True), batch, "sum")


def _tolerance(lm: PreTrainedModel) -> float:
    """Relative; wrong positions or masks are off by far more than what half precision loses."""
    return 1e-3 if lm.dtype in (torch.float32, torch.float64) else 3e-2


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def _warn_of_whole_prompts(policy: ScoringPolicy, reason: str) -> None:
    logger.warning(
        "A model of type %r cannot go on from what it has read (%s): every prompt of the append-only template is read "
        "whole. Results are the same, but no time is saved.",
        policy.config.model_type,
        reason,
    )
