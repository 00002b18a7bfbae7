# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""When a causal model is loaded: does it read packed rows as it reads plain ones?

The packed pass leans on a 4-D mask, on `position_ids` and on `logits_to_keep`. A model that ignores one of them
(ALiBi, state spaces, its own attention kernel) would score actions wrongly without a word, so a few tokens are scored
both ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..types import InvalidInputError
from . import decoder_only
from .loading import base_of
from .scoring import action_scores, token_scores


if TYPE_CHECKING:
    from .scoring_policy import ScoringPolicy


_PROMPTS = ["Goal: go to the red ball. Action: ", "Action: "]
_ACTIONS = ("go forward now", "go left", "stop")


@torch.no_grad()
def check_packed_pass(policy: ScoringPolicy) -> None:
    """Raise [`InvalidInputError`] unless packed scores equal the scores of one plain forward per prompt and action."""
    lm, packer = base_of(policy.lm), policy.packer
    batch = packer.pack(_PROMPTS, [_ACTIONS] * len(_PROMPTS)).to(policy.device)
    try:
        logits, _ = decoder_only.forward(lm, batch)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise _unfit(policy, f"its forward fails ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    packed = action_scores(token_scores(logits, batch, normalize=True), batch, "sum")[batch.row_of]
    for row, prompt in zip(packed, _PROMPTS, strict=True):
        plain = torch.stack([_plain_score(policy, prompt, action) for action in _ACTIONS])
        # Wrong positions or masks are off by far more than what half precision loses.
        tolerance = (1e-3 if lm.dtype in (torch.float32, torch.float64) else 3e-2) * plain.abs().max()
        if not (row - plain).abs().max() <= tolerance:
            raise _unfit(policy, f"scores differ from the plain forward's by {(row - plain).abs().max().item():.3g}")


def _plain_score(policy: ScoringPolicy, prompt: str, action: str) -> torch.Tensor:
    """Sum of the log-probabilities of an action's tokens, by one plain forward."""
    ids = policy.packer.prompt_ids(prompt)
    end = [policy.tokenizer.eos_token_id] if policy.packer.candidates.end_id is not None else []
    targets = [*policy.packer.candidates.token_ids(action, prompt.endswith(" ")), *end]
    sequence = torch.tensor([[*ids, *targets]], device=policy.device)
    log_probs = base_of(policy.lm)(input_ids=sequence, use_cache=False).logits[0].float().log_softmax(-1)
    return log_probs[len(ids) - 1 : -1].gather(1, sequence[0, len(ids) :, None]).sum()


def _unfit(policy: ScoringPolicy, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"A model of type {policy.config.model_type!r} cannot score several actions in one row: {reason}. Use a "
        "causal model with full attention and learned or rotary positions (Llama, Qwen, GPT-2, SmolLM), or one of "
        "the T5 family."
    )
