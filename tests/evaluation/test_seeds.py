# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Recipes over seeds: the numbers of known curves, two recipes side by side, folders that are no runs."""

import json

import pytest

from trl_glam.cli.main import main
from trl_glam.evaluation.seeds import SeedRun, read_seed_runs, seeds_table
from trl_glam.types import InvalidInputError


def write_run(folder, rates, key="rollout/success_rate"):
    folder.mkdir(parents=True)
    history = [{"env_steps": 100 * (i + 1), key: rate, "loss": 0.1} for i, rate in enumerate(rates)]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": [{"env_steps": 0}, *history]}))


@pytest.fixture
def recipes(tmp_path):
    for seed in range(5):
        write_run(tmp_path / "good" / f"seed-{seed}", [0.2, 0.6, 1.0])
        write_run(tmp_path / "bad" / f"seed-{seed}", [0.1, 0.1, 0.4, 0.5])
    return tmp_path


def test_table_of_known_curves(recipes):
    runs = read_seed_runs(recipes / "good")
    assert len(runs) == 5 and runs[0].env_steps == (100, 200, 300)
    table = seeds_table({"good": runs})
    assert (
        "| good | 5 | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] | 0.600 [0.600, 0.600] | 300 (5 of them) |" in table
    )
    assert "Warning" not in table


def test_two_recipes_are_compared_on_the_steps_they_share(recipes, capsys):
    assert main(["compare", str(recipes / "good"), str(recipes / "bad")]) == 0
    said = capsys.readouterr().out
    assert "SE to 300 steps" in said
    assert f"| {recipes / 'bad'} | 5 | 0.500" in said and "0.200 [0.200, 0.200] | not reached (0 of them)" in said
    assert "more success" in said and said.count("= 1.00 [1.00, 1.00]") == 2


def test_threshold_is_an_argument(recipes, capsys):
    folders = [str(recipes / "good"), str(recipes / "bad")]
    assert main(["compare", *folders, "--threshold", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "200 (5 of them)" in said and "400 (5 of them)" in said
    assert main(["compare", *folders, "--threshold", "2"]) == 2


def test_few_seeds_are_warned_about_and_a_single_run_is_one_seed(tmp_path):
    write_run(tmp_path / "one", [0.3, 0.4], key="rollout/success_rate_by_return")
    table = seeds_table({"one": read_seed_runs(tmp_path / "one")})
    assert "| one | 1 | 0.400" in table and "Warning: one: only 1 seed" in table


def test_folders_without_a_history_of_success_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="holds no finished run"):
        read_seed_runs(tmp_path)
    write_run(tmp_path / "cloned", [])
    with pytest.raises(InvalidInputError, match="none has ended, or it is a run of cloning"):
        SeedRun.read(tmp_path / "cloned")
