# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Plays episodes with an agent to fill a log: the same rows however often it is interrupted, however many run at once.

Episode i of a collection has a seed that depends on the collection's seed and i alone, and the log takes episodes
0, 1, 2, ... in this order. So a number of steps is reached by the first episodes (and not by the shortest ones), and a
collection that was killed goes on where its log ends. Training writes through `LogWriter` alone, as episodes end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ..agents import Agent
from ..envs.maker import EnvironmentMaker
from ..prompts import PromptTemplate
from ..rollout.runner import Runner, SeededEpisodes, Sink
from ..types import EpisodeKey, EpisodeRecord, InvalidInputError, Transition
from .schema import read_metadata
from .writer import LogWriter, shard_paths


@dataclass(frozen=True)
class Collected:
    """
    What a log holds after a collection.

    Args:
        episodes (`int`), transitions (`int`), successes (`int`):
            All of the log, what an earlier start collected included.
    """

    episodes: int
    transitions: int
    successes: int

    @property
    def success_rate(self) -> float:
        return self.successes / self.episodes


class _InOrder(Sink):
    """Gives out episodes by their number, and hands whole episodes to the writer in the order of the numbers."""

    def __init__(
        self,
        writer: LogWriter,
        sinks: Sequence[Sink],
        make_key: Callable[[int], EpisodeKey],
        num_episodes: int | None,
        num_steps: int | None,
    ) -> None:
        self.writer = writer
        self.sinks = sinks
        self.make_key = make_key
        self.num_episodes = num_episodes
        self.num_steps = num_steps
        self._started = writer.num_episodes
        self._running: dict[int, list[Transition]] = {}
        self._ended: dict[int, EpisodeRecord] = {}

    @property
    def done(self) -> bool:
        if self.num_episodes is not None:
            return self.writer.num_episodes >= self.num_episodes
        return self.writer.num_rows >= self.num_steps

    def next(self, slot: int) -> EpisodeKey | None:
        if self._started == self.num_episodes:
            return None
        self._started += 1
        return self.make_key(self._started - 1)

    def on_transition(self, transition: Transition) -> None:
        self._running.setdefault(transition.observation.episode.slot, []).append(transition)

    def on_episode_end(self, record: EpisodeRecord) -> None:
        self._ended[record.key.slot] = record
        while self.writer.num_episodes in self._ended and not self.done:
            due = self.writer.num_episodes
            transitions, record = self._running.pop(due), self._ended.pop(due)
            for sink in self.sinks:
                for transition in transitions:
                    sink.on_transition(transition)
                sink.on_episode_end(record)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


def collect_log(
    agent: Agent,
    directory: str | Path,
    *,
    env_id: str,
    seed: int,
    policy: str,
    num_episodes: int | None = None,
    num_steps: int | None = None,
    env_kwargs: dict[str, Any] | None = None,
    env_module: str | None = None,
    policy_revision: str | None = None,
    template: PromptTemplate | None = None,
    greedy: bool = False,
    num_envs: int = 32,
    success_threshold: float = 0.0,
    store_prompts: bool = True,
    seconds_per_flush: float = 60.0,
    workers: int = 0,
    timeout: float | None = None,
    sinks: Sequence[Sink] = (),
) -> Collected:
    """
    Fill a folder with an interaction log, or go on filling it.

    Args:
        agent ([`Agent`]):
            Who acts.
        directory (`str` or `Path`):
            Folder of the log. What is there already must come from the same settings; more episodes or steps than the
            first time are welcome.
        env_id (`str`):
            Gymnasium id of the environment.
        seed (`int`):
            Seed of the episodes and of the action draws.
        policy (`str`):
            Name of the agent in the log.
        num_episodes (`int`, *optional*):
            Episodes wanted. Either this or `num_steps`.
        num_steps (`int`, *optional*):
            Steps wanted: the log ends with the episode that reaches them.
        env_kwargs (`dict[str, Any]`, *optional*):
            Keyword arguments of `gym.make`.
        env_module (`str`, *optional*):
            Module to import first because it registers the environment.
        policy_revision (`str`, *optional*):
            Commit or checkpoint of the policy.
        template ([`PromptTemplate`], *optional*):
            Writes the prompts; GLAM's if not given.
        greedy (`bool`, *optional*, defaults to `False`):
            Most probable action instead of a draw.
        num_envs (`int`, *optional*, defaults to `32`):
            Environments side by side: changes the speed, not the log.
        success_threshold (`float`, *optional*, defaults to `0.0`):
            Success is return > this where the environment gives no `info["success"]`.
        store_prompts (`bool`, *optional*, defaults to `True`):
            Store the rendered prompts.
        seconds_per_flush (`float`, *optional*, defaults to `60.0`):
            What a crash can cost at most.
        workers (`int`, *optional*, defaults to `0`):
            Subprocesses that slow environments live in; 0 steps them in turn in this process.
        timeout (`float`, *optional*):
            Seconds that one reset or step may take; no limit if not given.
        sinks (`Sequence[Sink]`, *optional*):
            Told what is written, in the order of the log; closed at the end.

    Returns:
        [`Collected`]

    Raises:
        [`InvalidInputError`]: wrong numbers, an environment that cannot be made, or a folder that holds another log.
    """
    if (num_episodes is None) == (num_steps is None):
        raise InvalidInputError(
            f"num_episodes={num_episodes} and num_steps={num_steps} are given; give one of the two, as a stop."
        )
    if min(num_episodes or num_steps or 0, num_envs) < 1:
        raise InvalidInputError(
            f"num_episodes={num_episodes}, num_steps={num_steps} and num_envs={num_envs} must be at least 1."
        )
    template = template or PromptTemplate()
    env_kwargs = env_kwargs or {}
    run = {
        "policy": policy,
        "policy_revision": policy_revision,
        "greedy": greedy,
        "env_id": env_id,
        "env_kwargs": env_kwargs,
        "env_module": env_module,
        "seed": seed,
        "success_threshold": success_threshold,
        "store_prompts": store_prompts,
        "prompt_template": template.to_dict(),
    }
    _check_same_run(Path(directory), run)
    digest = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
    writer = LogWriter(
        directory,
        run_id=f"collect-{digest[:12]}",
        policy=policy,
        policy_revision=policy_revision,
        store_prompts=store_prompts,
        seconds_per_flush=seconds_per_flush,
        run=run,
    )

    def make_key(number: int) -> EpisodeKey:
        return SeededEpisodes(env_id, seed, first_slot=number, env_kwargs=env_kwargs).next(0)

    in_order = _InOrder(writer, [writer, *sinks], make_key, num_episodes, num_steps)
    runner = Runner(
        EnvironmentMaker(env_module),
        in_order,
        num_envs,
        agent,
        template,
        seed,
        greedy=greedy,
        success_threshold=success_threshold,
        sinks=[in_order],
        workers=workers,
        timeout=timeout,
    )
    try:
        while not in_order.done:
            runner.step()
    finally:
        runner.close()
    successes = sum(sum(pq.read_table(path, columns=["success"])["success"].to_pylist()) for path in writer.paths)
    return Collected(writer.num_episodes, writer.num_rows, successes)


def _check_same_run(directory: Path, run: dict[str, Any]) -> None:
    for path in shard_paths(directory):
        metadata = read_metadata(path)
        found = {} if metadata is None else metadata["run"]
        other = {name: found.get(name) for name in run if found.get(name) != run[name]}
        if other:
            now = {name: run[name] for name in other}
            raise InvalidInputError(
                f"{directory} holds a log that was collected with {other}, not with {now}; give another folder, or "
                "the same settings to go on."
            )
