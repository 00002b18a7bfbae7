# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Trainers of seconds, for faults of the run itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.toy_envs import CorridorEnv
from trl_glam import GLAMConfig, GLAMTrainer


def make_trainer(model: str, folder: Path, env: Any = CorridorEnv, callbacks=None, **settings: Any) -> GLAMTrainer:
    """PPO in a corridor: two updates of 32 steps."""
    args = {
        "output_dir": str(folder),
        "num_envs": 4,
        "rollout_steps": 8,
        "minibatch_size": 16,
        "total_env_steps": 64,
        "num_ppo_epochs": 2,
        "eval_episodes": 8,
        "calibration_prompts": 4,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }
    return GLAMTrainer(model, GLAMConfig(**{**args, **settings}), environment_factory=env, callbacks=callbacks)
