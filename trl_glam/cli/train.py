# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam train`: PPO from a recipe.

trl-glam train --config quickstart --output_dir outputs/quickstart
accelerate launch recipes/train.py --config quickstart --output_dir outputs/quickstart
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from trl import ModelConfig

from ..evaluation.seeds import read_seed_runs, seeds_table
from ..trainer import GLAMConfig, GLAMTrainer
from ..trainer.policy_trainer import _PolicyTrainer
from ..trainer.sharding import num_parameters
from ..types import InvalidInputError
from .recipe import model_arguments, parse_recipe, resume_request


_PLANNED_UPDATES = 3


@dataclass
class TrainArguments:
    """
    What `trl-glam train` takes beside [`GLAMConfig`] and TRL's `ModelConfig`.

    Args:
        seeds (`list[int]`, *optional*):
            Train once per seed, each in `output_dir/seed-N`; finished ones are skipped, cut-off ones go on.
        plan (`bool`, *optional*, defaults to `False`):
            Run 3 updates, print what the whole run would take, and stop.
    """

    seeds: list[int] | None = field(
        default=None, metadata={"help": "Train once per seed, each in output_dir/seed-N; resumes what was cut off."}
    )
    plan: bool = field(default=False, metadata={"help": "Run 3 updates and print what the whole run would take."})


def main(argv: Sequence[str]) -> int:
    """Train; returns the exit code."""
    types = (TrainArguments, GLAMConfig, ModelConfig)
    own, args, model_args = parse_recipe("train", types, argv, "Train a scoring policy by PPO in a text environment.")
    if own.seeds is not None:
        return _train_seeds(own.seeds, argv, args)
    # For a plan the run keeps its sizes and stops early: nothing is saved.
    if own.plan:
        args.save_strategy = args.eval_strategy = "no"
        args.log_interactions, args.report_to = False, []
    trainer = make_trainer(args, model_args)
    announce(trainer, run_summary(trainer))
    if own.plan:
        return _plan(trainer)
    trainer.train(resume_from_checkpoint=resume_request(args.resume_from_checkpoint))
    metrics = trainer.evaluate()
    finish(trainer)
    if trainer.is_world_process_zero():
        print(f"Saved the policy in {args.output_dir}. Evaluation: {_round(metrics)}")
    return 0


def make_trainer(args: GLAMConfig, model_args: ModelConfig, **kwargs) -> GLAMTrainer:
    """Build the trainer a recipe describes."""
    model = model_arguments(model_args)
    args.model_init_kwargs = {**model.pop("model_init_kwargs"), **(args.model_init_kwargs or {})}
    return GLAMTrainer(args=args, **model, **kwargs)


def announce(trainer: _PolicyTrainer, summary: str) -> None:
    """Say once what is about to be run and what memory it takes; every process refuses what does not fit."""
    memory = trainer.check_memory()
    if trainer.is_world_process_zero():
        print(summary, memory, sep="\n", flush=True)


def finish(trainer: _PolicyTrainer, dataset_name: str | None = None) -> None:
    """Save the policy, its history and its card (naming the dataset it learned from), and push them if asked to."""
    # An internal call: the push below is the one, with the card.
    trainer.save_model(_internal_call=True)
    trainer.save_state()
    trainer.create_model_card(dataset_name=dataset_name)
    if trainer.args.push_to_hub:
        trainer.push_to_hub(dataset_name=dataset_name)


def run_summary(trainer: GLAMTrainer) -> str:
    """One line on the sizes of a run."""
    args = trainer.args
    steps = args.num_envs * args.rollout_steps
    trainable = num_parameters(trainer.policy, trainable_only=True)
    return (
        f"{args.num_updates} updates of {steps} environment steps ({args.num_envs} environments x "
        f"{args.rollout_steps}), {args.num_updates * steps} in all; {args.steps_per_update} optimizer steps of "
        f"{args.minibatch_size} transitions an update; {trainable / 1e6:.1f}M trainable parameters; {args.world_size} "
        "process(es)."
    )


def _plan(trainer: GLAMTrainer) -> int:
    args = trainer.args
    trainer.stop_after_updates = min(_PLANNED_UPDATES, args.num_updates)
    started = time.perf_counter()
    trainer.train()
    seconds = (time.perf_counter() - started) / trainer.update
    if torch.cuda.is_available():
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on the GPU"
    else:
        import resource

        memory = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    if trainer.is_world_process_zero():
        print(
            f"Plan: {trainer.update} updates took {seconds:.0f} s each, with a peak memory of {memory}; the whole run "
            f"of {args.num_updates} updates ({args.num_updates * args.num_envs * args.rollout_steps} environment "
            f"steps) would take about {seconds * args.num_updates / 3600:.1f} hours at this speed. Early updates, "
            "with their longer episodes, are often slower than later ones."
        )
    return 0


def _train_seeds(seeds: Sequence[int], argv: Sequence[str], args: GLAMConfig) -> int:
    """Each seed is a process of its own, so that one that fails takes nothing with it."""
    if len(set(seeds)) != len(seeds):
        raise InvalidInputError(f"--seeds {' '.join(map(str, seeds))} names a seed twice.")
    rest = _without(argv, "--seeds")
    failed = []
    for seed in seeds:
        folder = Path(args.output_dir, f"seed-{seed}")
        if (folder / "trainer_state.json").is_file():
            print(f"seed {seed}: finished before, in {folder}")
            continue
        command = [sys.executable, "-m", "trl_glam", "train", *rest, "--seed", str(seed), "--output_dir", str(folder)]
        command += ["--resume_from_checkpoint", "auto"]
        print(f"seed {seed}: {folder}", flush=True)
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(seed)
    if failed:
        print(f"Failed: seeds {', '.join(map(str, failed))}. Run the same command again to go on with them.")
        return 1
    try:
        print(seeds_table({Path(args.output_dir).name: read_seed_runs(args.output_dir)}))
    except InvalidInputError as error:
        # The runs are there; only what they have in common cannot be told.
        print(f"No table over the seeds: {error}")
    return 0


def _without(argv: Sequence[str], flag: str) -> list[str]:
    """The arguments without a flag and its values."""
    kept, inside = [], False
    for word in argv:
        inside = word == flag or (inside and not word.startswith("--"))
        if not inside:
            kept.append(word)
    return kept


def _round(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in metrics.items()}
