# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Potential-based reward shaping: a hint on the way that does not change which policy is best.

F(s, s') = gamma phi(s') - phi(s) is added to the rewards that a rollout is learned from (Ng, Harada and Russell, 1999,
"Policy invariance under reward transformations"). Logs, returns and successes keep the environment's own reward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..types import InvalidInputError, Observation, Transition


def shaping_rewards(
    steps: Sequence[Sequence[Transition]],
    following: Sequence[Observation],
    potential: Callable[[Observation], float],
    gamma: float,
    bootstrap_truncated: bool = True,
) -> np.ndarray:
    """
    What potential-based shaping adds to the rewards of a rollout.

    A terminated episode's last observation has potential 0, whatever `potential` says: otherwise the shaping would
    change which policy is best. A truncated one keeps its potential where its value is bootstrapped.

    Args:
        steps (`Sequence[Sequence[Transition]]`):
            T lists of N transitions, in order of the slots.
        following (`Sequence[Observation]`):
            The N observations after the last step.
        potential (`Callable[[Observation], float]`):
            Phi, in units of the raw reward: larger where the agent is nearer to its goal.
        gamma (`float`):
            Discount factor of the run.
        bootstrap_truncated (`bool`, *optional*, defaults to `True`):
            Whether a time limit is worth the value of the observation it stopped at; else it is an end like any other.

    Returns:
        `np.ndarray` of shape `(T, N)`, float32: gamma phi(s') - phi(s), 0 at the step at which an environment failed.

    Raises:
        [`InvalidInputError`]: when a potential is not a finite number.
    """
    after = [*([transition.observation for transition in row] for row in steps[1:]), following]
    shaping = np.zeros((len(steps), len(steps[0])), dtype=np.float32)
    for t, (row, next_row) in enumerate(zip(steps, after, strict=True)):
        for n, (transition, next_observation) in enumerate(zip(row, next_row, strict=True)):
            if transition.dropped:
                continue
            phi_after = 0.0
            if not transition.terminated and (bootstrap_truncated or not transition.truncated):
                phi_after = _phi(potential, transition.final_observation or next_observation)
            shaping[t, n] = gamma * phi_after - _phi(potential, transition.observation)
    return shaping


def _phi(potential: Callable[[Observation], float], observation: Observation) -> float:
    phi = potential(observation)
    if not isinstance(phi, (int, float, np.number)) or not math.isfinite(phi):
        raise InvalidInputError(
            f"potential gave {phi!r} for step {observation.step} of {observation.episode.env_id} "
            f"({'; '.join(observation.sentences)}); it must be a finite number for every observation."
        )
    return float(phi)
