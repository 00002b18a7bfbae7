# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The real model really learns: the smallest rung of the ladder whose next one the demo climbs. Minutes; `make
test-slow`."""

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

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
@pytest.mark.parametrize(("bf16", "largest", "mean"), [(False, 1e-4, 1e-5), (True, 0.2, 1e-2)], ids=["fp32", "bf16"])
def test_real_model_takes_one_update_and_its_first_ratios_are_one(real_t5, tmp_path, bf16, largest, mean):
    args = GLAMConfig(
        output_dir=str(tmp_path),
        env_id="BabyAI-Text/GoToObjS4-v0",
        num_envs=4,
        rollout_steps=4,
        minibatch_size=16,
        total_env_steps=16,
        num_observations=1,
        calibration_prompts=8,
        bf16=bf16,
        save_strategy="no",
        report_to="none",
    )
    deviations = []

    class FirstRatios(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            # As the loss computes it: through the wrapped model, under autocast.
            inputs = trainer._prepare_inputs({})
            trainer._queue.appendleft(np.arange(16))
            with torch.no_grad():
                log_probs = trainer.model_wrapped(inputs["packed"]).logits.log_softmax(-1)
            ratio = (log_probs - inputs["batch"].old_log_probs).gather(1, inputs["batch"].actions[:, None]).exp()
            deviations.append((ratio - 1).abs())

    trainer = GLAMTrainer(real_t5, args, callbacks=[FirstRatios()])
    trainer.train()
    assert trainer.state.global_step == 1
    (deviation,) = deviations
    print(f"ratio - 1: mean {deviation.mean():.2e}, p99 {deviation.quantile(0.99):.2e}")
    assert deviation.max() <= largest and deviation.mean() <= mean
