# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The report's numbers: from Trainer's log, from a log alone, over seeds, with their intervals."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from tests.report.sample_runs import make_evaluation, make_log, make_training_run
from trl_glam.agents import RandomAgent
from trl_glam.evaluation.statistics import wilson_interval
from trl_glam.logs import load_log
from trl_glam.report import numbers
from trl_glam.report.log_table import read_episodes, read_rows
from trl_glam.report.runs import find_runs
from trl_glam.types import InvalidInputError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two seeds of one recipe, a cloned policy, evaluations of both, a collected log."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        make_training_run(root / "ppo" / f"seed-{seed}", seed)
    make_training_run(root / "cloned", 0, updates=1, trainer="BC")
    make_evaluation(root / "ppo" / "seed-0" / "eval", str(root / "ppo" / "seed-0"), 5.0)
    make_evaluation(root / "cloned" / "eval", str(root / "cloned"), 0.0)
    make_log(root / "log", RandomAgent(), policy="random")
    return root


def logged(runs):
    return {run.log: read_episodes(run.log) for run in runs if run.log is not None}


def test_seeds_are_one_group_and_other_settings_another(root):
    runs = find_runs([root / "ppo", root / "cloned", root / "log"])
    assert [run.group for run in runs] == ["ppo", "ppo", "cloned", "log"]
    assert [run.is_training for run in runs] == [True, True, True, False]


def test_same_settings_without_seed_folders_are_one_group(root, tmp_path):
    for seed in (0, 1):
        shutil.copytree(root / "ppo" / f"seed-{seed}", tmp_path / f"run{seed}")
    assert {run.group for run in find_runs([tmp_path / "run0", tmp_path / "run1"])} == {"run0"}


def test_curve_is_the_mean_over_seeds_inside_its_band(root):
    runs = find_runs([root / "ppo"])
    drawn = numbers.curves(runs, logged(runs))
    curve = next(one for one in drawn["entropy"] if not one["evaluation"])
    assert curve["seeds"] == 2
    first = [[row for row in run.rows if "ppo/entropy" in row] for run in runs]
    assert curve["rows"][0][0] == first[0][0]["env_steps"]
    for _, value, low, high in curve["rows"]:
        assert low <= value <= high
    assert {"success", "return", "length", "entropy", "kl"} <= drawn.keys()
    assert any(one["evaluation"] for one in drawn["success"])


def test_running_run_is_read_from_its_newest_checkpoint(root, tmp_path):
    folder = make_training_run(tmp_path / "live", 0, updates=3, episodes=2, finished=False)
    (run,) = find_runs([folder])
    assert not run.finished and len([row for row in run.rows if "ppo/entropy" in row]) == 3
    older = folder / "checkpoint-3"
    older.mkdir()
    (older / "trainer_state.json").write_text(json.dumps({"log_history": []}))
    assert find_runs([folder])[0].rows == run.rows


def test_curves_come_from_the_log_alone(root, tmp_path):
    shutil.copytree(root / "ppo" / "seed-0", tmp_path / "run")
    (tmp_path / "run" / "trainer_state.json").unlink()
    (run,) = find_runs([tmp_path / "run"])
    assert run.rows == [] and not run.finished
    drawn = numbers.curves([run], logged([run]))
    (whole,) = find_runs([root / "ppo" / "seed-0"])
    lengths = [row["rollout/length"] for row in whole.rows if "rollout/length" in row]
    # The update that a running run is at is left out: its short episodes end first, and most of them succeed.
    np.testing.assert_allclose([row[1] for row in drawn["length"][0]["rows"]], lengths[:-1], rtol=1e-3)
    assert "entropy" in drawn and "kl" not in drawn
    assert any(name.startswith("kind:") for name in drawn)


def test_log_table_agrees_with_the_dataset(root):
    episodes = read_episodes(root / "log")
    whole = load_log(root / "log").episodes()
    assert [e.length for e in episodes] == whole["length"] and [e.success for e in episodes] == whole["success"]
    np.testing.assert_allclose([e.episode_return for e in episodes], whole["episode_return"])
    np.testing.assert_allclose([e.entropy for e in episodes], np.log(6), rtol=1e-5)
    rows = read_rows(episodes[1:3])
    assert [row["step"] for row in rows[episodes[2]]] == list(range(episodes[2].length))
    assert rows[episodes[1]][0]["env_seed"] == episodes[1].identity[3]


def test_collected_log_has_a_rate_with_an_interval(root):
    runs = find_runs([root / "log"])
    (entry,) = numbers.overview(runs, logged(runs), {})
    successes = sum(episode.success for episode in read_episodes(root / "log"))
    assert entry["success"]["value"] == pytest.approx(successes / 6, abs=1e-3)
    np.testing.assert_allclose(entry["success"]["interval"], wilson_interval(successes, 6), atol=1e-3)
    assert entry["policies"] == ["random"] and not entry["training"]


def test_overview_tells_the_newest_success_and_of_equals_the_evaluation(root):
    runs = find_runs([root / "ppo"])

    def series(evaluation, *rows):
        return {"group": "ppo", "evaluation": evaluation, "seeds": 1, "rows": [list(row) for row in rows]}

    training = series(False, (100, 0.2, None, None), (200, 0.8, None, None))
    for last, expected in ((100, "last 100 training episodes"), (200, "last evaluation in training")):
        (entry,) = numbers.overview(runs, {}, {"success": [training, series(True, (last, 0.5, 0.4, 0.6))]})
        assert entry["success"]["what"] == expected
        assert entry["success"]["value"] == (0.8 if last == 100 else 0.5)


def test_table_of_tests_and_rl_against_bc(root):
    runs = find_runs([root / "ppo", root / "cloned"])
    table = numbers.tests(runs)
    assert table["groups"] == ["ppo", "cloned"]
    (row,) = table["rows"]
    assert row["cells"]["ppo"]["sampled"]["value"] > row["cells"]["cloned"]["sampled"]["value"]
    assert row["references"]["random"] and row["published"]["GFlan-T5"] == ".89±.05"
    compared = numbers.rl_against_bc(runs)["rows"]
    assert [c["test"] for c in compared] == ["no_change (sampled)", "no_change (greedy)"]
    assert compared[0]["difference"] == pytest.approx(compared[0]["rl_rate"] - compared[0]["bc_rate"], abs=1e-3)


def test_nothing_to_report_says_what_was_looked_for(tmp_path):
    with pytest.raises(InvalidInputError, match="holds no run to report: neither trainer_state.json"):
        find_runs([tmp_path])
    with pytest.raises(InvalidInputError, match="is no folder"):
        find_runs([tmp_path / "nowhere"])
