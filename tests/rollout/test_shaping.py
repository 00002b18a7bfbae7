# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Potential-based shaping against what is known in closed form: it telescopes, and no advantage changes."""

import numpy as np
import pytest

from trl_glam.rollout import compute_gae, shaping_rewards
from trl_glam.types import Decision, EpisodeKey, InvalidInputError, Observation, Transition


GAMMA = 0.9
# Two slots, six steps: slot 0 terminates at step 2, slot 1 is cut by a time limit at step 3.
TERMINATED, TRUNCATED = (2, 0), (3, 1)


def observation(slot: int, cell: int) -> Observation:
    return Observation(EpisodeKey("Corridor", 0), slot, cell, "walk", (f"cell {cell}",), ("walk",), f"cell {cell}")


def phi(observation: Observation) -> float:
    return 3.0 * observation.step + observation.slot


def play(num_steps: int = 6, dropped: tuple[int, int] | None = None) -> tuple[list, list[Observation]]:
    """Both slots walk a cell a step and begin at cell 0 again after an end."""
    cells, steps = [0, 0], []
    for t in range(num_steps):
        row = []
        for slot in (0, 1):
            now, after = observation(slot, cells[slot]), observation(slot, cells[slot] + 1)
            ended = (t, slot) in (TERMINATED, TRUNCATED, dropped)
            row.append(
                Transition(
                    now,
                    Decision(0),
                    1.0,
                    (t, slot) == TERMINATED,
                    (t, slot) == TRUNCATED,
                    False,
                    after if ended and (t, slot) != dropped else None,
                    dropped=(t, slot) == dropped,
                )
            )
            cells[slot] = 0 if ended else cells[slot] + 1
        steps.append(row)
    return steps, [observation(slot, cells[slot]) for slot in (0, 1)]


def test_the_discounted_sum_over_an_episode_is_minus_the_potential_of_its_start():
    steps, following = play()
    shaping = shaping_rewards(steps, following, phi, GAMMA)
    discounts = GAMMA ** np.arange(3)
    # Terminated: the last observation counts as 0. Truncated: gamma^4 phi(cell 4) - phi(cell 0).
    np.testing.assert_allclose((discounts * shaping[:3, 0]).sum(), -phi(observation(0, 0)), atol=1e-6)
    truncated = (GAMMA ** np.arange(4) * shaping[:4, 1]).sum()
    np.testing.assert_allclose(truncated, GAMMA**4 * phi(observation(1, 4)) - phi(observation(1, 0)), rtol=1e-6)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("bootstrap", [True, False])
def test_advantages_are_those_of_the_unshaped_reward_when_the_critic_knows_the_potential(gae_lambda, bootstrap):
    """V - phi under the shaped reward is V under the raw one, for every lambda (Ng et al., 1999, corollary 2)."""
    steps, following = play()
    shape, generator = (6, 2), np.random.default_rng(0)
    values, last = generator.normal(size=shape), generator.normal(size=2)
    ended, terminal_values, potentials = np.zeros(shape, bool), np.zeros(shape), np.zeros(shape)
    terminal_potentials = np.zeros(shape)
    for t, row in enumerate(steps):
        for n, transition in enumerate(row):
            ended[t, n] = transition.ended
            potentials[t, n] = phi(transition.observation)
            if transition.truncated and bootstrap:
                terminal_values[t, n], terminal_potentials[t, n] = 1.5, phi(transition.final_observation)
    rewards = np.ones(shape, dtype=np.float32)
    raw, _ = compute_gae(rewards, values, ended, terminal_values, last, GAMMA, gae_lambda)
    shaping = shaping_rewards(steps, following, phi, GAMMA, bootstrap_truncated=bootstrap)
    shaped, _ = compute_gae(
        rewards + shaping,
        values - potentials,
        ended,
        terminal_values - terminal_potentials,
        last - np.array([phi(one) for one in following]),
        GAMMA,
        gae_lambda,
    )
    assert np.abs(shaping).max() > 1
    np.testing.assert_allclose(shaped, raw, atol=1e-5)


def test_the_step_at_which_an_environment_failed_is_not_shaped():
    steps, following = play(dropped=(4, 0))
    shaping = shaping_rewards(steps, following, phi, GAMMA)
    assert shaping[4, 0] == 0 and shaping[3, 0] != 0 and shaping[5, 0] != 0


@pytest.mark.parametrize("value", [float("nan"), None, "near"])
def test_a_potential_that_is_no_finite_number_is_an_error_that_shows_the_observation(value):
    steps, following = play()
    with pytest.raises(InvalidInputError, match=r"potential gave .* for step 1 of Corridor \(cell 1\)"):
        shaping_rewards(steps, following, lambda _: value, GAMMA)
