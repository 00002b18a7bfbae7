# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The nouns of trl_glam: what travels from an environment to the loss and to the logs.

Plain frozen dataclasses over Python and NumPy values. Nothing here imports torch, transformers or an environment:
every other module may import this one. `PackedBatch` and `PolicyOutput`, which hold tensors, live in
`trl_glam/policy/`; `Rollout`, which holds arrays over a whole update, lives in `trl_glam/rollout/buffer.py`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class EpisodeKey:
    """
    What makes one episode reproducible: an environment's state is (key, actions so far).

    Args:
        env_id (`str`):
            Gymnasium id of the environment, or a name of the user's choice when a factory builds it.
        seed (`int`):
            Seed passed to `env.reset(seed=...)`.
        options (`dict[str, Any]` or `None`, *optional*):
            Options passed to `env.reset(options=...)`.
        env_kwargs (`dict[str, Any]`, *optional*):
            Keyword arguments the environment was made with.
        slot (`int`, *optional*, defaults to `0`):
            Global index of the environment (over all processes), or position in a panel.
        number (`int`, *optional*, defaults to `0`):
            Number of the episode inside its slot, from 0.
    """

    env_id: str
    seed: int
    options: dict[str, Any] | None = None
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    slot: int = 0
    number: int = 0

    def __hash__(self) -> int:
        return hash((self.env_id, self.seed, self.slot, self.number))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EpisodeKey:
        return cls(**data)

    @property
    def episode_id(self) -> str:
        """A short text that names the episode inside its run: `{slot}-{number}-{seed}`."""
        return f"{self.slot}-{self.number}-{self.seed}"

    @property
    def env_kwargs_json(self) -> str:
        return json.dumps(self.env_kwargs, sort_keys=True)


@dataclass(frozen=True)
class Observation:
    """
    What an agent sees before it acts.

    Args:
        episode ([`EpisodeKey`]):
            The running episode.
        slot (`int`):
            Local index of the environment inside the runner; agents with memory key it by this.
        step (`int`):
            Number of actions already taken in the episode; 0 right after the reset.
        mission (`str`):
            The goal in words.
        sentences (`tuple[str, ...]`):
            The observation, one sentence an entry.
        admissible_actions (`tuple[str, ...]`):
            The actions that may be taken now; empty only in the observation that ends an episode.
        prompt (`str`):
            The rendered prompt: goal, window of past observations and actions, this observation.
        task_kind (`str` or `None`, *optional*):
            Kind of task, for success per kind.
    """

    episode: EpisodeKey
    slot: int
    step: int
    mission: str
    sentences: tuple[str, ...]
    admissible_actions: tuple[str, ...]
    prompt: str
    task_kind: str | None = None


@dataclass(frozen=True)
class Decision:
    """
    What an agent chose.

    Args:
        index (`int`):
            Index into the observation's `admissible_actions`.
        log_probs (`np.ndarray` of shape `(num_admissible,)` or `None`, *optional*):
            float32 log-probability of every admissible action; `None` for agents without a distribution (the bot).
        value (`float` or `None`, *optional*):
            Value estimate of the observation, in scaled-reward units.
    """

    index: int
    log_probs: np.ndarray | None = None
    value: float | None = None


@dataclass(frozen=True)
class Transition:
    """
    One environment step.

    Args:
        observation ([`Observation`]):
            What the agent saw.
        decision ([`Decision`]):
            What it chose.
        reward (`float`):
            Raw reward of the environment, unscaled.
        terminated (`bool`):
            The task ended (success, failure). Wins over `truncated` when the environment sets both.
        truncated (`bool`):
            A time limit cut the episode; the value of `final_observation` is bootstrapped.
        success (`bool`):
            The episode ended in success; `False` on every step that does not end an episode.
        final_observation ([`Observation`] or `None`, *optional*):
            The observation after the last action, in the ended episode's window; `None` while the episode runs.
        dropped (`bool`, *optional*, defaults to `False`):
            The environment failed at this step: there is no outcome (reward 0, neither terminated nor truncated), and
            the episode is nobody's to count or to learn from.
    """

    observation: Observation
    decision: Decision
    reward: float
    terminated: bool
    truncated: bool
    success: bool
    final_observation: Observation | None = None
    dropped: bool = False

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated or self.dropped


@dataclass(frozen=True)
class EpisodeRecord:
    """
    A finished episode.

    Args:
        key ([`EpisodeKey`]):
            What was played.
        task_kind (`str` or `None`):
            Kind of task, if the environment names one.
        actions (`tuple[int, ...]`):
            Indices of the actions taken.
        episode_return (`float`):
            Undiscounted sum of raw rewards.
        length (`int`):
            Number of steps.
        success (`bool`):
            `info["success"]`, or return > `success_threshold` when the environment does not say.
        mission (`str`, *optional*):
            The goal in words.
    """

    key: EpisodeKey
    task_kind: str | None
    actions: tuple[int, ...]
    episode_return: float
    length: int
    success: bool
    mission: str = ""


class InvalidInputError(ValueError):
    """
    Something the user gave cannot work: the message says what was given, what is allowed and what to do.

    Library code raises it for bad input; the command line prints its message on one line and exits with code 2. Any
    other exception is a bug and keeps its traceback.
    """


class EnvironmentFault(InvalidInputError):
    """
    An environment raised, hung, died or broke the contract.

    Args:
        key ([`EpisodeKey`]):
            The episode it happened in.
        actions (`tuple[int, ...]`):
            Indices of the actions given so far, the one that brought the fault included; empty for a fault at the
            reset.
        reason (`str`):
            What happened, in words.
    """

    def __init__(self, key: EpisodeKey, actions: tuple[int, ...], reason: str) -> None:
        self.key, self.actions, self.reason = key, actions, reason
        when = f"failed at step {len(actions) - 1}" if actions else "failed at its reset"
        shown = list(actions) if len(actions) <= 100 else f"{len(actions)}, the last 100 {list(actions[-100:])}"
        super().__init__(
            f"Environment {key.env_id} (slot {key.slot}, episode {key.number}, seed {key.seed}) {when}: {reason} "
            f"Actions so far: {shown}."
        )

    def __reduce__(self) -> tuple[type[EnvironmentFault], tuple[EpisodeKey, tuple[int, ...], str]]:
        # An exception is pickled by its message alone, and ranks gather faults.
        return type(self), (self.key, self.actions, self.reason)


class NotFiniteError(FloatingPointError):
    """
    A loss, a gradient, a score or a value is NaN or infinite. The command line prints its message on one line and
    exits with code 1.

    Args:
        message (`str`):
            What it is, and where.
        rows (`list[dict[str, Any]]`, *optional*):
            The prompts it was computed for, with their actions and what came out; JSON-serialisable.
    """

    def __init__(self, message: str, rows: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.rows = rows or []


class WriteError(OSError):
    """
    A file of the run could not be written, mostly because the disk is full: the message says what is still whole. The
    command line prints it on one line and exits with code 1.
    """
