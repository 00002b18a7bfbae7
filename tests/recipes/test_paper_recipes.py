# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The recipes of the paper's experiments: each exists in three sizes, means what it says, and is in the table."""

from dataclasses import fields
from pathlib import Path

import gymnasium as gym
import pytest
import yaml
from trl import ModelConfig

import trl_glam  # noqa: F401  (registers the environments)
from trl_glam.baselines import drrn, symbolic_ppo
from trl_glam.cli.bc_vs_rl import ComparisonArguments
from trl_glam.cli.recipe import parse_recipe
from trl_glam.evaluation import Panel
from trl_glam.resources import recipe_path
from trl_glam.trainer import BCConfig, GLAMConfig


EXPERIMENTS = [
    "q1_sample_efficiency",
    "q1_action_space",
    "q1_distractors",
    "q2_objects",
    "q3_tasks",
    "q3_french",
    "ablation_pretraining",
    "ablation_prompt_window",
    "model_size",
]
SIZES = ["", ".cpu", ".one_gpu"]


def read(name: str) -> dict:
    return yaml.safe_load(recipe_path(f"paper/{name}").read_text())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_recipe_parses_and_its_world_exists(name, size, tmp_path):
    argv = ["--config", f"paper/{name}{size}", "--bf16", "false", "--output_dir", str(tmp_path)]
    args, model_args = parse_recipe("train", (GLAMConfig, ModelConfig), argv, "")
    assert model_args.model_name_or_path and args.total_env_steps == read(name + size)["total_env_steps"]
    gym.make(args.env_id, **(args.env_kwargs or {})).reset(seed=0)
    if args.eval_panel is not None:
        assert any(group.env_id == args.env_id for group in Panel.load(args.eval_panel).groups)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("flags", ["--head action", "--init embeddings --head action", "--init random --head action"])
def test_a_variant_with_an_action_head_is_two_flags_away(flags, size, tmp_path):
    argv = ["--config", f"paper/ablation_pretraining{size}", "--bf16", "false", "--output_dir", str(tmp_path)]
    args, _ = parse_recipe("train", (GLAMConfig, ModelConfig), [*argv, *flags.split()], "")
    # An action head scores no strings: it refuses a recipe that calibrates them.
    assert args.head == "action" and args.calibration in (None, "none")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_one_gpu_changes_how_the_weights_are_trained_and_nothing_else(name):
    paper, one_gpu = read(name), read(f"{name}.one_gpu")
    may_differ = {
        *("bf16", "use_peft", "lora_r", "lora_alpha", "lora_target_modules", "freeze_embeddings", "output_dir"),
        *("gradient_checkpointing", "per_device_train_batch_size", "learning_rate", "value_learning_rate"),
    }
    changed = {key for key in paper.keys() | one_gpu.keys() if paper.get(key) != one_gpu.get(key)}
    assert changed <= may_differ and one_gpu["bf16"]


@pytest.mark.parametrize("size", SIZES)
def test_the_fourth_question_trains_and_clones_with_settings_that_parse(size):
    (own,) = parse_recipe("bc-vs-rl", (ComparisonArguments,), ["--config", f"paper/q4_bc_vs_rl{size}"], "")
    for settings, config in ((own.ppo, GLAMConfig), (own.bc, BCConfig)):
        names = {field.name for cls in (config, ModelConfig) for field in fields(cls)}
        assert settings and set(settings) <= names
    assert own.ppo["total_env_steps"] == (12_288 if size == ".cpu" else 400_000)
    gym.make(own.env_id).reset(seed=0)


@pytest.mark.parametrize("name", ["drrn", "drrn.cpu", "symbolic", "symbolic.cpu"])
def test_a_baseline_recipe_parses_and_its_world_exists(name):
    module = drrn if name.startswith("drrn") else symbolic_ppo
    (config,) = parse_recipe("baseline", (module.Config,), ["--config", f"paper/{name}"], "")
    gym.make(config.env_id, **(config.env_kwargs or {})).reset(seed=0)


def test_every_key_has_a_comment():
    for path in recipe_path("quickstart").parent.glob("paper/*.yaml"):
        for line in path.read_text().splitlines():
            assert not line or line.startswith("#") or "  # " in line or " # " in line, f"{path.name}: {line}"


def test_the_table_names_every_recipe():
    table = (Path(recipe_path("quickstart")).parent / "README.md").read_text()
    for name in (*EXPERIMENTS, "q4_bc_vs_rl", "drrn", "symbolic"):
        assert f"paper/{name}" in table, name
