# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A frozen encoder is run once per prompt, and nothing else changes."""

import pytest
import torch

from tests.tiny_models import ACTIONS, PROMPTS, tiny_llama, tiny_t5
from trl_glam import ScoringPolicy
from trl_glam.types import InvalidInputError


ROWS = [ACTIONS, ACTIONS[:3], ACTIONS[1:5], ACTIONS]


@pytest.fixture
def folder(tmp_path):
    return tiny_t5(tmp_path / "t5")


def count_encoded(policy):
    """Counts the prompts that pass through the encoder."""
    counted = []
    # Every prompt has one end token, padded or not.
    end = policy.tokenizer.eos_token_id
    embedding = policy.lm.encoder.embed_tokens
    embedding.register_forward_hook(lambda module, args, output: counted.append(int((args[0] == end).sum())))
    return counted


def decoder_gradients(policy):
    output = policy(policy.pack(PROMPTS, ROWS))
    output.logits.log_softmax(-1)[:, 0].sum().backward()
    return output, {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}


def test_scores_values_and_decoder_gradients_are_those_of_the_plain_pass(folder):
    plain, frozen = ScoringPolicy.from_pretrained(folder), ScoringPolicy.from_pretrained(folder)
    frozen.freeze_encoder()
    # The second pass reads every state from the cache.
    decoder_gradients(frozen)
    frozen.zero_grad()
    expected, expected_grads = decoder_gradients(plain)
    output, grads = decoder_gradients(frozen)
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.values, expected.values, atol=1e-5, rtol=1e-5)
    assert grads and not any(name.startswith("lm.encoder.block") for name in grads)
    for name, grad in grads.items():
        if "shared" not in name and "embed_tokens" not in name:
            assert (grad - expected_grads[name]).norm() <= 1e-5 * expected_grads[name].norm(), name


def test_each_prompt_is_encoded_once(folder):
    policy = ScoringPolicy.from_pretrained(folder)
    policy.freeze_encoder()
    counted = count_encoded(policy)
    policy.score(PROMPTS[:3], ROWS[:3])
    policy.score(PROMPTS[::-1], ROWS)
    policy.score(PROMPTS[:2], [ACTIONS[2:]] * 2)
    assert sum(counted) == len(PROMPTS)


def test_new_weights_are_not_read_with_old_states(folder, tmp_path):
    policy = ScoringPolicy.from_pretrained(folder)
    policy.freeze_encoder()
    before = policy.score(PROMPTS, ROWS).logits
    other = ScoringPolicy.from_pretrained(tiny_t5(tmp_path / "other", seed=1))
    other.save_pretrained(tmp_path / "saved")
    policy.load_weights(tmp_path / "saved")
    after = policy.score(PROMPTS, ROWS).logits
    torch.testing.assert_close(after, other.score(PROMPTS, ROWS).logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, after)


def test_cache_empties_itself_when_it_is_full(folder):
    policy = ScoringPolicy.from_pretrained(folder)
    policy.freeze_encoder()
    expected = policy.score(PROMPTS, ROWS).logits
    policy.encoder_cache.max_bytes = 1
    for i, (prompt, row) in enumerate(zip(PROMPTS, ROWS, strict=True)):
        policy.score([f"{prompt} again"], [row])
        logits = policy.score([prompt], [row]).logits
        torch.testing.assert_close(logits[0], expected[i, : len(row)], atol=1e-5, rtol=1e-5)


def test_causal_model_has_no_encoder_to_freeze(tmp_path):
    policy = ScoringPolicy.from_pretrained(tiny_llama(tmp_path / "llama"))
    with pytest.raises(InvalidInputError, match="a causal model has no encoder"):
        policy.freeze_encoder()
