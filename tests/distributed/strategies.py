# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Starts processes under each strategy, by the recipes that ship."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.distributed.ranks import ROOT, Ranks, torchrun


# Everything is split, the small tensors of a tiny model too; DeepSpeed's default leaves those below 100,000 whole.
_ZERO3_OF_A_TINY_MODEL = {
    "zero_optimization": {
        "stage": 3,
        "stage3_param_persistence_threshold": 0,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
}
_ON_A_CPU = {"ddp_backend": "gloo", "bf16": False}
SETTINGS: dict[str, dict[str, Any]] = {
    "ddp": {},
    "zero2": _ON_A_CPU,
    "zero3": _ON_A_CPU,
    "zero3 recipe": _ON_A_CPU,
    "fsdp2": {},
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(strategy: str, folder: Path) -> Ranks:
    """Two processes; `"zero3"` splits everything, `"zero3 recipe"` what the recipe's DeepSpeed would."""
    if strategy == "ddp":
        return Ranks([torchrun(2)], 2, folder)
    if strategy == "fsdp2":
        # What `accelerate launch` tells the processes, which tests/recipes/test_accelerate_recipes.py checks.
        recipe = yaml.safe_load((ROOT / "recipes/accelerate/fsdp2.yaml").read_text(encoding="utf-8"))["fsdp_config"]
        told = {name.upper(): str(value) for name, value in recipe.items()}
        return Ranks([torchrun(2)], 2, folder, {"ACCELERATE_USE_FSDP": "true", **told})
    recipe = ROOT / "recipes" / "accelerate" / f"{strategy.split()[0]}.yaml"
    if strategy == "zero3":
        recipe = _split_everything(recipe, folder)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(recipe)]
    command += ["--num_processes", "2", "--main_process_port", str(free_port())]
    return Ranks([command], 2, folder, {"DS_ACCELERATOR": "cpu"})


def _split_everything(recipe: Path, folder: Path) -> Path:
    """The recipe with DeepSpeed's own file, as a user would bring one; accelerate's settings lack the threshold."""
    settings = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    own = folder / "deepspeed.json"
    own.write_text(json.dumps(_ZERO3_OF_A_TINY_MODEL), encoding="utf-8")
    del settings["mixed_precision"]  # DeepSpeed's file alone may name one
    settings["deepspeed_config"] = {"deepspeed_config_file": str(own), "zero3_init_flag": True}
    changed = folder / "zero3.yaml"
    changed.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return changed
