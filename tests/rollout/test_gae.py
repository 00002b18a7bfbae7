# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Advantages and returns against closed forms."""

import numpy as np
import pytest

from trl_glam.rollout import compute_gae


def test_gae_is_the_discounted_return_minus_the_value_when_lambda_is_one():
    rewards = np.ones((4, 1))
    values = np.array([[0.5], [1.0], [-2.0], [3.0]])
    ended = np.array([[False], [False], [False], [True]])
    advantages, returns = compute_gae(rewards, values, ended, np.zeros((4, 1)), np.zeros(1), 0.9, 1.0)
    expected = np.array([[1 + 0.9 + 0.81 + 0.729], [1 + 0.9 + 0.81], [1 + 0.9], [1.0]])
    np.testing.assert_allclose(returns, expected, rtol=1e-6)
    np.testing.assert_allclose(advantages, expected - values, rtol=1e-6)


def test_gae_is_the_one_step_error_when_lambda_is_zero():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    last = rng.normal(size=3)
    advantages, _ = compute_gae(rewards, values, np.zeros((5, 3), bool), np.zeros((5, 3)), last, 0.97, 0.0)
    expected = rewards + 0.97 * np.concatenate([values[1:], last[None]]) - values
    np.testing.assert_allclose(advantages, expected, rtol=1e-6)


def test_gae_bootstraps_a_truncated_episode_and_a_partial_one_but_not_a_terminated_one():
    # Three environments: terminated, truncated, still running; constant reward 1 and a perfect critic of the endless
    # return 1 / (1 - gamma), except where the episode really ends.
    gamma = 0.9
    endless = 1 / (1 - gamma)
    rewards = np.ones((3, 3))
    values = np.full((3, 3), endless)
    values[:, 0] = [1 + gamma + gamma**2, 1 + gamma, 1.0]
    ended = np.zeros((3, 3), bool)
    ended[2, :2] = True
    terminal = np.zeros((3, 3))
    terminal[2, 1] = endless
    last = np.array([123.0, 456.0, endless])  # read only where an episode still runs
    advantages, returns = compute_gae(rewards, values, ended, terminal, last, gamma, 0.95)
    np.testing.assert_allclose(advantages, np.zeros((3, 3)), atol=1e-5)
    np.testing.assert_allclose(returns, values, rtol=1e-6)


@pytest.mark.parametrize("ends_at", [0, 1, 2])
def test_gae_trace_stops_at_the_end_of_an_episode(ends_at):
    rewards = np.zeros((4, 1))
    rewards[3] = 100.0
    ended = np.zeros((4, 1), bool)
    ended[ends_at] = True
    advantages, _ = compute_gae(rewards, np.zeros((4, 1)), ended, np.zeros((4, 1)), np.zeros(1), 0.9, 0.9)
    assert np.all(advantages[: ends_at + 1] == 0)
    assert np.all(advantages[ends_at + 1 :] > 0)
