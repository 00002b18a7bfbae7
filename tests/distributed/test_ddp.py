# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Two processes of `torchrun` against one: the same gradients, weights, metrics, log and evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed import job as jobs
from tests.distributed.ranks import Ranks, torchrun
from tests.tiny_models import tiny_t5
from trl_glam import RandomAgent, ScoringPolicy
from trl_glam.evaluation import Panel, evaluate_policy
from trl_glam.logs import collect_log, load_log
from trl_glam.rollout import SeededEpisodes
from trl_glam.rollout.runner import TRAINING_SEEDS


# One worker starts the processes, and all tests here share them.
pytestmark = pytest.mark.xdist_group("distributed")

# SGD: a difference of gradients stays one of weights, which Adam would blow up where they are near zero.
SETTINGS: dict[str, Any] = {
    "optim": "sgd",
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "per_device_train_batch_size": 4,
    "save_strategy": "no",
    "eval_strategy": "no",
    "eval_episodes": 16,
}
# What depends on who computes what with whom: time, and what equal prompts of two processes cost twice.
OWN = ("per_second", "share_computed", "tokens", "runtime", "total_flos")


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    ranks = Ranks([torchrun(2)], 2, tmp_path_factory.mktemp("ranks"))
    yield ranks
    ranks.close()


def run_alone(job: dict[str, Any]) -> dict[str, Any]:
    """The same job in this process."""
    Path(job["folder"]).mkdir(parents=True, exist_ok=True)
    jobs.run(job)
    return json.loads(Path(job["folder"], "facts-0.json").read_text(encoding="utf-8"))


def weights_of(job: dict[str, Any]) -> dict[str, torch.Tensor]:
    files = sorted(Path(job["folder"], "final").glob("*.safetensors"))
    return {f"{file.name}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


def assert_same_gradients(alone: dict[str, Any], pair: dict[str, Any], num_steps: int) -> None:
    """Each step's gradient is the same within 1e-5 of its norm, and each tensor's within 1e-5 of its own."""
    one, two = (load_file(Path(job["folder"], "gradients-0.safetensors")) for job in (alone, pair))
    assert one.keys() == two.keys() and one
    for step in range(num_steps):
        names = [name for name in one if name.startswith(f"{step}/")]
        whole = torch.stack([one[name].norm() for name in names]).norm()
        assert whole > 1e-3
        difference = torch.stack([(one[name] - two[name]).norm() for name in names]).norm()
        assert difference <= 1e-5 * whole, (step, float(difference / whole))
        for name in names:
            # What is a millionth of the whole is rounding of the whole.
            assert (one[name] - two[name]).norm() <= 1e-5 * one[name].norm() + 1e-6 * whole, name


def assert_same_run(alone: dict[str, Any], facts: list[dict[str, Any]], tolerance: float = 1e-4) -> None:
    assert alone["steps"] == facts[0]["steps"]
    for one, two in zip(alone["history"], facts[0]["history"], strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            if not any(part in name for part in OWN):
                assert two[name] == pytest.approx(value, rel=tolerance, abs=tolerance, nan_ok=True), name
    # Everybody knows all episodes.
    for own in facts:
        assert own["played"] == alone["played"]


def log_of(job: dict[str, Any]) -> list[dict[str, Any]]:
    rows = load_log(str(Path(job["folder"], "interactions"))).to_list()
    for row in rows:
        del row["run_id"]
    return sorted(rows, key=lambda row: row["env_step"])


def test_ppo_on_two_processes_is_ppo_on_one(t5, pair, tmp_path):
    job = {"kind": "ppo", "model": t5, "gradients": 5, "settings": {**SETTINGS, "num_ppo_epochs": 1}}
    one, two = ({**job, "folder": str(tmp_path / name)} for name in ("one", "two"))
    alone, facts = run_alone(one), pair.run(two)
    for rank in range(2):
        assert facts[rank]["world_size"] == 2 and facts[rank]["distributed_type"] == "DistributedType.MULTI_CPU"
        assert facts[rank]["wrapper"] == "DistributedDataParallel"
    assert facts[0]["weights"] == facts[1]["weights"]
    assert_same_gradients(one, two, num_steps=5)
    assert alone["steps"] == 10
    before, after = load_file(Path(t5, "model.safetensors")), load_file(Path(one["folder"], "final/model.safetensors"))
    assert max((after[name] - before[name]).abs().max() for name in after) > 1e-4
    assert weights_of(one).keys() == weights_of(two).keys()
    for name, tensor in weights_of(one).items():
        torch.testing.assert_close(weights_of(two)[name], tensor, rtol=1e-5, atol=1e-5)
    assert_same_run(alone, facts)
    rows, their_rows = log_of(one), log_of(two)
    assert len(rows) > 100 and len({row["env_index"] for row in rows}) == 4
    for row, their_row in zip(rows, their_rows, strict=True):
        for name in ("logprobs", "value"):
            assert their_row.pop(name) == pytest.approx(row.pop(name), abs=1e-4)
        assert row == their_row
    check_evaluation(two, facts[0]["played"])


def check_evaluation(job: dict[str, Any], played: dict[str, list]) -> None:
    """Two processes play what one plays, with 1, 7 and 32 environments side by side; no near-tie was met here."""
    policy = ScoringPolicy.from_pretrained(Path(job["folder"], "final"))
    panel = Panel.from_env("BabyAI-Text/GoToLocalS5N2-v0", 16, TRAINING_SEEDS, {"max_steps": 8})
    for name, theirs in played.items():
        assert len(theirs) == 16
        for num_envs in (1, 7, 32) if name == "sampled" else (7,):
            result = evaluate_policy(policy, panel, greedy=name == "greedy", num_envs=num_envs)
            assert [jobs.outcome(record) for record in result.records] == theirs, (name, num_envs)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("log")
    world = {"env_id": "BabyAI-Text/GoToLocalS5N2-v0", "env_kwargs": {"max_steps": 8}}
    collect_log(RandomAgent(), folder, **world, seed=0, policy="random", num_steps=160)
    return str(folder)


@pytest.mark.parametrize("loss", ["action", "token"])
def test_behaviour_cloning_on_two_processes_is_that_on_one(t5, log, pair, tmp_path, loss):
    # Logged every two steps, to the end: of what is not logged, Trainer's `train_loss` knows one process alone.
    settings = {**SETTINGS, "loss": loss, "max_steps": 6, "eval_episodes": 4}
    job = {"kind": "bc", "model": t5, "log": log, "gradients": 5, "settings": settings}
    one, two = ({**job, "folder": str(tmp_path / name)} for name in ("one", "two"))
    alone, facts = run_alone(one), pair.run(two)
    assert facts[0]["weights"] == facts[1]["weights"]
    assert_same_gradients(one, two, num_steps=5)
    for name, tensor in weights_of(one).items():
        torch.testing.assert_close(weights_of(two)[name], tensor, rtol=1e-5, atol=1e-5)
    assert_same_run(alone, facts)


def test_another_number_of_processes_than_asked_for_ends_the_run(t5, pair, tmp_path):
    number = pair.start({"kind": "ppo", "model": t5, "folder": str(tmp_path), "settings": {"num_processes": 3}})
    assert pair.wait(number) == [1, 1]
    assert "num_processes=3 is asked for, and 2 started" in pair.said(number)


def test_environments_are_split_by_their_global_index():
    def keys(first_slot: int, count: int):
        episodes = SeededEpisodes("world", 7, first_slot)
        return [episodes.next(slot) for _ in range(3) for slot in range(count)]

    whole = keys(0, 32)
    assert sorted(keys(0, 16) + keys(16, 16), key=lambda key: (key.number, key.slot)) == whole
    assert len({key.seed for key in whole}) == len(whole)
