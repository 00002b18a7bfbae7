# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam new-env`: the folder it writes works as it is."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import pytest
import yaml

from tests.tiny_models import tiny_t5
from trl_glam.cli.main import main
from trl_glam.envs import check_text_env, make_env
from trl_glam.logs import load_log
from trl_glam.trainer import GLAMConfig


@pytest.fixture
def folder(tmp_path):
    assert main(["new-env", "tea_shop", "--output_dir", str(tmp_path)]) == 0
    yield tmp_path / "tea_shop"
    gym.registry.pop("TeaShop/Morning-v0", None)


def test_everything_carries_the_new_name(folder):
    assert {path.name for path in folder.iterdir()} == {"tea_shop.py", "test_tea_shop.py", "recipe.yaml", "README.md"}
    text = "\n".join(path.read_text() for path in folder.iterdir())
    assert "Cafe" not in text and "cafe.py" not in text and "outputs/cafe" not in text and "import cafe" not in text


def test_environment_keeps_the_contract(folder):
    env = make_env("TeaShop/Morning-v0", {"guests": 2}, str(folder / "tea_shop.py"))
    check_text_env(env)


def test_its_own_tests_pass(folder):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_recipe_holds_fields_that_exist(folder):
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert recipe["env_id"] == "TeaShop/Morning-v0" and recipe["env_module"] == "tea_shop.py"
    known = set(GLAMConfig.__dataclass_fields__) | {"model_name_or_path"}
    assert set(recipe) <= known


def test_its_recipe_trains(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "tea_shop", raising=False)
    sizes = ["--num_envs", "4", "--rollout_steps", "8", "--minibatch_size", "16", "--total_env_steps", "64"]
    words = ["--model_name_or_path", tiny_t5(tmp_path / "model"), "--eval_episodes", "4", *sizes]
    assert main(["train", "--config", "recipe.yaml", *words]) == 0
    log = list(load_log(folder / "outputs" / "tea_shop" / "interactions"))
    # Of the 64 steps those of finished episodes.
    assert 40 <= len(log) <= 64 and {row["mission"] for row in log} == {"serve every guest"}
    assert (folder / "outputs" / "tea_shop" / "policy_config.json").is_file()
    capsys.readouterr()


@pytest.mark.parametrize("name", ["Tea", "1st", "class", "tea-shop", "../tea"])
def test_name_that_is_no_module_is_refused(name, tmp_path, capsys):
    assert main(["new-env", name, "--output_dir", str(tmp_path)]) == 2
    assert "cannot name a Python module" in capsys.readouterr().err


def test_existing_folder_is_left_alone(folder, capsys):
    (folder / "tea_shop.py").write_text("mine")
    assert main(["new-env", "tea_shop", "--output_dir", str(folder.parent)]) == 2
    assert "exists already" in capsys.readouterr().err and (folder / "tea_shop.py").read_text() == "mine"
