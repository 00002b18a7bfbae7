# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Trainer's own ways to the Hub give what `push_policy` gives: whole, private, with a card, without a pickle."""

import json

import numpy as np
import pytest
from huggingface_hub import ModelCard
from peft import LoraConfig

from tests.hub.conftest import ACTIONS, ENV_ID, REPO, code_blocks, scores
from tests.hub_server import Fault
from tests.toy_envs import LampEnv
from trl_glam import GLAMConfig, GLAMTrainer, ScoringPolicy
from trl_glam.hub import prepare_policy
from trl_glam.types import InvalidInputError


def make_trainer(base, tmp_path, environment_factory=None, peft_config=None, **options):
    settings = {
        "output_dir": str(tmp_path / "run"),
        "num_envs": 4,
        "rollout_steps": 4,
        "minibatch_size": 8,
        "total_env_steps": 32,
        "calibration_prompts": 4,
        "num_observations": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "hub_model_id": REPO,
        "save_steps": 2,
    }
    if environment_factory is None:
        settings |= {"env_id": ENV_ID, "env_kwargs": {"actions": list(ACTIONS), "max_steps": 8}}
    args = GLAMConfig(**(settings | options))
    return GLAMTrainer(base, args, environment_factory=environment_factory, peft_config=peft_config)


def assert_publishable(hub, trainer, folder_name):
    files = hub.repos["model", REPO].files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert not [name for name in files if "/" in name and not name.startswith(".eval_results")]
    text = b"".join(blob.data for name, blob in files.items() if name.endswith((".json", ".md")))
    assert folder_name.encode() not in text
    loaded = ScoringPolicy.from_pretrained(REPO)
    np.testing.assert_array_equal(scores(loaded), scores(trainer.policy))
    return files


def test_push_to_hub_after_training_is_private_with_curve_episode_and_recipe(hub, base, tmp_path):
    trainer = make_trainer(base, tmp_path)
    trainer.train()
    commit = trainer.push_to_hub(dataset_name="org/demonstrations")
    assert hub.repos["model", REPO].private and commit.oid == hub.repos["model", REPO].head
    files = assert_publishable(hub, trainer, str(tmp_path))
    assert {"episode.gif", "learning_curve.png", "training_args.json", "training_summary.json"} <= set(files)
    card = ModelCard(files["README.md"].data.decode())
    assert card.data.datasets == ["org/demonstrations"] and "--config recipe.yaml" in card.text
    assert f"env_id: {ENV_ID}" in card.text and "2302.02662" in card.text


def test_every_save_pushes_whole_policies_while_training(hub, base, tmp_path):
    trainer = make_trainer(base, tmp_path, push_to_hub=True, hub_strategy="every_save", hub_always_push=True)
    trainer.train()
    repo = hub.repos["model", REPO]
    assert len(repo.commits) == 3, "a commit for the creation and one for each of the two saves"
    for files in list(repo.commits.values())[1:]:
        assert {"model.safetensors", "value_head.safetensors", "policy_config.json", "README.md"} <= set(files)
    assert_publishable(hub, trainer, str(tmp_path))


def assert_same_repository(files, folder):
    """What is on the Hub is, byte for byte, what `trl-glam push` would send."""
    ours = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files.keys() - {".gitattributes"} == ours.keys()
    assert [name for name, content in ours.items() if files[name].data != content] == []


def test_the_end_of_training_sends_what_the_command_sends(hub, base, tmp_path):
    trainer = make_trainer(base, tmp_path, push_to_hub=True, hub_strategy="end")
    trainer.train()
    assert list(hub.repos["model", REPO].files) == [".gitattributes"]
    trainer.save_model()
    assert "episode.gif" in assert_publishable(hub, trainer, str(tmp_path))
    prepare_policy(tmp_path / "run", tmp_path / "ours", REPO)
    assert_same_repository(hub.repos["model", REPO].files, tmp_path / "ours")


@pytest.mark.parametrize("peft_config", [None, LoraConfig(r=2, target_modules=["q", "v"])])
def test_every_save_sends_what_the_command_sends(hub, base, tmp_path, peft_config):
    trainer = make_trainer(
        base, tmp_path, peft_config=peft_config, push_to_hub=True, hub_strategy="every_save", hub_always_push=True
    )
    trainer.train()
    _, *pushes = hub.repos["model", REPO].commits.values()
    assert len(pushes) == 2
    for step, files in zip((2, 4), pushes, strict=True):
        # Save for the episode, which would take time from the training.
        prepare_policy(tmp_path / "run" / f"checkpoint-{step}", tmp_path / f"ours{step}", REPO, episode=False)
        assert_same_repository(files, tmp_path / f"ours{step}")
    trainer.push_to_hub()
    prepare_policy(tmp_path / "run", tmp_path / "ours", REPO)
    assert_same_repository(hub.repos["model", REPO].files, tmp_path / "ours")


def test_an_environment_of_the_user_s_own_is_played_for_the_card_but_not_in_its_sample(hub, base, tmp_path, capsys):
    trainer = make_trainer(base, tmp_path, environment_factory=LampEnv)
    trainer.push_to_hub()
    card = hub.repos["model", REPO].files["README.md"].data.decode()
    assert "The lamp is" in card and "press red" in card and "evaluate_policy" not in card
    assert "an environment of the author's own, `LampEnv`" in card and "trl-glam train" not in card
    (code,) = code_blocks(card)
    exec(code, {})
    assert capsys.readouterr().out.startswith("press")


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_strategies_that_would_push_pickles_are_refused(base, tmp_path, strategy):
    with pytest.raises(InvalidInputError, match="pickled"):
        make_trainer(base, tmp_path, push_to_hub=True, hub_strategy=strategy)


def test_a_failed_push_in_the_background_is_said_and_the_run_goes_on(hub, base, tmp_path, caplog):
    trainer = make_trainer(base, tmp_path, push_to_hub=True, hub_strategy="every_save", hub_always_push=True)
    hub.faults.append(Fault("POST", "/commit/", status=403, times=100))
    trainer.train()
    assert trainer.state.global_step == 4
    assert "A push in the background failed" in caplog.text
    assert list(hub.repos["model", REPO].files) == [".gitattributes"]


def test_training_arguments_name_no_token(hub, base, tmp_path):
    token = "hf_" + "x" * 34
    trainer = make_trainer(base, tmp_path, hub_token=token)
    trainer.save_model()
    saved = (tmp_path / "run" / "training_args.json").read_text()
    assert token not in saved and json.loads(saved)["num_envs"] == 4
