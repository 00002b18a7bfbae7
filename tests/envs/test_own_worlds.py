# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A user's own worlds, trained in: slow ones in processes, near misses through the wrappers, and one that breaks the
contract in the middle of a run."""

from __future__ import annotations

import json

import pytest

from tests.envs.own_worlds import Parser
from tests.tiny_models import tiny_t5
from trl_glam.cli.main import main
from trl_glam.envs import check_text_env, make_env
from trl_glam.logs import load_log


MODULE = "tests.envs.own_worlds"


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"), dropout=0.0)


def train(model, folder, env_id, *words, **settings) -> int:
    settings = {
        "num_envs": 4,
        "rollout_steps": 8,
        "minibatch_size": 16,
        "total_env_steps": 64,
        "eval_episodes": 4,
        "calibration_prompts": 4,
        "save_strategy": "no",
        "report_to": "none",
        "seed": 0,
        **settings,
    }
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    where = ["--model_name_or_path", model, "--output_dir", str(folder), "--env_id", env_id, "--env_module", MODULE]
    return main(["train", *where, *flags, *words])


def history(folder) -> list[dict]:
    """What training logged, without what a clock says."""
    rows = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [{name: value for name, value in row.items() if "per_second" not in name} for row in rows if "loss" in row]


def overlaps(steps: list[tuple[str, float, float]]) -> int:
    """Pairs of steps that two processes took at the same time."""
    return sum(
        one[0] != other[0] and one[1] < other[2] and other[1] < one[2]
        for number, one in enumerate(steps)
        for other in steps[:number]
    )


def test_slow_worlds_step_side_by_side_and_learn_the_same(t5, tmp_path, capsys):
    histories, steps = [], []
    for workers in (0, 2):
        folder = tmp_path / str(workers)
        steps_file = tmp_path / f"steps-{workers}"
        kwargs = json.dumps({"step_file": str(steps_file)})
        assert train(t5, folder, "OwnWorlds/Slow-v0", env_kwargs=kwargs, env_workers=workers, total_env_steps=32) == 0
        lines = [line.split() for line in steps_file.read_text().splitlines()]
        steps.append([(pid, float(begin), float(end)) for pid, begin, end in lines])
        histories.append(history(folder))
    assert histories[0] == histories[1] and histories[0]
    assert len({pid for pid, *_ in steps[0]}) == 1 and overlaps(steps[0]) == 0
    assert len({pid for pid, *_ in steps[1]}) >= 2 and overlaps(steps[1]) >= 8
    capsys.readouterr()


def test_wrapped_world_of_plain_strings_is_trained_in(t5, tmp_path, capsys):
    check_text_env(make_env("OwnWorlds/Parser-v0", env_module=MODULE))
    assert train(t5, tmp_path, "OwnWorlds/Parser-v0", "--log_interactions") == 0
    log = list(load_log(tmp_path / "interactions"))
    assert len(log) == 64
    for row in log:
        (colour,) = [colour for colour in Parser.colours if f"A {colour} lamp" in row["observation"]]
        assert row["observation"] == [f"A {colour} lamp", "A button"]
        assert row["mission"] == "press the lamp's colour" and row["mission"] in row["prompt"]
        assert row["success"] == (row["action"] == f"press {colour}")
    assert {row["success"] for row in log} == {True, False}
    capsys.readouterr()


def test_world_that_breaks_the_contract_in_the_middle_of_a_run_ends_it_in_one_line(t5, tmp_path, capsys):
    assert train(t5, tmp_path, "OwnWorlds/LateFault-v0", "--disable_tqdm", "true") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("trl-glam train: ") and "OwnWorlds/LateFault-v0" in error
    assert "step" in error and "seed" in error and "'walk' is listed twice" in error
