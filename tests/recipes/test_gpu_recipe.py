# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The recipe for one GPU parses here, means what `benchmarks/gpu.sh` promises, and explains every key."""

import gymnasium as gym
from trl import ModelConfig

import trl_glam  # noqa: F401  (registers the environments)
from trl_glam.cli.recipe import parse_recipe
from trl_glam.resources import recipe_path, shipped_recipes
from trl_glam.trainer import GLAMConfig


def test_it_parses_and_its_world_exists(tmp_path):
    argv = ["--config", "gpu/gotolocal", "--bf16", "false", "--output_dir", str(tmp_path)]
    args, model_args = parse_recipe("train", (GLAMConfig, ModelConfig), argv, "")
    assert (args.total_env_steps, args.num_ppo_epochs) == (400_000, 4)
    # A run that is cut off loses little, and goes on.
    assert args.save_strategy == "steps" and 0 < args.save_steps <= 0.1
    # An adapter is what can be carried away.
    assert model_args.use_peft and model_args.model_name_or_path == "local:flan-t5-small-titles"
    gym.make(args.env_id).reset(seed=0)


def test_it_ships_under_its_own_name():
    assert "gpu/gotolocal" in shipped_recipes()
    assert recipe_path("gpu/gotolocal").parent.name == "gpu"
    assert recipe_path("gotolocal").parent.name == "paper"


def test_every_key_has_a_comment():
    for line in recipe_path("gpu/gotolocal").read_text().splitlines():
        assert not line or line.startswith("#") or "  # " in line or " # " in line, line
