# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A short PPO run that estimates its memory, trains, and says what it took.

    python -m tests.trainer.memory_run JOB

JOB is a JSON object: `model`, `folder`, `settings` of [`GLAMConfig`], `num_envs`, `lora`. On stdout, one JSON object:
`estimate` (bytes, [`MemoryEstimate`]'s peak) and `measured`: the highest `VmHWM` while training minus `VmRSS` before
the trainer was built, so Python and its libraries are left out, and the policy, its optimizer and every tensor are in.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # loaded at the first pass without data otherwise, and a library's memory all the same
from peft import LoraConfig

from tests.toy_envs import CorridorEnv
from trl_glam import GLAMConfig, GLAMTrainer


class Wordy(CorridorEnv):
    """A corridor that says something else at every step, at about the same length: no two prompts are alike."""

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        self.numbers = np.random.default_rng(seed)
        return super().reset(seed=seed, options=options)

    def _obs(self) -> dict[str, str]:
        seen = [f"ball {n}, " for n in self.numbers.integers(10**4, 10**5, 4)]
        return {**super()._obs(), "text": "".join(seen)}


def status(name: str) -> int:
    """Bytes of a line of `/proc/self/status`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def main(job: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    # Blocks go back to the system when they are freed: what is measured is what is used.
    ctypes.CDLL("libc.so.6").mallopt(-3, 64 * 1024)  # M_MMAP_THRESHOLD
    num_envs = job.get("num_envs", 16)
    args = GLAMConfig(
        output_dir=job["folder"],
        num_envs=num_envs,
        rollout_steps=8,
        minibatch_size=8 * num_envs,
        total_env_steps=8 * num_envs,
        num_observations=2,
        calibration_prompts=8,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
        **{"per_device_train_batch_size": 8 * num_envs, **job["settings"]},
    )
    peft_config = LoraConfig(r=4, target_modules=["q", "v"]) if job.get("lora") else None
    before = status("VmRSS")
    trainer = GLAMTrainer(job["model"], args, environment_factory=Wordy, peft_config=peft_config)
    estimate = trainer.memory_estimate()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest VmHWM so far
    trainer.train()
    parts = {name: size / 2**20 for name, size in vars(estimate).items()}
    print(json.dumps({"estimate": estimate.peak, "measured": status("VmHWM") - before, "parts": parts}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
