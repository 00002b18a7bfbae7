# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What the trainers need to know of how a model is spread over processes: that it is spread as was asked for, how
large it is, and how to read it while no engine of DeepSpeed does it.

accelerate falls back without a word: to one process, or to plain DDP. `check_strategy` makes errors of that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from accelerate.utils.constants import FSDP_MODEL_NAME
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from ..types import InvalidInputError


def started_processes() -> int:
    """Processes that the launcher has started, by the environment: `torchrun`, `accelerate launch` or MPI."""
    names = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    return int(next((os.environ[name] for name in names if name in os.environ), "1"))


def check_started(asked: int | None) -> None:
    """
    Refuse another number of processes than the one asked for.

    Args:
        asked (`int`, *optional*):
            `num_processes` of the settings.

    Raises:
        [`InvalidInputError`]: when another number was started.
    """
    started = started_processes()
    if asked is not None and asked != started:
        raise InvalidInputError(
            f"num_processes={asked} is asked for, and {started} started. On GPUs: accelerate launch --num_processes "
            f"{asked} ...; on CPUs: torchrun --nproc_per_node {asked} ... --use_cpu true (`accelerate launch --cpu` "
            "starts a single process)."
        )
    # accelerate's launcher names a master where it was told to start several, and on a CPU then starts one.
    if started == 1 and "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ:
        raise InvalidInputError(
            "accelerate launch was asked for several processes and started one, as it does on a CPU; use torchrun "
            "--nproc_per_node N ... --use_cpu true there. For one process: accelerate launch --num_processes 1."
        )


def check_deepspeed_field(found: int) -> None:
    """
    Refuse the setting `deepspeed` where transformers does not find the other processes with it: on CPUs it hands
    DeepSpeed no backend.

    Args:
        found (`int`):
            `world_size` of the settings.

    Raises:
        [`InvalidInputError`]: when the launcher has started another number of processes.
    """
    if found != started_processes():
        raise InvalidInputError(
            f"`deepspeed` is given in the settings, and {found} of {started_processes()} started processes is found, "
            "as happens on CPUs; leave it out and let the launcher bring it: DS_ACCELERATOR=cpu accelerate launch "
            "--config_file recipes/accelerate/zero3.yaml, or a file of your own with deepspeed_config_file in it."
        )


def check_strategy(accelerator: Accelerator) -> None:
    """
    Refuse a run that is not spread over the processes as the launcher was told.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Of the trainer.

    Raises:
        [`InvalidInputError`]: fewer processes than were started; DeepSpeed or FSDP asked for and not there; settings
        of theirs with which a model could not be read or saved.
    """
    if accelerator.num_processes != started_processes():
        raise InvalidInputError(
            f"The launcher started {started_processes()} processes, and each would train by itself: there is no GPU "
            "for them. On CPUs pass --use_cpu true (plain DDP), or set DS_ACCELERATOR=cpu for DeepSpeed."
        )
    kind = accelerator.distributed_type
    for name, wanted in (("DEEPSPEED", DistributedType.DEEPSPEED), ("FSDP", DistributedType.FSDP)):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true" and kind != wanted:
            advice = (
                "set DS_ACCELERATOR=cpu, and leave use_cpu and `accelerate launch --cpu` out"
                if wanted == DistributedType.DEEPSPEED
                else "FSDP needs GPUs here; use recipes/accelerate/zero3.yaml with DS_ACCELERATOR=cpu, or plain DDP"
            )
            raise InvalidInputError(f"{name} is asked for, and accelerate fell back to {kind.value}: {advice}.")
    if kind == DistributedType.DEEPSPEED:
        plugin = accelerator.state.deepspeed_plugin
        if plugin.zero_stage not in (1, 2, 3):
            raise InvalidInputError(
                f"DeepSpeed is asked for with zero_stage={plugin.zero_stage}, which splits nothing; choose 1, 2 or 3, "
                "or plain DDP."
            )
        if plugin.zero_stage == 3 and not (plugin.zero3_init_flag and plugin.zero3_save_16bit_model):
            raise InvalidInputError(
                "ZeRO-3 needs zero3_init_flag: true (the weights are split while they are loaded) and "
                "zero3_save_16bit_model: true (a save gathers them); see recipes/accelerate/zero3.yaml."
            )
    if kind == DistributedType.FSDP:
        plugin = accelerator.state.fsdp_plugin
        whole = "FULL_STATE_DICT" in str(plugin.state_dict_type)
        if plugin.fsdp_version != 2 or not whole or plugin.cpu_ram_efficient_loading:
            raise InvalidInputError(
                "FSDP needs fsdp_version: 2, fsdp_state_dict_type: FULL_STATE_DICT (a save gathers the weights) and "
                "fsdp_cpu_ram_efficient_loading: false (calibration reads the model on every process); see "
                "recipes/accelerate/fsdp2.yaml."
            )


def autocast_only(accelerator: Accelerator) -> None:
    """
    Compute in bfloat16 with float32 weights and heads, as elsewhere; DeepSpeed and FSDP would turn all of them into
    bfloat16. To be called before the model is wrapped.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        config = accelerator.state.deepspeed_plugin.hf_ds_config.config
        config["bf16"] = {"enabled": False}
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    elif accelerator.distributed_type == DistributedType.FSDP:
        accelerator.state.fsdp_plugin.mixed_precision_policy = None


def load_fsdp_weights(accelerator: Accelerator, model: nn.Module, folder: str | os.PathLike) -> None:
    """
    Read the weights that FSDP 2 has written into a checkpoint. accelerate's own way fails where one parameter has
    several names, as T5's embeddings have: the file holds them all, and PyTorch takes one of each.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Of the trainer.
        model (`nn.Module`):
            The model, split. All processes call; the first one reads and sends each his part.
        folder (`str` or `os.PathLike`):
            The checkpoint.
    """
    state: dict[str, torch.Tensor] = {}
    if accelerator.is_main_process:
        whole = torch.load(Path(folder, f"{FSDP_MODEL_NAME}.bin"), weights_only=True)
        state = {name: whole[name] for name, _ in model.named_parameters()}
        # Buffers that no state holds are computed anew.
        state |= {name: whole[name] for name, _ in model.named_buffers() if name in whole}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_model_state_dict(model, state, options=options)


def is_partitioned(parameter: nn.Parameter) -> bool:
    """Whether ZeRO-3 has split a parameter: each process then holds a part of it, and what is read is empty."""
    return hasattr(parameter, "ds_id")


def num_parameters(model: PreTrainedModel, trainable_only: bool = False) -> int:
    """Parameters of a model, whole, however it is spread over processes."""
    elsewhere = sum(
        parameter.ds_numel - parameter.numel()
        for parameter in model.parameters()
        if is_partitioned(parameter) and (parameter.requires_grad or not trainable_only)
    )
    return model.num_parameters(only_trainable=trainable_only) + elsewhere


def whole_norm(norm: torch.Tensor | float) -> float:
    """The number in the norm of a gradient; of one that FSDP 2 has split, over all processes."""
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


@contextmanager
def whole_layers(module: nn.Module) -> Iterator[None]:
    """
    Make forwards possible before DeepSpeed's engine is there: inside, every layer that ZeRO-3 has split is gathered
    for its own forward, and split again after it. All processes must call the same layers in the same order.

    Args:
        module (`nn.Module`):
            The model, not wrapped. One that is not split is left alone.
    """
    layers = [
        layer
        for layer in module.modules()
        if any(is_partitioned(parameter) for parameter in layer.parameters(recurse=False))
    ]
    if not layers:
        yield
        return
    import deepspeed

    gathered: dict[int, Any] = {}

    def gather(layer: nn.Module, args: Any) -> None:
        gathered[id(layer)] = deepspeed.zero.GatheredParameters(list(layer.parameters(recurse=False)))
        gathered[id(layer)].__enter__()

    def split(layer: nn.Module, args: Any, output: Any) -> None:
        gathered.pop(id(layer)).__exit__(None, None, None)

    with ExitStack() as hooks, torch.no_grad():
        for layer in layers:
            hooks.callback(layer.register_forward_pre_hook(gather).remove)
            hooks.callback(layer.register_forward_hook(split, always_call=True).remove)
        yield
