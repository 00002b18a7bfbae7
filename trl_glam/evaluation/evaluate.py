# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Play a panel with a policy, every episode to its end, and say how often it succeeds.

A thin layer over the one loop: the runner steps, a sink collects. Nothing stops early, so short episodes are not
favoured, and every episode has its own generator of action draws, so outcomes do not depend on how many environments
run side by side or in which order. Files and tables are `results.py`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object

from ..agents import Agent, ScoringAgent
from ..envs import contract as envs
from ..policy.scoring_policy import ScoringPolicy
from ..prompts import PromptTemplate
from ..rollout.runner import EpisodeCollector, ListedEpisodes, Runner, Sink
from ..types import EpisodeKey, EpisodeRecord, InvalidInputError
from .panels import Panel
from .statistics import wilson_interval


@dataclass(frozen=True)
class SuccessRate:
    """
    A share of successful episodes.

    Args:
        successes (`int`):
            Successful episodes.
        num_episodes (`int`):
            All of them.
        confidence (`float`, *optional*, defaults to `0.95`):
            Nominal coverage of the interval.
    """

    successes: int
    num_episodes: int
    confidence: float = 0.95

    @property
    def rate(self) -> float:
        return self.successes / self.num_episodes

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson interval of the rate."""
        return wilson_interval(self.successes, self.num_episodes, self.confidence)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable form."""
        return {"success_rate": self.rate, "interval": list(self.interval), "num_episodes": self.num_episodes}


@dataclass(frozen=True)
class EvaluationResult:
    """
    What a policy did on a panel.

    Args:
        panel ([`Panel`]):
            What was played.
        records (`tuple[EpisodeRecord, ...]`):
            Every episode, in the order of the panel.
        seed (`int`):
            Seed of the action draws.
        greedy (`bool`):
            Most probable actions instead of draws.
        success_reported (`bool`):
            The environment itself says what a success is (`info["success"]`); otherwise it is return > threshold.
        confidence (`float`, *optional*, defaults to `0.95`):
            Nominal coverage of the intervals.
    """

    panel: Panel
    records: tuple[EpisodeRecord, ...]
    seed: int
    greedy: bool
    success_reported: bool
    confidence: float = 0.95

    @property
    def success(self) -> SuccessRate:
        return self._count(self.records)

    @property
    def success_rate(self) -> float:
        return self.success.rate

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson interval of the success rate."""
        return self.success.interval

    @property
    def per_kind(self) -> dict[str, SuccessRate]:
        """Success per task kind, in order of appearance; empty for environments that name no kinds."""
        kinds = dict.fromkeys(record.task_kind for record in self.records if record.task_kind is not None)
        return {kind: self._count([r for r in self.records if r.task_kind == kind]) for kind in kinds}

    @property
    def mean_return(self) -> float:
        """Mean undiscounted raw return of an episode."""
        return float(np.mean([record.episode_return for record in self.records]))

    @property
    def mean_length(self) -> float:
        """Mean number of steps of an episode."""
        return float(np.mean([record.length for record in self.records]))

    def _count(self, records: Sequence[EpisodeRecord]) -> SuccessRate:
        return SuccessRate(sum(record.success for record in records), len(records), self.confidence)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable form with the outcome of every episode, in the order of the panel."""
        return {
            **self.success.to_dict(),
            "mean_return": self.mean_return,
            "mean_length": self.mean_length,
            "success_is": "info['success']" if self.success_reported else "return > success_threshold",
            "per_kind": {kind: success.to_dict() for kind, success in self.per_kind.items()},
            "episodes": [
                {
                    "env_id": record.key.env_id,
                    "seed": record.key.seed,
                    "task_kind": record.task_kind,
                    "success": record.success,
                    "return": record.episode_return,
                    "length": record.length,
                }
                for record in self.records
            ],
        }


def evaluate_policy(
    agent: Agent | ScoringPolicy,
    panel: Panel,
    *,
    seed: int = 0,
    greedy: bool = False,
    num_envs: int = 32,
    template: PromptTemplate | None = None,
    env_kwargs: dict[str, Any] | None = None,
    make_env: Callable[[EpisodeKey], gym.Env] | None = None,
    success_threshold: float = 0.0,
    confidence: float = 0.95,
    sinks: Sequence[Sink] = (),
    workers: int = 0,
    timeout: float | None = None,
    processes: PartialState | None = None,
) -> EvaluationResult:
    """
    Play every episode of a panel to its end.

    Args:
        agent ([`Agent`] or [`ScoringPolicy`]):
            Who acts.
        panel ([`Panel`]):
            The episodes.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the action draws; each episode has a generator of its own.
        greedy (`bool`, *optional*, defaults to `False`):
            Take the most probable action. GLAM samples at test time.
        num_envs (`int`, *optional*, defaults to `32`):
            Environments side by side: changes the speed, not the outcomes.
        template ([`PromptTemplate`], *optional*):
            Writes the prompts; the policy's own, or GLAM's for agents that read none.
        env_kwargs (`dict[str, Any]`, *optional*):
            Added to the keyword arguments of every environment: rewording, another set of actions.
        make_env (`Callable[[EpisodeKey], gym.Env]`, *optional*):
            Makes the environment of an episode; `gym.make(key.env_id, **key.env_kwargs)` if not given.
        success_threshold (`float`, *optional*, defaults to `0.0`):
            Success is return > this where the environment gives no `info["success"]`.
        confidence (`float`, *optional*, defaults to `0.95`):
            Nominal coverage of the intervals.
        sinks (`Sequence[Sink]`, *optional*):
            Told about every transition and episode, for example a log writer or a progress bar; closed at the end.
        workers (`int`, *optional*, defaults to `0`):
            Subprocesses that slow environments live in; 0 steps them in turn in this process.
        timeout (`float`, *optional*):
            Seconds that one reset or step may take; no limit if not given.
        processes ([`~accelerate.PartialState`], *optional*):
            Processes to share the episodes with; all of them call this function alike.

    Returns:
        [`EvaluationResult`]: of the whole panel, on every process.

    Raises:
        [`InvalidInputError`]: when an environment cannot be made, or the policy cannot act there.
    """
    if isinstance(agent, ScoringPolicy):
        agent = ScoringAgent(agent)
    collected = EpisodeCollector()
    runner = make_runner(
        agent,
        panel,
        seed=seed,
        greedy=greedy,
        num_envs=num_envs,
        template=template,
        env_kwargs=env_kwargs,
        make_env=make_env,
        success_threshold=success_threshold,
        sinks=(collected, *sinks),
        workers=workers,
        timeout=timeout,
        part=own_part(processes),
    )
    try:
        runner.run()
    finally:
        runner.close()
    records, success_reported = collected.records, runner.has_success_info
    if processes is not None:
        records, success_reported = gather_object(records), any(gather_object([success_reported]))
    records = sorted(records, key=lambda record: record.key.slot)
    return EvaluationResult(panel, tuple(records), seed, greedy, success_reported, confidence)


def own_part(processes: PartialState | None) -> slice:
    """The episodes of a panel that this process plays: every n-th of them with n processes."""
    return slice(None) if processes is None else slice(processes.process_index, None, processes.num_processes)


def make_runner(
    agent: Agent,
    panel: Panel,
    *,
    seed: int = 0,
    num_envs: int = 32,
    template: PromptTemplate | None = None,
    env_kwargs: dict[str, Any] | None = None,
    make_env: Callable[[EpisodeKey], gym.Env] | None = None,
    part: slice = slice(None),
    **options: Any,
) -> Runner:
    """The runner that plays (a part of) a panel; arguments as in [`evaluate_policy`], `options` as in [`Runner`]."""
    if num_envs < 1:
        raise InvalidInputError(f"num_envs={num_envs} must be at least 1.")
    keys = [replace(key, env_kwargs={**key.env_kwargs, **(env_kwargs or {})}) for key in panel.episodes()[part]]
    return Runner(
        make_registered_env if make_env is None else make_env,
        ListedEpisodes(keys),
        min(num_envs, len(keys)),
        agent,
        template_of(agent) if template is None else template,
        seed,
        **options,
    )


def make_registered_env(key: EpisodeKey) -> gym.Env:
    """The environment of an episode, by its Gymnasium id."""
    return envs.make_env(key.env_id, key.env_kwargs)


def template_of(agent: Agent) -> PromptTemplate:
    """The template a policy was trained with; GLAM's for untrained models and for agents that read no prompt."""
    recorded = agent.template if isinstance(agent, ScoringAgent) else None
    return PromptTemplate() if recorded is None else recorded
