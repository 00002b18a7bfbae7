# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Minibatches: each transition once an epoch, every environment equally often, however processes share them; and their
cut into micro-batches of about equal text."""

import numpy as np
import pytest

from trl_glam.rollout import Rollout, episode_minibatches, micro_batches, minibatches


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


def test_episode_minibatches_hold_whole_environments_and_every_transition_once():
    parts = episode_minibatches(6, 8, 12, seed=0, update=3, epoch=1)
    assert len(parts) == 4
    assert sorted(np.concatenate(parts)) == list(range(48))
    for part in parts:
        steps, envs = part.reshape(2, 6) // 8, part.reshape(2, 6) % 8
        assert (steps == np.arange(6)).all()
        # One environment of the first four, one of the last four.
        assert (envs == envs[:, :1]).all() and (envs[:, 0] // 4).tolist() == [0, 1]
    again, other = (episode_minibatches(6, 8, 12, seed=0, update=3, epoch=e) for e in (1, 2))
    assert np.array_equal(parts, again) and not np.array_equal(parts, other)


@pytest.mark.parametrize("num_processes", [2, 4])
def test_processes_share_the_episode_minibatches_of_one(num_processes):
    one = episode_minibatches(6, 16, 24, seed=0, update=0, epoch=0)
    each = 16 // num_processes
    shares = [
        episode_minibatches(6, each, 24 // num_processes, seed=0, update=0, epoch=0, first_env=rank * each)
        for rank in range(num_processes)
    ]
    for number, whole in enumerate(one):
        expected = {divmod(index, 16) for index in whole}
        found = {
            (index // each, rank * each + index % each)
            for rank in range(num_processes)
            for index in shares[rank][number]
        }
        assert found == expected


def rollout_of(prompt_ids: list[list[int]], lengths: list[int], ended: list[list[bool]] | None = None) -> Rollout:
    ids = np.array(prompt_ids)
    zeros = np.zeros(ids.shape, np.float32)
    return Rollout(
        prompts=["x" * length for length in lengths],
        action_sets=[("a",), ("b",)],
        prompt_ids=ids,
        action_set_ids=np.zeros_like(ids),
        actions=np.zeros_like(ids),
        log_probs=zeros[..., None],
        values=zeros,
        rewards=zeros,
        ended=np.zeros(ids.shape, bool) if ended is None else np.array(ended),
        terminal_values=zeros,
        weights=zeros + 1,
    )


def test_micro_batches_hold_equal_text_and_keep_equal_prompts_together():
    random = np.random.default_rng(0)
    lengths = random.integers(100, 900, 40).tolist()
    rollout = rollout_of(random.integers(0, 40, (32, 8)).tolist(), lengths)
    indices = np.arange(256)
    parts = micro_batches(rollout, indices, 8, by_episode=False)
    assert sorted(np.concatenate(parts)) == list(range(256))
    prompts = [set(rollout.prompt_ids.reshape(-1)[part]) for part in parts]
    assert sum(map(len, prompts)) == len(set.union(*prompts))
    text = [sum(lengths[p] for p in some) for some in prompts]
    assert max(text) <= sum(text) / 8 + max(lengths)
    # By rows, the longest prompts would come together.
    by_rows = np.split(np.concatenate(parts), 8)
    assert max(text) < 0.8 * max(
        sum(lengths[p] for p in set(rollout.prompt_ids.reshape(-1)[part])) for part in by_rows
    )


@pytest.mark.parametrize("num_parts", [2, 5, 16])
def test_micro_batches_are_never_empty(num_parts):
    same = rollout_of([[0, 0]] * 8, [10])
    parts = micro_batches(same, np.arange(16), num_parts, by_episode=False)
    assert len(parts) == num_parts and min(map(len, parts)) >= 1
    assert sorted(np.concatenate(parts)) == list(range(16))


def test_micro_batches_keep_episodes_together_and_cut_them_only_if_they_must():
    # Two environments of eight steps; the first one's episode ends after its third step. Prompts grow by 10.
    ids = [[2 * t, 2 * t + 1] for t in range(8)]
    grown = [t if t < 3 else t - 3 for t in range(8)]
    lengths = [10 * (1 + (grown[t] if env == 0 else t)) for t in range(8) for env in range(2)]
    ended = [[t == 2, False] for t in range(8)]
    rollout = rollout_of(ids, lengths, ended)
    first, second, third = ({(t, n) for t in range(*span)} for span, n in (((0, 3), 0), ((3, 8), 0), ((0, 8), 1)))

    def steps(parts):
        return [{divmod(int(index), 2) for index in part} for part in parts]

    assert steps(micro_batches(rollout, np.arange(16), 3, by_episode=True)) == [first, second, third]
    # The text of the first two together is that of the third.
    assert steps(micro_batches(rollout, np.arange(16), 2, by_episode=True)) == [first | second, third]
    assert steps(micro_batches(rollout, np.arange(1, 16, 2), 1, by_episode=True)) == [third]
    cut = micro_batches(rollout, np.arange(16), 8, by_episode=True)
    assert sorted(np.concatenate(cut)) == list(range(16)) and min(map(len, cut)) >= 1
    for part in steps(cut):
        # Steps of an environment that stand side by side.
        assert len({n for _, n in part}) == 1 or len(part) == 2
