# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Keeps the batch that gave NaN or infinity, so that it can be looked at: training itself cannot go on.

A folder `not_finite/step-S-rank-R` in `output_dir` holds `batch.json` (what was not finite, the prompts with their
actions, the numbers of the loss) and `batch.safetensors` (every tensor of the batch and of the policy's output).
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..policy import EpisodeBatch, PackedBatch
from ..types import NotFiniteError


FOLDER = "not_finite"
BATCH_JSON, BATCH_TENSORS = "batch.json", "batch.safetensors"


def keep_batch(
    output_dir: str, step: int, rank: int, facts: dict[str, Any], tensors: dict[str, torch.Tensor] | None = None
) -> Path:
    """
    Write a batch.

    Args:
        output_dir (`str`):
            Folder of the run.
        step (`int`):
            Optimizer step.
        rank (`int`):
            Process.
        facts (`dict[str, Any]`):
            What was found and where, JSON-serialisable; NaN and infinities are allowed.
        tensors (`dict[str, torch.Tensor]`, *optional*):
            By name.

    Returns:
        `Path`: the folder it is in.
    """
    folder = Path(output_dir, FOLDER, f"step-{step}-rank-{rank}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BATCH_JSON).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if tensors:
        # A clone each: safetensors takes no shared memory.
        whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        save_file(whole, str(folder / BATCH_TENSORS))
    return folder


def packed_tensors(packed: PackedBatch | EpisodeBatch) -> dict[str, torch.Tensor]:
    """The tensors of a packed batch by their names, and the lengths of its prompts."""
    values = {field.name: getattr(packed, field.name) for field in fields(packed)}
    tensors = {f"packed.{name}": value for name, value in values.items() if isinstance(value, torch.Tensor)}
    return {**tensors, "packed.lengths": torch.tensor(packed.lengths)}


def not_finite(
    what: str,
    output_dir: str,
    step: int,
    rank: int,
    facts: dict[str, Any],
    tensors: dict[str, torch.Tensor] | None = None,
) -> NotFiniteError:
    """The error that ends a run, after its batch was kept; arguments as in [`keep_batch`]."""
    folder = keep_batch(output_dir, step, rank, {"what": what, "optimizer_step": step, **facts}, tensors)
    return NotFiniteError(
        f"{what} at optimizer step {step}. The batch is kept in {folder}. Lower learning_rate, or check the rewards; "
        f"the checkpoints in {output_dir} are from before."
    )
