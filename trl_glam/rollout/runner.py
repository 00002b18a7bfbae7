# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The one loop that steps environments: training, evaluation, collecting and watching all use it.

The runner owns, per slot, the prompt window, the episode's key and its generator of action draws; the environments
live in this process or in others (`envs/in_process.py`, `envs/workers.py`). It asks an `Agent` for decisions and hands
every `Transition` to sinks. It knows nothing of losses or files. There is no vector environment and no auto-reset:
every episode is reset with its own seed, so a slot's state is (key, actions so far), which is also how a run is
resumed. An environment that fails costs its episode or ends the run, and is never taken at its word.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium as gym

from ..agents import Agent
from ..envs.host import Failure
from ..envs.in_process import Environments, InProcessEnvironments
from ..envs.workers import WorkerEnvironments
from ..prompts import PromptTemplate
from ..types import EnvironmentFault, EpisodeKey, InvalidInputError, Observation, Transition
from .episodes import TRAINING_SEEDS, EpisodeSource, ListedEpisodes, SeededEpisodes, action_generator
from .resume import load_slots, save_slots
from .sinks import EpisodeCollector, Sink
from .slot import Slot


# The parts of the loop that others name come from here too.
__all__ = [
    "ON_ENVIRONMENT_ERROR",
    "TRAINING_SEEDS",
    "EpisodeCollector",
    "EpisodeSource",
    "ListedEpisodes",
    "Runner",
    "SeededEpisodes",
    "Sink",
    "action_generator",
]

ON_ENVIRONMENT_ERROR = ("stop", "drop")
# An environment that fails so often, without one whole episode in between, is not worth waiting for.
MAX_FAULTS_IN_A_ROW = 10

logger = logging.getLogger(__name__)


class Runner:
    """
    Steps a list of environments with an agent.

    Args:
        make_env (`Callable[[EpisodeKey], gym.Env]`):
            Makes the environment of an episode; called when a slot's `(env_id, env_kwargs)` changes. With `workers` it
            is pickled.
        episodes ([`EpisodeSource`]):
            Says which episode a slot plays next.
        num_slots (`int`):
            Number of environments side by side.
        agent ([`Agent`]):
            Acts.
        template ([`PromptTemplate`]):
            Writes the prompts.
        seed (`int`):
            Seed of the action draws. A draw depends on (seed, key.slot, key.number) and its place in the episode
            alone: not on the number of slots, their order, or what runs beside.
        greedy (`bool`, *optional*, defaults to `False`):
            Most probable action instead of a draw.
        success_threshold (`float`, *optional*, defaults to `0.0`):
            An episode of an environment without `info["success"]` succeeds when its return exceeds this.
        sinks (`Sequence[Sink]`, *optional*):
            Told about every transition and every finished episode.
        workers (`int`, *optional*, defaults to `0`):
            Processes that the environments live in, side by side; 0 steps them in turn in this one.
        timeout (`float`, *optional*):
            Seconds that one reset or step may take; no limit if not given. An environment that takes longer is killed
            where it has a process of its own, and ends the run where it has not.
        on_environment_error (`str`, *optional*, defaults to `"stop"`):
            `"stop"`: an environment that fails ends the run. `"drop"`: its episode is dropped, and the slot goes on
            with the next one in a new environment; ten in a row end the run.

    Raises:
        [`EnvironmentFault`]: from `step` and `observations`, when an environment fails and the run is to stop, or when
        one fails again and again.
    """

    def __init__(
        self,
        make_env: Callable[[EpisodeKey], gym.Env],
        episodes: EpisodeSource,
        num_slots: int,
        agent: Agent,
        template: PromptTemplate,
        seed: int,
        *,
        greedy: bool = False,
        success_threshold: float = 0.0,
        sinks: Sequence[Sink] = (),
        workers: int = 0,
        timeout: float | None = None,
        on_environment_error: str = "stop",
    ) -> None:
        if on_environment_error not in ON_ENVIRONMENT_ERROR:
            raise InvalidInputError(
                f"on_environment_error={on_environment_error!r} is given; choose one of "
                f"{', '.join(ON_ENVIRONMENT_ERROR)}."
            )
        if workers and agent.needs_environment:
            raise InvalidInputError(
                f"{agent.name} asks the environment itself, which env_workers={workers} puts into another process; "
                "leave env_workers out."
            )
        self.episodes = episodes
        self.agent = agent
        self.template = template
        self.seed = seed
        self.greedy = greedy
        self.success_threshold = success_threshold
        self.sinks = list(sinks)
        self.on_environment_error = on_environment_error
        self.has_success_info = False
        self._slots = [Slot(index, template) for index in range(num_slots)]
        self._bound: dict[int, gym.Env] = {}
        self._started = False
        self._environments: Environments = (
            WorkerEnvironments(make_env, min(workers, num_slots), timeout)
            if workers
            else InProcessEnvironments(make_env, timeout)
        )

    # -- running

    @property
    def observations(self) -> list[Observation]:
        """The current observations of the slots that run, in order of the slots."""
        self._start()
        return [slot.observation for slot in self._slots if slot.observation is not None]

    def step(self) -> list[Transition]:
        """
        One decision and one environment step in every slot that runs.

        Returns:
            `list[Transition]`: one per running slot, in order of the slots; empty when the source is exhausted.
        """
        self._start()
        active = [index for index, slot in enumerate(self._slots) if slot.observation is not None]
        observations = [self._slots[index].observation for index in active]
        decisions = self.agent.act(observations, [self._slots[index].generator for index in active], self.greedy)
        outcomes = self._environments.step(
            [(index, decision.index) for index, decision in zip(active, decisions, strict=True)]
        )
        transitions = []
        faults: dict[int, EnvironmentFault] = {}
        for index, decision, outcome in zip(active, decisions, outcomes, strict=True):
            slot = self._slots[index]
            if isinstance(outcome, Failure):
                transitions.append(slot.drop(decision))
                faults[index] = self._take_fault(slot, outcome)
                continue
            transition = slot.advance(decision, outcome, self.success_threshold)
            self.has_success_info |= transition.ended and outcome.success is not None
            transitions.append(transition)
        for index, transition in zip(active, transitions, strict=True):
            for sink in self.sinks:
                sink.on_transition(transition)
            if transition.dropped:
                self._tell_dropped(faults[index])
            elif transition.ended:
                self._finish(self._slots[index], transition)
        self._begin([index for index, transition in zip(active, transitions, strict=True) if transition.ended])
        return transitions

    def run(self) -> None:
        """Step until the source of episodes is exhausted and every episode has ended."""
        while self.observations:
            self.step()

    def close(self) -> None:
        """Close the environments, their processes and the sinks."""
        self._environments.close()
        for sink in self.sinks:
            sink.close()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._begin(range(len(self._slots)))

    def _begin(self, indices: Iterable[int]) -> None:
        """Begin the next episode in some slots; one that fails at its reset is followed by the next."""
        waiting = list(indices)
        while waiting:
            episodes = [(index, self.episodes.next(index)) for index in waiting]
            for index, key in episodes:
                if key is None:
                    self._slots[index].observation = None
            waiting = self._begin_episodes([(index, key) for index, key in episodes if key is not None])

    def _begin_episodes(self, episodes: list[tuple[int, EpisodeKey]]) -> list[int]:
        """Begin given episodes; returns the slots whose environment failed."""
        failed = []
        for (index, key), outcome in zip(episodes, self._environments.begin(episodes), strict=True):
            slot = self._slots[index]
            slot.take(key, self.seed)
            if isinstance(outcome, Failure):
                self._tell_dropped(self._take_fault(slot, outcome))
                failed.append(index)
            else:
                slot.open(outcome)
                self._bind(index)
        return failed

    def _bind(self, index: int) -> None:
        env = self._environments.environment(index)
        if env is not None and self._bound.get(index) is not env:
            self._bound[index] = env
            self.agent.bind(index, env)

    def _finish(self, slot: Slot, transition: Transition) -> None:
        slot.faults_in_a_row = 0
        record = slot.record(transition)
        for sink in self.sinks:
            sink.on_episode_end(record)

    # -- faults

    def _take_fault(self, slot: Slot, failure: Failure) -> EnvironmentFault:
        """End the run with a fault, or give the environment up and say so."""
        if failure.is_setting:
            raise InvalidInputError(failure.reason)
        if failure.ends_run or self.on_environment_error == "stop":
            raise slot.fault(failure)
        slot.faults_in_a_row += 1
        if slot.faults_in_a_row >= MAX_FAULTS_IN_A_ROW:
            raise slot.fault(failure, f" It is the {slot.faults_in_a_row}th episode in a row that fails here.")
        fault = slot.fault(failure)
        logger.warning("%s The episode is dropped.", fault)
        self._environments.discard(slot.index)
        return fault

    def _tell_dropped(self, fault: EnvironmentFault) -> None:
        for sink in self.sinks:
            sink.on_episode_dropped(fault)

    # -- resuming

    def state_dict(self) -> list[dict[str, Any] | None]:
        """
        What is needed to go on exactly: per slot the episode's key, the actions so far, the generator, and a digest of
        what the environment has said, or its state where it offers one. JSON-serialisable.
        """
        self._start()
        return save_slots(self._slots, self._environments)

    def load_state_dict(self, state: list[dict[str, Any] | None], allow_inexact: bool = False) -> list[EpisodeKey]:
        """
        Bring every running episode back.

        Args:
            state (`list[dict | None]`):
                What [`~Runner.state_dict`] gave, for the same number of slots.
            allow_inexact (`bool`, *optional*, defaults to `False`):
                An episode that does not come back begins anew instead of ending the run.

        Returns:
            `list[EpisodeKey]`: the episodes that have begun anew: what was heard of them before is void.

        Raises:
            [`InvalidInputError`]: when an environment does not come to where it was, unless that is allowed.
        """
        self._started = True
        anew = load_slots(self._slots, self._environments, state, self.seed, allow_inexact)
        lost = [slot for slot in self._slots if slot.observation is None and slot.key in anew]
        self._begin(self._begin_episodes([(slot.index, slot.key) for slot in lost]))
        for slot in self._slots:
            if slot.observation is not None:
                self._bind(slot.index)
        return anew
