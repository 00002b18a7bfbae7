# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""One process of a short run on several: trains, evaluates, saves, and writes down what it saw.

The job is one JSON object: the keys of `tests/faults/short_run.py` ("kind", "model", "folder", "settings", "lora",
"log"), and `"resume"`, `"stop_at"` (an optimizer step; with `"kill_rank"` a SIGKILL of that process instead of a
polite end), `"gradients"` (keep those of so many optimizer steps). Every process writes `facts-RANK.json` into the
folder. `tests/distributed/ranks.py` runs it in processes of a launcher.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from tests.faults.short_run import build
from tests.faults.short_run import outcome as outcome_of
from trl_glam.trainer.policy_trainer import _PolicyTrainer
from trl_glam.trainer.sharding import num_parameters
from trl_glam.types import EpisodeRecord


class KeepGradients(TrainerCallback):
    """Gradients as the optimizer sees them, of the first steps."""

    def __init__(self, count: int) -> None:
        self.count, self.kept = count, {}

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step < self.count:
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    self.kept[f"{state.global_step}/{name}"] = parameter.grad.detach().clone()


class StopAt(TrainerCallback):
    """Ends the run after an optimizer step: politely, or by SIGKILL of one process."""

    def __init__(self, step: int, kill_rank: int | None = None) -> None:
        self.step, self.kill_rank = step, kill_rank

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            if self.kill_rank is None:
                control.should_training_stop = True
            elif self.kill_rank == args.process_index:
                os.kill(os.getpid(), signal.SIGKILL)


def allow_fsdp_on_cpus() -> None:
    """
    Tell accelerate that several CPUs may be FSDP's. It knows GPUs alone there, and makes plain DDP of it, or trainings
    that do not know of each other; PyTorch's FSDP 2 itself runs on gloo.
    """
    make = AcceleratorState.__init__

    def make_with_fsdp(self, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        make(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        # Whoever asks for the state later brings no plugin, and finds the one that is there.
        plugin = fsdp_plugin or self.__dict__.get("fsdp_plugin")
        if plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin

    AcceleratorState.__init__ = make_with_fsdp


def run(job: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    if "FSDP_VERSION" in os.environ:
        allow_fsdp_on_cpus()
    if "DS_ACCELERATOR" in os.environ:
        # DeepSpeed's own reduction through shared memory is compiled for a minute at its first use; gloo does as well.
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # transformers takes bf16 on GPUs or with use_cpu, and use_cpu is plain DDP; CPUs compute in it as well.
        transformers.training_args.is_torch_bf16_gpu_available = lambda: True
    trainer = build(job)
    gradients = KeepGradients(job.get("gradients", 0))
    trainer.add_callback(gradients)
    if "stop_at" in job:
        trainer.add_callback(StopAt(job["stop_at"], job.get("kill_rank")))
    trainer.train(resume_from_checkpoint=job.get("resume"))
    final = Path(job["folder"], "final")
    trainer.save_model(str(final))
    facts = {
        "world_size": trainer.args.world_size,
        "distributed_type": str(trainer.accelerator.distributed_type),
        "wrapper": type(trainer.model_wrapped).__name__,
        **spread(trainer),
        "dtypes": sorted({str(parameter.dtype) for parameter in trainer.policy.parameters()}),
        "weights": digest(trainer),
        "played": {name: played(trainer, greedy=name == "greedy") for name in ("sampled", "greedy")},
        "history": trainer.state.log_history,
        "steps": trainer.state.global_step,
        # After the evaluation, in which all processes met: their parts of the log are on disk.
        "outcome": outcome_of(trainer, final),
    }
    rank = trainer.args.process_index
    if gradients.kept:
        save_file(gradients.kept, Path(job["folder"], f"gradients-{rank}.safetensors"))
    Path(job["folder"], f"facts-{rank}.json").write_text(json.dumps(facts), encoding="utf-8")


def digest(trainer: _PolicyTrainer) -> str:
    """SHA-256 of what this process holds of the weights."""
    state = hashlib.sha256()
    for name, tensor in trainer.policy.state_dict().items():
        own = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        state.update(name.encode() + own.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def spread(trainer: _PolicyTrainer) -> dict[str, int]:
    """How much of the trainable parameters, whole, this process and its optimizer hold."""
    trainable = [p for p in trainer.policy.parameters() if p.requires_grad]
    numbers = {"trainable": num_parameters(trainer.policy, trainable_only=True)}
    if trainer.is_fsdp_enabled:
        return {**numbers, "held": sum(p.to_local().numel() for p in trainable)}
    if trainer.is_deepspeed_enabled:
        optimizer = trainer.model_wrapped.optimizer
        if trainer.accelerator.state.deepspeed_plugin.zero_stage == 3:
            held, masters = [p.ds_tensor.numel() for p in trainable], optimizer.fp32_partitioned_groups_flat
        else:
            held, masters = [p.numel() for p in trainable], optimizer.single_partition_of_fp32_groups
        return {**numbers, "held": sum(held), "optimized": sum(master.numel() for master in masters)}
    return numbers


def played(trainer: _PolicyTrainer, greedy: bool) -> list[list[Any]]:
    """The evaluation, episode by episode."""
    return [outcome(record) for record in trainer.play(trainer.evaluation_panel(), greedy=greedy).records]


def outcome(record: EpisodeRecord) -> list[Any]:
    """What must not depend on how many processes and environments an episode was played beside."""
    return [record.key.seed, record.key.slot, list(record.actions), record.episode_return, record.success]
