# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The guides' commands are run, page by page, in the order a reader would type them.

In `make test` with a tiny model and a handful of steps, in this process; in `make test-slow` the main pages as they
stand, with the real model. A page begins in an empty folder that holds what it says is there already. Commands with a
test of their own, which follows them from first line to last, are named below.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import pytest

from tests.test_docs import PAGES, ROOT, blocks
from tests.tiny_models import tiny_t5
from trl_glam.cli import train
from trl_glam.cli.main import main


# Command -> the test that runs it.
OWN_TEST = {
    "demo": "tests/cli/test_demo.py",
    "bc-vs-rl": "tests/cli/test_bc_vs_rl.py",
    "import-lamorel": "tests/hub/test_import_lamorel.py",
    "push": "tests/hub/test_guide.py",
}
# Pages that a test of their own follows, and worlds whose games would have to be generated first.
OWN_PAGE = {"docs/hub.md": "tests/hub/test_guide.py"}
OWN_WORLD = {"TextWorld/": "tests/envs/test_textworld.py", "--config textworld": "tests/envs/test_textworld.py"}
# Lines of a shell block that are no command of ours; scripts, launchers and make have tests of their own.
OTHER = re.compile(r"(\w+=\S+ )*(make|pip install|accelerate launch|torchrun|python) ")

# What a page takes for granted: folders of policies.
POLICIES = {
    "recipes/README.md": ["outputs/q2_objects.cpu", "outputs/q3_french.cpu", "outputs/q3_tasks.cpu"],
    "docs/evaluation.md": ["outputs/quickstart"],
    "docs/report.md": ["outputs/mixed/seed-0", "outputs/mixed-lora"],
    "docs/migration.md": ["gflan-t5"],
}
# The least success that a full run of a page has to reach, in the results that its last `eval` writes.
FULL = {"docs/index.md": 0.8, "docs/behaviour_cloning.md": 0.7, "docs/logs.md": None}

SIZES = ["--num_envs", "4", "--rollout_steps", "8", "--minibatch_size", "16", "--total_env_steps", "32"]
LEARNER = ["--eval_episodes", "2", "--calibration_prompts", "4", "--bf16", "false", "--report_to", "none"]
SMALL = {
    "train": [*SIZES, *LEARNER],
    "bc": ["--max_steps", "2", "--per_device_train_batch_size", "4", *LEARNER],
    "baseline drrn": ["--num_envs", "4", "--total_env_steps", "64", "--learning_starts", "16", "--eval_episodes", "2"],
    "baseline symbolic": ["--num_envs", "2", "--rollout_steps", "20", "--minibatch_size", "40",
                          "--total_env_steps", "40", "--eval_episodes", "2"],
    "eval": ["--episodes", "2"],
    "collect": ["--episodes", "3"],
    "watch": ["--episodes", "1", "--delay", "0"],
}  # fmt: skip


def lines(page: str) -> list[str]:
    """The lines of a page's shell blocks, in order, without comments."""
    text = "".join(blocks(page, "bash")).replace("\\\n", " ")
    stripped = [shlex.join(shlex.split(line, comments=True)) if "#" in line else line for line in text.splitlines()]
    return [line for line in stripped if line.strip()]


def is_run_elsewhere(line: str) -> bool:
    return line.split()[1] in OWN_TEST or any(world in line for world in OWN_WORLD)


WITH_COMMANDS = [
    page
    for page in PAGES
    if page not in OWN_PAGE
    and any(line.startswith("trl-glam ") and not is_run_elsewhere(line) for line in lines(page))
]


def small(line: str, model: str, policy: Path | str = "") -> list[str]:
    """A command's arguments with a tiny model or policy, few steps and few episodes."""
    # A plain folder is no policy, only a plain name is.
    words = [str(policy) if word == "local:flan-t5-small-titles" else word for word in shlex.split(line)[1:]]
    name = " ".join(words[:2]) if words[0] == "baseline" else words[0]
    words += SMALL.get(name, [])
    if name in ("train", "bc"):
        words += ["--model_name_or_path", model]
    if name == "eval" and "--suite" in words:
        words += ["--quick", "--no_references"]
    return words


def written(words: list[str]) -> list[Path]:
    """What a command says that it writes; a plan writes nothing."""
    if "--plan" in words:
        return []
    return [Path(after) for flag, after in zip(words, words[1:], strict=False) if flag in ("--output_dir", "--output")]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def policy(model, tmp_path_factory) -> Path:
    """What `trl-glam train` leaves."""
    folder = tmp_path_factory.mktemp("policy") / "run"
    words = small(f"trl-glam train --config quickstart --output_dir {folder}", model)
    assert main(words) == 0
    return folder


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder; modules and environments of the page are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    registered, imported = set(gym.registry), set(sys.modules)
    yield tmp_path
    for name in set(gym.registry) - registered:
        del gym.registry[name]
    for name in set(sys.modules) - imported:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def prepare(page: str, policy: Path, model: str) -> None:
    for folder in POLICIES.get(page, []):
        shutil.copytree(policy, folder)
    if page == "docs/evaluation.md":
        game = "from tests.toy_envs import LampEnv\nimport gymnasium\n\ngymnasium.register('MyGame-v0', LampEnv)\n"
        Path("my_game.py").write_text(game)
    if page == "docs/reliability.md":
        run = "trl-glam train --config quickstart --output_dir outputs/run --save_strategy steps --save_steps 1"
        assert main(small(run, model)) == 0


def before(line: str) -> None:
    """What the reader has done beside the page's own commands."""
    if "outputs/other_eval" in line:
        shutil.copytree("outputs/eval", "outputs/other_eval")


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_run_in_their_order(page, model, policy, workplace, monkeypatch):
    # `--seeds` starts a process a seed; here they are played in turn in this one.
    in_process = SimpleNamespace(run=lambda command, check: SimpleNamespace(returncode=main(command[3:])))
    monkeypatch.setattr(train, "subprocess", in_process)
    prepare(page, policy, model)
    for line in lines(page):
        if line.startswith("cd "):
            os.chdir(line.split()[1])
        elif line.startswith("trl-glam ") and not is_run_elsewhere(line):
            before(line)
            words = small(line, model, policy)
            assert main(words) == 0, line
            for path in written(words):
                assert path.is_file() or any(path.iterdir()), line


@pytest.mark.parametrize("page", PAGES)
def test_every_line_of_a_shell_block_is_run_somewhere(page):
    for line in lines(page):
        if line.startswith("cd "):
            continue
        known = line.startswith("trl-glam ") or OTHER.match(line)
        assert known, f"{page}: {line} is no command that a test knows"
        for world, test in (OWN_WORLD | {f"trl-glam {name} ": test for name, test in OWN_TEST.items()}).items():
            if world in line:
                assert (ROOT / test).is_file(), test
        for path in re.findall(r"(?:recipes|benchmarks)/\S+\.(?:py|yaml)", line):
            assert (ROOT / path).is_file(), line


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("page", FULL)
def test_commands_run_in_full(page, workplace):
    results = None
    for line in lines(page):
        if not line.startswith("trl-glam ") or is_run_elsewhere(line):
            continue
        words = shlex.split(line)[1:] + (["--delay", "0"] if " watch " in line else [])
        done = subprocess.run([sys.executable, "-m", "trl_glam", *words], check=False)
        assert done.returncode == 0, line
        if words[0] == "eval":
            results = json.loads(Path(words[words.index("--output_dir") + 1], "results.json").read_text())
    if FULL[page] is not None:
        rates = [score["sampled"]["success_rate"] for score in results["suites"].values()]
        assert min(rates) >= FULL[page], rates
