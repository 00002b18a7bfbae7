# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Quantised language models (extra `quantization`): scored as the model inside scores, trained through adapters."""

import pytest
import torch
from peft import LoraConfig
from transformers import BitsAndBytesConfig

from tests.policy.plain import plain_scores
from tests.tiny_models import ACTIONS, PROMPTS, tiny_llama, tiny_t5
from tests.toy_envs import LampEnv
from trl_glam import GLAMConfig, GLAMTrainer
from trl_glam.policy import ScoringPolicy


pytest.importorskip("bitsandbytes", reason="the extra quantization is not installed")
# Its CPU kernels say at every call that they round.
pytestmark = pytest.mark.filterwarnings("ignore:MatMul8bitLt")

ADAPTED = {"t5": ["q", "v"], "llama": ["q_proj", "v_proj"]}


def test_four_bits_are_scored_as_the_quantised_model_scores(tmp_path):
    # A block of 64 weights shares a scale: rows must hold whole blocks.
    folder = tiny_llama(tmp_path, hidden_size=64)
    four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    policy = ScoringPolicy.from_pretrained(folder, quantization_config=four_bits)
    assert policy.is_quantized
    assert "Linear4bit" in {type(module).__name__ for module in policy.lm.modules()}
    out = policy.score(PROMPTS, [ACTIONS] * 4)
    for row, prompt in zip(out.logits, PROMPTS, strict=True):
        with torch.no_grad():
            expected, _ = plain_scores(policy.lm, policy.tokenizer, prompt, ACTIONS, "sum")
        # Its kernels round differently for other numbers of rows.
        assert (row - expected).abs().max() <= 3e-3 * expected.abs().max()
    exact = ScoringPolicy.from_pretrained(folder).score(PROMPTS, [ACTIONS] * 4).logits
    assert 0.03 < (out.logits - exact).abs().max() / exact.abs().max() < 0.2


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama], ids=["t5", "llama"])
def test_adapters_on_eight_bits_learn_and_come_back(make, tmp_path):
    eight_bits = BitsAndBytesConfig(load_in_8bit=True)
    args = GLAMConfig(
        output_dir=str(tmp_path / "run"),
        num_envs=4,
        rollout_steps=4,
        minibatch_size=16,
        total_env_steps=32,
        calibration_prompts=4,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    adapters = LoraConfig(r=2, target_modules=ADAPTED[make.__name__.removeprefix("tiny_")])
    folder = make(tmp_path / "model")
    trainer = GLAMTrainer(
        folder, args, environment_factory=LampEnv, quantization_config=eight_bits, peft_config=adapters
    )
    assert trainer.policy.is_quantized
    before = {name: p.clone() for name, p in trainer.policy.named_parameters() if p.requires_grad}
    trainer.train()
    moved = {name for name, p in trainer.policy.named_parameters() if name in before and not p.equal(before[name])}
    assert any("lora_B" in name for name in moved)
    trainer.save_model()
    assert not (tmp_path / "run" / "model.safetensors").exists()
    loaded = ScoringPolicy.from_pretrained(tmp_path / "run", quantization_config=eight_bits)
    lamp = (["The lamp is red."], [[f"press {colour}" for colour in LampEnv.COLOURS]])
    assert torch.equal(loaded.score(*lamp).logits, trainer.policy.score(*lamp).logits)
