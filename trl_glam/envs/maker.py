# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Makes the environment that an episode's key names, in this process or, pickled, in another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from ..types import EpisodeKey, InvalidInputError
from .contract import make_env


@dataclass(frozen=True)
class EnvironmentMaker:
    """
    Makes environments by their keys.

    Args:
        env_module (`str`, *optional*):
            Module to import first, so that it registers its own.
        factory (`Callable[[], gym.Env]`, *optional*):
            Makes the environments that are called `env_id` and `env_kwargs`; all others are made by their id.
        env_id (`str`, *optional*), env_kwargs (`dict[str, Any]`, *optional*):
            What the factory's environments are called.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: when called, if there is no such environment, or the factory gives none.
    """

    env_module: str | None = None
    factory: Callable[[], gym.Env] | None = None
    env_id: str | None = None
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    def __call__(self, key: EpisodeKey) -> gym.Env:
        if self.factory is None or _name(key.env_id, key.env_kwargs) != _name(self.env_id, self.env_kwargs):
            return make_env(key.env_id, key.env_kwargs, self.env_module)
        return check_made(self.factory())


def _name(env_id: str, env_kwargs: dict[str, Any]) -> str:
    # A key that was saved in a checkpoint has lists where it had tuples.
    return json.dumps([env_id, env_kwargs], sort_keys=True, default=repr)


def check_made(env: Any) -> gym.Env:
    """What a factory gave, if it is an environment; else an [`~trl_glam.types.InvalidInputError`]."""
    if not isinstance(env, gym.Env):
        raise InvalidInputError(
            f"environment_factory gave a {type(env).__name__}, it must give a gymnasium.Env whose reset and step "
            "speak text (see trl_glam.envs.check_text_env). The environments of TRL's GRPOTrainer, classes whose "
            "methods are tools, do not fit: here the policy chooses among info['admissible_actions']."
        )
    return env
