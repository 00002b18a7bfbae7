# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Sizes are derived, wrong ones are one clear error before anything is loaded."""

import pytest

from trl_glam import GLAMConfig
from trl_glam.types import InvalidInputError


def make(tmp_path, **kwargs):
    sizes = {"num_envs": 8, "rollout_steps": 16, "minibatch_size": 32, "total_env_steps": 1000}
    return GLAMConfig(output_dir=str(tmp_path), env_id="BabyAI-Text/GoToLocal-v0", **{**sizes, **kwargs})


def test_starts_on_a_cpu_with_no_flags(tmp_path):
    args = GLAMConfig(output_dir=str(tmp_path))
    assert args.max_steps == args.num_updates * args.steps_per_update


def test_run_is_rounded_up_to_whole_rollouts(tmp_path):
    args = make(tmp_path, num_ppo_epochs=3)
    assert (args.num_updates, args.steps_per_update, args.max_steps) == (8, 12, 96)


@pytest.mark.parametrize(("knob", "micro", "accumulation"), [(64, 32, 1), (16, 16, 2), (10, 8, 4), (1, 1, 32)])
def test_per_device_batch_size_is_only_a_memory_knob(tmp_path, knob, micro, accumulation):
    args = make(tmp_path, per_device_train_batch_size=knob)
    assert args.per_device_train_batch_size == micro
    assert args.gradient_accumulation_steps == accumulation
    assert args.max_steps == 32


def test_one_recipe_means_the_same_on_four_processes(tmp_path):
    args = make(tmp_path, per_device_train_batch_size=4)
    assert args.gradient_accumulation_steps == 8
    args.gradient_accumulation_steps = 1
    args._derive_sizes(world_size=4)
    assert args.gradient_accumulation_steps == 2
    assert args.max_steps == 32


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"minibatch_size": 48}, r"minibatch_size=48 .*choose one of \[8, 16, 32, 64, 128\]"),
        ({"minibatch_size": 4}, "minibatch_size=4"),
        ({"max_steps": 5}, "total_env_steps"),
        ({"gradient_accumulation_steps": 3}, "leave it out"),
        ({"auto_find_batch_size": True}, "per_device_train_batch_size"),
        ({"scoring": "product"}, "scoring='product' is given; choose one of sum, token, word, paper"),
        ({"calibration": "mean"}, "none, prompts, content_free"),
        ({"head": "value"}, "scoring, action"),
        ({"init": "zeros"}, "pretrained, random, embeddings"),
        ({"value_head": "big"}, "standardized, paper"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"gamma": 1.5}, "gamma=1.5 is given; it must be between 0 and 1"),
        ({"cliprange": -0.1}, "cliprange"),
        ({"num_observations": 0}, "num_observations"),
        ({"hub_strategy": "all_checkpoints"}, "every_save"),
    ],
)
def test_bad_values_are_one_clear_error(tmp_path, kwargs, message):
    with pytest.raises(InvalidInputError, match=message):
        make(tmp_path, **kwargs)


def test_environments_must_divide_over_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InvalidInputError, match="num_envs=8 does not divide over 3 processes"):
        make(tmp_path)
