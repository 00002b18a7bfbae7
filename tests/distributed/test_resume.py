# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Two processes, broken off at three points and resumed, arrive where the unbroken run does: weights to the bit,
metrics apart from timings, rows of the log. Under ZeRO-3 and FSDP 2 a checkpoint also fills a model made anew.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.ranks import Ranks
from tests.distributed.strategies import SETTINGS, start
from tests.tiny_models import tiny_t5
from trl_glam import RandomAgent
from trl_glam.logs import collect_log


pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

# Three updates of four optimizer steps, a checkpoint every two: inside an update and at its end.
PPO = {"total_env_steps": 96, "save_steps": 2, "eval_steps": 5, "num_ppo_epochs": 2}


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module", params=["ddp", "zero3", "fsdp2"])
def started(request, tmp_path_factory):
    """A strategy and its processes."""
    if request.param == "zero3":
        pytest.importorskip("deepspeed", reason="needs the extra `deepspeed`")
    ranks = start(request.param, tmp_path_factory.mktemp("ranks"))
    yield request.param, ranks
    ranks.close()


def make_job(kind: str, model: str, strategy: str, folder: Path, **more: Any) -> dict[str, Any]:
    settings = {**(PPO if kind == "ppo" else {"save_steps": 2, "eval_strategy": "no"}), **SETTINGS[strategy]}
    return {"kind": kind, "model": model, "folder": str(folder), "settings": settings, **more}


def break_and_resume(ranks: Ranks, job: dict[str, Any], unbroken: list[dict[str, Any]]) -> None:
    """Stop a run at checkpoints 2 and 4, kill a process of a third one behind checkpoint 6; go on, and compare."""
    for point in ("checkpoint-2", "checkpoint-4", "killed"):
        broken = {**job, "folder": f"{job['folder']}-{point}"}
        if point == "killed":
            number = ranks.start({**broken, "stop_at": 7, "kill_rank": 1})
            codes = ranks.wait(number)
            # The one that lives notices, and says so, instead of waiting for ever.
            assert codes[1] == -signal.SIGKILL and codes[0] == 1, (codes, ranks.said(number))
            assert "onnection" in ranks.said(number)
            resume: str | bool = True
            assert Path(broken["folder"], "checkpoint-6", "manifest.json").is_file()
        else:
            ranks.run({**broken, "stop_at": int(point.split("-")[1])})
            resume = f"{broken['folder']}/{point}"
        resumed = ranks.run({**broken, "resume": resume})
        for rank in range(2):
            assert resumed[rank]["weights"] == unbroken[rank]["weights"], point
        for part, value in unbroken[0]["outcome"].items():
            assert resumed[0]["outcome"][part] == value, (point, part)
        print(f"{point}: equal", flush=True)


def test_ppo_resumes(started, t5, tmp_path):
    strategy, ranks = started
    job = make_job("ppo", t5, strategy, tmp_path / "run")
    unbroken = ranks.run(job)
    outcome = unbroken[0]["outcome"]
    assert outcome["steps"] == 12 and outcome["rows"] > 50 and len(outcome["weights"]) == 2
    break_and_resume(ranks, job, unbroken)
    if strategy != "ddp":
        assert unbroken[0]["held"] <= 0.6 * unbroken[0]["trainable"]
        # From the end of the run there is nothing to train: what is saved again is what was loaded.
        other = tiny_t5(tmp_path / "other", seed=1)
        settings = {**job["settings"], "save_strategy": "no"}
        job = {**job, "model": other, "settings": settings, "resume": f"{job['folder']}/checkpoint-12"}
        anew = ranks.run(job)
        assert anew[0]["outcome"]["weights"] == outcome["weights"]
        for rank in range(2):
            assert anew[rank]["weights"] == unbroken[rank]["weights"]


def test_behaviour_cloning_resumes(started, t5, tmp_path):
    strategy, ranks = started
    folder = tmp_path / "log"
    world = {"env_id": "BabyAI-Text/GoToLocalS5N2-v0", "env_kwargs": {"max_steps": 8}}
    collect_log(RandomAgent(), folder, **world, seed=0, policy="random", num_steps=80)
    job = make_job("bc", t5, strategy, tmp_path / "run", log=str(folder))
    unbroken = ranks.run(job)
    assert unbroken[0]["outcome"]["steps"] >= 8
    break_and_resume(ranks, job, unbroken)
