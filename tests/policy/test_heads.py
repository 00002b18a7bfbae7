# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Value head and action head: shapes, precision, standardization, gradients, and how actions find their outputs."""

import pytest
import torch

from tests.policy.plain import plain_scores
from tests.tiny_models import ACTIONS, PROMPTS
from trl_glam.policy.heads import ActionHead, ValueHead
from trl_glam.types import InvalidInputError


def test_paper_heads_have_the_papers_layers():
    head = ValueHead(32, "paper")
    assert [type(layer).__name__ for layer in head.mlp] == ["Linear", "Sigmoid", "Linear", "Sigmoid", "Linear"]
    assert [(m.in_features, m.out_features) for m in head.mlp[::2]] == [(32, 1024), (1024, 1024), (1024, 1)]
    assert [(m.in_features, m.out_features) for m in ActionHead(32, 6).mlp[::2]] == [
        (32, 1024),
        (1024, 1024),
        (1024, 6),
    ]


def test_standardized_head_starts_at_zero_and_sees_unit_features(make_policy):
    policy = make_policy("flan-t5")
    assert not policy.value_head.is_fitted
    policy.fit_value_normalizer(PROMPTS + PROMPTS[:1])
    assert policy.value_head.is_fitted
    with torch.no_grad():
        states = torch.stack(
            [plain_scores(policy.lm, policy.tokenizer, prompt, ["x"], "sum")[1] for prompt in PROMPTS]
        )
    assert torch.allclose(policy.value_head.mean, states.mean(0), atol=1e-6)
    assert torch.allclose(policy.value_head.std, states.std(0, correction=0), rtol=1e-3)
    assert policy.score(PROMPTS, [ACTIONS] * 4).values.eq(0).all()


def test_a_feature_without_variation_is_not_blown_up():
    head = ValueHead(3, "standardized")
    head.fit(torch.tensor([[1.0, 5.0, 0.0], [2.0, 5.0, 0.0], [3.0, 5.0, 0.0]]))
    noise = torch.tensor([0.0, 1e-6, 1e-6])
    assert (noise / head.std).max() < 0.1 and torch.isfinite(head(noise[None])).all()


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("name", ["flan-t5", "gpt2"])
def test_detach_value_decides_whether_the_value_reaches_the_model(make_policy, name, detach):
    policy = make_policy(name, value_head="paper", detach_value=detach)
    policy(policy.pack(PROMPTS, [ACTIONS] * 4)).values.sum().backward()
    reached = [key for key, p in policy.lm.named_parameters() if p.grad is not None and p.grad.any()]
    assert bool(reached) is not detach
    assert all(p.grad is not None for p in policy.value_head.parameters())


def test_heads_stay_float32_under_autocast_and_with_a_bf16_model(make_policy):
    policy = make_policy("flan-t5", value_head="paper", dtype="bfloat16")
    assert policy.lm.dtype == torch.bfloat16
    assert {p.dtype for p in policy.value_head.parameters()} == {torch.float32}
    out = policy.score(PROMPTS, [ACTIONS] * 4)
    assert out.values.dtype == out.logits.dtype == torch.float32
    state = torch.randn(5, 32)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = policy.value_head(state)
    assert torch.equal(rounded, policy.value_head(state))


@pytest.mark.parametrize("name", ["flan-t5", "gpt2"])
def test_action_head_reads_the_value_state_in_the_order_of_its_actions(make_policy, name):
    policy = make_policy(name, head="action", num_actions=6)
    out = policy.score(PROMPTS, [ACTIONS, ACTIONS[::-1], ACTIONS[2:4], ACTIONS])
    assert policy.policy_config.actions == ACTIONS
    with torch.no_grad():
        states = torch.stack([plain_scores(policy.lm, policy.tokenizer, p, ["x"], "sum")[1] for p in PROMPTS])
        expected = policy.action_head(states)
    assert torch.allclose(out.logits[0], expected[0], atol=1e-5)
    assert torch.allclose(out.logits[1], expected[1].flip(0), atol=1e-5)
    assert torch.allclose(out.logits[2, :2], expected[2, 2:4], atol=1e-5)
    # Reworded actions of the same number are meant by position (synonym actions at test time).
    reworded = ["rotate left", "rotate right", "move ahead", "take", "release", "switch"]
    assert torch.allclose(policy.score(PROMPTS[3:], [reworded]).logits[0], expected[3], atol=1e-5)
    with pytest.raises(InvalidInputError, match="do not fit the action head"):
        policy.score(PROMPTS[:1], [["sleep"]])


def test_with_an_action_head_every_trainable_parameter_gets_a_gradient(make_policy):
    for name in ("flan-t5", "t5", "llama", "gpt2"):
        policy = make_policy(name, head="action", num_actions=6).train()
        out = policy(policy.pack(PROMPTS, [ACTIONS] * 4))
        (out.logits.log_softmax(-1)[:, 0].sum() + out.values.sum()).backward()
        missing = [key for key, p in policy.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing, name


def test_statistics_of_a_world_that_always_begins_alike_do_not_blow_up_what_follows():
    first = torch.tensor([0.3, -0.2, 0.1])
    for spread in (0.0, 1e-7):
        head = ValueHead(3, "standardized")
        head.fit(first + spread * torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
        later = ((first * 1.1 - head.mean) / head.std).abs()
        assert 0.1 < later.max() < 10
