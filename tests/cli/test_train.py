# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam train` from the outside: recipes, flags, and one clear line for what is wrong."""

import pytest

from tests.tiny_models import tiny_t5
from trl_glam.cli.main import main
from trl_glam.cli.recipe import parse_recipe, resume_request
from trl_glam.resources import shipped_recipes
from trl_glam.trainer import GLAMConfig


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


def small(t5, folder):
    sizes = ["--num_envs", "2", "--rollout_steps", "8", "--minibatch_size", "16", "--total_env_steps", "32"]
    return ["--model_name_or_path", t5, "--output_dir", str(folder), "--eval_episodes", "4", *sizes]


def test_quickstart_trains_saves_and_resumes_nothing_by_accident(t5, tmp_path, capsys):
    assert main(["train", "--config", "quickstart", *small(t5, tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "2 updates of 16 environment steps" in said and "Saved the policy" in said
    for name in ("policy_config.json", "value_head.safetensors", "README.md", "trainer_state.json", "interactions"):
        assert (tmp_path / name).exists(), name


def test_plan_says_what_the_whole_run_would_take_and_writes_no_policy(t5, tmp_path, capsys):
    words = small(t5, tmp_path)
    words[words.index("--total_env_steps") + 1] = "1600"
    assert main(["train", "--config=quickstart", *words, "--plan"]) == 0
    said = capsys.readouterr().out
    assert "Plan: 3 updates took" in said and "100 updates (1600 environment steps)" in said
    # The run itself may follow in the same folder.
    assert not [*tmp_path.rglob("*")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "quickstrat"], "no recipe 'quickstrat'"),
        (["--config"], "--config is given without a recipe"),
        (["--config", "quickstart", "--minibatch_size", "100"], "minibatch_size=100 does not cut"),
        (["--config", "quickstart", "--minibatch_sise", "64"], "minibatch_size"),
        (["--config", "quickstart", "--gamma", "high"], "gamma"),
        (["--config", "quickstart", "--scoring", "product"], "choose one of sum, token, word, paper"),
        (["--config", "quickstart", "--env_id", "BabyAI-Text/GoToLokal-v0"], "GoToLocal"),
        (["--config", "quickstart", "--model_name_or_path", "local:flan-t6"], "local:flan-t5-small-titles"),
        (["--config", "quickstart", "--env_id", "BabyAI-Text/Empty-v0"], "doesn't exist in namespace BabyAI-Text"),
        (["--config", "quickstart", "--env_id", "CartPole-v1"], "the observation is a ndarray"),
        (["--config", "quickstart", "--resume_from_checkpoint"], "holds no whole checkpoint"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2_and_writes_nothing(t5, tmp_path, capsys, words, message):
    folder = tmp_path / "run"
    base = small(t5, folder) if "--model_name_or_path" not in words else ["--output_dir", str(folder)]
    assert main(["train", *base, *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("trl-glam train: ") and message in error
    assert not [*folder.rglob("*")]


def test_wrong_key_in_a_recipe_names_the_close_one(t5, tmp_path, capsys):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("env_id: BabyAI-Text/GoToLocal-v0\nentropy_coeff: 0.1\n")
    assert main(["train", "--config", str(recipe), *small(t5, tmp_path)]) == 2
    assert "entropy_coeff (did you mean entropy_coef?)" in capsys.readouterr().err


def test_seeds_are_trained_one_folder_each_and_finished_ones_are_skipped(t5, tmp_path, capfd):
    words = ["train", "--config", "quickstart", *small(t5, tmp_path), "--seeds", "1", "2"]
    assert main(words) == 0
    assert (tmp_path / "seed-1" / "policy_config.json").exists() and (tmp_path / "seed-2" / "README.md").exists()
    capfd.readouterr()
    assert main(words) == 0
    assert capfd.readouterr().out.count("finished before") == 2


@pytest.mark.parametrize(("given", "read"), [("true", True), ("False", None), ("folder", "folder"), (None, None)])
def test_resume_request_reads_what_a_shell_gives(given, read):
    assert resume_request(given) == read


@pytest.mark.parametrize("name", ["quickstart", "paper/gotolocal", "paper/mixed"])
def test_shipped_recipes_parse(name, tmp_path):
    assert name in shipped_recipes()
    from trl import ModelConfig

    words = ["--config", name, "--output_dir", str(tmp_path)]
    args, model = parse_recipe("train", (GLAMConfig, ModelConfig), words, "")
    assert args.env_id.startswith("BabyAI-Text/") and model.model_name_or_path
    if name.startswith("paper/"):
        assert (args.reward_scale, args.gamma, args.num_ppo_epochs, args.max_grad_norm) == (20.0, 0.99, 4, 0.5)
        assert args.value_learning_rate is None and args.normalize_advantages is False
