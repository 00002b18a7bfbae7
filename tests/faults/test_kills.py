# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""kill -9 anywhere, resume, and nothing tells: weights, metrics and log rows are those of the unbroken run.

`make test-faults` runs all of it, with 20 kills of PPO and 8 of behaviour cloning; `make test` runs three kills of one
run, one after the other.
"""

from __future__ import annotations

import random

import pytest

from tests.faults.killing import Runs
from tests.tiny_models import tiny_t5
from trl_glam import RandomAgent
from trl_glam.logs import collect_log


PHASES = ("rollout", "update", "save", "evaluation")


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture
def start(t5, tmp_path):
    """Starts the program that forks short runs of one kind."""
    started = []

    def make(**job) -> Runs:
        started.append(Runs(t5, tmp_path, **job))
        return started[-1]

    yield make
    for runs in started:
        runs.close()


@pytest.fixture
def log(tmp_path) -> str:
    folder = tmp_path / "log"
    world = {"env_id": "BabyAI-Text/GoToLocalS5N2-v0", "env_kwargs": {"max_steps": 8}}
    collect_log(RandomAgent(), folder, **world, seed=0, policy="random", num_steps=160)
    return str(folder)


def assert_same(unbroken: dict, resumed: dict, where: object) -> None:
    for part in unbroken:
        assert resumed[part] == unbroken[part], f"{part} differ after a kill in {where}"


def test_three_kills_of_one_run_leave_no_trace(start):
    runs = start(kind="ppo")
    unbroken = runs.unbroken()
    assert unbroken["rows"] > 100 and unbroken["steps"] == 20 and len(unbroken["weights"]) == 2
    draw = random.Random(0)
    kills = [runs.kill_in("broken", phase, draw, part=0.3) for phase in ("update", "save", "evaluation")]
    assert None not in kills
    assert_same(unbroken, runs.finish("broken"), kills)


def kill_often(runs: Runs, phases: tuple[str, ...], each: int, seed: int) -> None:
    """Kill runs at random moments until each phase has met its end so often; every run is resumed and compared."""
    unbroken = runs.unbroken()
    draw, deaths, number, equal = random.Random(seed), dict.fromkeys(phases, 0), 0, 0
    while min(deaths[phase] for phase in phases) < each:
        assert number < 4 * each * len(phases), f"the phases are missed too often: {deaths}"
        kill = runs.kill_in(f"run-{number}", min(phases, key=deaths.get), draw)
        left = runs.checkpoints(f"run-{number}")
        resumed = runs.finish(f"run-{number}")
        number += 1
        if kill is None:
            continue
        assert_same(unbroken, resumed, kill)
        equal += 1
        deaths[kill.phase] = deaths.get(kill.phase, 0) + 1
        where = f"{kill.phase:<10} {1000 * kill.seconds:5.0f} ms into it"
        print(f"kill {equal:>2}: in {where}; left {', '.join(left) or 'no checkpoint'}; resumed: equal", flush=True)
    weights = next(iter(unbroken["weights"].values()))[:12]
    compared = f"weights {weights}, {len(unbroken['history'])} rows of metrics, {unbroken['rows']} log rows"
    print(f"{equal}/{equal} equal ({compared}); died in {deaths}")


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("phase", PHASES)
def test_twenty_kills_of_ppo(start, phase):
    kill_often(start(kind="ppo"), (phase,), each=5, seed=1 + PHASES.index(phase))


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_kills_of_behaviour_cloning(start, log):
    kill_often(start(kind="bc", log=log), PHASES[1:], each=3, seed=2)


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "job",
    [
        {"settings": {"freeze_encoder": True}},
        {"lora": True},
        {"settings": {"env_workers": 2, "target_kl": 1e-4, "beta": 0.1}},
    ],
    ids=["frozen encoder", "lora", "workers, target kl and reference"],
)
def test_kills_of_other_runs(start, job):
    kill_often(start(kind="ppo", **job), PHASES, each=1, seed=3)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_run_that_is_killed_again_and_again_still_arrives(start):
    runs = start(kind="ppo")
    unbroken = runs.unbroken()
    draw = random.Random(4)
    phases = ("rollout", "save", "resume", "update", "resume", "evaluation", "save")
    kills = [runs.kill_in("broken", phase, draw, part=0.3) for phase in phases]
    print(f"died in {[kill and kill.phase for kill in kills]}")
    assert sum(kill is not None for kill in kills) >= 5
    assert_same(unbroken, runs.finish("broken"), kills)
