# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The memory estimate against measured peaks, the refusal with its three ways out, and activation checkpointing."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from tests import tiny_models
from tests.tiny_models import ACTIONS, PROMPTS, tiny_gpt2, tiny_llama, tiny_t5
from tests.toy_envs import CorridorEnv
from trl_glam import GLAMConfig, GLAMTrainer, ScoringPolicy
from trl_glam.agents import ScoringAgent
from trl_glam.cli.main import main
from trl_glam.policy.packed_pass import TOKENS_PER_GROUP
from trl_glam.policy.prepared_weights import prepared_bytes
from trl_glam.trainer import policy_trainer
from trl_glam.trainer.memory import MemorySettings, check_memory, estimate_memory, ways_to_save
from trl_glam.trainer.pass_without_data import LiveBytes, PassWithoutData, Step
from trl_glam.types import InvalidInputError


ROOT = Path(__file__).parents[2]
ROWS = [(prompt, tuple(ACTIONS)) for prompt in PROMPTS]
SETTINGS = MemorySettings(update_rows=8, acting_rows=8)


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def middle_t5(tmp_path_factory) -> str:
    """Large enough that tensors, not the interpreter, make the peak; small enough for seconds."""
    shape = {**tiny_models._T5_SHAPE, "d_model": 256, "d_kv": 64, "d_ff": 1024}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_models, "_T5_SHAPE", shape)
        return tiny_t5(tmp_path_factory.mktemp("middle_t5"))


# -- the estimate


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "job",
    [
        {"settings": {}},
        pytest.param({"settings": {"per_device_train_batch_size": 32}, "lora": True}, marks=pytest.mark.slow),
        # More rows: what libraries load at their first use must be small beside them.
        pytest.param({"settings": {"gradient_checkpointing": True}, "num_envs": 96}, marks=pytest.mark.slow),
    ],
    ids=["full", "lora", "checkpointing"],
)
def test_estimate_is_within_a_fifth_of_the_measured_peak(middle_t5, tmp_path, job):
    job = {"model": middle_t5, "folder": str(tmp_path), **job}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "tests.trainer.memory_run", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    print(said)
    assert said["estimate"] == pytest.approx(said["measured"], rel=0.2), said


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_is_counted_without_data_is_what_a_pass_with_data_holds(make, checkpointing, tmp_path):
    policy = ScoringPolicy.from_pretrained(make(tmp_path))
    one_pass = PassWithoutData(policy, gradient_checkpointing=checkpointing)
    batch = one_pass.batch(ROWS[0], 8)
    counted = one_pass.run(batch, learning=True)
    policy.train()
    if checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    known = [*policy.parameters(), *policy.buffers(), *(p.grad for p in policy.parameters())]
    known += [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
    with LiveBytes(known, have_data=True) as live:
        Step(policy)(batch, True)
    assert counted == pytest.approx(live.peak, rel=0.01)


def test_many_groups_of_rows_are_told_from_few(t5):
    one_pass = PassWithoutData(ScoringPolicy.from_pretrained(t5))
    tokens = len(one_pass.policy.packer.prompt_ids(PROMPTS[0]))
    many = 5 * -(-TOKENS_PER_GROUP["cpu"] // tokens)
    direct = one_pass.run(one_pass.batch(ROWS[0], many), learning=True)
    assert one_pass.peak(ROWS[:1], many, learning=True) == pytest.approx(direct, rel=0.02)


def test_parts_follow_from_the_settings(t5):
    policy = ScoringPolicy.from_pretrained(t5)
    plain = estimate_memory(policy, ROWS, SETTINGS)
    sizes = sum(p.nbytes for p in policy.parameters())
    assert plain.weights >= sizes and plain.gradients == sizes and plain.optimizer == 2 * sizes
    assert plain.peak == plain.weights + plain.optimizer + plain.gradients + plain.activations
    change = {
        "sgd": ({"optim": "sgd"}, "optimizer", 0.0),
        "ddp": ({"strategy": "ddp", "world_size": 2}, "gradients", 2.0),
        "zero2": ({"strategy": "zero2", "world_size": 4}, "gradients", 0.25),
        "zero3": ({"strategy": "zero3", "world_size": 4}, "weights", 0.25),
        "fsdp": ({"strategy": "fsdp", "world_size": 2}, "optimizer", 0.5),
    }
    for settings, part, factor in change.values():
        changed = estimate_memory(policy, ROWS[:1], dataclasses.replace(SETTINGS, **settings))
        assert getattr(changed, part) == int(factor * getattr(plain, part)), settings
    with_reference = estimate_memory(policy, ROWS[:1], dataclasses.replace(SETTINGS, reference=True))
    assert 0.5 * sizes < with_reference.reference < sizes
    assert not policy.training and not policy.is_gradient_checkpointing, "the policy is left as it was"
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_acting_in_bf16_counts_the_weights_that_are_kept(t5):
    policy = ScoringPolicy.from_pretrained(t5)
    policy.lm.lm_head.requires_grad_(False)
    settings = dataclasses.replace(SETTINGS, bf16=True)
    one_pass = PassWithoutData(policy, True, False).peak(ROWS[:1], SETTINGS.acting_rows, learning=False)
    for changes, kept in (
        ({}, prepared_bytes(policy.lm)),
        ({"adapter_share": 0.1}, prepared_bytes(policy.lm, trained=False)),
        ({"strategy": "zero3", "world_size": 2}, 0),
    ):
        assert estimate_memory(policy, ROWS[:1], dataclasses.replace(settings, **changes)).acting == one_pass + kept
    assert prepared_bytes(policy.lm) > prepared_bytes(policy.lm, trained=False) >= 0


def test_frozen_parts_and_cached_prompts_are_counted_as_such(t5):
    policy = ScoringPolicy.from_pretrained(t5)
    whole = estimate_memory(policy, ROWS[:1], SETTINGS)
    policy.freeze_encoder()
    settings = dataclasses.replace(SETTINGS, cached_prompts=1000)
    frozen = estimate_memory(policy, ROWS[:1], settings)
    tokens = len(policy.packer.prompt_ids(PROMPTS[0]))
    assert frozen.encoder_cache == 1000 * tokens * 32 * 4
    assert frozen.gradients < whole.gradients and frozen.activations < whole.activations


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_policy_is_left_as_it_was(t5, init):
    # Random weights give T5's three embeddings one module, pretrained ones one weight in three.
    policy = ScoringPolicy.from_pretrained(t5, init=init)
    before = {
        name: (parameter, parameter.clone()) for name, parameter in policy.named_parameters(remove_duplicate=False)
    }
    estimate_memory(policy, ROWS[:1], SETTINGS)
    after = dict(policy.named_parameters(remove_duplicate=False))
    assert after.keys() == before.keys()
    assert all(after[name] is parameter and torch.equal(parameter, data) for name, (parameter, data) in before.items())


def test_model_that_needs_data_is_not_estimated_and_the_run_says_so(t5, monkeypatch):
    policy = ScoringPolicy.from_pretrained(t5)
    forward = type(policy).forward

    def choosy(self, batch, *args, **kwargs):
        if batch.prompt_ids.sum() > 0:  # asks for a number
            return forward(self, batch, *args, **kwargs)
        raise AssertionError

    monkeypatch.setattr(type(policy), "forward", choosy)
    said = check_memory(policy, ROWS[:1], SETTINGS, free=0)
    assert said.startswith("Memory: not estimated, as a model of type 't5'")


# -- too much


def test_too_much_is_refused_with_three_settings_that_take_less(t5):
    policy = ScoringPolicy.from_pretrained(t5)
    settings = dataclasses.replace(SETTINGS, update_rows=32, acting_rows=32)
    estimate = estimate_memory(policy, ROWS, settings)
    enough = estimate.peak // 3
    ways = ways_to_save(policy, ROWS, settings, enough)
    assert len(ways) == 3 and all(smaller.peak < estimate.peak for _, smaller in ways)
    assert [smaller.peak for _, smaller in ways] == sorted(smaller.peak for _, smaller in ways)
    assert any(name.startswith("per_device_train_batch_size=") and way.peak <= enough for name, way in ways)
    with pytest.raises(InvalidInputError, match=r"\(1\) .* GiB.*; \(2\) .* GiB.*; \(3\) .* GiB.*check_memory=false"):
        check_memory(policy, ROWS, settings, free=0)
    assert "GiB are free on cpu" in check_memory(policy, ROWS, settings, free=0, refuse=False)
    assert "GiB are free on cpu" in check_memory(policy, ROWS, settings, free=2 * estimate.peak)


def test_command_line_says_it_before_training_and_ends_with_2_when_it_is_too_much(t5, tmp_path, capsys, monkeypatch):
    words = ["train", "--config", "quickstart", "--model_name_or_path", t5, "--output_dir", str(tmp_path / "run")]
    words += ["--num_envs", "2", "--rollout_steps", "8", "--minibatch_size", "16", "--total_env_steps", "16", "--plan"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert re.search(r"Memory: about [\d.]+ GiB \(weights [\d.]+, .*\) at the peak of a process; [\d.]+ GiB are", said)
    assert said.index("Memory: about") < said.index("Plan: ")
    monkeypatch.setattr(policy_trainer, "free_memory", lambda device: 0)
    assert main(words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.count("GiB") >= 4 and "(3)" in error
    assert main([*words, "--check_memory", "false"]) == 0


# -- activation checkpointing


class Kept:
    """Counts what autograd keeps for the backward pass."""

    bytes = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        self.bytes += tensor.nbytes
        return tensor


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_checkpointing_gives_the_same_gradients_from_less_memory(make, lora, tmp_path):
    peft_config = LoraConfig(r=2, target_modules="all-linear") if lora else None
    torch.manual_seed(0)
    policy = ScoringPolicy.from_pretrained(make(tmp_path), peft_config=peft_config)
    gradients, held = [], []
    for checkpointing in (False, True):
        if checkpointing:
            policy.gradient_checkpointing_enable({"use_reentrant": False})
        policy.train().zero_grad()
        kept = Kept()
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
            output = policy(policy.pack(PROMPTS, [ACTIONS] * len(PROMPTS)))
        held.append(kept.bytes)
        (output.logits.log_softmax(-1)[:, 0].sum() + output.values.square().sum()).backward()
        gradients.append({name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None})
    assert held[1] < held[0]
    assert gradients[0].keys() == gradients[1].keys() and gradients[0]
    for name, gradient in gradients[0].items():
        # By the norm, as everywhere: single elements of a large gradient round to more than a small one has.
        assert (gradients[1][name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-9, name


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama])
def test_checkpointing_is_on_while_learning_and_off_while_acting(make, tmp_path, monkeypatch):
    model, seen = make(tmp_path / "model"), {"acting": set(), "learning": set()}
    evaluate, compute_loss = ScoringAgent.evaluate, GLAMTrainer.compute_loss

    def acting(agent, *args, **kwargs):
        seen["acting"].add(agent.policy.is_gradient_checkpointing)
        return evaluate(agent, *args, **kwargs)

    def learning(trainer, *args, **kwargs):
        seen["learning"].add(trainer.policy.is_gradient_checkpointing)
        return compute_loss(trainer, *args, **kwargs)

    monkeypatch.setattr(ScoringAgent, "evaluate", acting)
    monkeypatch.setattr(GLAMTrainer, "compute_loss", learning)
    weights = []
    for checkpointing in (False, True):
        args = GLAMConfig(
            str(tmp_path), num_envs=4, rollout_steps=8, minibatch_size=16, total_env_steps=64, eval_strategy="steps",
            eval_steps=3, eval_episodes=4, calibration_prompts=4, save_strategy="no", report_to="none", seed=0,
            disable_tqdm=True, gradient_checkpointing=checkpointing, optim="sgd",
        )  # fmt: skip
        trainer = GLAMTrainer(model, args, environment_factory=CorridorEnv)
        trainer.train()
        weights.append(trainer.policy.state_dict())
        assert seen == {"acting": {False}, "learning": {checkpointing}}
        seen = {"acting": set(), "learning": set()}
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-4, atol=1e-5, msg=name)
