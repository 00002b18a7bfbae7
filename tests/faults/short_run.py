# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A short run of PPO or behaviour cloning that says when it does what, so that it can be killed there.

Started as a program it imports everything once and then forks a child for every job it reads from stdin, one JSON
object a line: a run then takes seconds. A child is a process like any other: SIGKILL finds it in the middle of
whatever it does.

    python -m tests.faults.short_run < jobs
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig

from trl_glam import BCConfig, BCTrainer, GLAMConfig, GLAMTrainer
from trl_glam.logs import load_log
from trl_glam.trainer.policy_trainer import _PolicyTrainer


PHASES = {
    "rollout": "_collect_rollout",
    "update": "training_step",
    "save": "_save_checkpoint",
    "evaluation": "evaluate",
    "resume": "_load_optimizer_and_scheduler",
}
_COMMON: dict[str, Any] = {
    "env_id": "BabyAI-Text/GoToLocalS5N2-v0",
    "env_kwargs": {"max_steps": 8},
    "minibatch_size": 16,
    "num_observations": 2,
    "calibration_prompts": 4,
    "eval_episodes": 6,
    "eval_strategy": "steps",
    "eval_steps": 5,
    "save_strategy": "steps",
    "save_steps": 3,
    "save_total_limit": 2,
    "learning_rate": 1e-3,
    "report_to": "none",
    "disable_tqdm": True,
    "seed": 0,
}
_PPO: dict[str, Any] = {
    "num_envs": 4,
    "rollout_steps": 8,
    "total_env_steps": 160,
    "num_ppo_epochs": 2,
    "log_interactions": True,
}
_BC: dict[str, Any] = {"num_train_epochs": 2, "logging_steps": 2}


def build(job: dict[str, Any]) -> _PolicyTrainer:
    """The trainer of a job: `{"kind": "ppo"|"bc", "model", "folder", "settings", "lora", "log"}`."""
    settings = {**_COMMON, **(_PPO if job["kind"] == "ppo" else _BC), **job.get("settings", {})}
    settings["output_dir"] = job["folder"]
    peft_config = LoraConfig(r=2, target_modules=["q", "v"]) if job.get("lora") else None
    if job["kind"] == "ppo":
        return GLAMTrainer(job["model"], GLAMConfig(**settings), peft_config=peft_config)
    return BCTrainer(job["model"], BCConfig(**settings), job["log"], peft_config=peft_config)


def report(trainer: _PolicyTrainer, tell: Callable[[str], None]) -> None:
    """Tell the beginning and the end of every phase."""

    def told(phase: str, method: Callable) -> Callable:
        def call(*args, **kwargs):
            tell(f"{phase} begins")
            try:
                return method(*args, **kwargs)
            finally:
                tell(f"{phase} ends")

        return call

    for phase, name in PHASES.items():
        if phase != "rollout" or isinstance(trainer, GLAMTrainer):
            setattr(trainer, name, told(phase, getattr(trainer, name)))


def run(job: dict[str, Any]) -> None:
    """Play a job to its end and write `outcome.json`."""
    torch.set_num_threads(1)
    trainer = build(job)
    if isinstance(trainer, GLAMTrainer):
        # Every episode goes to disk at once, so that a kill leaves rows behind the last checkpoint.
        make_writer = trainer._make_log_writer

        def eager():
            writer = make_writer()
            writer.seconds_per_flush = 0.0
            return writer

        trainer._make_log_writer = eager
    if job.get("events"):
        channel = os.open(job["events"], os.O_WRONLY)
        report(trainer, lambda message: os.write(channel, f"{message}\n".encode()))
    trainer.train(resume_from_checkpoint="auto")
    final = Path(job["folder"], "final")
    trainer.save_model(str(final))
    Path(job["folder"], "outcome.json").write_text(json.dumps(outcome(trainer, final)), encoding="utf-8")


def outcome(trainer: _PolicyTrainer, final: Path) -> dict[str, Any]:
    """What must not depend on kills: weights, metrics without timings, and the rows of the log."""
    history = [
        {name: value for name, value in row.items() if "per_second" not in name}
        for row in trainer.state.log_history
        # Trainer's summary speaks of the last call of `train` alone.
        if "train_runtime" not in row
    ]
    rows = load_log(f"{trainer.args.output_dir}/interactions").to_list() if isinstance(trainer, GLAMTrainer) else []
    for row in rows:
        del row["run_id"]  # the folder's name
    return {
        "weights": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(final.glob("*.safetensors"))
        },
        "history": history,
        "rows": len(rows),
        "log": hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest(),
        "steps": trainer.state.global_step,
        "flos": trainer.state.total_flos,
    }


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            _, status = os.waitpid(job["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        child = os.fork()
        if child == 0:
            code = 1
            try:
                out = os.open(f"{job['folder']}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(out, 1)
                os.dup2(out, 2)
                run(job)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(child, flush=True)


if __name__ == "__main__":
    main()
