# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The real model really learns: the smallest rung of the ladder whose next one the demo climbs. Minutes; `make
test-slow`."""

import pytest

from trl_glam import GLAMConfig, GLAMTrainer


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_model_learns_goto_obj_s4_in_ten_thousand_steps(real_t5, tmp_path):
    args = GLAMConfig(
        output_dir=str(tmp_path),
        env_id="BabyAI-Text/GoToObjS4-v0",
        num_observations=1,
        freeze_encoder=True,
        bf16=True,
        learning_rate=2e-4,
        value_learning_rate=2e-3,
        per_device_train_batch_size=256,
        total_env_steps=10_000,
        save_strategy="no",
        report_to="none",
        seed=0,
    )
    trainer = GLAMTrainer(real_t5, args)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_success_rate"] >= 0.9
    assert after["eval_success_rate_low"] > before["eval_success_rate_high"]


@pytest.mark.real
def test_real_model_takes_one_update_and_its_first_ratios_are_one(real_t5, tmp_path):
    args = GLAMConfig(
        output_dir=str(tmp_path),
        env_id="BabyAI-Text/GoToObjS4-v0",
        num_envs=4,
        rollout_steps=4,
        minibatch_size=16,
        total_env_steps=16,
        num_observations=1,
        calibration_prompts=8,
        save_strategy="no",
        report_to="none",
    )
    trainer = GLAMTrainer(real_t5, args)
    inputs = trainer._prepare_inputs({})
    log_probs = trainer.model(inputs["packed"]).logits.log_softmax(-1)
    ratio = (log_probs - inputs["batch"].old_log_probs).gather(1, inputs["batch"].actions[:, None]).exp()
    assert (ratio - 1).abs().max() <= 1e-4
    trainer.train()
    assert trainer.state.global_step == 1
