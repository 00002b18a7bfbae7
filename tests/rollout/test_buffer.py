# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Minibatches: each transition once an epoch, every environment equally often, however processes share them."""

import numpy as np
import pytest

from trl_glam.rollout import minibatches


def test_minibatches_hold_every_transition_once_and_every_environment_equally_often():
    parts = minibatches(12, 4, 16, seed=0, update=3, epoch=1)
    assert len(parts) == 3
    assert sorted(np.concatenate(parts)) == list(range(48))
    for part in parts:
        assert np.bincount(part % 4).tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize("changed", [{"seed": 1}, {"update": 4}, {"epoch": 0}])
def test_minibatches_are_shuffled_anew(changed):
    base = {"seed": 0, "update": 3, "epoch": 1}
    first = np.concatenate(minibatches(12, 4, 16, **base))
    again = np.concatenate(minibatches(12, 4, 16, **base))
    other = np.concatenate(minibatches(12, 4, 16, **{**base, **changed}))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, np.arange(48))


def test_two_processes_share_the_minibatches_of_one():
    one = minibatches(12, 4, 16, seed=0, update=0, epoch=0)
    left = minibatches(12, 2, 8, seed=0, update=0, epoch=0, first_env=0)
    right = minibatches(12, 2, 8, seed=0, update=0, epoch=0, first_env=2)

    def transitions(part, num_envs, first_env):
        return {(index // num_envs, first_env + index % num_envs) for index in part}

    for whole, a, b in zip(one, left, right, strict=True):
        assert transitions(whole, 4, 0) == transitions(a, 2, 0) | transitions(b, 2, 2)
