# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Acting, the interface Trainer relies on, and bad input."""

import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from tests.tiny_models import ACTIONS, PROMPTS
from trl_glam.policy import choose
from trl_glam.types import InvalidInputError


RAGGED = [ACTIONS, ACTIONS[:2], ACTIONS[3:], ACTIONS[:1]]


def test_act_draws_by_the_inverse_distribution_and_reports_log_probs(make_policy):
    policy = make_policy("flan-t5", temperature=20.0, value_head="paper")
    generators = [np.random.default_rng(seed) for seed in range(4)]
    decisions = policy.act(PROMPTS, RAGGED, generator=generators)
    out = policy.score(PROMPTS, RAGGED)
    for i, decision in enumerate(decisions):
        expected = out.logits[i].log_softmax(-1)[: len(RAGGED[i])].numpy()
        assert decision.log_probs.shape == (len(RAGGED[i]),) and decision.log_probs.dtype == np.float32
        np.testing.assert_allclose(decision.log_probs, expected, atol=1e-6)
        u = np.random.default_rng(i).random()
        assert decision.index == int((np.exp(expected.astype(np.float64)).cumsum() <= u).sum())
        assert decision.value == pytest.approx(out.values[i].item(), abs=1e-6)
    greedy = policy.act(PROMPTS, RAGGED, greedy=True)
    assert [d.index for d in greedy] == [int(d.log_probs.argmax()) for d in greedy]


def test_a_decision_does_not_depend_on_its_neighbours(make_policy):
    policy = make_policy("llama", temperature=10.0)
    together = policy.act(PROMPTS, RAGGED, generator=[np.random.default_rng(i) for i in range(4)], batch_size=3)
    for i in range(4):
        (alone,) = policy.act(PROMPTS[i : i + 1], RAGGED[i : i + 1], generator=np.random.default_rng(i))
        assert alone.index == together[i].index


def test_one_generator_serves_all_decisions_in_order(make_policy):
    policy = make_policy("flan-t5", temperature=20.0)
    decisions = policy.act(PROMPTS, RAGGED, generator=np.random.default_rng(3))
    generator = np.random.default_rng(3)
    assert [d.index for d in decisions] == [choose(d.log_probs, generator) for d in decisions]
    assert len(policy.act(PROMPTS, RAGGED)) == 4


def test_choose_draws_every_action_as_often_as_it_should_and_never_an_impossible_one():
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([0.5, 0.0, 0.3, 0.2], dtype=np.float32))
    generator = np.random.default_rng(0)
    counts = np.bincount([choose(log_probs, generator) for _ in range(20000)], minlength=4) / 20000
    np.testing.assert_allclose(counts, [0.5, 0, 0.3, 0.2], atol=0.015)


def test_small_batches_give_the_same_scores_in_the_callers_order(make_policy):
    policy = make_policy("gpt2")
    prompts, actions = [PROMPTS[i] for i in (2, 0, 1, 2, 3)], [RAGGED[i] for i in (2, 0, 1, 0, 3)]
    whole, parts = policy.score(prompts, actions), policy.score(prompts, actions, batch_size=2)
    assert torch.equal(whole.mask, parts.mask)
    assert torch.allclose(whole.logits[whole.mask], parts.logits[whole.mask], atol=1e-5)


def test_score_leaves_the_mode_and_needs_no_gradient(make_policy):
    policy = make_policy("flan-t5").train()
    assert not policy.score(PROMPTS, RAGGED).logits.requires_grad
    assert policy.training and policy.lm.training


def test_the_policy_is_a_model_that_trainer_understands(make_policy):
    policy = make_policy("flan-t5")
    assert isinstance(policy, PreTrainedModel)
    assert policy.config is policy.lm.config
    assert policy._no_split_modules == policy.lm._no_split_modules
    assert policy.get_input_embeddings() is policy.lm.shared
    assert (policy.is_quantized, policy._hf_peft_config_loaded) == (False, False)
    assert make_policy("flan-t5", peft_config=LoraConfig(target_modules=["q"]))._hf_peft_config_loaded
    policy.tie_weights()
    assert policy.lm.lm_head.weight is not policy.lm.shared.weight
    before = {key: tensor.clone() for key, tensor in policy.state_dict().items()}
    policy.init_weights()
    assert all(torch.equal(before[key], tensor) for key, tensor in policy.state_dict().items())


def test_lora_trains_with_gradient_checkpointing(make_policy):
    policy = make_policy("flan-t5", peft_config=LoraConfig(r=2, target_modules=["q", "v"])).train()
    policy.activation_checkpointing_enable()
    policy(policy.pack(PROMPTS, [ACTIONS] * 4)).logits.log_softmax(-1)[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.any() for key, p in policy.named_parameters() if "lora_B" in key)


@pytest.mark.parametrize("actions", [[ACTIONS, []], [ACTIONS, ["drop", "drop"]], [ACTIONS, [""]], [ACTIONS]])
def test_bad_actions_are_refused(make_policy, actions):
    with pytest.raises(InvalidInputError):
        make_policy("flan-t5").act(PROMPTS[:2], actions)
