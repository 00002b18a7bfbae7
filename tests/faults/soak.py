# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A long PPO run of a tiny model with everything switched on, which notes what it holds after every update.

    python -m tests.faults.soak MODEL FOLDER ENV_STEPS

One JSON object a line on stdout: environment steps, resident bytes, open files, threads and child processes. Resident
bytes are those after glibc was asked to give back what is free: how much of that it keeps depends on the sizes of the
batches so far, and the largest ones come late.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from pathlib import Path

import torch
from transformers import TrainerCallback

from trl_glam import GLAMConfig, GLAMTrainer
from trl_glam.allocator import give_back_freed_memory


def measure(env_steps: int) -> dict[str, int]:
    """What the process holds now: `VmRSS`, entries of `/proc/self/fd`, Python's threads, direct children."""
    gc.collect()
    give_back_freed_memory()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "env_steps": env_steps,
        "rss": int(status["VmRSS"].split()[0]) * 1024,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "children": len(children),
    }


class Note(TrainerCallback):
    """Measures at the end of every update."""

    trainer: GLAMTrainer

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in (logs or {}):
            print(json.dumps(measure(self.trainer.env_steps)), flush=True)


def main(model: str, folder: str, env_steps: str) -> None:
    torch.set_num_threads(1)
    args = GLAMConfig(
        output_dir=folder,
        env_id="BabyAI-Text/GoToLocalS5N2-v0",
        env_kwargs={"max_steps": 16},
        num_envs=16,
        rollout_steps=32,
        total_env_steps=int(env_steps),
        minibatch_size=128,
        num_observations=2,
        calibration_prompts=8,
        env_workers=2,
        log_interactions=True,
        eval_strategy="steps",
        eval_steps=20,
        eval_episodes=8,
        save_strategy="steps",
        save_steps=20,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )
    note = Note()
    trainer = GLAMTrainer(model, args, callbacks=[note])
    note.trainer = trainer
    trainer.train()
    print(json.dumps({"end": measure(trainer.env_steps), "folder": sorted(p.name for p in Path(folder).iterdir())}))


if __name__ == "__main__":
    main(*sys.argv[1:])
