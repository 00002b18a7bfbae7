# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""bf16 autocast: a rollout rounds the weights once, and learning sees none of those copies."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny_models import tiny_t5
from tests.trainer.test_glam_trainer import make_trainer


class Roundings(TorchDispatchMode):
    """Counts how often each parameter is turned into bfloat16."""

    def __init__(self, module):
        super().__init__()
        self.names = {parameter.data_ptr(): name for name, parameter in module.named_parameters()}
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") is torch.bfloat16:
            if (name := self.names.get(args[0].data_ptr())) is not None:
                self.counts[name] += 1
        return func(*args, **kwargs)


def test_a_rollout_rounds_each_weight_once(tmp_path):
    trainer = make_trainer(tiny_t5(tmp_path / "model"), tmp_path, bf16=True, use_cpu=True)
    forwards = []
    trainer.policy.lm.decoder.final_layer_norm.register_forward_hook(lambda *_: forwards.append(1))
    with Roundings(trainer.policy) as roundings:
        trainer._collect_rollout()
    # Eight steps, and the values of what comes after them.
    assert trainer._agent.num_asked == 0 and len(roundings.counts) > 20
    # The shorter way through cross-attention reads these as matrices of each head, which autocast does not remember.
    shorter = {name for name in roundings.counts if "EncDecAttention.k" in name or "EncDecAttention.v" in name}
    assert {roundings.counts[name] for name in roundings.counts.keys() - shorter} == {1}
    assert all(roundings.counts[name] <= len(forwards) for name in shorter)


def test_learning_after_a_rollout_reaches_every_weight(tmp_path):
    trainer = make_trainer(tiny_t5(tmp_path / "model"), tmp_path, bf16=True, use_cpu=True, detach_value=False)
    before = {name: p.detach().clone() for name, p in trainer.policy.named_parameters() if p.requires_grad}
    trainer.train()
    after = dict(trainer.policy.named_parameters())
    same = [name for name, value in before.items() if torch.equal(value, after[name])]
    assert before and not same
