# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The commands of the guide as a user types them: the scripts under `torchrun`, two machines played by two launchers,
a process that dies, and the fallbacks that accelerate makes without a word.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed.ranks import ROOT, Ranks, torchrun
from tests.distributed.strategies import free_port
from tests.tiny_models import tiny_t5


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WORLD = ["--env_id", "BabyAI-Text/GoToLocalS5N2-v0"]
SIZES = "--num_envs 4 --rollout_steps 8 --minibatch_size 16 --total_env_steps 64 --calibration_prompts 4".split()
RUN = "--eval_episodes 8 --save_strategy no --report_to none --disable_tqdm true --freeze_encoder false".split()


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


def start(command: list[str], **environ: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environ}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    said = process.communicate(timeout=900)[0]
    assert process.returncode == code, said[-6000:]
    return said


def train(model: str, folder: Path, *more: str) -> list[str]:
    return ["recipes/train.py", "--config", "quickstart", "--model_name_or_path", model, *WORLD, *SIZES, *RUN,
            "--use_cpu", "true", "--bf16", "false", "--output_dir", str(folder), *more]  # fmt: skip


def results(folder: Path) -> dict:
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {name: found[name] for name in ("suites", "seed")}


def test_scripts_under_torchrun_train_and_evaluate_as_one_process_does(t5, tmp_path):
    for name, launcher, processes in (("one", [sys.executable], 1), ("two", torchrun(2), 2)):
        finish(start([*launcher, *train(t5, tmp_path / name, "--num_processes", str(processes))]))
        # The policy of one process, so that two policies do not differ.
        command = [
            "recipes/eval.py",
            str(tmp_path / "one"),
            *WORLD,
            "--episodes",
            "9",
            "--num_processes",
            str(processes),
        ]
        said = finish(start([*launcher, *command, "--output_dir", str(tmp_path / f"eval-{name}")]))
        assert said.count("Written to") == 1
    for file in ("model.safetensors", "value_head.safetensors"):
        one, two = load_file(tmp_path / "one" / file), load_file(tmp_path / "two" / file)
        assert one.keys() == two.keys()
        for key, tensor in one.items():
            torch.testing.assert_close(two[key], tensor, rtol=1e-3, atol=1e-4)
    # Every episode of every mode and reference.
    assert results(tmp_path / "eval-one") == results(tmp_path / "eval-two")


def test_two_machines_are_two_processes(t5, tmp_path):
    job = {"kind": "ppo", "model": t5, "settings": {"total_env_steps": 96, "save_strategy": "no"}}
    facts = {}
    for name in ("processes", "machines"):
        folder = tmp_path / f"{name}-ranks"
        folder.mkdir()
        launchers = [torchrun(2)]
        if name == "machines":
            rendezvous = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{free_port()}", "--rdzv_id", "run"]
            command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
            launchers = [[*command, *rendezvous]] * 2
        ranks = Ranks(launchers, 2, folder)
        try:
            facts[name] = ranks.run({**job, "folder": str(tmp_path / name)})
        finally:
            ranks.close()
    for one, two in zip(facts["processes"], facts["machines"], strict=True):
        assert one["world_size"] == two["world_size"] == 2
        assert one["weights"] == two["weights"] and one["played"] == two["played"]
        assert one["outcome"] == two["outcome"]


def test_a_process_that_dies_ends_the_run_with_a_message(t5, tmp_path):
    run = start([*torchrun(2), *train(t5, tmp_path / "run", "--total_env_steps", "640000")])
    deadline = time.monotonic() + 600
    victims: list[int] = []
    while not victims and time.monotonic() < deadline:
        time.sleep(0.5)
        # The first rollout makes the folder of the log; both processes are then in it.
        if (tmp_path / "run" / "interactions").is_dir():
            victims = children(run.pid)
    assert len(victims) == 2
    os.kill(victims[1], signal.SIGKILL)
    began = time.monotonic()
    said = finish(run, code=1)
    assert time.monotonic() - began < 120
    assert "SIGKILL" in said and "recipes/train.py FAILED" in said
    assert not [pid for pid in victims if Path(f"/proc/{pid}").exists()]


def children(parent: int) -> list[int]:
    """Processes of a launcher, by their ids."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return sorted(int(pid) for pid in found if b"recipes/train.py" in Path(f"/proc/{pid}/cmdline").read_bytes())


@pytest.mark.parametrize(
    ("launcher", "environ", "message"),
    [
        ([*torchrun(2)], {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, "FSDP is asked for, and accelerate"),
        (
            [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"],
            {},
            "accelerate launch was asked for several processes and started one",
        ),
    ],
    ids=["fsdp", "accelerate on a cpu"],
)
def test_a_silent_fallback_is_an_error(launcher, environ, message, t5, tmp_path):
    run = start([*launcher, *train(t5, tmp_path / "run")], **environ)
    said = run.communicate(timeout=600)[0]
    assert run.returncode != 0 and message in said, said[-4000:]
    assert not (tmp_path / "run" / "model.safetensors").exists()
