# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam bc` on a tiny model and a tiny log, and the paper's recipes as they are shipped."""

import pytest
from trl import ModelConfig

from tests.tiny_models import tiny_t5
from trl_glam import BCConfig, ScoringPolicy
from trl_glam.agents import RandomAgent
from trl_glam.cli.bc import BCArguments
from trl_glam.cli.main import main
from trl_glam.cli.recipe import parse_recipe
from trl_glam.logs import collect_log, load_log


LEVEL = "BabyAI-Text/GoToObjS4-v0"


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("log")
    collect_log(RandomAgent(), folder, env_id=LEVEL, seed=0, policy="random", num_episodes=8)
    return str(folder)


def test_a_log_is_cloned_into_a_policy_folder_with_flags_alone(tmp_path, log, capsys):
    model, output = tiny_t5(tmp_path / "model"), str(tmp_path / "bc")
    words = ["--model_name_or_path", model, "--dataset_name", log, "--output_dir", output, "--max_steps", "2"]
    words += ["--only_successes", "--eval_episodes", "2", "--report_to", "none", "--num_observations", "1"]
    assert main(["bc", *words]) == 0
    shown = capsys.readouterr().out
    assert f"{len(load_log(log, success=True))} transitions, 1 pass(es) in steps of 32, loss action" in shown
    assert "eval_success_rate" in shown
    policy = ScoringPolicy.from_pretrained(output)
    assert policy.prompt_template.num_observations == 1
    assert "BC" in (tmp_path / "bc" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "No log is given"),
        (["--dataset_name", "nowhere"], "nowhere does not exist"),
        (["--datset_name", "x"], "did you mean dataset_name"),
        (["--loss", "mse"], "choose one of action, token, token_paper"),
    ],
)
def test_wrong_values_are_one_line_and_exit_code_2(tmp_path, capsys, words, message):
    assert main(["bc", "--model_name_or_path", "x", "--output_dir", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["bc_gflan", "bc_bot"])
def test_papers_recipes_say_what_the_paper_says(name):
    words = ["--config", f"paper/{name}", "--report_to", "none"]
    own, args, model = parse_recipe("bc", (BCArguments, BCConfig, ModelConfig), words, "")
    assert own.dataset_name == f"logs/{name.removeprefix('bc_')}"
    assert (args.loss, args.minibatch_size, args.num_train_epochs) == ("token_paper", 64, 1)
    assert (args.learning_rate, args.lr_scheduler_type, args.warmup_steps) == (5e-4, "cosine", 0.01)
    assert (args.train_sampling_strategy, args.temperature, args.calibration) == ("sequential", 1.0, "none")
    assert model.model_name_or_path == "google/flan-t5-large"
