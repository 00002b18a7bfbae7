# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A rollout: one update's worth of transitions as arrays. Its cut into minibatches is in `minibatches.py`.

Rewards are scaled here, once; logs and metrics keep the raw ones. Prompts and action sets are stored once each and
referred to by index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ..types import Transition
from .gae import compute_gae


@dataclass
class Rollout:
    """
    Transitions of one update, T steps of N environments.

    Args:
        prompts (`list[str]`):
            The distinct prompts.
        action_sets (`list[tuple[str, ...]]`):
            The distinct sets of admissible actions.
        prompt_ids (`np.ndarray` of shape `(T, N)`, int64):
            Index into `prompts`.
        action_set_ids (`np.ndarray` of shape `(T, N)`, int64):
            Index into `action_sets`.
        actions (`np.ndarray` of shape `(T, N)`, int64):
            Index of the action taken, into its set.
        log_probs (`np.ndarray` of shape `(T, N, A)`, float32):
            Log-probabilities of the behaviour policy, -inf beyond a row's actions; A is the size of the largest set.
        values (`np.ndarray` of shape `(T, N)`, float32):
            Values of the behaviour policy, scaled units.
        rewards (`np.ndarray` of shape `(T, N)`, float32):
            Rewards times `reward_scale`.
        ended (`np.ndarray` of shape `(T, N)`, bool):
            Whether the episode ended with the step.
        terminal_values (`np.ndarray` of shape `(T, N)`, float32):
            Value of the terminal observation of a truncated episode, 0 elsewhere.
        weights (`np.ndarray` of shape `(T, N)`, float32):
            Weight in the loss: 0 for the steps of an episode that was dropped, because its environment failed, in this
            rollout; the others share what those leave, so that the mean over all steps is 1.
        advantages (`np.ndarray` of shape `(T, N)`, float32):
            Filled by [`~Rollout.finish`].
        returns (`np.ndarray` of shape `(T, N)`, float32):
            Filled by [`~Rollout.finish`].
        reference_log_probs (`np.ndarray` of shape `(T, N, A)`, float32, *optional*):
            Log-probabilities of the reference policy, when a KL penalty to it is on.
    """

    prompts: list[str]
    action_sets: list[tuple[str, ...]]
    prompt_ids: np.ndarray
    action_set_ids: np.ndarray
    actions: np.ndarray
    log_probs: np.ndarray
    values: np.ndarray
    rewards: np.ndarray
    ended: np.ndarray
    terminal_values: np.ndarray
    weights: np.ndarray
    advantages: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    returns: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    reference_log_probs: np.ndarray | None = None

    ARRAYS: ClassVar[tuple[str, ...]] = (
        "prompt_ids",
        "action_set_ids",
        "actions",
        "log_probs",
        "values",
        "rewards",
        "ended",
        "terminal_values",
        "weights",
        "advantages",
        "returns",
        "reference_log_probs",
    )

    @property
    def shape(self) -> tuple[int, int]:
        """(T, N)."""
        return self.actions.shape

    @classmethod
    def from_transitions(cls, steps: Sequence[Sequence[Transition]], reward_scale: float = 1.0) -> Rollout:
        """
        Turn the runner's transitions into arrays.

        Args:
            steps (`list[list[Transition]]`):
                T lists of N transitions, in order of the slots.
            reward_scale (`float`, *optional*, defaults to `1.0`):
                Factor of the raw rewards, applied here and nowhere else.
        """
        prompts: dict[str, int] = {}
        action_sets: dict[tuple[str, ...], int] = {}
        shape = (len(steps), len(steps[0]))
        widest = max(len(t.observation.admissible_actions) for row in steps for t in row)
        rollout = cls(
            prompts=[],
            action_sets=[],
            prompt_ids=np.zeros(shape, dtype=np.int64),
            action_set_ids=np.zeros(shape, dtype=np.int64),
            actions=np.zeros(shape, dtype=np.int64),
            log_probs=np.full((*shape, widest), -np.inf, dtype=np.float32),
            values=np.zeros(shape, dtype=np.float32),
            rewards=np.zeros(shape, dtype=np.float32),
            ended=np.zeros(shape, dtype=bool),
            terminal_values=np.zeros(shape, dtype=np.float32),
            weights=np.ones(shape, dtype=np.float32),
        )
        began = [0] * shape[1]
        for t, row in enumerate(steps):
            for n, transition in enumerate(row):
                observation, decision = transition.observation, transition.decision
                rollout.prompt_ids[t, n] = prompts.setdefault(observation.prompt, len(prompts))
                actions = observation.admissible_actions
                rollout.action_set_ids[t, n] = action_sets.setdefault(actions, len(action_sets))
                rollout.actions[t, n] = decision.index
                rollout.log_probs[t, n, : len(actions)] = decision.log_probs
                rollout.values[t, n] = decision.value
                rollout.rewards[t, n] = reward_scale * transition.reward
                rollout.ended[t, n] = transition.ended
                if transition.dropped:
                    rollout.weights[began[n] : t + 1, n] = 0.0
                if transition.ended:
                    began[n] = t + 1
        rollout.prompts = list(prompts)
        rollout.action_sets = list(action_sets)
        return rollout

    def finish(self, last_values: np.ndarray, gamma: float, gae_lambda: float) -> None:
        """
        Compute advantages and returns.

        Args:
            last_values (`np.ndarray` of shape `(N,)`):
                Values of the observations after the last step.
            gamma (`float`):
                Discount factor.
            gae_lambda (`float`):
                Trace decay.
        """
        self.advantages, self.returns = compute_gae(
            self.rewards, self.values, self.ended, self.terminal_values, last_values, gamma, gae_lambda
        )

    def explained_variance(self) -> float:
        """1 - Var(returns - values) / Var(returns): 1 is a perfect critic, 0 one that knows only the mean."""
        returns, values = self.returns[self.kept], self.values[self.kept]
        variance = float(np.var(returns))
        return 1.0 - float(np.var(returns - values)) / variance if variance > 0 else float("nan")

    @property
    def kept(self) -> np.ndarray:
        """Which steps are learned from, bool of shape `(T, N)`: all but those of dropped episodes."""
        return self.weights > 0
