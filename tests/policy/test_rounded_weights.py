# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Rounded weights that are kept give what autocast gives, to the bit, and only while nothing is learned."""

import pytest
import torch
from peft import LoraConfig
from torch import nn

from tests.tiny_models import ACTIONS, PROMPTS, tiny_gpt2, tiny_llama, tiny_qwen, tiny_t5
from trl_glam import ScoringPolicy
from trl_glam.policy import rounded_weights as module
from trl_glam.policy.rounded_weights import rounded_weights


def acted(policy):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = policy(policy.pack(PROMPTS, [ACTIONS] * len(PROMPTS)))
    return torch.cat([output.logits, output.values[:, None]], 1)


def spoil(layer):
    with torch.no_grad():
        layer.weight.zero_()


@pytest.mark.parametrize("onednn", [True, False], ids=["onednn", "plain"])
@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("make", [tiny_t5, tiny_llama, tiny_qwen, tiny_gpt2])
def test_same_to_the_bit(make, adapter, onednn, tmp_path, monkeypatch):
    if not onednn:
        monkeypatch.setattr(module, "reorders_weights", lambda: False)
    peft_config = LoraConfig(target_modules="all-linear") if adapter else None
    policy = ScoringPolicy.from_pretrained(make(tmp_path), peft_config=peft_config)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name or name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    expected = acted(policy)
    with rounded_weights(policy.lm):
        assert torch.equal(acted(policy), expected)
        # Those of the first forward are kept, and a second such context inside changes nothing.
        with rounded_weights(policy.lm):
            assert torch.equal(acted(policy), expected)
        if adapter:
            with policy.lm.disable_adapter():
                assert not torch.equal(acted(policy), expected)
        assert torch.equal(acted(policy), expected)
    assert not any("forward" in vars(layer) for layer in policy.modules())


def test_frozen_weights_are_not_kept(tmp_path):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path))
    policy.freeze_encoder()
    with rounded_weights(policy.lm):
        assert not any("forward" in vars(layer) for layer in policy.lm.encoder.modules())
        assert any("forward" in vars(layer) for layer in policy.lm.decoder.modules())


def test_kept_for_as_long_as_it_lasts(tmp_path):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path))
    layer = policy.lm.encoder.block[0].layer[0].SelfAttention.v
    expected = acted(policy)
    with rounded_weights(policy.lm):
        acted(policy)
        spoil(layer)
        assert torch.equal(acted(policy), expected)
    assert not torch.equal(acted(policy), expected)


@pytest.mark.parametrize("learning", [True, False], ids=["gradients", "float32"])
def test_learning_and_full_precision_read_the_weights_themselves(learning, tmp_path):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path))
    layer = policy.lm.encoder.block[0].layer[0].SelfAttention.v
    with rounded_weights(policy.lm):
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
    with pytest.raises(KeyError), rounded_weights(policy.lm):
        assert theirs.forward is own and "forward" in vars(other)
        raise KeyError
    assert theirs.forward is own and "forward" not in vars(other)
