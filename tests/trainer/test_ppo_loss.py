# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The PPO loss against values worked out by hand, and its behaviour on ragged rows."""

import math

import pytest
import torch

from trl_glam.trainer.ppo_loss import PPOBatch, entropy, kl_divergence, ppo_loss


INF = float("inf")
SETTINGS = {"cliprange": 0.2, "cliprange_value": None, "vf_coef": 0.0, "entropy_coef": 0.0}


def make_batch(logits, advantages, actions, **changes):
    log_probs = logits.log_softmax(-1).detach()
    zeros = torch.zeros(len(logits))
    fields = {"old_log_probs": log_probs, "old_values": zeros, "returns": zeros, **changes}
    return PPOBatch(actions=torch.tensor(actions), advantages=torch.tensor(advantages), **fields)


def test_first_pass_has_ratio_one_and_the_policy_gradient():
    logits = torch.tensor([[0.3, -0.2, 0.1], [1.0, 0.0, -1.0]], requires_grad=True)
    loss, stats = ppo_loss(logits, torch.zeros(2), make_batch(logits, [2.0, -1.0], [0, 2]), **SETTINGS)
    assert loss.item() == pytest.approx(-0.5)
    assert stats["ratio_deviation"] == 0 and stats["approx_kl"] == 0 and stats["clipfrac"] == 0
    loss.backward()
    one_hot = torch.nn.functional.one_hot(torch.tensor([0, 2]), 3)
    expected = -torch.tensor([[2.0], [-1.0]]) * (one_hot - logits.softmax(-1).detach()) / 2
    torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize(
    ("advantage", "shift", "clipped"), [(1, 1, True), (1, -1, False), (-1, 1, False), (-1, -1, True)]
)
def test_ratio_is_clipped_only_where_it_would_gain(advantage, shift, clipped):
    old = torch.zeros(1, 2)
    logits = torch.tensor([[2.0 * shift, 0.0]], requires_grad=True)
    batch = make_batch(old, [float(advantage)], [0])
    loss, stats = ppo_loss(logits, torch.zeros(1), batch, **SETTINGS)
    loss.backward()
    assert stats["clipfrac"] == 1
    assert (logits.grad.abs().max().item() == 0) == clipped


def test_value_error_is_the_larger_of_the_clipped_and_the_plain_one():
    logits = torch.zeros(3, 2)
    values = torch.tensor([1.0, 1.0, 0.1], requires_grad=True)
    returns = torch.tensor([1.0, 2.0, 0.5])
    batch = make_batch(logits, [0.0] * 3, [0, 0, 0], returns=returns)
    loss, stats = ppo_loss(logits, values, batch, **{**SETTINGS, "cliprange_value": 0.2, "vf_coef": 0.5})
    # Old values are 0, so the clipped values are .2, .2 and .1.
    expected = [(0.2 - 1) ** 2, (0.2 - 2) ** 2, (0.1 - 0.5) ** 2]
    assert stats["value_loss"].item() == pytest.approx(sum(expected) / 3)
    loss.backward()
    assert values.grad[0] == 0 and values.grad[1] == 0 and values.grad[2] != 0


def test_entropy_and_kl_are_exact_sums_over_the_admissible_actions():
    p = torch.tensor([[0.5, 0.25, 0.25], [0.9, 0.1, 0.0]])
    q = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.5, 0.0]])
    torch.testing.assert_close(entropy(p.log()), torch.tensor([1.5 * math.log(2), 0.3250829734]))
    expected = [0.5 * math.log(2) + 0.25 * math.log(0.5), 0.9 * math.log(1.8) + 0.1 * math.log(0.2)]
    torch.testing.assert_close(kl_divergence(p.log(), q.log()), torch.tensor(expected))


def test_gradients_are_finite_on_rows_with_fewer_actions_and_equal_those_of_the_rows_alone():
    full = torch.tensor([[0.3, -0.2, 0.1]], requires_grad=True)
    short = torch.tensor([[0.7, -0.4]], requires_grad=True)
    settings = {**SETTINGS, "entropy_coef": 0.1, "beta": 0.3}

    def loss_of(logits, advantages, actions):
        reference = torch.where(logits.isneginf(), -INF, 0.0).log_softmax(-1).detach()
        batch = make_batch(logits, advantages, actions, reference_log_probs=reference)
        return ppo_loss(logits, torch.zeros(len(logits)), batch, **settings)[0]

    together = torch.cat([full, torch.nn.functional.pad(short, (0, 1), value=-INF)])
    grads = torch.autograd.grad(loss_of(together, [1.0, -2.0], [0, 1]), [full, short])
    assert all(grad.isfinite().all() for grad in grads)
    alone = [
        torch.autograd.grad(loss_of(full, [1.0], [0]), full)[0],
        torch.autograd.grad(loss_of(short, [-2.0], [1]), short)[0],
    ]
    for grad, expected in zip(grads, alone, strict=True):
        torch.testing.assert_close(grad, expected / 2)


def test_value_warmup_leaves_the_policy_alone():
    logits = torch.tensor([[0.3, -0.2]], requires_grad=True)
    values = torch.tensor([1.0], requires_grad=True)
    settings = {**SETTINGS, "vf_coef": 0.5, "entropy_coef": 0.1}
    loss, _ = ppo_loss(logits, values, make_batch(logits, [2.0], [0]), **settings, policy_weight=0.0)
    loss.backward()
    assert logits.grad.abs().max() == 0 and values.grad[0] == 1.0
