# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""How much memory a run will take at its peak, told before it starts.

Weights, gradients, optimizer states and a reference model are counted from the shapes of the parameters; what a
forward and backward takes is found by doing them on tensors without data (`pass_without_data.py`). Left out: what
Python and its libraries take before a model is there (about 0.5 GiB on a CPU, 0.5 GiB of context on a GPU), the
allocator's fragments, the environments, and the keys and values kept of append-only prompts. All sizes are bytes of
one process.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import nn

from .._compat import FAKE_TENSOR_FAULTS
from ..allocator import give_back_freed_memory
from ..policy import ScoringPolicy
from ..policy.loading import base_of
from ..policy.prepared_weights import prepared_bytes
from ..types import InvalidInputError, Observation
from .pass_without_data import PassWithoutData, Rows


GIB = 2**30
# Bytes of optimizer state for each byte of a trained parameter; AdamW's two moments where the optimizer is not listed.
_OPTIMIZER_STATES = {"sgd": 0.0, "adafactor": 0.01, "rmsprop": 1.0, "adagrad": 1.0, "lion_32bit": 1.0}
_OPTIMIZER_STATES |= dict.fromkeys(("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit"), 0.5)
_ADAMW_STATES = 2.0


@dataclass(frozen=True)
class MemorySettings:
    """
    What the memory of a run depends on, beside the policy and its prompts.

    Args:
        update_rows (`int`):
            Transitions per forward and backward (`per_device_train_batch_size`).
        acting_rows (`int`):
            Prompts per forward while acting (`per_device_rollout_batch_size`).
        optim (`str`, *optional*, defaults to `"adamw_torch_fused"`):
            Trainer's name of the optimizer.
        bf16 (`bool`, *optional*, defaults to `False`):
            Autocast to bfloat16.
        gradient_checkpointing (`bool`, *optional*, defaults to `False`):
            Recompute the activations of a layer in the backward pass.
        reference (`bool`, *optional*, defaults to `False`):
            Keep a second language model, for a KL penalty.
        cached_prompts (`int`, *optional*, defaults to `0`):
            Prompts whose encoder states are kept, with a frozen encoder.
        strategy (`str`, *optional*, defaults to `"single"`):
            `"single"`, `"ddp"`, `"zero1"`, `"zero2"`, `"zero3"` or `"fsdp"`.
        world_size (`int`, *optional*, defaults to `1`):
            Processes.
        adapter_share (`float`, *optional*):
            Count as if an adapter of this share of the weights were trained instead of them.
    """

    update_rows: int
    acting_rows: int
    optim: str = "adamw_torch_fused"
    bf16: bool = False
    gradient_checkpointing: bool = False
    reference: bool = False
    cached_prompts: int = 0
    strategy: str = "single"
    world_size: int = 1
    adapter_share: float | None = None

    def split(self, part: str) -> float:
        """How many bytes of `"weights"`, `"gradients"` or `"optimizer"` a process holds for each byte of the whole."""
        stage = {"zero1": 1, "zero2": 2, "zero3": 3, "fsdp": 3}.get(self.strategy, 0)
        if stage >= {"optimizer": 1, "gradients": 2, "weights": 3}[part]:
            return 1 / self.world_size
        # DDP's buckets hold every gradient a second time.
        return 2.0 if part == "gradients" and self.strategy == "ddp" else 1.0


@dataclass(frozen=True)
class MemoryEstimate:
    """
    Bytes of one process.

    Args:
        weights (`int`), gradients (`int`), optimizer (`int`):
            Of all parameters, and of those that are trained.
        activations (`int`):
            Most that the forward and backward of a micro-batch hold at a time, gradients of parameters apart, when no
            two of its prompts are alike.
        acting (`int`):
            Most that the forward of an acting batch holds at a time, with the weights that autocast rounds kept.
        reference (`int`):
            The second language model.
        encoder_cache (`int`):
            Encoder states, if every prompt of the run is another one.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    acting: int
    reference: int = 0
    encoder_cache: int = 0

    @property
    def peak(self) -> int:
        """The larger one of updating and acting: between two optimizer steps there are no gradients."""
        lasting = self.weights + self.optimizer + self.reference + self.encoder_cache
        return lasting + max(self.gradients + self.activations, self.acting)

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations of an update": self.activations,
            "or acting": self.acting,
            "reference model": self.reference,
            "encoder states": self.encoder_cache,
        }
        named = ", ".join(f"{name} {in_gib(size)}" for name, size in parts.items() if size)
        return f"{in_gib(self.peak)} GiB ({named})"


def in_gib(size: float) -> str:
    """Bytes in GiB, two digits."""
    return f"{size / GIB:.2f}"


def estimate_memory(policy: ScoringPolicy, rows: Rows, settings: MemorySettings) -> MemoryEstimate:
    """
    Estimate the peak memory of a run.

    Args:
        policy ([`ScoringPolicy`]):
            The policy to train; it may be on the meta device.
        rows (`list[tuple[str, list[str]]]`):
            Typical prompts with their admissible actions; those of a micro-batch are taken to be of the same lengths.
        settings ([`MemorySettings`]):
            The run.

    Returns:
        [`MemoryEstimate`]
    """
    weights = sum(_bytes(parameter) for parameter in policy.parameters())
    weights += sum(buffer.nbytes for buffer in policy.buffers())
    trained = sum(_bytes(parameter) for parameter in policy.parameters() if parameter.requires_grad)
    if settings.adapter_share is not None:
        heads = sum(_bytes(p) for name, p in policy.named_parameters() if "_head." in name)
        trained = int(settings.adapter_share * weights) + heads
        weights += int(settings.adapter_share * weights)
    language_model = sum(_bytes(parameter) for parameter in policy.lm.parameters())
    tokens = [len(policy.packer.prompt_ids(prompt)) for prompt, _ in rows]
    width = policy.get_input_embeddings().embedding_dim
    cache = 0
    if policy.encoder_cache is not None:
        states = math.ceil(settings.cached_prompts * sum(tokens) / len(tokens) * width * 4)
        cache = min(states, policy.encoder_cache.max_bytes)
    one_pass = PassWithoutData(policy, settings.bf16, settings.gradient_checkpointing)
    # Sharded weights are not kept, nor are those that an adapter would leave alone.
    kept = 0
    if settings.bf16 and settings.split("weights") == 1:
        kept = prepared_bytes(base_of(policy.lm), trained=settings.adapter_share is None)
    return MemoryEstimate(
        weights=int(weights * settings.split("weights")),
        gradients=int(trained * settings.split("gradients")),
        optimizer=int(trained * _OPTIMIZER_STATES.get(settings.optim, _ADAMW_STATES) * settings.split("optimizer")),
        activations=one_pass.peak(rows, settings.update_rows, learning=True),
        acting=one_pass.peak(rows, settings.acting_rows, learning=False) + kept,
        reference=int(language_model * settings.split("weights")) if settings.reference else 0,
        encoder_cache=cache,
    )


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still take on a device; on a CPU the container's limit counts too."""
    if device.type == "cuda":
        # What torch has reserved and does not use now is free as well.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    # What this process has freed and kept is free as well.
    give_back_freed_memory()
    available = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()) != "max":
        available = min(available, int(most) - int(used.read_text()))
    # The processes of a machine without GPUs share its memory.
    return available // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def ways_to_save(
    policy: ScoringPolicy, rows: Rows, settings: MemorySettings, available: int
) -> list[tuple[str, MemoryEstimate]]:
    """
    Settings that take less memory, with what they would take.

    Args:
        policy, rows, settings:
            As in [`estimate_memory`].
        available (`int`):
            Bytes that the peak should stay below.

    Returns:
        `list[tuple[str, MemoryEstimate]]`: at most three, the smallest peak first.
    """
    replace = dataclasses.replace
    changes: dict[str, MemorySettings] = {}
    halves = [settings.update_rows >> n for n in range(1, 12) if settings.update_rows >> n >= 1]
    for size in halves:
        name = (
            f"per_device_train_batch_size={size} and per_device_rollout_batch_size={min(size, settings.acting_rows)}"
        )
        changed = replace(settings, update_rows=size, acting_rows=min(size, settings.acting_rows))
        if size == 1 or estimate_memory(policy, rows, changed).peak <= available:
            changes[f"{name} (results stay the same)"] = changed
            break
    if not settings.gradient_checkpointing:
        changes["gradient_checkpointing=true (about a third slower)"] = replace(settings, gradient_checkpointing=True)
    if not policy._hf_peft_config_loaded and settings.adapter_share is None:
        changes["use_peft=true (trains an adapter)"] = replace(settings, adapter_share=0.01)
    if settings.reference:
        changes["beta=0 (no reference model)"] = replace(settings, reference=False)
    if _OPTIMIZER_STATES.get(settings.optim, _ADAMW_STATES) > 0.1:
        changes["optim=adafactor (another optimizer)"] = replace(settings, optim="adafactor")
    estimates = [(name, estimate_memory(policy, rows, changed)) for name, changed in changes.items()]
    return sorted(estimates, key=lambda pair: pair[1].peak)[:3]


def check_memory(policy: ScoringPolicy, rows: Rows, settings: MemorySettings, free: int, refuse: bool = True) -> str:
    """
    Say what a run will take, or refuse it.

    Args:
        policy, rows, settings:
            As in [`estimate_memory`]; the policy is where it will be trained.
        free (`int`):
            Bytes that are free with the policy there, see [`free_memory`].
        refuse (`bool`, *optional*, defaults to `True`):
            Whether too much is an error.

    Returns:
        `str`: one line.

    Raises:
        [`InvalidInputError`]: when it is more than is free, with three settings that take less.
    """
    try:
        estimate = estimate_memory(policy, rows, settings)
    except FAKE_TENSOR_FAULTS as error:
        return (
            f"Memory: not estimated, as a model of type {policy.config.model_type!r} does not run on tensors without "
            f"data ({type(error).__name__}); the run is not checked against what is free."
        )
    available = free + sum(tensor.nbytes for tensor in [*policy.parameters(), *policy.buffers()])
    kind = policy.device.type
    if estimate.peak <= available or not refuse:
        return f"Memory: about {estimate} at the peak of a process; {in_gib(available)} GiB are free on {kind}."
    ways = "; ".join(
        f"({number}) {name}: {in_gib(smaller.peak)} GiB{'' if smaller.peak <= available else ', still too much'}"
        for number, (name, smaller) in enumerate(ways_to_save(policy, rows, settings, available), 1)
    )
    raise InvalidInputError(
        f"The run would take about {estimate} at the peak of a process, and {in_gib(available)} GiB are free on "
        f"{kind}. Settings that take less: {ways}. They can be combined; check_memory=false starts the run "
        "nevertheless."
    )


def typical_rows(policy: ScoringPolicy, observations: Sequence[Observation]) -> Rows:
    """
    Prompts of a full window, which copies of first observations fill. Micro-batches are of equal text, so the middle
    length stands for all of them.

    Args:
        policy ([`ScoringPolicy`]):
            Gives the template.
        observations (`list[Observation]`):
            First observations of some episodes.

    Returns:
        `list[tuple[str, tuple[str, ...]]]`: prompts with their admissible actions.
    """
    template = policy.prompt_template
    # An append-only prompt grows with the episode: ten steps stand for all.
    window = template.num_observations or 10
    rows = []
    for observation in observations:
        actions, sentences = observation.admissible_actions, list(observation.sentences)
        longest = max(actions, key=len)
        text = template.render(observation.mission, [sentences] * window, [longest] * (window - 1), actions)
        rows.append((text, tuple(actions)))
    return rows


def _bytes(parameter: nn.Parameter) -> int:
    # ZeRO-3 leaves an empty tensor and the shape of the whole behind.
    shape = getattr(parameter, "ds_shape", parameter.shape)
    return math.prod(shape) * parameter.element_size()
