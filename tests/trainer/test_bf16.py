# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""bf16 autocast: a rollout rounds the weights once, learning sees none of those copies, environments none of it."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny_models import tiny_t5
from tests.toy_envs import CorridorEnv, LampEnv
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


def test_every_rollout_acts_with_the_weights_of_its_time(tmp_path):
    trainer = make_trainer(
        tiny_t5(tmp_path / "model"),
        tmp_path,
        env=LampEnv,
        bf16=True,
        use_cpu=True,
        learning_rate=1e-2,
        total_env_steps=96,
    )
    collect, seen = trainer._collect_rollout, []

    def checked():
        rollout = collect()
        prompts = [rollout.prompts[i] for i in rollout.prompt_ids[-1]]
        actions = [rollout.action_sets[i] for i in rollout.action_set_ids[-1]]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            expected = trainer.policy(trainer.policy.pack(prompts, actions)).logits.log_softmax(-1)
        for number, row in enumerate(actions):
            acted = torch.from_numpy(rollout.log_probs[-1, number, : len(row)])
            # The output layer is read in float32, where the prepared one sums in another order.
            torch.testing.assert_close(acted, expected[number, : len(row)], atol=1e-5, rtol=1e-5)
        seen.append(expected)
        return rollout

    trainer._collect_rollout = checked
    trainer.train()
    assert len(seen) == 3
    assert all((seen[i][:, 0] - seen[i + 1][:, 0]).abs().max() > 0.05 for i in (0, 1))


class Exact(CorridorEnv):
    """Notices when its own products are rounded."""

    def step(self, action):
        third = torch.full((1, 1), 1 / 3)
        assert third.mm(third).dtype == torch.float32
        return super().step(action)


@pytest.mark.parametrize("trained", [False, True], ids=["before training", "while training"])
def test_environments_are_outside_of_autocast_and_the_policy_is_inside(trained, tmp_path):
    trainer = make_trainer(tiny_t5(tmp_path / "model"), tmp_path, env=Exact, bf16=True, use_cpu=True)
    rounded = []
    trainer.policy.lm.decoder.final_layer_norm.register_forward_hook(
        lambda *_: rounded.append(torch.is_autocast_enabled("cpu"))
    )
    if trained:
        trainer.train()
    trainer.evaluate()
    assert rounded and all(rounded)


def test_a_first_pass_learns_on_the_probabilities_that_were_acted_with(tmp_path):
    # Always the same three actions: a row beside longer ones is padded, which moves its last digits.
    once = {"total_env_steps": 32, "num_ppo_epochs": 1, "minibatch_size": 32, "logging_steps": 1}
    trainer = make_trainer(tiny_t5(tmp_path / "model"), tmp_path, env=LampEnv, bf16=True, use_cpu=True, **once)
    trainer.train()
    deviations = [log["ppo/ratio_deviation"] for log in trainer.state.log_history if "ppo/ratio_deviation" in log]
    assert deviations and max(deviations) < 1e-4
