# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam demo` from its first line to its last, on a tiny model and few episodes: what it shows, what it keeps."""

import json
import re

import gymnasium as gym
import pytest

from tests.tiny_models import tiny_t5
from trl_glam.cli import demo
from trl_glam.cli.main import main
from trl_glam.evaluation import Panel
from trl_glam.logs import load_log
from trl_glam.policy import ScoringPolicy
from trl_glam.types import EpisodeKey


LEVEL = "BabyAI-Text/GoToLocalS5N2-v0"
ROWS = ["random", "untrained", "trained", "bot", "trained, invented words", "trained, another episode's mission"]


def test_demo_shows_the_table_the_episode_and_the_time_and_keeps_everything(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "_EPISODES", 6)
    monkeypatch.setenv("COLUMNS", "160")
    folder = tmp_path / "demo"
    words = ["demo", "--model", tiny_t5(tmp_path / "model"), "--total_env_steps", "2048", "--output_dir", str(folder)]
    assert main(words) == 0
    said = capsys.readouterr().out

    table = [row for row in said.splitlines() if row.startswith("│") and re.search(r"\d\.\d\d \(", row)]
    assert [row.split("│")[1].strip() for row in table] == ROWS
    cell = r"[01]\.\d\d \([01]\.\d\d-[01]\.\d\d\) │ +\d+\.\d"
    assert all(re.search(rf"{cell} │ +({cell}|- │ +-) │", row) for row in table)
    assert "before training" in said and "after training" in said
    actions = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")
    assert all(re.search(rf"{action} 0\.\d\d", said.replace("\n", " ")) for action in actions)
    *_, last = said.strip().splitlines()
    seconds = [int(number) for number in re.findall(r"(\d+) s", last)]
    assert last.startswith("Time: ") and len(seconds) == 6 and abs(seconds[0] - sum(seconds[1:])) <= 5

    results = json.loads((folder / "demo.json").read_text())
    assert list(results["rows"]) == ROWS
    episodes = {tuple(episode["seed"] for episode in row["sampled"]["episodes"]) for row in results["rows"].values()}
    assert episodes == {tuple(key.seed for key in Panel.from_env(LEVEL, 6).episodes())}
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert load_log(str(folder / "interactions")).num_rows > 0
    assert ScoringPolicy.from_pretrained(folder).policy_config.temperature == 4.0

    # A second demo does not write over the first.
    assert main(words) == 2
    assert "holds an earlier demo" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(5))
def test_the_mission_that_is_shown_is_another_episodes_and_success_is_the_true_ones(seed):
    plain = gym.make(LEVEL)
    missions = [plain.reset(seed=number)[0]["mission"] for number in (seed, seed + demo._EPISODES)]
    shown = demo._with_other_mission(EpisodeKey(LEVEL, seed))
    obs, info = shown.reset(seed=seed)
    expected, expected_info = plain.reset(seed=seed)
    assert obs == {"mission": missions[1], "text": expected["text"]} and info == expected_info
    obs, *rest = shown.step(2)
    expected, *expected_rest = plain.step(2)
    assert obs["mission"] == missions[1] and obs["text"] == expected["text"] and rest == expected_rest
