# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Where a trainer's environments come from: a registered id with its options, or a factory the user gives.

Whichever it is, it has a name and options that go into every episode's key, and makes the environment of a key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from ..envs.maker import EnvironmentMaker, check_made
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

    Attributes:
        env_id (`str`), env_kwargs (`dict[str, Any]`):
            What the environments are called in the keys of episodes.
        is_registered (`bool`):
            Whether somebody else can make them from their id.
        num_actions (`int`):
            The largest number of admissible actions: outputs of an action head.
        task_kinds (`tuple[str, ...]`):
            Kinds of task that the reset option `task` chooses among, if the environment has a `task_kinds`.
        make ([`EnvironmentMaker`]):
            Makes the environment that a key names: these, or any registered one.

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
        self.is_registered = factory is None
        if factory is None:
            self.env_id, self.env_kwargs = env_id, dict(env_kwargs or {})
            self.make = EnvironmentMaker(env_module)
            probe = self.make(EpisodeKey(self.env_id, 0, env_kwargs=self.env_kwargs))
            self.num_actions, self.task_kinds = int(probe.action_space.n), _task_kinds(probe)
            probe.close()
            return
        probe = check_made(factory())
        spec = probe.spec
        self.env_id = type(probe.unwrapped).__name__ if spec is None else spec.id
        self.env_kwargs = {} if spec is None else dict(spec.kwargs)
        self.make = EnvironmentMaker(env_module, factory, self.env_id, self.env_kwargs)
        self.num_actions, self.task_kinds = int(probe.action_space.n), _task_kinds(probe)
        probe.close()


def _task_kinds(env: gym.Env) -> tuple[str, ...]:
    return tuple(env.get_wrapper_attr("task_kinds")) if env.has_wrapper_attr("task_kinds") else ()
