# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Environments that go wrong in a chosen way at a chosen place. At the top of a module: other processes make them."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import Any

import gymnasium as gym

from tests.toy_envs import CorridorEnv
from trl_glam.types import EpisodeKey


# What `step` or `reset` returns or does instead, by the name of the fault.
GARBAGE_STEPS = {
    "nan reward": lambda obs, info: (obs, float("nan"), False, False, info),
    "infinite reward": lambda obs, info: (obs, float("inf"), False, False, info),
    "text as reward": lambda obs, info: (obs, "1", False, False, info),
    "no actions": lambda obs, info: (obs, 1.0, False, False, {**info, "admissible_actions": []}),
    "missing actions": lambda obs, info: (obs, 1.0, False, False, {}),
    "action twice": lambda obs, info: (obs, 1.0, False, False, {**info, "admissible_actions": ["walk", "walk"]}),
    "number as action": lambda obs, info: (obs, 1.0, False, False, {**info, "admissible_actions": ["walk", 3]}),
    "blank action": lambda obs, info: (obs, 1.0, False, False, {**info, "admissible_actions": ["walk", " "]}),
    "no observation": lambda obs, info: (None, 1.0, False, False, info),
    "observation without text": lambda obs, info: ({"mission": "walk"}, 1.0, False, False, info),
    "no info": lambda obs, info: (obs, 1.0, False, False, None),
    "number as flag": lambda obs, info: (obs, 1.0, 0.5, False, info),
    "four values": lambda obs, info: (obs, 1.0, False, info),
    "text beyond utf-8": lambda obs, info: ({**obs, "text": "\udcff"}, 1.0, False, False, info),
    "success in words": lambda obs, info: (obs, 1.0, False, False, {**info, "success": "yes"}),
}


class FaultyCorridor(CorridorEnv):
    """
    A corridor that goes wrong in one episode out of `every`, told by its seed, at its second step or at its reset.

    Args:
        fault (`str`):
            A key of `GARBAGE_STEPS`, or raise, exit, hang, die, raise at reset, hang at reset.
        every (`int`):
            1: every episode; n: those whose seed divides by n.
    """

    def __init__(self, fault: str, every: int = 1) -> None:
        super().__init__(length=4, max_steps=6)
        self.fault, self.every = fault, every

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        self.is_bad = seed % self.every == 0
        if self.is_bad and self.fault == "raise at reset":
            raise ConnectionError("the server is gone")
        if self.is_bad and self.fault == "hang at reset":
            time.sleep(3600)
        return super().reset(seed=seed, options=options)

    def step(self, action: int) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        if not self.is_bad or self.time != 2:
            return obs, reward, terminated, truncated, info
        if self.fault == "raise":
            raise ZeroDivisionError("division by zero")
        if self.fault == "exit":
            sys.exit("good-bye")
        if self.fault == "hang":
            time.sleep(3600)
        if self.fault == "die":
            os._exit(3)
        return GARBAGE_STEPS[self.fault](obs, info)


def make_corridor(key: EpisodeKey) -> gym.Env:
    return CorridorEnv()


def make_faulty(fault: str, every: int, key: EpisodeKey) -> gym.Env:
    return FaultyCorridor(fault, every)


def faulty(fault: str, every: int = 1):
    """A maker of faulty corridors that can be sent to another process."""
    return partial(make_faulty, fault, every)


class CountingCorridor(CorridorEnv):
    """A corridor that is slow to replay and offers its state instead; `steps_played` tells whether it was used."""

    steps_played = 0

    def step(self, action: int):
        CountingCorridor.steps_played += 1
        return super().step(action)

    def get_state(self) -> list[int]:
        return [self.cell, self.time]

    def set_state(self, state: list[int]) -> None:
        self.cell, self.time = state


def make_counting(key: EpisodeKey) -> gym.Env:
    return CountingCorridor()


class ForgetfulCorridor(CountingCorridor):
    """Its `set_state` does not do what it says."""

    def set_state(self, state: list[int]) -> None:
        self.cell = state[0]
        self.time = 99


def make_forgetful(key: EpisodeKey) -> gym.Env:
    return ForgetfulCorridor()


class UnseededCorridor(CorridorEnv):
    """Says something else at every reset: it does not replay."""

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        self.weather = os.urandom(8).hex()
        return super().reset(seed=seed, options=options)

    def _obs(self) -> dict[str, str]:
        return {**super()._obs(), "text": f"{super()._obs()['text']}, weather {self.weather}"}


def make_unseeded(key: EpisodeKey) -> gym.Env:
    return UnseededCorridor()


def make_fault_beside_unseeded(key: EpisodeKey) -> gym.Env:
    """Slot 0's first episode kills its process; everything else does not replay."""
    return FaultyCorridor("die") if key.slot == 0 and key.number == 0 else UnseededCorridor()
