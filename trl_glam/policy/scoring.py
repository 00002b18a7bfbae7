# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Vocabulary logits -> token scores -> one score per action -> logits of the policy. Pure tensor functions, float32.

With z the model's logits, log p = log_softmax(z), and an action of tokens w_1 ... w_n:

| mode | score of an action |
|---|---|
| `sum` | sum_i log p(w_i): the published formula of GLAM (https://huggingface.co/papers/2302.02662) |
| `token` | the sum divided by n: TWOSOME's token normalization (https://huggingface.co/papers/2401.14151) |
| `word` | the sum divided by the action's number of words: TWOSOME's word normalization |
| `paper` | z(w_1) + ... + z(w_n) + z(end token), + 1.0 per padding token up to the longest action of the same row |

and then logits = (score - offset of the action string) / temperature. The policy is their softmax. `paper` is GLAM's
released code, except that the code pads to the longest action of the minibatch, so that a score depends on its
neighbours.
"""

from __future__ import annotations

import torch

from .decision_tables import DecisionTables


def token_scores(vocabulary_logits: torch.Tensor, batch: DecisionTables, normalize: bool) -> torch.Tensor:
    """
    Score of every token of every action.

    Args:
        vocabulary_logits (`torch.Tensor` of shape `(R, K, V)`):
            Logits at the rows that the layouts read.
        batch ([`DecisionTables`]):
            What was scored.
        normalize (`bool`):
            Log-probabilities if true (in float32, or float64 if the logits are), raw logits if false (mode `paper`).

    Returns:
        `torch.Tensor` of shape `(R, A, C)`: 0 where an action has no token.
    """
    num_rows, num_reads, vocabulary = vocabulary_logits.shape
    logits = vocabulary_logits if vocabulary_logits.dtype == torch.float64 else vocabulary_logits.float()
    token_rows, token_ids = batch.per_row(batch.token_rows), batch.per_row(batch.token_ids)
    shape = (num_rows, *token_rows.shape[1:])
    flat_rows = token_rows.flatten(1).expand(num_rows, -1)
    flat_ids = (token_rows * vocabulary + token_ids).flatten(1).expand(num_rows, -1)
    scores = logits.reshape(num_rows, num_reads * vocabulary).gather(1, flat_ids)
    if normalize:
        scores = scores - logits.logsumexp(-1).gather(1, flat_rows)
    return scores.view(shape).masked_fill(~batch.per_row(batch.token_mask), 0.0)


def action_scores(tokens: torch.Tensor, batch: DecisionTables, scoring: str) -> torch.Tensor:
    """
    Score of every action.

    Args:
        tokens (`torch.Tensor` of shape `(R, A, C)`):
            Output of [`token_scores`].
        batch ([`DecisionTables`]):
            What was scored.
        scoring (`str`):
            `"sum"`, `"token"`, `"word"` or `"paper"`.

    Returns:
        `torch.Tensor` of shape `(R, A)`; arbitrary where a row has fewer actions.
    """
    total = tokens.sum(-1)
    num_tokens = batch.per_row(batch.token_mask).sum(-1)
    if scoring == "sum":
        return total
    if scoring == "token":
        return total / num_tokens.clamp(min=1)
    if scoring == "word":
        return total / batch.per_row(batch.num_words).clamp(min=1)
    longest = num_tokens.amax(-1, keepdim=True) if num_tokens.shape[1] else num_tokens
    return total + (longest - num_tokens)


def policy_logits(scores: torch.Tensor, batch: DecisionTables, temperature: float) -> torch.Tensor:
    """
    Logits of the policy.

    Args:
        scores (`torch.Tensor` of shape `(R, A)`):
            Score of every action of every computed row.
        batch ([`DecisionTables`]):
            What was scored, with the offsets of its action strings.
        temperature (`float`):
            Divides the calibrated scores.

    Returns:
        `torch.Tensor` of shape `(B, A)`: -inf where a decision has fewer actions.
    """
    logits = (scores - batch.per_row(batch.offsets)) / temperature
    return logits[batch.row_of].masked_fill(~batch.action_mask, float("-inf"))
