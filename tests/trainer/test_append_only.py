# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""PPO with an append-only prompt and a causal model: an episode is read once, and nothing else changes."""

import numpy as np
import pytest
import torch

from tests.tiny_models import tiny_llama, tiny_t5
from tests.toy_envs import CorridorEnv
from tests.trainer.test_glam_trainer import StopAt, assert_same_run, first_rollout, gradients, make_trainer
from trl_glam import PromptTemplate
from trl_glam.agents import ScoringAgent
from trl_glam.policy import EpisodeBatch, PackedBatch
from trl_glam.types import InvalidInputError


def corridor():
    # Never reaches the end: episodes go over the edge of a rollout, and are truncated in the middle of one.
    return CorridorEnv(length=99, max_steps=6)


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> str:
    return tiny_llama(tmp_path_factory.mktemp("llama"), max_positions=2048)


def make(llama, tmp_path, **kwargs):
    return make_trainer(llama, tmp_path, **{"env": corridor, "append_only": True, **kwargs})


def test_first_pass_ratios_are_one(llama, tmp_path):
    trainer = make(llama, tmp_path, freeze_embeddings=False, value_head="paper")
    for _ in range(2):
        # The second update begins inside of episodes, with prompts that were never acted on with these weights.
        inputs = first_rollout(trainer)
        assert isinstance(inputs["packed"], EpisodeBatch)
        output = trainer.model(inputs["packed"])
        log_probs = output.logits.log_softmax(-1)
        taken = inputs["batch"].actions[:, None]
        assert ((log_probs - inputs["batch"].old_log_probs).gather(1, taken).exp() - 1).abs().max() <= 1e-5
        torch.testing.assert_close(output.values, inputs["batch"].old_values, atol=1e-5, rtol=1e-5)
        trainer._queue.clear()


def test_a_minibatch_is_read_as_whole_episodes(llama, tmp_path):
    trainer = make(llama, tmp_path, per_device_train_batch_size=16)
    inputs = first_rollout(trainer)
    packed, rollout, indices = inputs["packed"], trainer._rollout, trainer._micro_batches[-1]
    prompts = {rollout.prompts[p] for p in rollout.prompt_ids.reshape(-1)[indices]}
    last = {p for p in prompts if not any(other != p and other.startswith(p) for other in prompts)}
    # Two environments of eight steps, whose episodes have six: at most two texts each.
    assert len(packed) == 16 and len(packed.lengths) == len(last) <= 4
    assert packed.useful_tokens < sum(len(trainer.policy.packer.prompt_ids(p)) for p in prompts) / 2


def test_loss_and_gradients_are_those_of_one_row_a_prompt(llama, tmp_path):
    found = []
    for shares in (True, False):
        trainer = make(llama, tmp_path, value_head="paper", freeze_embeddings=False, per_device_train_batch_size=16)
        inputs = first_rollout(trainer)
        indices = trainer._micro_batches[-1]
        if not shares:
            trainer.policy._reads_episodes = False
            inputs = trainer._make_inputs(indices)
            assert isinstance(inputs["packed"], PackedBatch)
        # Away from a ratio of 1, where clipping hides nothing.
        inputs["batch"].old_log_probs += 0.05 * torch.arange(len(indices))[:, None] / len(indices)
        loss = trainer.compute_loss(trainer.model, inputs)
        loss.backward()
        found.append((loss.item(), gradients(trainer)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for name, expected in found[1][1].items():
        assert (found[0][1][name] - expected).norm() <= 1e-5 * expected.norm() + 1e-12, name


@pytest.mark.parametrize("micro", [8, 2])
def test_micro_batches_give_the_gradient_of_the_whole(llama, tmp_path, micro):
    found = []
    for size in (16, micro):
        trainer = make(llama, tmp_path, per_device_train_batch_size=size)
        trainer.model.train()
        # One optimizer step, by hand.
        for _ in range(trainer.args.gradient_accumulation_steps):
            loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs({}))
            (loss / trainer.args.gradient_accumulation_steps).backward()
        assert len(trainer._micro_batches) == 16 // size
        found.append(gradients(trainer))
    for name, grad in found[0].items():
        assert (found[1][name] - grad).norm() <= 1e-5 * grad.norm() + 1e-9, name


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_acting_computes_no_padding(llama, tmp_path, bf16):
    trainer = make(llama, tmp_path, bf16=bf16, use_cpu=True)
    trainer._log_rollout = lambda *_: None  # it begins the counts anew
    trainer._collect_rollout()
    assert trainer._agent.num_computed_tokens == trainer._agent.num_tokens > 0


def test_what_was_read_is_never_used_with_other_weights(llama, tmp_path, monkeypatch):
    trainer = make(llama, tmp_path)
    kept, forget = [], ScoringAgent.forget

    def spy(agent):
        kept.append(agent.prefixes.num_kept)
        forget(agent)
        assert agent.prefixes.num_kept == 0 and not agent.prefixes._keys

    monkeypatch.setattr(ScoringAgent, "forget", spy)
    trainer.train()
    assert kept[0] == 0 and kept[1] > 0 and len(kept) == trainer.update == 2


def test_a_rollout_reads_each_episode_once_its_terminal_observation_too(llama, tmp_path):
    trainer = make(llama, tmp_path)
    first_rollout(trainer)
    policy, agent = trainer.policy, trainer._agent
    agent.forget()
    agent.num_tokens = 0
    rollout, steps = trainer._play()
    trainer._value_the_ends(rollout, steps)
    assert np.count_nonzero(rollout.ended) == 4
    last = {}
    for n in range(4):
        texts = []
        for row in steps:
            texts.append(row[n].observation.prompt)
            if row[n].final_observation is not None:
                texts.append(row[n].final_observation.prompt)
        texts.append(trainer._runner.observations[n].prompt)
        for text in texts:
            begins = [old for old in last if text.startswith(old)]
            for old in begins:
                del last[old]
            last[text] = None
    texts = sum(len(policy.packer.prompt_ids(text)) for text in last)
    branches = max(len(policy.packer.candidates.layout(s, True).branch_ids) for s in rollout.action_sets)
    decisions = rollout.actions.size + len(last)
    assert texts < agent.num_tokens <= texts + decisions * branches


def test_run_resumed_inside_an_update_equals_the_unbroken_one(llama, tmp_path):
    save_steps = 3

    def run(folder, callbacks=None, resume=None):
        trainer = make(
            llama,
            folder,
            callbacks=callbacks,
            save_strategy="steps",
            save_steps=save_steps,
            total_env_steps=96,
            learning_rate=1e-3,
            per_device_train_batch_size=8,
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    unbroken = run(tmp_path / "a")
    run(tmp_path / "b", callbacks=[StopAt(save_steps + 1)])
    checkpoint = tmp_path / "b" / f"checkpoint-{save_steps}"
    resumed = run(tmp_path / "b", resume=str(checkpoint))
    assert_same_run(unbroken, resumed)
    # Keys and values of what was read are in no file: a state of a few kilobytes, and the model's own tensors.
    from safetensors import safe_open

    names = set()
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, "np") as file:
            names |= set(file.keys())
    assert {"actions", "advantages", "log_probs", "prompt_ids"} <= names
    assert not [name for name in names if "key" in name or "cache" in name]
    assert (checkpoint / "trainer_state-0.json").stat().st_size < 20_000


def test_kl_to_the_reference_is_zero_at_the_start(llama, tmp_path):
    trainer = make(llama, tmp_path, beta=0.1)
    first_rollout(trainer)
    rollout = trainer._rollout
    present = np.isfinite(rollout.log_probs)
    np.testing.assert_allclose(rollout.reference_log_probs[present], rollout.log_probs[present], atol=1e-5)


def test_t5_takes_the_usual_minibatches(tmp_path):
    trainer = make(tiny_t5(tmp_path / "t5"), tmp_path, minibatch_size=4)
    assert trainer.policy.prompt_template.append_only and not trainer.policy.shares_prefixes
    assert isinstance(first_rollout(trainer)["packed"], PackedBatch)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_observations": 3}, "has no window: leave one of them out"),
        ({"minibatch_size": 4}, r"minibatch_size=4 .* all 8 rollout_steps .* choose one of \[8, 16, 32\]"),
    ],
)
def test_settings_that_do_not_go_together_are_one_clear_error(llama, tmp_path, kwargs, message):
    with pytest.raises(InvalidInputError, match=message):
        make(llama, tmp_path, **kwargs)


def test_append_only_against_a_given_window_is_an_error(llama, tmp_path):
    from trl_glam import GLAMConfig, GLAMTrainer

    args = GLAMConfig(output_dir=str(tmp_path), append_only=True, report_to="none")
    with pytest.raises(
        InvalidInputError, match="append_only=True differs from the given prompt_template, whose window"
    ):
        GLAMTrainer(llama, args, environment_factory=corridor, prompt_template=PromptTemplate(2))
    args = GLAMConfig(output_dir=str(tmp_path), num_observations=2, report_to="none")
    with pytest.raises(InvalidInputError, match="num_observations=2 differs from .*, which is append-only"):
        GLAMTrainer(llama, args, environment_factory=corridor, prompt_template=PromptTemplate(None))
