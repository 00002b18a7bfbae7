# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A policy's forward and backward on tensors that have shapes and no data, to count the bytes they hold at a time.

The policy's own code runs, on PyTorch's fake tensors, so gradient checkpointing, adapters, autocast and any
architecture are counted as they are, in seconds and without the memory.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import weakref
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from .._compat import FakeTensorMode, attention_implementation
from ..policy import PackedBatch, ScoringPolicy
from ..policy.loading import add_adapter, base_of, fuse_activations, zero_dropout_of_modules
from ..policy.packed_pass import TOKENS_PER_GROUP


Rows = Sequence[tuple[str, Sequence[str]]]


# Tables of a `PackedBatch` with a line for each row, or each decision.
_PER_ROW = ("prompt_ids", "prompt_mask", "layout_of", "action_mask")


class LiveBytes(TorchDispatchMode):
    """
    Counts the bytes of all tensors that are made while it is active and not yet freed.

    Args:
        known (`list[torch.Tensor]`):
            Tensors that are counted elsewhere.
        have_data (`bool`, *optional*, defaults to `False`):
            Whether the tensors have data. Without it nobody knows how many entries a mask chooses: all of them, as no
            prompt of a pass without data is padded.
    """

    def __init__(self, known: Sequence[torch.Tensor], have_data: bool = False) -> None:
        super().__init__()
        self.have_data = have_data
        self.now = self.peak = 0
        self._sizes: dict[int, Any] = {tensor.untyped_storage()._cdata: None for tensor in known}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func is torch.ops.aten.index.Tensor and args[1][0] is not None and args[1][0].dtype == torch.bool
        if by_mask and not self.have_data:
            result = args[0].new_empty(args[0].numel())
        else:
            result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        self._sizes[key] = weakref.ref(storage, lambda _: self._remove(key, size))

    def _remove(self, key: int, size: int) -> None:
        self.now -= size
        del self._sizes[key]


class Step(nn.Module):
    """A forward, and a backward of something like the loss; in one module, because both need the same parameters."""

    def __init__(self, policy: ScoringPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, batch: PackedBatch, learning: bool) -> None:
        output = self.policy(batch)
        if learning:
            log_probs = output.logits.log_softmax(-1)
            (log_probs[:, 0].mean() + output.values.mean()).backward()


class PassWithoutData:
    """
    Runs a policy's forward and backward on fake tensors.

    Args:
        policy ([`ScoringPolicy`]):
            The policy; its weights are not touched. It may be on the meta device, quantised or partitioned.
        bf16 (`bool`, *optional*, defaults to `False`):
            Autocast to bfloat16.
        gradient_checkpointing (`bool`, *optional*, defaults to `False`):
            Recompute the activations of a layer in the backward pass.
    """

    def __init__(self, policy: ScoringPolicy, bf16: bool = False, gradient_checkpointing: bool = False) -> None:
        self.device = policy.device if policy.device.type != "meta" else torch.device("cpu")
        self.bf16 = bf16
        self.gradient_checkpointing = gradient_checkpointing
        self.trained = {name: parameter.requires_grad for name, parameter in policy.named_parameters()}
        needs_skeleton = policy.is_quantized or any(hasattr(p, "ds_shape") for p in policy.parameters())
        self.policy = _skeleton(policy) if needs_skeleton else policy

    def peak(self, rows: Rows, num_rows: int, learning: bool) -> int:
        """Most bytes at a time for so many rows, all as long as the middle one of those given (by length)."""
        row = sorted(rows, key=lambda row: len(self.policy.packer.prompt_ids(row[0])))[len(rows) // 2]
        tokens = len(self.policy.packer.prompt_ids(row[0]))
        group = math.ceil(TOKENS_PER_GROUP.get(self.device.type, TOKENS_PER_GROUP["cuda"]) / tokens)
        if num_rows <= 3 * group:
            return self.run(self.batch(row, num_rows), learning)
        # Groups of rows pass one after the other. Acting frees each before the next; learning keeps what they hold,
        # and from the second one on the sum of each parameter's gradients until all groups have theirs.
        if not learning:
            return self.run(self.batch(row, group), learning)
        two, three = (self.run(self.batch(row, count * group), learning) for count in (2, 3))
        return int(two + (three - two) * (num_rows - 2 * group) / group)

    def batch(self, row: tuple[str, Sequence[str]], count: int) -> PackedBatch:
        """A row so many times, taken to be different ones."""
        prompt, actions = row[0], list(row[1])
        config = self.policy.policy_config
        head_actions = config.actions or actions if config.head == "action" else None
        batch = self.policy.packer.pack([prompt], [actions], head_actions=head_actions)
        per_row = {name: getattr(batch, name).repeat_interleave(count, 0) for name in _PER_ROW}
        return dataclasses.replace(
            batch,
            **per_row,
            row_of=torch.arange(count),
            lengths=batch.lengths * count,
            row_tokens=batch.row_tokens * count,
        )

    def run(self, batch: PackedBatch, learning: bool) -> int:
        """Most bytes at a time for a batch: of its forward, and of its backward if `learning`."""
        fake = FakeTensorMode()
        step, was_training = Step(self.policy), self.policy.training
        checkpointed = self.policy.is_activation_checkpointing
        # Kept states have data. A frozen encoder keeps nothing for the backward pass anyway.
        cache = self.policy.__dict__["encoder_cache"]

        def without_data(tensor: torch.Tensor) -> torch.Tensor:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=self.device)

        with fake:
            stand_ins = {buffer: without_data(buffer) for buffer in step.buffers()}
            for name, parameter in step.named_parameters():
                stand_in = without_data(parameter).requires_grad_(self.trained[name.removeprefix("policy.")])
                if learning and stand_in.requires_grad:
                    # They are counted elsewhere, and there from the second micro-batch of a step on.
                    stand_in.grad = torch.empty_like(stand_in)
                stand_ins[parameter] = stand_in
            # One place a module: `functional_call`'s own tying would put a stand-in back into a module that stands in
            # several places, as T5's embeddings may.
            state = {f"{place}.{name}": stand_ins[tensor] for place, name, tensor in _tensors_by_place(step)}
            tensors = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
            tensors = {name: without_data(t) for name, t in tensors.items() if isinstance(t, torch.Tensor)}
            gradients = [t.grad for t in stand_ins.values() if t.grad is not None]
            known = [*stand_ins.values(), *tensors.values(), *gradients]
        live = LiveBytes(known)
        autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)
        try:
            self.policy.__dict__["encoder_cache"] = None
            self.policy.train(learning)
            self._checkpoint(learning and self.gradient_checkpointing)
            with fake, live, autocast, torch.set_grad_enabled(learning):
                arguments = (dataclasses.replace(batch, **tensors), learning)
                torch.func.functional_call(step, state, arguments, tie_weights=False)
        finally:
            self.policy.__dict__["encoder_cache"] = cache
            self.policy.train(was_training)
            self._checkpoint(checkpointed)
        return live.peak

    def _checkpoint(self, wanted: bool) -> None:
        if wanted and not self.policy.is_activation_checkpointing:
            self.policy.activation_checkpointing_enable({"use_reentrant": False})
        elif not wanted and self.policy.is_activation_checkpointing:
            self.policy.activation_checkpointing_disable()


def _tensors_by_place(step: Step) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Every module once, however often it stands in the tree, with its own parameters and buffers."""
    for place, module in step.named_modules():
        own = chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        yield from ((place, name, tensor) for name, tensor in own)


def _skeleton(policy: ScoringPolicy) -> ScoringPolicy:
    """The same policy without weights, for one whose parameters are quantised or partitioned."""
    base = base_of(policy.lm)
    config = copy.deepcopy(base.config)
    if policy.is_quantized:
        del config.quantization_config
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        lm = auto.from_config(config, dtype=base.dtype, attn_implementation=attention_implementation(base.config))
        if policy.lm is not base:
            lm = add_adapter(lm, policy.lm.active_peft_config, policy.policy_config.base_model)
        zero_dropout_of_modules(lm)
        fuse_activations(lm)
        return ScoringPolicy(lm, policy.tokenizer, copy.deepcopy(policy.policy_config))
