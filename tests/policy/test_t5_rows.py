# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""T5 without padding is T5 with padding: scores, gradients, in autocast, with a frozen encoder, with an adapter."""

import pytest
import torch
from peft import LoraConfig

from tests.policy.test_exactness import use_own_precision
from tests.tiny_models import ACTIONS, PROMPTS, tiny_t5
from trl_glam import ScoringPolicy
from trl_glam.policy import t5_rows


def outcome(policy, bf16=False):
    """Log-probabilities, values and gradients of a batch of unequal prompts."""
    policy.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = policy(policy.pack(PROMPTS, [ACTIONS, ACTIONS[:3], ACTIONS[::-1], ["toggle"]]))
    log_probs = output.logits.log_softmax(-1).masked_fill(~output.mask, 0)
    (log_probs[:, 0].sum() + output.values.sum()).backward()
    return log_probs, output.values, {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("few", [False, True], ids=["states", "queries"])
def test_equal_to_the_padded_pass(few, adapter, gated, bf16, tmp_path, monkeypatch):
    monkeypatch.setattr(t5_rows, "projects_queries", lambda *_: few)
    peft_config = LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "wo", "o"]) if adapter else None
    policy = ScoringPolicy.from_pretrained(
        tiny_t5(tmp_path, gated=gated), peft_config=peft_config, value_head="paper", detach_value=False
    )
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    log_probs, values, gradients = outcome(policy, bf16)
    monkeypatch.setattr(t5_rows, "is_usable", lambda lm, device: False)
    expected, expected_values, expected_gradients = outcome(policy, bf16)
    tolerance = 3e-2 if bf16 else 1e-5
    assert (log_probs - expected).abs().max() <= tolerance * expected.abs().max()
    assert (values - expected_values).abs().max() <= tolerance
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        assert (gradients[name] - gradient).norm() <= 3 * tolerance * gradient.norm() + 1e-7, name


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_projecting_queries_equals_projecting_states(dtype, tolerance, tmp_path, monkeypatch):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path), value_head="paper", detach_value=False).to(dtype)
    use_own_precision(policy.lm)
    outcomes = []
    for few in (True, False):
        monkeypatch.setattr(t5_rows, "projects_queries", lambda *_, few=few: few)
        outcomes.append(outcome(policy))
    (log_probs, values, gradients), (expected, expected_values, expected_gradients) = outcomes
    assert not torch.equal(log_probs, expected)
    assert (log_probs - expected).abs().max() <= tolerance * expected.abs().max()
    assert (values - expected_values).abs().max() <= tolerance
    for name, gradient in expected_gradients.items():
        assert (gradients[name] - gradient).norm() <= tolerance * gradient.norm() + 1e-12, name


def test_who_projects_queries(tmp_path):
    plain = ScoringPolicy.from_pretrained(tiny_t5(tmp_path)).lm
    adapted = ScoringPolicy.from_pretrained(
        str(tmp_path), peft_config=LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["v"])
    ).lm.base_model.model
    of_plain, of_adapted = (lm.decoder.block[0].layer[1].EncDecAttention for lm in (plain, adapted))
    d, width, heads = of_plain.d_model, of_plain.key_value_proj_dim, of_plain.n_heads

    def direct(queries, keys):
        return 2 * 2 * keys * d * heads * width + 4 * queries * keys * heads * width

    def shorter(queries, keys):
        return 2 * 2 * queries * d * heads * width + 4 * queries * heads * keys * d

    answers = set()
    for queries in (1, 2, 5, 9, 10, 11, 30):
        for keys in (1, 4, 50, 2000):
            found = t5_rows.projects_queries(of_plain, queries, keys)
            assert found == (shorter(queries, keys) < direct(queries, keys))
            answers.add(found)
            assert not t5_rows.projects_queries(of_adapted, queries, keys)
    assert answers == {True, False}
    of_plain.k.weight = torch.nn.Parameter(of_plain.k.weight.to("meta"))
    assert not t5_rows.projects_queries(of_plain, 1, 2000)


def test_nothing_is_padded(tmp_path, monkeypatch):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path))
    seen = []
    policy.lm.encoder.block[0].layer[0].SelfAttention.q.register_forward_hook(
        lambda module, args, output: seen.append(args[0].shape[:-1])
    )
    batch = policy.pack(PROMPTS, [ACTIONS] * 4)
    policy(batch)
    assert seen == [(sum(batch.lengths),)]
    assert policy.computed_tokens(batch) == batch.useful_tokens


def test_checkpointing_goes_through_the_blocks(tmp_path):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path))
    _, _, expected = outcome(policy)
    policy.gradient_checkpointing_enable()
    policy.train()
    assert not t5_rows.is_usable(policy.lm, torch.device("cpu"))
    _, _, gradients = outcome(policy)
    for name, gradient in expected.items():
        assert (gradients[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7, name


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
def test_acting_which_writes_over_what_it_has_read_equals_learning_to_the_bit(gated, bf16, tmp_path):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path, gated=gated))
    batch = policy.pack(PROMPTS, [ACTIONS] * len(PROMPTS))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        learned = policy(batch)
        with torch.no_grad():
            first, second = policy(batch), policy(batch)
    for acted in (first, second):
        assert torch.equal(acted.logits, learned.logits) and torch.equal(acted.values, learned.values)


def test_what_is_written_over_is_never_an_input(tmp_path):
    lm = ScoringPolicy.from_pretrained(tiny_t5(tmp_path)).lm
    lengths, ids = [3, 2], torch.arange(3, 8)
    with torch.no_grad():
        encoded = t5_rows.encode(lm, ids, lengths)
        before, weights = encoded.clone(), {name: p.clone() for name, p in lm.named_parameters()}
        allowed = torch.ones(1, 4, 4, dtype=torch.bool).tril()
        t5_rows.decode(lm, torch.arange(8).view(2, 4), allowed, encoded, lengths)
    assert torch.equal(encoded, before) and torch.equal(ids, torch.arange(3, 8))
    assert all(torch.equal(p, weights[name]) for name, p in lm.named_parameters())
