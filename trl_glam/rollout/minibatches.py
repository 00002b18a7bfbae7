# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The cut of a rollout into minibatches (one optimizer step each) and of those into micro-batches (one forward each).

Minibatches decide what is learned, so they are drawn from the seed and do not depend on the number of processes.
Micro-batches decide memory and speed alone: the loss weighs every transition alike, however many are beside it.
"""

from __future__ import annotations

import numpy as np

from .buffer import Rollout


def minibatches(
    num_steps: int, num_envs: int, minibatch_size: int, *, seed: int, update: int, epoch: int, first_env: int = 0
) -> list[np.ndarray]:
    """
    Cut a rollout into shuffled minibatches that each hold the same number of steps of every environment.

    The order of an environment's steps depends on (seed, its global index, update, epoch) alone, so a minibatch holds
    the same transitions however the environments are spread over processes.

    Args:
        num_steps (`int`):
            T, steps per environment.
        num_envs (`int`):
            N, environments of this process.
        minibatch_size (`int`):
            Transitions of this process in a minibatch; a multiple of N whose quotient divides T.
        seed (`int`):
            Seed of the run.
        update (`int`):
            Number of the update.
        epoch (`int`):
            Pass over the rollout.
        first_env (`int`, *optional*, defaults to `0`):
            Global index of this process's first environment.

    Returns:
        `list[np.ndarray]`: flat indices `t * N + n` per minibatch, shape `(minibatch_size,)`, ordered by (step,
        environment).
    """
    steps_each = minibatch_size // num_envs
    orders = np.stack(
        [
            np.random.default_rng([seed, first_env + env, update, epoch]).permutation(num_steps)
            for env in range(num_envs)
        ],
        axis=1,
    )
    flat = orders * num_envs + np.arange(num_envs)
    return [flat[start : start + steps_each].reshape(-1) for start in range(0, num_steps, steps_each)]


def episode_minibatches(
    num_steps: int, num_envs: int, minibatch_size: int, *, seed: int, update: int, epoch: int, first_env: int = 0
) -> list[np.ndarray]:
    """
    Cut a rollout into shuffled minibatches that hold all steps of some environments.

    For models that read an episode once for all its decisions. With M minibatches, each group of M consecutive
    environments (by their global index) gives one environment to each, in an order that depends on (seed, group,
    update, epoch) alone: a minibatch holds the same transitions however the environments are spread over processes.

    Args:
        num_steps (`int`):
            T, steps per environment.
        num_envs (`int`):
            N, environments of this process.
        minibatch_size (`int`):
            Transitions of this process in a minibatch; a multiple of T whose quotient divides N.
        seed, update, epoch, first_env:
            As in [`minibatches`].

    Returns:
        `list[np.ndarray]`: flat indices `t * N + n` per minibatch, shape `(minibatch_size,)`, ordered by (environment,
        step).
    """
    groups = minibatch_size // num_steps
    num_minibatches = num_envs // groups
    first_group = first_env // num_minibatches
    envs = np.stack(
        [
            group * num_minibatches
            + np.random.default_rng([seed, first_group + group, update, epoch]).permutation(num_minibatches)
            for group in range(groups)
        ],
        axis=1,
    )
    steps = np.arange(num_steps) * num_envs
    return [(row[:, None] + steps).reshape(-1) for row in envs]


def micro_batches(rollout: Rollout, indices: np.ndarray, num_parts: int, by_episode: bool) -> list[np.ndarray]:
    """
    Cut transitions into parts of about equal text, for one forward and backward each.

    Text is measured in characters, which stand for tokens. Equal prompts, which are computed once, stay together, and
    those of like length stand side by side; or, for models that read an episode once for all its decisions, the steps
    of an episode do. A part begins inside of them only where there are fewer of them than parts.

    Args:
        rollout ([`Rollout`]):
            Holds the transitions.
        indices (`np.ndarray` of shape `(B,)`):
            Flat indices `t * N + n`.
        num_parts (`int`):
            At most B.
        by_episode (`bool`):
            Keep episodes together instead of equal prompts.

    Returns:
        `list[np.ndarray]`: `num_parts` arrays of flat indices, none of them empty.
    """
    lengths = np.array([len(prompt) for prompt in rollout.prompts])[rollout.prompt_ids]
    if by_episode:
        # Whether a step continues the episode of the one before it, by (environment, step).
        continues = np.concatenate([np.zeros_like(rollout.ended[:1]), ~rollout.ended[:-1]])
        steps, envs = np.divmod(indices, rollout.shape[1])
        order = np.lexsort((steps, envs))
        steps, envs, indices = steps[order], envs[order], indices[order]
        follows = continues[steps, envs] & (np.diff(steps, prepend=-2) == 1) & (np.diff(envs, prepend=-1) == 0)
        costs = lengths[steps, envs]
        costs = costs - np.where(follows, np.roll(costs, 1), 0)
    else:
        row = rollout.prompt_ids * len(rollout.action_sets) + rollout.action_set_ids
        row, costs = row.reshape(-1)[indices], lengths.reshape(-1)[indices]
        order = np.lexsort((row, costs))
        row, costs, indices = row[order], costs[order], indices[order]
        follows = np.diff(row, prepend=-1) == 0
        costs = np.where(follows, 0, costs)
    return np.split(indices, _even_cuts(costs, ~follows, num_parts))


def _even_cuts(costs: np.ndarray, is_start: np.ndarray, num_parts: int) -> np.ndarray:
    """Where to cut so that all parts cost about as much and none is empty: at starts, if there are enough of them."""
    places = np.flatnonzero(is_start) if is_start.sum() >= num_parts else np.arange(len(costs))
    before = (np.cumsum(costs) - costs)[places]
    number = np.arange(1, num_parts)
    wanted = costs.sum() * number / num_parts
    # The place nearest to each wanted cut; then one further where two are the same, and none behind the last.
    after = np.searchsorted(before, wanted).clip(1, len(places) - 1)
    nearest = after - (wanted - before[after - 1] < before[after] - wanted)
    nearest = np.maximum.accumulate(np.maximum(nearest - number, 0)) + number
    return places[np.minimum(nearest, len(places) - num_parts + number)]
