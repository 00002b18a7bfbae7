# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Worlds as a user would write them: a slow one, one of plain strings, one whose fault shows only in the middle of a
run. A module that other processes can import, and that `env_module` names."""

from __future__ import annotations

import os
import time

import gymnasium as gym

from tests.toy_envs import CorridorEnv
from trl_glam.envs import PlainText, StringActions


class SlowCorridor(CorridorEnv):
    """Each step waits, and writes down in which process and from when to when: a line of `step_file`."""

    def __init__(self, step_file: str, seconds: float = 0.05) -> None:
        super().__init__(length=4, max_steps=6)
        self.step_file, self.seconds = step_file, seconds

    def step(self, action: int):
        begin = time.monotonic()
        time.sleep(self.seconds)
        with open(self.step_file, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {begin} {time.monotonic()}\n")
        return super().step(action)


class LateFault(CorridorEnv):
    """Keeps the contract for 20 steps of a process, then lists an action twice."""

    steps = 0

    def _info(self) -> dict:
        info = super()._info()
        return info if LateFault.steps < 20 else {"admissible_actions": ["walk", "wait", "walk"]}

    def step(self, action: int):
        LateFault.steps += 1
        return super().step(action)


class Parser(gym.Env):
    """Speaks plain strings, takes the action's text, and turns its list of actions round at every step."""

    observation_space = gym.spaces.Text(100)
    action_space = gym.spaces.Text(20)
    colours = ("red", "green", "blue")

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.colour = self.colours[self.np_random.integers(3)]
        self.actions = [f"press {colour}" for colour in self.colours]
        return f"A {self.colour} lamp. A button.", {"admissible_actions": list(self.actions)}

    def step(self, action: str):
        if action not in self.actions:
            raise ValueError(f"I do not understand {action!r}")
        right = action == f"press {self.colour}"
        self.actions.reverse()
        return "The lamp is off.", float(right), True, False, {"success": right}


def wrapped_parser() -> gym.Env:
    """[`Parser`] in the contract's form."""
    env = StringActions(Parser(), max_actions=3)
    return PlainText(env, mission="press the lamp's colour", split=lambda text: text.removesuffix(".").split(". "))


gym.register("OwnWorlds/Slow-v0", SlowCorridor)
gym.register("OwnWorlds/LateFault-v0", LateFault)
gym.register("OwnWorlds/Parser-v0", wrapped_parser)
