# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Where a trainer's environments come from: a registered id with its options, or a factory the user gives.

Whichever it is, it has a name and options that go into every episode's key, and makes the environment of a key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from ..envs.contract import make_env
from ..types import EpisodeKey, InvalidInputError


class EnvironmentSource:
    """
    Makes environments by id or by factory.

    Args:
        env_id (`str`, *optional*):
            Registered environment.
        env_kwargs (`dict[str, Any]`, *optional*):
            Its options.
        env_module (`str`, *optional*):
            Module to import first, which registers it.
        factory (`Callable[[], gym.Env]`, *optional*):
            Makes one environment; instead of `env_id`.

    Raises:
        [`InvalidInputError`]: when both or none of `env_id` and `factory` are given, or nothing usable comes out.
    """

    def __init__(
        self,
        env_id: str | None,
        env_kwargs: dict[str, Any] | None,
        env_module: str | None,
        factory: Callable[[], gym.Env] | None,
    ) -> None:
        if factory is not None and env_id is not None:
            raise InvalidInputError(
                f"Both environment_factory and args.env_id={env_id!r} are given; give one of them."
            )
        if factory is None and env_id is None:
            raise InvalidInputError(
                "No environment is given: set args.env_id (for example 'BabyAI-Text/GoToLocal-v0') or pass "
                "environment_factory."
            )
        self._factory, self._module = factory, env_module
        if factory is None:
            self.env_id, self.env_kwargs = env_id, dict(env_kwargs or {})
            probe = self.make()
        else:
            probe = self.make()
            spec = probe.spec
            self.env_id = type(probe.unwrapped).__name__ if spec is None else spec.id
            self.env_kwargs = {} if spec is None else dict(spec.kwargs)
        probe.close()

    @property
    def is_registered(self) -> bool:
        """Whether somebody else can make the environment from its id."""
        return self._factory is None

    def make(self, key: EpisodeKey | None = None) -> gym.Env:
        """One more training environment, whatever the episode."""
        if self._factory is None:
            return make_env(self.env_id, self.env_kwargs, self._module)
        env = self._factory()
        if not isinstance(env, gym.Env):
            raise InvalidInputError(
                f"environment_factory gave a {type(env).__name__}, it must give a gymnasium.Env whose reset and step "
                "speak text (see trl_glam.envs.check_text_env). The environments of TRL's GRPOTrainer, classes whose "
                "methods are tools, do not fit: here the policy chooses among info['admissible_actions']."
            )
        return env

    def make_for(self, key: EpisodeKey) -> gym.Env:
        """The environment that a key names: a training one, or any registered one."""
        if (key.env_id, key.env_kwargs) == (self.env_id, self.env_kwargs):
            return self.make(key)
        return make_env(key.env_id, key.env_kwargs, self._module)
