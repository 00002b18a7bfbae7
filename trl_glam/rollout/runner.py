# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The one loop that steps environments: training, evaluation, collecting and watching all use it.

The runner owns, per slot, the environment, its prompt window, the episode's key and its generator of action draws. It
asks an `Agent` for decisions and hands every `Transition` to sinks. It knows nothing of losses or files. There is no
vector environment and no auto-reset: every episode is reset with its own seed, so a slot's state is (key, actions so
far), which is also how a run is resumed.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from ..agents import Agent
from ..envs.contract import TextObservation, read_reset, read_step
from ..prompts import History, PromptTemplate
from ..types import Decision, EpisodeKey, EpisodeRecord, InvalidInputError, Observation, Transition


# Seeds of training episodes stay below, seeds of evaluation panels at or above: the two never meet.
TRAINING_SEEDS = 1_000_000_000

# Which stream of an episode's seed sequence a draw comes from.
_ENVIRONMENT_STREAM, _ACTION_STREAM = 0, 1


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


class Sink:
    """Base class of what listens to a runner: a buffer, a log writer, statistics, a progress bar."""

    def on_transition(self, transition: Transition) -> None:
        """Called for every step, in the order of the slots."""

    def on_episode_end(self, record: EpisodeRecord) -> None:
        """Called after the transition that ends an episode."""

    def close(self) -> None:
        """Called once when nothing more will come."""


class EpisodeCollector(Sink):
    """Keeps the records of finished episodes."""

    def __init__(self) -> None:
        self.records: list[EpisodeRecord] = []

    def on_episode_end(self, record: EpisodeRecord) -> None:
        self.records.append(record)

    def take(self) -> list[EpisodeRecord]:
        """Hand the records over and begin anew."""
        records, self.records = self.records, []
        return records


class _Slot:
    """One environment with its running episode."""

    def __init__(self, template: PromptTemplate) -> None:
        self.env: gym.Env | None = None
        self.key: EpisodeKey | None = None
        self.history = History(template)
        self.generator: np.random.Generator | None = None
        self.observation: Observation | None = None
        self.actions: list[int] = []
        self.episode_return = 0.0


class Runner:
    """
    Steps a list of environments with an agent.

    Args:
        make_env (`Callable[[EpisodeKey], gym.Env]`):
            Makes the environment of an episode; called when a slot's `(env_id, env_kwargs)` changes.
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
            Threads that step the environments; 0 steps them in turn.
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
    ) -> None:
        self.make_env = make_env
        self.episodes = episodes
        self.agent = agent
        self.template = template
        self.seed = seed
        self.greedy = greedy
        self.success_threshold = success_threshold
        self.sinks = list(sinks)
        self.has_success_info = False
        self._slots = [_Slot(template) for _ in range(num_slots)]
        self._started = False
        self._pool = ThreadPoolExecutor(workers) if workers else None

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
        transitions = list(self._map(self._advance, active, decisions))
        for index, transition in zip(active, transitions, strict=True):
            for sink in self.sinks:
                sink.on_transition(transition)
            if transition.ended:
                self._finish(self._slots[index], transition)
        ended = [index for index, transition in zip(active, transitions, strict=True) if transition.ended]
        self._begin(ended)
        return transitions

    def run(self) -> None:
        """Step until the source of episodes is exhausted and every episode has ended."""
        while self.observations:
            self.step()

    def close(self) -> None:
        """Close the environments, the threads and the sinks."""
        for slot in self._slots:
            if slot.env is not None:
                slot.env.close()
                slot.env = None
        if self._pool is not None:
            self._pool.shutdown()
        for sink in self.sinks:
            sink.close()

    def _map(self, function: Callable, *columns: Iterable) -> Iterable:
        # Slots share nothing, so threads change the wall time and nothing else.
        return map(function, *columns) if self._pool is None else self._pool.map(function, *columns)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._begin(range(len(self._slots)))

    def _begin(self, indices: Iterable[int]) -> None:
        started = []
        for index in indices:
            slot = self._slots[index]
            key = self.episodes.next(index)
            if key is None:
                slot.observation = None
                continue
            self._prepare(slot, index, key)
            started.append(index)
        list(self._map(self._reset, started))

    def _prepare(self, slot: _Slot, index: int, key: EpisodeKey) -> None:
        previous = slot.key
        if slot.env is None or (previous.env_id, previous.env_kwargs) != (key.env_id, key.env_kwargs):
            if slot.env is not None:
                slot.env.close()
            slot.env = self.make_env(key)
            self.agent.bind(index, slot.env)
        slot.key = key
        slot.actions = []
        slot.episode_return = 0.0
        slot.generator = action_generator(self.seed, key)

    def _reset(self, index: int) -> None:
        slot = self._slots[index]
        obs, info = slot.env.reset(seed=slot.key.seed, options=slot.key.options)
        text = read_reset(obs, info, slot.key.env_id)
        slot.history.reset(text.mission, text.sentences)
        slot.observation = self._observe(slot, index, text)

    def _observe(self, slot: _Slot, index: int, text: TextObservation) -> Observation:
        # After the end an environment need not name actions; the prompt then keeps the last ones.
        shown = text.admissible_actions or slot.observation.admissible_actions
        return Observation(
            episode=slot.key,
            slot=index,
            step=len(slot.actions),
            mission=slot.history.mission,
            sentences=text.sentences,
            admissible_actions=text.admissible_actions,
            prompt=slot.history.prompt(shown),
            task_kind=text.task_kind,
        )

    def _advance(self, index: int, decision: Decision) -> Transition:
        slot = self._slots[index]
        before = slot.observation
        obs, reward, terminated, truncated, info = slot.env.step(decision.index)
        ended = bool(terminated or truncated)
        text = read_step(obs, reward, terminated, truncated, info, slot.key.env_id, before.mission, len(slot.actions))
        slot.actions.append(decision.index)
        slot.episode_return += float(reward)
        slot.history.append(before.admissible_actions[decision.index], text.sentences)
        after = self._observe(slot, index, text)
        slot.observation = after
        return Transition(
            observation=before,
            decision=decision,
            reward=float(reward),
            terminated=bool(terminated),
            truncated=bool(truncated and not terminated),
            success=ended and self._succeeded(slot, info),
            final_observation=after if ended else None,
        )

    def _succeeded(self, slot: _Slot, info: dict[str, Any]) -> bool:
        if "success" in info:
            self.has_success_info = True
            return bool(info["success"])
        return slot.episode_return > self.success_threshold

    def _finish(self, slot: _Slot, transition: Transition) -> None:
        record = EpisodeRecord(
            key=slot.key,
            task_kind=transition.observation.task_kind,
            actions=tuple(slot.actions),
            episode_return=slot.episode_return,
            length=len(slot.actions),
            success=transition.success,
            mission=slot.history.mission,
        )
        for sink in self.sinks:
            sink.on_episode_end(record)

    # -- resuming

    def state_dict(self) -> list[dict[str, Any] | None]:
        """
        What is needed to go on exactly: per slot the episode's key, the actions so far, the generator, and a hash of
        the prompt that the replay must reach. JSON-serialisable.
        """
        self._start()
        return [
            None
            if slot.observation is None
            else {
                "key": slot.key.to_dict(),
                "actions": list(slot.actions),
                "generator": slot.generator.bit_generator.state,
                "prompt_sha256": _sha256(slot.observation.prompt),
            }
            for slot in self._slots
        ]

    def load_state_dict(self, state: list[dict[str, Any] | None]) -> None:
        """
        Replay every running episode from its seed and actions.

        Args:
            state (`list[dict | None]`):
                What [`~Runner.state_dict`] gave, for the same number of slots.

        Raises:
            [`InvalidInputError`]: when an environment does not reach the same observation again.
        """
        if len(state) != len(self._slots):
            raise InvalidInputError(
                f"The saved run has {len(state)} environments on this process, this one {len(self._slots)}; resume "
                "with the same num_envs and number of processes."
            )
        self._started = True
        for index, (slot, saved) in enumerate(zip(self._slots, state, strict=True)):
            if saved is None:
                slot.observation = None
                continue
            self._prepare(slot, index, EpisodeKey.from_dict(saved["key"]))
            self._reset(index)
            for action in saved["actions"]:
                self._advance(index, Decision(index=action))
            slot.generator.bit_generator.state = saved["generator"]
            if _sha256(slot.observation.prompt) != saved["prompt_sha256"]:
                raise InvalidInputError(
                    f"Environment {slot.key.env_id} (slot {slot.key.slot}, seed {slot.key.seed}) does not come to the "
                    f"same observation when its {len(saved['actions'])} actions are replayed, so the run cannot go on "
                    "exactly. Make the environment depend on its reset seed and actions alone."
                )


def action_generator(seed: int, key: EpisodeKey) -> np.random.Generator:
    """The generator of an episode's action draws: depends on (seed, key.slot, key.number) alone."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key.slot, key.number, _ACTION_STREAM)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
