# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Tiny text environments whose optimal behaviour and returns are known in closed form."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class LampEnv(gym.Env):
    """
    Three contexts, one right action each: press the button of the lamp's colour. One step an episode; reward 1 or 0.

    The uniform policy succeeds in 1/3 of the episodes.
    """

    COLOURS = ("red", "green", "blue")

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Text(200)
        self.action_space = gym.spaces.Discrete(3)

    def _info(self) -> dict[str, Any]:
        return {"admissible_actions": [f"press {colour}" for colour in self.COLOURS], "task_kind": self.colour}

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.colour = self.COLOURS[int(self.np_random.integers(3))]
        return f"The lamp is {self.colour}.", self._info()

    def step(self, action: int):
        success = self.COLOURS[action] == self.colour
        return "The lamp is off.", float(success), True, False, {**self._info(), "success": success}


class CorridorEnv(gym.Env):
    """
    A corridor of `length` cells: "walk" goes on, "wait" stays. Every step gives reward 1; the end terminates, and
    after `max_steps` the episode is truncated. The number of admissible actions changes with the cell.
    """

    def __init__(self, length: int = 3, max_steps: int = 5) -> None:
        self.length, self.max_steps = length, max_steps
        self.observation_space = gym.spaces.Text(200)
        self.action_space = gym.spaces.Discrete(3)

    def _info(self) -> dict[str, Any]:
        actions = ["walk", "wait"] if self.cell % 2 == 0 else ["walk", "wait", "sing a song"]
        return {"admissible_actions": actions}

    def _obs(self) -> dict[str, str]:
        return {"mission": f"walk to cell {self.length}", "text": f"You are in cell {self.cell} at time {self.time}"}

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.cell = int(np.random.default_rng(seed).integers(2)) if seed is not None else 0
        self.time = 0
        return self._obs(), self._info()

    def step(self, action: int):
        if not 0 <= action < len(self._info()["admissible_actions"]):
            raise IndexError(action)
        self.cell += action == 0
        self.time += 1
        terminated = self.cell >= self.length
        truncated = self.time >= self.max_steps
        return self._obs(), 1.0, bool(terminated), bool(truncated), self._info()
