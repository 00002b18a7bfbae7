# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The wheel stands alone: installed in a fresh environment it trains from a shipped recipe, far from the checkout.

The fresh environment sees this one's libraries through a `.pth` file (they need not be fetched again), but trl_glam
comes from the wheel only: `.pth` files inside a folder that was added this way are not read, so an editable install
stays hidden.
"""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.xdist_group("wheel")  # one worker builds


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    return next(folder.glob("trl_glam-*.whl"))


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory) -> Path:
    """`bin` folder of a fresh environment with the wheel."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder)
    python = folder / "bin" / "python"
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    Path(paths["purelib"], "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, str(wheel)], check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """Runs a command far from the checkout."""
    folder = tmp_path_factory.mktemp("outside")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*command: str | Path) -> subprocess.CompletedProcess:
        done = subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory) -> Path:
    """A random T5 of a few thousand weights whose tokenizer knows single characters."""
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    folder = tmp_path_factory.mktemp("tiny_t5")
    characters = [(chr(code), -5.0) for code in range(33, 127)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *characters]
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(folder)
    config = T5Config(
        vocab_size=len(vocabulary),
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_recipes_cards_and_panels_are_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, target in (("recipes", "trl_glam/_data/recipes"), ("hub_cards", "trl_glam/_data/hub_cards")):
        files = [file for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        assert files
        assert {f"{target}/{file.relative_to(ROOT / folder).as_posix()}" for file in files} <= names
    panels = [file.relative_to(ROOT).as_posix() for file in (ROOT / "trl_glam" / "evaluation" / "panels").iterdir()]
    assert panels
    assert set(panels) <= names
    assert "trl_glam/_data/recipes/quickstart.yaml" in names


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"trl_glam", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}


def test_installed_package_comes_from_the_wheel(fresh, outside):
    where = outside(fresh / "python", "-c", "import trl_glam; print(trl_glam.__file__)").stdout.strip()
    assert Path(where).is_relative_to(fresh.parent)


def test_installed_command_answers(fresh, outside):
    assert outside(fresh / "trl-glam", "--version").stdout == "trl-glam 0.1.0\n"
    assert "local:flan-t5-small-titles" in outside(fresh / "trl-glam", "models", "list").stdout


def test_installed_command_trains_two_updates_from_a_shipped_recipe(fresh, outside, tiny_t5, tmp_path):
    sizes = {"num_envs": 2, "rollout_steps": 8, "minibatch_size": 16, "num_ppo_epochs": 1, "total_env_steps": 32}
    options = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    options += ["--eval_strategy", "no", "--save_strategy", "no", "--report_to", "none"]
    options += ["--model_name_or_path", tiny_t5, "--output_dir", tmp_path / "run"]
    outside(fresh / "trl-glam", "train", "--config", "quickstart", *options)
    saved = {file.name for file in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "value_head.safetensors", "policy_config.json", "tokenizer.json"} <= saved
