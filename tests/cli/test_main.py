# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The command line's frame: what it lists, how it fails, and that it starts without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

import trl_glam.cli
from trl_glam.cli import main as frame
from trl_glam.cli import models
from trl_glam.cli.main import COMMANDS, main
from trl_glam.types import InvalidInputError


def test_every_command_has_a_file_and_every_file_a_command():
    files = {file.stem for file in Path(trl_glam.cli.__path__[0]).glob("*.py")}
    shared = {"__init__", "main", "common", "recipe"}
    assert files - shared == {name.replace("-", "_") for name in COMMANDS}


def test_help_lists_every_command_with_a_line(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, line in COMMANDS.items():
        assert any(row.split(maxsplit=1) == [name, line] for row in shown.splitlines())


def test_help_imports_nothing_heavy():
    heavy = {"torch", "transformers", "datasets", "trl", "minigrid", "matplotlib"}
    program = (
        "import sys; from trl_glam.cli.main import main; main(['--help']); "
        f"print('heavy:', set(sys.modules) & {heavy!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: set()"


def test_no_command_prints_help_and_fails(capsys):
    assert main([]) == 2
    assert "usage: trl-glam" in capsys.readouterr().err


def test_unknown_command_lists_the_known_ones(capsys):
    assert main(["trian"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("trl-glam: unknown command 'trian'; allowed: ") and error.count("\n") == 1


def test_invalid_input_becomes_one_line_and_exit_code_2(capsys, monkeypatch):
    def fail(argv):
        raise InvalidInputError("num_envs is 0:\n give at least 1")

    monkeypatch.setattr(models, "main", fail)
    assert main(["models"]) == 2
    assert capsys.readouterr().err == "trl-glam models: num_envs is 0: give at least 1\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(argv):
        raise ValueError("a bug")

    monkeypatch.setattr(models, "main", fail)
    with pytest.raises(ValueError, match="a bug"):
        main(["models"])


def test_dashes_in_a_command_become_underscores(monkeypatch):
    asked = []
    monkeypatch.setitem(COMMANDS, "bc-vs-rl", "a comparison")
    monkeypatch.setattr(frame.importlib, "import_module", lambda name: asked.append(name) or models)
    monkeypatch.setattr(models, "main", lambda argv: len(argv))
    assert main(["bc-vs-rl", "--config", "x"]) == 2
    assert asked == ["trl_glam.cli.bc_vs_rl"]


def test_env_names_versions(capsys):
    assert main(["env"]) == 0
    shown = capsys.readouterr().out
    assert "- torch: 2" in shown and "- trl: 1" in shown and "- Python: 3" in shown


def test_module_runs_like_the_command():
    done = subprocess.run([sys.executable, "-m", "trl_glam", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: trl-glam")
