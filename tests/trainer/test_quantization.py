# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A base model in 4 bits under an adapter (QLoRA), on a processor; and what is said where that cannot be."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig
from transformers import BitsAndBytesConfig

from tests import tiny_models
from tests.tiny_models import ACTIONS, PROMPTS, tiny_t5
from tests.toy_envs import CorridorEnv
from trl_glam import GLAMConfig, GLAMTrainer, ScoringPolicy
from trl_glam.trainer.memory import MemorySettings, estimate_memory
from trl_glam.types import InvalidInputError


FOUR_BITS = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)


@pytest.fixture(scope="module")
def wide_t5(tmp_path_factory) -> str:
    """4-bit blocks are of 64 numbers: layers must be multiples of it."""
    shape = {**tiny_models._T5_SHAPE, "d_model": 128, "d_kv": 32, "d_ff": 256}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_models, "_T5_SHAPE", shape)
        return tiny_t5(tmp_path_factory.mktemp("wide_t5"))


def args(folder, **settings) -> GLAMConfig:
    sizes = {"num_envs": 4, "rollout_steps": 8, "minibatch_size": 16, "total_env_steps": 64, "calibration_prompts": 4}
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "seed": 0}
    return GLAMConfig(str(folder), **sizes, **quiet, **settings)


def adapter() -> LoraConfig:
    return LoraConfig(r=2, target_modules=["q", "v"])


def test_an_adapter_learns_on_a_4_bit_model_is_saved_and_comes_back(wide_t5, tmp_path):
    pytest.importorskip("bitsandbytes")
    trainer = GLAMTrainer(
        wide_t5, args(tmp_path, learning_rate=1e-2), environment_factory=CorridorEnv, peft_config=adapter(),
        quantization_config=FOUR_BITS,
    )  # fmt: skip
    policy = trainer.policy
    packed = [p for p in policy.parameters() if p.dtype == torch.uint8]
    assert policy.is_quantized and packed and not any(p.requires_grad for p in packed)
    both = [ScoringPolicy.from_pretrained(wide_t5, quantization_config=bits) for bits in (FOUR_BITS, None)]
    rounded, exact = (bare.score(PROMPTS, [ACTIONS] * len(PROMPTS)).logits for bare in both)
    assert 0 < (rounded - exact).std() < 0.5 * exact.std()
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    trainer.train()
    moved = {name for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    assert any("lora_A" in name for name in moved) and any("lora_B" in name for name in moved)
    assert all("lora_" in name or name.startswith("value_head.") for name in moved)
    trainer.save_model(str(tmp_path / "final"))
    again = ScoringPolicy.from_pretrained(tmp_path / "final", quantization_config=FOUR_BITS)
    torch.testing.assert_close(
        again.score(PROMPTS, [ACTIONS] * len(PROMPTS)).logits, policy.score(PROMPTS, [ACTIONS] * len(PROMPTS)).logits,
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def test_4_bits_are_counted_as_such(wide_t5):
    pytest.importorskip("bitsandbytes")
    rows, settings = [(prompt, tuple(ACTIONS)) for prompt in PROMPTS], MemorySettings(update_rows=4, acting_rows=4)
    quantised = ScoringPolicy.from_pretrained(wide_t5, peft_config=adapter(), quantization_config=FOUR_BITS)
    plain = ScoringPolicy.from_pretrained(wide_t5, peft_config=adapter())
    ours, theirs = (estimate_memory(policy, rows, settings) for policy in (quantised, plain))
    assert ours.weights < 0.6 * theirs.weights
    assert ours.gradients == theirs.gradients and ours.activations == pytest.approx(theirs.activations, rel=0.2)


def test_without_an_adapter_there_is_nothing_to_train(wide_t5, tmp_path):
    pytest.importorskip("bitsandbytes")
    with pytest.raises(InvalidInputError, match="A quantised model has no weights that could be trained"):
        GLAMTrainer(wide_t5, args(tmp_path), environment_factory=CorridorEnv, quantization_config=FOUR_BITS)


def test_without_the_extra_it_says_how_to_get_it(wide_t5, monkeypatch):
    monkeypatch.setattr("transformers.quantizers.quantizer_bnb_4bit.is_bitsandbytes_available", lambda *args: False)
    with pytest.raises(InvalidInputError, match=r"pip install 'trl-glam\[quantization\]'"):
        ScoringPolicy.from_pretrained(wide_t5, quantization_config=FOUR_BITS)
