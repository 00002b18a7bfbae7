# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Trainers of a scoring policy: PPO on environment reward."""

from .glam_config import GLAMConfig
from .glam_trainer import GLAMTrainer


__all__ = ["GLAMConfig", "GLAMTrainer"]
