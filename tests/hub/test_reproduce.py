# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A stranger with a card: its evaluation command gives its episodes back, its sample runs, its recipe trains the same
weights. For whole weights, adapters on a base of the Hub and on a local one, an action head, a causal model, and a
cloned log, each trained, evaluated and pushed by the command line and read again in fresh caches."""

import json
import re
import shlex
import shutil

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, constants, parse_eval_result_entries
from safetensors.numpy import load_file

from tests.hub.conftest import ACTIONS, ENV_ID, REPO, code_blocks
from tests.tiny_models import tiny_llama, tiny_t5
from trl_glam import ScoringPolicy
from trl_glam.cli.main import main
from trl_glam.hub import pull, push
from trl_glam.hub.scan import scan_folder
from trl_glam.hub.showcase import record_episode
from trl_glam.local_models import cache_dir


KWARGS = json.dumps({"actions": list(ACTIONS), "max_steps": 6})
LOCAL = "local:flan-t5-small-titles"
LORA = "--use_peft --lora_r 4 --lora_target_modules q v"
# A model, and what is special in its training.
KINDS = {
    "whole": ("org/base", "--weight_decay 0.01 --lr_scheduler_type cosine --num_observations 2"),
    "adapter": ("org/base", f"{LORA} --learning_rate 0.01"),
    "merged": (LOCAL, f"{LORA} --learning_rate 0.01"),
    "causal": ("org/causal", "--scoring token"),
}
SIZES = "--num_envs 2 --rollout_steps 4 --minibatch_size 4 --total_env_steps 16 --calibration_prompts 4"


@pytest.fixture
def bases(hub, monkeypatch, tmp_path):
    """A T5 and a causal model on the Hub, and the T5 in the place of a local model too."""
    monkeypatch.setenv("TRL_GLAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    for repo_id, folder in (
        ("org/base", tiny_t5(cache_dir() / "flan-t5-small-titles")),
        ("org/causal", tiny_llama(tmp_path / "causal")),
    ):
        HfApi().create_repo(repo_id)
        HfApi().upload_folder(repo_id=repo_id, folder_path=folder)


def run(command):
    assert main(shlex.split(command)) == 0


def train(model, options, folder):
    run(
        f"train --model_name_or_path {model} --env_id {ENV_ID} --env_kwargs '{KWARGS}' {SIZES} {options} "
        f"--report_to none --disable_tqdm true --save_strategy no --eval_episodes 2 --output_dir {folder}"
    )


def card_of(hub):
    return ModelCard(hub.repos["model", REPO].files["README.md"].data.decode())


def command_of(card, name):
    (command,) = re.findall(rf"`trl-glam ({name} .*?)`", card.text)
    return command


def forget_everything(hub_cache, name):
    """A stranger's machine."""
    hub_cache.setattr(constants, "HF_HUB_CACHE", constants.HF_HUB_CACHE + name)


def assert_evaluation_comes_back(hub, card, tmp_path):
    run(command_of(card, "eval").replace("--output_dir results", f"--output_dir {tmp_path / 'again'} --no_references"))
    first, again = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("run", "again"))
    assert again["suites"] == first["suites"]
    assert again["policy_revision"] == hub.repos["model", REPO].head


def assert_sample_runs(card, capsys):
    capsys.readouterr()
    for code in code_blocks(card.text):
        exec(code, {})
    assert capsys.readouterr().out.startswith(ACTIONS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stranger_gets_the_card_s_numbers_and_weights(hub, bases, tmp_path, monkeypatch, capsys, kind):
    model, options = KINDS[kind]
    folder = tmp_path / "run"
    train(model, options, folder)
    run(f"eval {folder} --env_id {ENV_ID} --env_kwargs '{KWARGS}' --episodes 4 --no_references --output_dir {folder}")
    run(f"push {folder} {REPO}")
    card = card_of(hub)
    forget_everything(monkeypatch, "_stranger")
    base = shutil.move(cache_dir(), tmp_path / "put_away")

    assert_evaluation_comes_back(hub, card, tmp_path)
    assert_sample_runs(card, capsys)
    pulled = pull(REPO, tmp_path / "pulled").folder
    shutil.rmtree(pulled / ".cache")
    assert scan_folder(pulled) == []
    for path in pulled.iterdir():
        content = path.read_bytes() if path.is_file() else b""
        assert str(tmp_path).encode() not in content and b"local:" not in content, path.name

    shutil.move(base, cache_dir())
    (recipe,) = re.findall(r"```yaml\n(.*?)```", card.text, re.DOTALL)
    (tmp_path / "recipe.yaml").write_text(recipe)
    command = command_of(card, "train").replace("recipe.yaml", str(tmp_path / "recipe.yaml"))
    command = command.replace(" BASE ", f" {LOCAL} ").replace(
        "--output_dir policy", f"--output_dir {tmp_path / 'mine'}"
    )
    run(f"{command} --disable_tqdm true --save_strategy no")
    for path in folder.glob("*.safetensors"):
        one, other = load_file(path), load_file(tmp_path / "mine" / path.name)
        assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one), path.name


def test_an_action_head_without_a_training_summary(hub, bases, tmp_path, monkeypatch, capsys):
    policy = ScoringPolicy.from_pretrained("org/base", head="action", num_actions=len(ACTIONS), actions=ACTIONS)
    folder = tmp_path / "run"
    policy.save_pretrained(folder)
    run(f"eval {folder} --panel goto_quick --env_kwargs '{KWARGS}' --episodes 4 --no_references --output_dir {folder}")
    run(f"push {folder} {REPO}")
    card = card_of(hub)
    assert "action_head.safetensors" in hub.repos["model", REPO].files and "3 fixed actions" in card.text
    forget_everything(monkeypatch, "_stranger")
    assert_evaluation_comes_back(hub, card, tmp_path)
    assert_sample_runs(card, capsys)


def test_the_metadata_is_what_the_hub_reads(hub, bases, tmp_path):
    folder = tmp_path / "run"
    train("org/base", LORA, folder)
    run(f"eval {folder} --suite no_change --quick --episodes 2 --no_references --output_dir {folder}")
    run(f"push {folder} {REPO}")
    card = card_of(hub)
    card.validate()
    data = card.data
    assert (data.library_name, data.base_model, data.pipeline_tag) == ("trl", "org/base", "reinforcement-learning")
    assert {"trl", "trl-glam", "glam"} <= set(data.tags)
    entry = json.loads((tmp_path / "run" / "results.json").read_text())["suites"]["no_change"]
    rates = {result.metric_name: result.metric_value for result in data.eval_results}
    assert rates == {f"success rate, {mode}": round(entry[mode]["success_rate"], 4) for mode in ("sampled", "greedy")}
    reported = hub.repos["model", REPO].files[".eval_results/trl_glam.yaml"].data
    (result,) = parse_eval_result_entries(yaml.safe_load(reported))
    assert result.task_id == "no_change" and result.value == round(100 * entry["success_rate"], 2)
    assert result.source_url == f"https://huggingface.co/{REPO}/blob/main/results.json"


def test_a_training_that_pushes_makes_one_commit_of_the_whole(hub, bases, tmp_path, monkeypatch):
    played = []
    monkeypatch.setattr(push, "record_episode", lambda *args: played.append(record_episode(*args)) or played[-1])
    train("org/base", f"--push_to_hub true --hub_model_id {REPO} --hub_strategy end", tmp_path / "run")
    assert len(hub.repos["model", REPO].commits) == 2 and len(played) == 1
    assert {"episode.gif", "learning_curve.png", "README.md"} <= set(hub.repos["model", REPO].files)


def test_a_cloned_log_from_the_hub(hub, bases, tmp_path, capsys):
    bot = tmp_path / "bot"
    run(f"collect --policy bot --env_id {ENV_ID} --env_kwargs '{KWARGS}' --episodes 4 --seed 0 --output_dir {bot}")
    run(f"push {bot} org/log")
    run(
        f"bc --model_name_or_path org/base --dataset_name org/log --only_successes true --report_to none "
        f"--minibatch_size 4 --eval_episodes 2 --disable_tqdm true --save_strategy no --output_dir {tmp_path / 'run'}"
    )
    run(f"push {tmp_path / 'run'} {REPO}")
    card = card_of(hub)
    assert card.data.datasets == ["org/log"] and "datasets/org/log" in card.text
    assert_sample_runs(card, capsys)
    (recipe,) = re.findall(r"```yaml\n(.*?)```", card.text, re.DOTALL)
    assert "only_successes: true" in recipe
    (tmp_path / "recipe.yaml").write_text(recipe)
    command = command_of(card, "bc").replace("recipe.yaml", str(tmp_path / "recipe.yaml"))
    command = command.replace("--output_dir policy", f"--output_dir {tmp_path / 'mine'}")
    run(f"{command} --disable_tqdm true --save_strategy no")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "mine"))
    assert all((one[name] == other[name]).all() for name in one)
