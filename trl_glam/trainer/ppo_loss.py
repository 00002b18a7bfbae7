# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The PPO loss over a softmax of admissible actions.

Pure tensor functions: no model, no trainer. Entropy and KL are exact sums over the admissible actions, not estimates
from the action taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class PPOBatch:
    """
    What the loss compares the current policy with; one entry a transition.

    Args:
        actions (`torch.Tensor` of shape `(B,)`, int64):
            Index of the action taken.
        old_log_probs (`torch.Tensor` of shape `(B, A)`, float32):
            Log-probabilities of the behaviour policy, -inf where a row has fewer actions.
        old_values (`torch.Tensor` of shape `(B,)`, float32):
            Values at the time of the rollout, scaled units.
        advantages (`torch.Tensor` of shape `(B,)`, float32):
            Advantages, normalised over the whole rollout if so configured.
        returns (`torch.Tensor` of shape `(B,)`, float32):
            Regression targets of the value, scaled units.
        reference_log_probs (`torch.Tensor` of shape `(B, A)`, float32, *optional*):
            Log-probabilities of the reference policy; needed when `beta > 0`.
        weights (`torch.Tensor` of shape `(B,)`, float32, *optional*):
            Weight of each transition in every mean; 1 if not given.
    """

    actions: torch.Tensor
    old_log_probs: torch.Tensor
    old_values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    reference_log_probs: torch.Tensor | None = None
    weights: torch.Tensor | None = None


def entropy(log_probs: torch.Tensor) -> torch.Tensor:
    """
    Entropy of a categorical distribution, in nats.

    Args:
        log_probs (`torch.Tensor` of shape `(B, A)`):
            Log-probabilities, -inf where a row has fewer actions.

    Returns:
        `torch.Tensor` of shape `(B,)`.
    """
    # 0 * -inf is NaN in the value and in the gradient: mask before multiplying.
    finite = log_probs.masked_fill(log_probs.isneginf(), 0.0)
    return -(log_probs.exp() * finite).sum(-1)


def kl_divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """
    KL(p || q) of categorical distributions over the same admissible actions, in nats.

    Args:
        log_p (`torch.Tensor` of shape `(B, A)`):
            Log-probabilities of p, -inf where a row has fewer actions.
        log_q (`torch.Tensor` of shape `(B, A)`):
            Log-probabilities of q, -inf at the same places.

    Returns:
        `torch.Tensor` of shape `(B,)`.
    """
    absent = log_p.isneginf()
    return (log_p.exp() * (log_p.masked_fill(absent, 0.0) - log_q.masked_fill(absent, 0.0))).sum(-1)


def ppo_loss(
    logits: torch.Tensor,
    values: torch.Tensor,
    batch: PPOBatch,
    *,
    cliprange: float,
    cliprange_value: float | None,
    vf_coef: float,
    entropy_coef: float,
    beta: float = 0.0,
    policy_weight: float = 1.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    r"""
    Clipped surrogate, clipped value error and entropy bonus (Schulman et al., 2017,
    https://huggingface.co/papers/1707.06347, equations 7 and 9), with an optional KL penalty to a reference policy.

    $$L = w \left( -\mathbb{E} \min(\rho A, \mathrm{clip}(\rho, 1 \pm \epsilon) A) - c_H H
    + \beta\,\mathrm{KL}(\pi \| \pi_{ref}) \right) + c_V \mathbb{E} \max\left((V - R)^2, (V_{clip} - R)^2\right)$$

    Args:
        logits (`torch.Tensor` of shape `(B, A)`, float32):
            Current scores, -inf where a row has fewer actions.
        values (`torch.Tensor` of shape `(B,)`, float32):
            Current values.
        batch ([`PPOBatch`]):
            Actions, advantages, returns and the behaviour policy's outputs.
        cliprange (`float`):
            Epsilon of the ratio.
        cliprange_value (`float` or `None`):
            Epsilon of the value around the old value; `None` does not clip.
        vf_coef (`float`):
            Weight of the value loss.
        entropy_coef (`float`):
            Weight of the entropy bonus.
        beta (`float`, *optional*, defaults to `0.0`):
            Weight of the KL to the reference policy.
        policy_weight (`float`, *optional*, defaults to `1.0`):
            0 trains the value alone (value warm-up).

    Returns:
        `tuple[torch.Tensor, dict[str, torch.Tensor]]`: the scalar loss, and detached scalars for the logs.
    """
    weights = torch.ones_like(values) if batch.weights is None else batch.weights

    def mean(of_each: torch.Tensor) -> torch.Tensor:
        return (weights * of_each).mean()

    log_probs = logits.log_softmax(-1)
    taken = batch.actions[:, None]
    log_ratio = (log_probs.gather(1, taken) - batch.old_log_probs.gather(1, taken)).squeeze(1)
    ratio = log_ratio.exp()

    surrogate = ratio * batch.advantages
    clipped_surrogate = ratio.clamp(1 - cliprange, 1 + cliprange) * batch.advantages
    policy_loss = -mean(torch.min(surrogate, clipped_surrogate))

    value_error = (values - batch.returns).square()
    if cliprange_value is not None:
        clipped_values = batch.old_values + (values - batch.old_values).clamp(-cliprange_value, cliprange_value)
        value_error = torch.max(value_error, (clipped_values - batch.returns).square())
    value_loss = mean(value_error)

    mean_entropy = mean(entropy(log_probs))
    policy_part = policy_loss - entropy_coef * mean_entropy
    with torch.no_grad():
        stats = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": mean_entropy,
            "approx_kl": mean(kl_divergence(batch.old_log_probs, log_probs)),
            "clipfrac": mean(((ratio - 1).abs() > cliprange).float()),
            "ratio_deviation": ((ratio - 1).abs() * (weights > 0)).max(),
        }
    if beta > 0:
        reference_kl = mean(kl_divergence(log_probs, batch.reference_log_probs))
        policy_part = policy_part + beta * reference_kl
        stats["reference_kl"] = reference_kl
    loss = policy_weight * policy_part + vf_coef * value_loss
    return loss, {name: value.detach() for name, value in stats.items()}
