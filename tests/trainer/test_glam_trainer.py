# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""GLAMTrainer on tiny random models and environments known in closed form."""

import json

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from tests.policy.test_exactness import float64_policy
from tests.tiny_models import tiny_llama, tiny_t5
from tests.toy_envs import CorridorEnv, LampEnv
from trl_glam import GLAMConfig, GLAMTrainer, PromptTemplate, ScoringPolicy
from trl_glam.trainer.ppo_loss import ppo_loss
from trl_glam.types import InvalidInputError


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


def make_trainer(model, tmp_path, env=CorridorEnv, callbacks=None, **kwargs) -> GLAMTrainer:
    settings = {
        "output_dir": str(tmp_path),
        "num_envs": 4,
        "rollout_steps": 8,
        "minibatch_size": 16,
        "total_env_steps": 64,
        "num_ppo_epochs": 2,
        "eval_episodes": 8,
        "calibration_prompts": 4,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }
    args = GLAMConfig(**{**settings, **kwargs})
    return GLAMTrainer(model, args, environment_factory=env, callbacks=callbacks)


def first_rollout(trainer):
    """The trainer's own first rollout and its first micro-batch."""
    trainer.model.train()
    return trainer._prepare_inputs({})


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step >= self.step


class Watch(TrainerCallback):
    """Remembers gradient norms, of the language model and of the value head, as the optimizer sees them."""

    def __init__(self):
        self.norms = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        for part in (model.lm, model.value_head):
            grads = [p.grad.norm() for p in part.parameters() if p.grad is not None]
            self.norms.append(torch.linalg.vector_norm(torch.stack(grads)).item())


def test_the_packer_holds_a_whole_rollout(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, num_envs=256, rollout_steps=32, minibatch_size=256)
    assert trainer.policy.packer.max_prompts >= 256 * 32


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama], ids=["t5", "llama"])
def test_first_pass_ratios_are_one(make, tmp_path):
    trainer = make_trainer(make(tmp_path / "model"), tmp_path, freeze_embeddings=False)
    inputs = first_rollout(trainer)
    output = trainer.model(inputs["packed"])
    log_probs = output.logits.log_softmax(-1)
    old = inputs["batch"].old_log_probs
    assert (log_probs.exp() - old.exp()).abs().max() <= 1e-5
    taken = inputs["batch"].actions[:, None]
    assert ((log_probs - old).gather(1, taken).exp() - 1).abs().max() <= 1e-5
    torch.testing.assert_close(output.values, inputs["batch"].old_values, atol=1e-5, rtol=1e-5)


def test_two_passes_in_train_mode_are_equal_bit_for_bit(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path)
    packed = first_rollout(trainer)["packed"]
    trainer.model.train()
    first, second = trainer.model(packed), trainer.model(packed)
    assert torch.equal(first.logits, second.logits) and torch.equal(first.values, second.values)


def test_advantages_are_standardised_over_the_rollout_and_returns_are_not(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path)
    first_rollout(trainer)
    rollout = trainer._rollout
    assert abs(rollout.advantages.mean()) < 1e-6 and abs(rollout.advantages.std() - 1) < 1e-4
    assert rollout.returns.mean() > 0.5


def test_truncated_episodes_are_worth_the_value_of_their_terminal_observation(t5, tmp_path):
    for bootstrap in (True, False):
        trainer = make_trainer(
            t5, tmp_path, env=lambda: CorridorEnv(length=99, max_steps=3), bootstrap_truncated=bootstrap
        )
        # A critic that is not zero, so that the bootstrap shows.
        torch.nn.init.constant_(trainer.policy.value_head.mlp[-1].bias, 2.0)
        first_rollout(trainer)
        rollout = trainer._rollout
        assert rollout.ended[2].all() and rollout.ended[5].all()
        assert (rollout.terminal_values[rollout.ended] == (2.0 if bootstrap else 0.0)).all()
        # One step before a time limit, reward 1: the return is 1 + gamma * V(terminal) when bootstrapped.
        expected = 1 + 0.95 * 2.0 if bootstrap else 1.0
        np.testing.assert_allclose(rollout.returns[2], expected, rtol=1e-5)


def test_reward_is_scaled_in_the_loss_and_raw_in_the_metrics(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, reward_scale=20.0, total_env_steps=32)
    trainer.train()
    row = trainer.state.log_history[0]
    assert 1 <= row["rollout/return"] <= 5
    assert trainer._rollout.rewards.max() == 20.0


def test_gradients_are_really_clipped(t5, tmp_path):
    watch = Watch()
    trainer = make_trainer(t5, tmp_path, max_grad_norm=1e-3, callbacks=[watch], freeze_embeddings=False)
    trainer.train()
    assert len(watch.norms) == 2 * 8
    assert 0.999e-3 <= max(watch.norms) <= 1.001e-3
    assert max(row.get("grad_norm", 0) for row in trainer.state.log_history) > 1e-2


def gradients(trainer):
    return {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


def test_accumulating_micro_batches_gives_the_gradient_of_the_whole(t5, tmp_path):
    grads = []
    for micro in (16, 2):  # one micro-batch of 16, eight of 2
        grabbed = {}

        class Grab(TrainerCallback):
            def on_pre_optimizer_step(self, args, state, control, model=None, store=grabbed, **kwargs):
                if not store:
                    store.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})

        sizes = {"per_device_train_batch_size": micro, "total_env_steps": 32}
        trainer = make_trainer(float64_policy(t5), tmp_path, max_grad_norm=0.0, callbacks=[Grab()], **sizes)
        trainer.train()
        grads.append(grabbed)
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        assert grad.dtype == torch.float64
        assert (grads[1][name] - grad).norm() <= 1e-9 * grad.norm() + 1e-12, name


def test_detached_value_head_leaves_the_language_model_alone_and_the_papers_does_not(t5, tmp_path):
    for head, reaches in (("standardized", False), ("paper", True)):
        trainer = make_trainer(t5, tmp_path, value_head=head)
        inputs = first_rollout(trainer)
        output = trainer.model(inputs["packed"])
        output.values.square().sum().backward()
        language_model = [
            p.grad for n, p in trainer.model.named_parameters() if n.startswith("lm.") and p.grad is not None
        ]
        assert any(grad.abs().max() > 0 for grad in language_model) == reaches


def test_value_head_has_a_learning_rate_of_its_own(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, learning_rate=1e-5, value_learning_rate=3e-3)
    trainer.create_optimizer()
    value = {id(p) for p in trainer.policy.value_head.parameters()}
    for group in trainer.optimizer.param_groups:
        assert {group["lr"]} == ({3e-3} if id(group["params"][0]) in value else {1e-5})
    counted = sum(len(group["params"]) for group in trainer.optimizer.param_groups)
    assert counted == sum(p.requires_grad for p in trainer.model.parameters())


def test_value_warmup_trains_the_value_alone(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, value_warmup_steps=100)
    before = {n: p.clone() for n, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {n.split(".")[0] for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"value_head"}


def test_target_kl_drops_the_rest_of_the_passes_and_the_run_still_takes_its_steps(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, target_kl=1e-6, learning_rate=1e-2, warmup_steps=0, num_ppo_epochs=4)
    trainer.train()
    assert trainer.env_steps == 64 and trainer.update == 2
    # The first step of a rollout has KL 0, the second one measures the first step's.
    assert trainer.state.global_step == 4 < trainer.args.max_steps == 16
    assert any("ppo/dropped_passes" in row for row in trainer.state.log_history)


def test_kl_to_the_reference_starts_at_zero_and_holds_the_policy(t5, tmp_path):
    entropies = {}
    for beta in (0.0, 100.0):
        trainer = make_trainer(
            t5, tmp_path, env=LampEnv, beta=beta, learning_rate=1e-3, total_env_steps=256, temperature=1.0
        )
        trainer.train()
        rows = [row for row in trainer.state.log_history if "ppo/entropy" in row]
        entropies[beta] = abs(rows[-1]["ppo/entropy"] - rows[0]["ppo/entropy"])
        if beta:
            assert rows[0]["ppo/reference_kl"] < 1e-2
    assert entropies[100.0] < entropies[0.0]


def test_logs_carry_what_a_user_looks_for(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, env=LampEnv)
    trainer.train()
    row = trainer.state.log_history[1]
    names = "success_rate return length episodes steps_per_second success_rate/red share_computed tokens_per_step"
    assert {f"rollout/{name}" for name in names.split()} <= row.keys()
    names = "policy_loss value_loss entropy approx_kl clipfrac explained_variance steps_per_second tokens_per_step"
    assert {f"ppo/{name}" for name in names.split()} <= row.keys()
    # Three lamps: three prompts of equal length a rollout, and three in each of the four micro-batches.
    assert row["rollout/share_computed"] < 0.4 and row["ppo/share_computed"] == pytest.approx(3 / 16, abs=0.07)
    assert 0.9 < row["rollout/useful_tokens"] <= 1 and 0.9 < row["ppo/useful_tokens"] <= 1
    assert row["ppo/tokens_per_step"] < trainer.policy.pack(["The lamp is red."], [["press red"]]).useful_tokens * 4
    assert {"loss", "grad_norm", "learning_rate", "env_steps"} <= row.keys()
    assert [row["env_steps"] for row in trainer.state.log_history if "loss" in row] == [32, 64]


def test_metric_says_when_success_is_read_off_the_return(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, success_threshold=2.5)
    trainer.train()
    assert "rollout/success_rate_by_return" in trainer.state.log_history[0]
    assert "eval_success_rate_by_return" in trainer.evaluate()


def test_evaluation_is_repeatable_and_leaves_training_alone(t5, tmp_path):
    weights = []
    for evaluate in (False, True):
        trainer = make_trainer(t5, tmp_path, eval_strategy="steps" if evaluate else "no", eval_steps=3)
        trainer.train()
        weights.append({n: p.clone() for n, p in trainer.model.named_parameters()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    first, second = trainer.evaluate(), trainer.evaluate()
    assert first == second


def test_saved_folder_gives_the_same_policy_and_holds_no_pickle(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path)
    trainer.train()
    trainer.save_model()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"policy_config.json", "value_head.safetensors", "training_args.json", "config.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    loaded = ScoringPolicy.from_pretrained(tmp_path)
    assert loaded.prompt_template == trainer.policy.prompt_template
    prompts, actions = ["You are in cell 1"], [["walk", "wait"]]
    ours, theirs = trainer.policy.score(prompts, actions), loaded.score(prompts, actions)
    assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.values, theirs.values)


def without_timings(trainer):
    """The log without timings, and without Trainer's summary, which speaks of the last call of `train` alone."""
    return [
        {name: value for name, value in row.items() if "per_second" not in name}
        for row in trainer.state.log_history
        if "train_runtime" not in row
    ]


def assert_same_run(left, right):
    assert without_timings(left) == without_timings(right)
    for (name, a), (_, b) in zip(left.model.named_parameters(), right.model.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("save_steps", [4, 3], ids=["at an update's end", "inside an update"])
@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_resumed_run_equals_the_unbroken_one(t5, tmp_path, save_steps, peft):
    from peft import LoraConfig

    def build(folder):
        args = make_trainer(
            t5,
            folder,
            env=CorridorEnv,
            save_strategy="steps",
            save_steps=save_steps,
            total_env_steps=96,
            learning_rate=1e-3,
        ).args
        return args

    def run(folder, callbacks=None, resume=None):
        args = build(folder)
        config = LoraConfig(r=2, target_modules=["q", "v"]) if peft else None
        trainer = GLAMTrainer(t5, args, environment_factory=CorridorEnv, callbacks=callbacks, peft_config=config)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    unbroken = run(tmp_path / "a")
    run(tmp_path / "b", callbacks=[StopAt(save_steps + 1)])
    resumed = run(tmp_path / "b", resume=str(tmp_path / "b" / f"checkpoint-{save_steps}"))
    assert_same_run(unbroken, resumed)
    assert unbroken.env_steps == resumed.env_steps == 96


def test_resume_takes_the_newest_whole_checkpoint(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, save_strategy="steps", save_steps=2)
    trainer.train()
    newest = tmp_path / "checkpoint-8"
    (newest / "value_head.safetensors").write_bytes(b"cut")
    resumed = make_trainer(t5, tmp_path, save_strategy="steps", save_steps=2)
    from trl_glam.trainer.checkpoint_state import find_checkpoint

    assert find_checkpoint(str(tmp_path), True).endswith("checkpoint-6")
    with pytest.raises(InvalidInputError, match="changed value_head.safetensors"):
        resumed.train(resume_from_checkpoint=str(newest))
    with pytest.raises(InvalidInputError, match="holds no whole checkpoint"):
        make_trainer(t5, tmp_path / "empty").train(resume_from_checkpoint=True)


def test_card_is_written(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path)
    trainer.train()
    trainer.save_model()
    trainer.create_model_card("my-policy")
    card = (tmp_path / "README.md").read_text()
    assert "GLAM" in card and str(tmp_path) not in card


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"environment_factory": CorridorEnv, "env_id": "BabyAI-Text/GoToLocal-v0"}, "give one of them"),
        ({}, "No environment is given"),
        ({"environment_factory": dict}, "GRPOTrainer"),
        (
            {"environment_factory": CorridorEnv, "num_observations": 1, "prompt_template": PromptTemplate(2)},
            "leave one",
        ),
        ({"environment_factory": CorridorEnv, "fp16": True}, "bf16"),
        ({"environment_factory": CorridorEnv, "eval_panel": "nowhere"}, "Unknown panel"),
    ],
)
def test_bad_arguments_are_one_clear_error(t5, tmp_path, kwargs, message):
    given = {name: kwargs.pop(name) for name in ("environment_factory", "prompt_template") if name in kwargs}
    args = GLAMConfig(output_dir=str(tmp_path), report_to="none", **kwargs)
    with pytest.raises(InvalidInputError, match=message):
        GLAMTrainer(t5, args, **given).evaluate()


def test_arguments_that_contradict_a_given_policy_are_an_error(t5, tmp_path):
    policy = ScoringPolicy.from_pretrained(t5, temperature=2.0)
    with pytest.raises(InvalidInputError, match=r"args.temperature=4.0 differs from the given ScoringPolicy's 2.0"):
        make_trainer(policy, tmp_path, temperature=4.0)


def test_loss_that_is_not_finite_stops_the_run_with_its_numbers(t5, tmp_path):
    class Broken(CorridorEnv):
        def step(self, action):
            obs, _, terminated, truncated, info = super().step(action)
            return obs, 1e38, terminated, truncated, info

    trainer = make_trainer(t5, tmp_path, env=Broken, reward_scale=100.0)
    with pytest.raises(FloatingPointError, match=r"The PPO loss is .* at optimizer step 0"):
        trainer.train()


def test_history_is_saved_as_json(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path)
    trainer.train()
    trainer.save_state()
    history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    assert history[0]["env_steps"] == 32


def train_lamp(t5, tmp_path, seed=0):
    trainer = make_trainer(
        t5,
        tmp_path,
        env=LampEnv,
        num_envs=16,
        rollout_steps=8,
        minibatch_size=64,
        total_env_steps=6144,
        learning_rate=3e-4,
        lr_scheduler_type="linear",
        temperature=1.0,
        freeze_embeddings=False,
        eval_episodes=100,
        seed=seed,
    )
    trainer.train()
    return trainer.evaluate()["eval_success_rate"]


def test_a_tiny_random_model_learns_three_contexts(t5, tmp_path):
    assert train_lamp(t5, tmp_path) > 0.9


def test_learning_fails_when_the_advantage_has_the_wrong_sign(t5, tmp_path, monkeypatch):
    def flipped(logits, values, batch, **kwargs):
        batch.advantages = -batch.advantages
        return ppo_loss(logits, values, batch, **kwargs)

    monkeypatch.setattr("trl_glam.trainer.glam_trainer.ppo_loss", flipped)
    assert train_lamp(t5, tmp_path) < 0.5
