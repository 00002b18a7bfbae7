# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Two wrappers that bring near misses into the form of `contract.py`: plain strings, and actions given as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from ..types import InvalidInputError


class PlainText(gym.Wrapper):
    """
    An environment of plain strings, brought into the contract's form.

    Args:
        env (`gym.Env`):
            Observations are `str`.
        mission (`str`, *optional*, defaults to `""`):
            The mission of every episode; `info["mission"]` wins over it.
        actions (`list[str]`, *optional*):
            The admissible actions, if the environment's info does not list them.
        split (`Callable[[str], list[str]]`, *optional*):
            Cuts a text into sentences; one sentence if not given.
    """

    def __init__(
        self,
        env: gym.Env,
        mission: str = "",
        actions: Sequence[str] | None = None,
        split: Callable[[str], list[str]] | None = None,
    ) -> None:
        super().__init__(env)
        self._mission = mission
        self._actions = actions
        self._split = split
        text = spaces.Text(max_length=100_000, min_length=0)
        self.observation_space = spaces.Dict({"mission": text, "text": text})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        text, info = self.env.reset(seed=seed, options=options)
        self._episode_mission = info.get("mission", self._mission)
        return self._told(text, info)

    def step(self, action: int) -> tuple[dict[str, str], float, bool, bool, dict[str, Any]]:
        text, reward, terminated, truncated, info = self.env.step(action)
        observation, info = self._told(text, info)
        return observation, reward, terminated, truncated, info

    def _told(self, text: str, info: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
        added = {}
        if self._actions is not None:
            added["admissible_actions"] = list(self._actions)
        if self._split is not None:
            added["descriptions"] = self._split(text)
        return {"mission": info.get("mission", self._episode_mission), "text": text}, info | added


class StringActions(gym.Wrapper):
    """
    An environment whose `step` takes the action's text; the wrapped one takes its index.

    Args:
        env (`gym.Env`):
            Its info lists `admissible_actions`.
        max_actions (`int`):
            The largest number of admissible actions at one step.
    """

    def __init__(self, env: gym.Env, max_actions: int) -> None:
        super().__init__(env)
        self.action_space = spaces.Discrete(max_actions)
        self._admissible: Sequence[str] = ()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._admissible = info["admissible_actions"]
        return obs, info

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not 0 <= action < len(self._admissible):
            raise InvalidInputError(
                f"Action {action} is out of range: {len(self._admissible)} actions are admissible, "
                f"0 to {len(self._admissible) - 1}."
            )
        obs, reward, terminated, truncated, info = self.env.step(self._admissible[action])
        self._admissible = info.get("admissible_actions", ())
        return obs, reward, terminated, truncated, info
