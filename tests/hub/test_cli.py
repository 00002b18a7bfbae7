# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam push`, `pull` and `import-lamorel` as a user runs them, in a process that finds the Hub by HF_ENDPOINT."""

import os
import subprocess
import sys

import pytest

from tests.hub.conftest import REPO, scores
from tests.hub_server import TOKEN
from trl_glam import ScoringPolicy
from trl_glam.cli.main import main


@pytest.fixture
def trl_glam(hub, tmp_path):
    def run(*arguments):
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(tmp_path / "hf_home"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }
        command = [sys.executable, "-m", "trl_glam", *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    return run


def test_push_and_pull_from_the_command_line(hub, trl_glam, saved, tmp_path):
    pushed = trl_glam("push", saved, REPO)
    assert pushed.returncode == 0, pushed.stderr
    assert hub.repos["model", REPO].head in pushed.stdout and TOKEN not in pushed.stdout + pushed.stderr
    pulled = trl_glam("pull", REPO)
    assert pulled.returncode == 0, pulled.stderr
    copy = ScoringPolicy.from_pretrained(tmp_path / "policy")
    assert (scores(copy) == scores(ScoringPolicy.from_pretrained(saved))).all()


def test_a_dry_run_shows_the_card_and_the_files(hub, saved, tmp_path, capsys):
    assert main(["push", str(saved), REPO, "--dry_run", str(tmp_path / "dry"), "--no_episode"]) == 0
    shown = capsys.readouterr().out
    assert "library_name: trl" in shown and "model.safetensors" in shown and "nothing was sent" in shown
    assert hub.requests == []


def test_wrong_input_is_one_line_and_exit_code_2(hub, saved, tmp_path, capsys):
    for arguments in (
        ["push", str(tmp_path / "nothing"), REPO],
        ["push", str(saved), "not a name"],
        ["pull", "org/nothing"],
        ["import-lamorel", str(tmp_path), "--output_dir", str(tmp_path / "out")],
    ):
        assert main(arguments) == 2
        # Progress bars of transformers aside.
        said = [line for line in capsys.readouterr().err.splitlines() if line and "it/s]" not in line]
        assert len(said) == 1 and said[0].startswith(f"trl-glam {arguments[0]}: ")
