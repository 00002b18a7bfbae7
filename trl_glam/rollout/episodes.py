# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Which episode a slot plays next: endless seeded ones for training, a fixed list for evaluation.

A seed depends on the run's seed, the global slot and the episode's number alone, so that an episode is the same
whatever runs beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from ..types import EpisodeKey


# Seeds of training episodes stay below, seeds of evaluation panels at or above: the two never meet.
TRAINING_SEEDS = 1_000_000_000

# Which stream of an episode's seed sequence a draw comes from.
_ENVIRONMENT_STREAM, _ACTION_STREAM, GOAL_STREAM = 0, 1, 2


class EpisodeSource(Protocol):
    """Says which episode a slot plays next."""

    def next(self, slot: int) -> EpisodeKey | None:
        """The next episode of a local slot, or `None` when the slot has played its last."""


class SeededEpisodes:
    """
    Endless training episodes: slot s plays episodes 0, 1, 2, ... whose seeds depend on the run's seed, the global slot
    and the episode's number alone.

    Args:
        env_id (`str`):
            Name of the environment in the keys.
        seed (`int`):
            Seed of the run.
        first_slot (`int`, *optional*, defaults to `0`):
            Global index of local slot 0 (the rank's offset).
        env_kwargs (`dict[str, Any]`, *optional*):
            Written into the keys.
        options (`dict[str, Any]` or `Callable[[int, int], dict | None]`, *optional*):
            Reset options, or a function of (global slot, episode number) that gives them.
    """

    def __init__(
        self,
        env_id: str,
        seed: int,
        first_slot: int = 0,
        env_kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | Callable[[int, int], dict[str, Any] | None] | None = None,
    ) -> None:
        self.env_id = env_id
        self.seed = seed
        self.first_slot = first_slot
        self.env_kwargs = env_kwargs or {}
        self.options = options
        self.numbers: dict[int, int] = {}

    def next(self, slot: int) -> EpisodeKey:
        number = self.numbers.get(slot, 0)
        self.numbers[slot] = number + 1
        global_slot = self.first_slot + slot
        sequence = np.random.SeedSequence(self.seed, spawn_key=(global_slot, number, _ENVIRONMENT_STREAM))
        options = self.options(global_slot, number) if callable(self.options) else self.options
        return EpisodeKey(
            env_id=self.env_id,
            seed=int(sequence.generate_state(1)[0]) % TRAINING_SEEDS,
            options=options,
            env_kwargs=self.env_kwargs,
            slot=global_slot,
            number=number,
        )


class ListedEpisodes:
    """
    A fixed list of episodes, played by whichever slot is free.

    Args:
        keys (`list[EpisodeKey]`):
            The episodes, in order.
    """

    def __init__(self, keys: Iterable[EpisodeKey]) -> None:
        self._keys = deque(keys)

    def next(self, slot: int) -> EpisodeKey | None:
        return self._keys.popleft() if self._keys else None


def action_generator(seed: int, key: EpisodeKey) -> np.random.Generator:
    """The generator of an episode's action draws: depends on (seed, key.slot, key.number) alone."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key.slot, key.number, _ACTION_STREAM)))
