# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Trainers of a scoring policy: PPO on environment reward, behaviour cloning of a log."""

from .bc_config import BCConfig
from .bc_trainer import BCTrainer
from .glam_config import GLAMConfig
from .glam_trainer import GLAMTrainer
from .sample_episode import SampleEpisodeCallback


__all__ = ["BCConfig", "BCTrainer", "GLAMConfig", "GLAMTrainer", "SampleEpisodeCallback"]
