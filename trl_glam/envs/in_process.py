# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The environments of a runner in the run's own process, stepped one after the other under a watchdog.

This is also the form that `workers.py` keeps: lists of requests, one per slot, answered by lists of outcomes or
failures in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gymnasium as gym

from ..types import EpisodeKey
from .host import EnvironmentHost, Failure, Outcome
from .watchdog import Hang, Watchdog


class Environments(Protocol):
    """The environments of a runner's slots, wherever they live. A slot stands at most once in a list of requests."""

    def begin(self, episodes: Sequence[tuple[int, EpisodeKey]]) -> list[Outcome | Failure]:
        """Begin an episode in each of some slots."""

    def step(self, actions: Sequence[tuple[int, int]]) -> list[Outcome | Failure]:
        """Give each of some slots an action, as an index."""

    def states(self, slots: Sequence[int]) -> list[dict[str, Any] | Failure | None]:
        """The states of environments that can be restored; `None` for the others."""

    def restore(self, saved: Sequence[tuple[int, EpisodeKey, dict[str, Any]]]) -> list[Outcome | Failure]:
        """Bring slots to states that [`~Environments.states`] gave."""

    def environment(self, slot: int) -> gym.Env | None:
        """A slot's environment, where it lives in this process."""

    def discard(self, slot: int) -> None:
        """Give a slot's environment up; its next episode gets a new one."""

    def close(self) -> None:
        """Close all of them."""


class InProcessEnvironments:
    """
    Environments stepped in turn, in the run's own process.

    Args:
        make_env (`Callable[[EpisodeKey], gym.Env]`):
            Makes the environment of an episode.
        timeout (`float`, *optional*):
            Seconds that one reset or step may take; no limit if not given. A hang ends the run.
    """

    def __init__(self, make_env: Callable[[EpisodeKey], gym.Env], timeout: float | None = None) -> None:
        self._host = EnvironmentHost(make_env)
        self._watchdog = None if timeout is None else Watchdog(timeout)
        self._keys: dict[int, EpisodeKey] = {}

    def begin(self, episodes: Sequence[tuple[int, EpisodeKey]]) -> list[Outcome | Failure]:
        self._keys.update(episodes)
        return [self._call("reset", slot, self._host.begin, slot, key) for slot, key in episodes]

    def step(self, actions: Sequence[tuple[int, int]]) -> list[Outcome | Failure]:
        return [self._call("step", slot, self._host.step, slot, action) for slot, action in actions]

    def states(self, slots: Sequence[int]) -> list[dict[str, Any] | Failure | None]:
        return [self._host.state(slot) for slot in slots]

    def restore(self, saved: Sequence[tuple[int, EpisodeKey, dict[str, Any]]]) -> list[Outcome | Failure]:
        self._keys.update((slot, key) for slot, key, _ in saved)
        return [self._call("reset", slot, self._host.restore, slot, key, state) for slot, key, state in saved]

    def environment(self, slot: int) -> gym.Env | None:
        return self._host.environments[slot]

    def discard(self, slot: int) -> None:
        self._host.discard(slot)

    def close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.close()
        self._host.close()

    def _call(self, what: str, slot: int, function: Callable[..., Any], *args: Any) -> Any:
        if self._watchdog is None:
            return function(*args)

        def message() -> str:
            key = self._keys[slot]
            return (
                f"Environment {key.env_id} (slot {key.slot}, episode {key.number}, seed {key.seed}) hangs: its {what} "
                f"after {self._host.steps.get(slot, 0)} steps has not returned for {self._watchdog.timeout:g} seconds."
            )

        try:
            return self._watchdog.call(message, function, *args)
        except Hang:
            return Failure(
                f"its {what} has not returned for {self._watchdog.timeout:g} seconds (env_timeout). With env_workers "
                "the environment lives in a process of its own, which can be killed.",
                ends_run=True,
            )
