# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam bc-vs-rl`, end to end on a tiny model: every stage, its reuse, and its table."""

import json

import pytest
import yaml
from huggingface_hub import HfApi

from tests.hub.conftest import hub  # noqa: F401 - a fixture
from tests.hub_server import TOKEN
from tests.tiny_models import tiny_t5
from trl_glam.agents import RandomAgent
from trl_glam.cli.bc_vs_rl import ComparisonArguments, thin_log
from trl_glam.cli.main import main
from trl_glam.cli.recipe import parse_recipe
from trl_glam.logs import collect_log, load_log
from trl_glam.report.comparison import CLONES, POLICIES


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A recipe and its finished output."""
    folder = tmp_path_factory.mktemp("study")
    quiet = {"num_observations": 1, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    recipe = {
        "model_name_or_path": tiny_t5(folder / "model"),
        "env_id": "BabyAI-Text/GoToObjS4-v0",
        "transitions": 40,
        "eval_episodes": 6,
        "output_dir": str(folder / "out"),
        "ppo": {"num_envs": 4, "rollout_steps": 16, "total_env_steps": 128, "minibatch_size": 32, **quiet},
        "bc": {"minibatch_size": 8, **quiet},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["bc-vs-rl", "--config", str(folder / "recipe.yaml")]) == 0
    return folder


def test_every_policy_meets_the_same_episodes_and_the_table_says_so(study):
    document = json.loads((study / "out/table/table.json").read_text())
    assert set(document["policies"]) == set(POLICIES)
    tests = {"unchanged (sampled)", "invented words (sampled)"}
    assert all(set(scores) == tests for scores in document["policies"].values())
    assert document["policies"]["bot"]["unchanged (sampled)"]["success_rate"] == 1.0
    assert {entry["policy"] for entry in document["ppo_against"]} == set(CLONES)
    assert all({"interval", "p_value", "p_holm", "num_episodes"} <= entry.keys() for entry in document["ppo_against"])
    text = (study / "out/table/README.md").read_text()
    assert all(text.count(f"| {label} |") == 1 for label in POLICIES.values())
    assert "p (Holm)" in text and str(study) not in text + json.dumps(document)
    assert (study / "out/table/table.png").stat().st_size > 10_000


def test_clones_learn_from_logs_of_the_same_size(study):
    for name in ("ppo", "bot", "training"):
        log = load_log(study / "out/logs" / name)
        # The last episode is kept whole.
        assert 40 <= len(log) < 40 + max(log.episodes()["length"])
    assert set(load_log(study / "out/logs/bot")["policy"]) == {"bot"}
    trained, bot = (load_log(study / "out/logs" / name).episodes() for name in ("ppo", "bot"))
    shared = min(len(trained), len(bot))
    assert trained["env_seed"][:shared] == bot["env_seed"][:shared]
    training = load_log(study / "out/ppo/interactions").episodes()
    assert not set(training["env_seed"]) & set(trained["env_seed"])


def test_a_second_start_keeps_everything(study, capsys):
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*.safetensors")}
    assert main(["bc-vs-rl", "--config", str(study / "recipe.yaml")]) == 0
    shown = capsys.readouterr().out
    assert shown.count(": kept") == 7 + len(POLICIES)
    assert before == {path: path.stat().st_mtime_ns for path in study.rglob("*.safetensors")}


def test_push_publishes_models_logs_and_table(study, hub):  # noqa: F811
    assert main(["bc-vs-rl", "--config", str(study / "recipe.yaml"), "--push", "org"]) == 0
    api = HfApi(endpoint=hub.url, token=TOKEN)
    for name in ("ppo", "bc-ppo", "bc-bot", "bc-training"):
        assert {"policy_config.json", "README.md", "results.json"} <= set(api.list_repo_files(f"org/out-{name}"))
    logs = api.list_repo_files("org/out-logs", repo_type="dataset")
    splits = {name.split("/")[-1].split("-")[0] for name in logs if name.endswith(".parquet")}
    assert splits == {"ppo", "bot", "training"}
    assert {"README.md", "table.json", "table.png"} <= set(api.list_repo_files("org/out", repo_type="dataset"))


def test_what_was_cut_off_is_made_again_and_the_rest_kept(study, capsys):
    record = study / "out/stages/bc-bot.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "finished": False}))
    assert main(["bc-vs-rl", "--config", str(study / "recipe.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "bc/bot ..." in shown and "bc/ppo: kept" in shown
    assert json.loads(record.read_text())["finished"]


def test_other_settings_never_mix_with_what_is_there(study, capsys):
    assert main(["bc-vs-rl", "--config", str(study / "recipe.yaml"), "--seed", "5"]) == 2
    assert "was made with other settings (seed)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "model_name_or_path is not set"),
        (["--config", "bc_vs_rl", "--ppo", "{"], "is not JSON"),
        (["--config", "bc_vs_rl", "--transitions", "0"], "at least 1"),
        (["--config", "bc_vs_rl", "--bc", '{"seed": 3}'], "seed cannot be set in a section"),
        (["--config", "bc_vs_rl", "--bc", '{"learning_rat": 3}'], "did you mean learning_rate"),
    ],
)
def test_wrong_values_are_one_line_and_exit_code_2(tmp_path, capsys, words, message):
    assert main(["bc-vs-rl", *words, "--output_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_shipped_recipe_is_read_with_its_sections():
    own, *_ = parse_recipe("bc-vs-rl", (ComparisonArguments,), ["--config", "bc_vs_rl"], "")
    assert own.transitions == 4096 and own.ppo["total_env_steps"] == 24576 and own.bc["loss"] == "action"


def test_a_thinned_log_holds_whole_episodes_from_beginning_to_end(tmp_path):
    collect_log(RandomAgent(), tmp_path, env_id="BabyAI-Text/GoToObjS4-v0", seed=0, policy="random", num_episodes=30)
    log = load_log(tmp_path)
    thin = thin_log(log, 60)
    episodes = thin.episodes()
    assert 60 <= len(thin) < 60 + max(episodes["length"])
    numbers = episodes["env_index"]
    assert numbers[0] == 0 and numbers == sorted(numbers) and numbers[-1] > 20
    assert len(thin_log(log, 10_000)) == len(log)
