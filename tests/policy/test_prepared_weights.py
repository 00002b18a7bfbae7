# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Prepared weights give what autocast gives, and only while nothing is learned."""

import pytest
import torch
from peft import LoraConfig
from torch import nn

from tests.tiny_models import ACTIONS, PROMPTS, tiny_gpt2, tiny_llama, tiny_qwen, tiny_t5
from trl_glam import ScoringPolicy
from trl_glam._compat import reorders_weights
from trl_glam.policy import prepared_weights as module
from trl_glam.policy.prepared_weights import prepared_bytes, prepared_weights


def acted(policy):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = policy(policy.pack(PROMPTS, [ACTIONS] * len(PROMPTS)))
    return torch.cat([output.logits, output.values[:, None]], 1)


def same(output, expected, exactly):
    # A T5's output layer is read in float32, where another library sums in another order.
    return torch.equal(output, expected) if exactly else torch.allclose(output, expected, rtol=1e-5, atol=1e-5)


def spoil(layer):
    with torch.no_grad():
        layer.weight.zero_()


def test_what_a_processor_can_do_does_not_depend_on_where_it_is_asked():
    outside = reorders_weights.__wrapped__()
    with torch.autocast("cpu", torch.bfloat16):
        assert reorders_weights.__wrapped__() == outside


@pytest.mark.parametrize("onednn", [True, False], ids=["onednn", "plain"])
@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("make", [tiny_t5, tiny_llama, tiny_qwen, tiny_gpt2])
def test_same_scores(make, adapter, onednn, tmp_path, monkeypatch):
    if not onednn:
        monkeypatch.setattr(module, "reorders_weights", lambda: False)
    peft_config = LoraConfig(target_modules="all-linear") if adapter else None
    policy = ScoringPolicy.from_pretrained(make(tmp_path), peft_config=peft_config)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name or name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    expected = acted(policy)
    exactly = make is not tiny_t5 or not onednn
    with prepared_weights(policy.lm):
        assert same(acted(policy), expected, exactly)
        # Those of the first forward are kept, and a second such context inside changes nothing.
        with prepared_weights(policy.lm):
            assert same(acted(policy), expected, exactly)
        if adapter:
            with policy.lm.disable_adapter():
                assert not same(acted(policy), expected, exactly)
        assert same(acted(policy), expected, exactly)
    assert not any("forward" in vars(layer) for layer in policy.modules())


def test_frozen_weights_are_not_kept(tmp_path):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path))
    policy.freeze_encoder()
    with prepared_weights(policy.lm):
        assert not any("forward" in vars(layer) for layer in policy.lm.encoder.modules())
        assert any("forward" in vars(layer) for layer in policy.lm.decoder.modules())


def test_kept_for_as_long_as_it_lasts(tmp_path):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path))
    layer = policy.lm.encoder.block[0].layer[0].SelfAttention.v
    expected = acted(policy)
    with prepared_weights(policy.lm):
        acted(policy)
        spoil(layer)
        assert same(acted(policy), expected, exactly=False)
    assert not same(acted(policy), expected, exactly=False)


@pytest.mark.parametrize("trained", [True, False])
def test_an_output_layer_that_is_read_in_float32_is_kept_too(trained, tmp_path):
    if not reorders_weights():
        pytest.skip("this processor has no layout of its own for weights")
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path))
    policy.lm.lm_head.requires_grad_(trained)
    expected = acted(policy)
    with prepared_weights(policy.lm):
        acted(policy)
        before = policy.lm.lm_head.weight.clone()
        spoil(policy.lm.lm_head)
        assert same(acted(policy), expected, exactly=False)
        # Learning sees what stands there.
        with torch.autocast("cpu", torch.bfloat16):
            learned = policy(policy.pack(PROMPTS, [ACTIONS] * len(PROMPTS))).logits
        assert not same(learned, expected[:, : learned.shape[1]], exactly=False)
        with torch.no_grad():
            policy.lm.lm_head.weight.copy_(before)
    assert torch.equal(acted(policy), expected)


@pytest.mark.parametrize("learning", [True, False], ids=["gradients", "float32"])
def test_learning_and_full_precision_read_the_weights_themselves(learning, tmp_path):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path))
    layer = policy.lm.encoder.block[0].layer[0].SelfAttention.v
    with prepared_weights(policy.lm):
        acted(policy)
        spoil(layer)
        with torch.set_grad_enabled(learning), torch.autocast("cpu", torch.bfloat16, enabled=learning):
            assert not layer(torch.ones(2, layer.in_features)).any()
            if learning:
                layer(torch.ones(2, layer.in_features)).sum().backward()
                assert layer.weight.grad.abs().sum() > 0


def test_a_forward_that_was_replaced_is_left_alone_and_an_error_ends_it(tmp_path):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path))
    theirs, other = policy.lm.encoder.block[0].layer[0].SelfAttention.v, policy.lm.lm_head
    theirs.forward = own = lambda states: nn.Linear.forward(theirs, states)
    with pytest.raises(KeyError), prepared_weights(policy.lm):
        assert theirs.forward is own and "forward" in vars(other)
        raise KeyError
    assert theirs.forward is own and "forward" not in vars(other)


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama])
def test_no_more_is_kept_than_is_said(make, tmp_path):
    policy = ScoringPolicy.from_pretrained(make(tmp_path))
    policy.lm.get_output_embeddings().requires_grad_(False)
    with prepared_weights(policy.lm):
        acted(policy)
        forwards = [vars(layer)["forward"] for layer in policy.lm.modules() if "forward" in vars(layer)]
        weights = [weight for forward in forwards for weight, _ in forward._kept.values()]
    kept = sum(weight.numel() * weight.dtype.itemsize for weight in weights)
    assert kept <= prepared_bytes(policy.lm)
    # T5's cross-attention of few positions reads two of its matrices as they are.
    assert kept > 0.7 * prepared_bytes(policy.lm) or not reorders_weights()
