# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam watch`: every step with grid, probabilities, reward; any policy, any environment."""

from __future__ import annotations

import io

import gymnasium as gym
import pytest
from rich.console import Console

from tests.tiny_models import tiny_t5
from tests.toy_envs import CorridorEnv
from trl_glam.cli.main import main
from trl_glam.cli.watch import Screen, grid_text
from trl_glam.policy import ScoringPolicy


LEVEL = "BabyAI-Text/GoToLocalS5N2-v0"


def test_bot_on_a_grid(capsys):
    assert main(["watch", "bot", "--env_id", LEVEL, "--episodes", "2", "--seed", "3"]) == 0
    # A narrow terminal wraps lines.
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("success") >= 2 and "(2 of 2 succeeded so far)" in shown
    assert "██" in shown and any(heading in shown for heading in "▶▼◀▲")
    assert "▸" in shown and "reward" in shown


def test_probabilities_and_values_of_a_model(tmp_path, capsys):
    ScoringPolicy.from_pretrained(tiny_t5(tmp_path / "lm")).save_pretrained(tmp_path / "policy")
    arguments = ["watch", str(tmp_path / "policy"), "--env_id", LEVEL, "--episodes", "1", "--prompt"]
    assert main([*arguments, "--env_kwargs", '{"max_steps": 2}']) == 0
    shown = capsys.readouterr().out
    assert "Goal of the agent" in shown and "value" in shown and " %" in shown


def test_text_only_world_of_one_s_own(capsys):
    gym.register("WatchCorridor-v0", CorridorEnv)
    assert main(["watch", "random", "--env_id", "WatchCorridor-v0", "--episodes", "1"]) == 0
    shown = capsys.readouterr().out
    assert "walk to cell 3" in shown and "You are in cell" in shown
    # No grid: the only blocks are the bars of probabilities, behind a percentage.
    assert all("%" in line for line in shown.splitlines() if "██" in line)


def test_grid_shows_what_is_there():
    env = gym.make(LEVEL)
    env.reset(seed=0)
    level = env.unwrapped.level
    lines = grid_text(level).plain.splitlines()
    assert len(lines) == level.height and all(len(line) == 2 * level.width for line in lines)
    x, y = level.agent_pos
    assert lines[y][2 * x + 1] in "▶▼◀▲"


def test_terminal_is_redrawn_in_place(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    screen = Screen(console, delay=0.0, show_prompt=False)
    assert screen._live is not None
    screen.close()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["random"], "--env_id is missing"),
        (["random", "--env_id", "Nowhere-v0"], "Nowhere-v0"),
        (["/no/policy", "--env_id", LEVEL], "There is no folder /no/policy"),
        (["random", "--env_id", LEVEL, "--seed", "-1"], "must not be negative"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(["watch", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
