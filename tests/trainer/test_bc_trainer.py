# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""BCTrainer on tiny random models and logs of environments known in closed form."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, TrainerCallback

from tests.policy.test_exactness import float64_policy
from tests.tiny_models import tiny_llama, tiny_t5
from tests.toy_envs import CorridorEnv, LampEnv
from trl_glam import BCConfig, BCTrainer, GLAMConfig, GLAMTrainer, PromptTemplate, ScoringPolicy
from trl_glam.agents import Agent, RandomAgent
from trl_glam.logs import collect_log, load_log
from trl_glam.types import Decision, InvalidInputError


gym.register("BCLamp-v0", entry_point=LampEnv, disable_env_checker=True)
gym.register("BCCorridor-v0", entry_point=CorridorEnv, disable_env_checker=True)


class LampExpert(Agent):
    """Presses the button of the colour it reads."""

    name = "expert"

    def act(self, observations, generators, greedy=False):
        colours = [LampEnv.COLOURS.index(o.sentences[0].split()[-1].strip(".")) for o in observations]
        return [Decision(index) for index in colours]


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> str:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def lamp_log(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("lamp")
    collect_log(LampExpert(), folder, env_id="BCLamp-v0", seed=0, policy="expert", num_episodes=192)
    return str(folder)


@pytest.fixture(scope="module")
def corridor_log(tmp_path_factory) -> str:
    """Episodes of several steps, with action sets of two and of three."""
    folder = tmp_path_factory.mktemp("corridor")
    collect_log(RandomAgent(), folder, env_id="BCCorridor-v0", seed=0, policy="random", num_steps=48)
    return str(folder)


def make_trainer(model, tmp_path, log, callbacks=None, peft_config=None, **kwargs) -> BCTrainer:
    settings = {
        "output_dir": str(tmp_path),
        "minibatch_size": 8,
        "eval_episodes": 8,
        "calibration_prompts": 4,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }
    args = BCConfig(**{**settings, **kwargs})
    return BCTrainer(model, args, log, callbacks=callbacks, peft_config=peft_config)


def rows_of(trainer, count=8):
    return [trainer.train_dataset[i] for i in range(count)]


def batch_loss(trainer, rows):
    """The trainer's loss on one optimizer step of these rows."""
    inputs, num_labels = trainer.get_batch_samples(iter([{"rows": rows}]), 1, torch.device("cpu"))
    return trainer.compute_loss(trainer.model, trainer._prepare_inputs(inputs[0]), num_items_in_batch=num_labels)


def taken(row):
    return row["admissible_actions"][row["action_index"]]


# -- the losses, against transformers' own forward


def plain_t5_loss(policy, rows, num_labels=None):
    """Cross-entropy of the model's own forward, one row at a time."""
    tokenizer, total, count = policy.tokenizer, 0.0, 0
    for row in rows:
        prompt = torch.tensor([policy.packer.prompt_ids(row["prompt"])])
        ids = [*tokenizer(taken(row), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids += [tokenizer.pad_token_id] * ((num_labels or len(ids)) - len(ids))
        logits = policy.lm(input_ids=prompt, labels=torch.tensor([ids])).logits[0]
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum")
        count += len(ids)
    return total / count


def test_token_loss_is_the_mean_over_the_actions_tokens_and_its_end_token(t5, tmp_path, lamp_log):
    trainer = make_trainer(t5, tmp_path, lamp_log, loss="token")
    rows = rows_of(trainer)
    torch.testing.assert_close(batch_loss(trainer, rows), plain_t5_loss(trainer.policy, rows), rtol=1e-5, atol=1e-5)


def two_token_model(tmp_path):
    """A T5 and a log whose actions are one or two tokens, as GLAM's are."""
    folder = tiny_t5(tmp_path / "model")
    tokenizer = ScoringPolicy.from_pretrained(folder).tokenizer
    words = ("left", "right", "drop", "toggle")
    return folder, [word for word in words if len(tokenizer(word, add_special_tokens=False)["input_ids"]) <= 2]


def test_papers_loss_counts_three_positions_with_padding(tmp_path):
    folder, words = two_token_model(tmp_path)
    assert len(words) >= 2
    trainer = make_trainer(folder, tmp_path, relabelled(tmp_path, words[:2]), loss="token_paper")
    rows = rows_of(trainer)
    expected = plain_t5_loss(trainer.policy, rows, num_labels=3)
    torch.testing.assert_close(batch_loss(trainer, rows), expected, rtol=1e-5, atol=1e-5)


class RenamedCorridor(CorridorEnv):
    def __init__(self, words=("walk", "wait")):
        super().__init__()
        self.words = list(words)

    def _info(self):
        return {"admissible_actions": self.words}


gym.register("BCRenamed-v0", entry_point=RenamedCorridor, disable_env_checker=True)


def relabelled(tmp_path, words):
    folder, world = tmp_path / "renamed", {"env_id": "BCRenamed-v0", "env_kwargs": {"words": words}}
    collect_log(RandomAgent(), folder, **world, seed=0, policy="random", num_steps=24)
    return str(folder)


def test_papers_loss_refuses_an_action_that_does_not_fit(t5, tmp_path, lamp_log):
    trainer = make_trainer(t5, tmp_path, lamp_log, loss="token_paper")
    with pytest.raises(InvalidInputError, match="3 label positions, the action 'press .*' needs .* loss='token'"):
        trainer.train()


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama], ids=["t5", "llama"])
def test_action_loss_is_the_cross_entropy_of_the_policy_that_acts(make, tmp_path, corridor_log):
    trainer = make_trainer(make(tmp_path / "model"), tmp_path, corridor_log)
    rows = rows_of(trainer, 12)
    assert {len(row["admissible_actions"]) for row in rows} == {2, 3}
    output = trainer.policy.score([row["prompt"] for row in rows], [row["admissible_actions"] for row in rows])
    target = torch.tensor([row["action_index"] for row in rows])
    expected = torch.nn.functional.cross_entropy(output.logits, target)
    loss = batch_loss(trainer, rows)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in trainer.model.parameters())


def test_token_loss_of_a_causal_model_agrees_with_trls_sft_trainer(llama, tmp_path, corridor_log):
    from trl import SFTConfig, SFTTrainer

    sizes = {"per_device_train_batch_size": 4, "max_steps": 3, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
    trainer = make_trainer(
        llama, tmp_path / "bc", corridor_log, loss="token", warmup_steps=0, freeze_embeddings=False, adam_beta2=0.999,
        train_sampling_strategy="sequential", max_grad_norm=0.0, **sizes,
    )  # fmt: skip
    packer, encoder = trainer.policy.packer, trainer._label_packer.candidates
    examples = []
    for row in trainer.train_dataset:
        prompt = packer.prompt_ids(row["prompt"])
        completion = list(encoder.token_ids(taken(row), row["prompt"].endswith(" ")))
        mask = [0] * len(prompt) + [1] * len(completion)
        examples.append({"input_ids": prompt + completion, "completion_mask": mask})
    config = SFTConfig(
        output_dir=str(tmp_path / "sft"), gradient_accumulation_steps=2, completion_only_loss=True, max_length=None,
        train_sampling_strategy="sequential", bf16=False, gradient_checkpointing=False, logging_steps=1,
        report_to="none", use_cpu=True, save_strategy="no", disable_tqdm=True, max_grad_norm=0.0, **sizes,
    )  # fmt: skip
    sft = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(llama, attention_dropout=0.0), config,
        train_dataset=Dataset.from_list(examples), processing_class=trainer.policy.tokenizer,
    )  # fmt: skip
    trainer.train()
    sft.train()
    losses = [[row["loss"] for row in t.state.log_history if "loss" in row] for t in (trainer, sft)]
    assert len(losses[0]) == 3
    np.testing.assert_allclose(*losses, rtol=1e-4)


# -- the trainer


def test_prompts_are_those_that_the_policy_reads_when_it_acts(t5, tmp_path, corridor_log):
    stored = load_log(corridor_log)["prompt"]
    assert make_trainer(t5, tmp_path, corridor_log).train_dataset["prompt"] == stored
    short = make_trainer(t5, tmp_path, corridor_log, num_observations=1)
    assert short.train_dataset["prompt"] != stored
    assert short.train_dataset["prompt"] == load_log(corridor_log).to_sft(PromptTemplate(1))["prompt"]


def test_identical_rows_are_computed_once(t5, tmp_path, lamp_log):
    for loss in ("action", "token"):
        trainer = make_trainer(t5, tmp_path, lamp_log, loss=loss)
        inputs, _ = trainer.get_batch_samples(iter([{"rows": rows_of(trainer, 32)}]), 1, torch.device("cpu"))
        assert len(inputs[0]["packed"]) == 32 and inputs[0]["packed"].num_rows == 3


class FirstGradient(TrainerCallback):
    def __init__(self):
        self.gradient = {}

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not self.gradient:
            self.gradient = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss", ["action", "token"])
def test_the_size_of_a_micro_batch_does_not_change_the_gradient(t5, tmp_path, corridor_log, loss):
    gradients = []
    for micro in (8, 2):
        first, sizes = FirstGradient(), {"per_device_train_batch_size": micro, "max_steps": 1}
        trainer = make_trainer(
            float64_policy(t5), tmp_path, corridor_log, [first], loss=loss, max_grad_norm=0.0, **sizes
        )
        assert trainer.args.gradient_accumulation_steps == 8 // micro
        trainer.train()
        gradients.append(first.gradient)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert gradient.dtype == torch.float64
        assert (gradients[1][name] - gradient).norm() <= 1e-9 * gradient.norm() + 1e-12, name


def test_value_head_stays_as_it_is_and_ppo_trains_it_again(t5, tmp_path, lamp_log):
    trainer = make_trainer(t5, tmp_path / "bc", lamp_log)
    before = {n: p.clone() for n, p in trainer.model.named_parameters() if n.startswith("value_head")}
    trainer.train()
    assert before
    for name, parameter in trainer.model.named_parameters():
        if name in before:
            assert torch.equal(parameter, before[name])
    sizes = {"num_envs": 4, "rollout_steps": 8, "minibatch_size": 16}
    args = GLAMConfig(output_dir=str(tmp_path / "ppo"), report_to="none", **sizes)
    ppo = GLAMTrainer(trainer.policy, args, environment_factory=LampEnv)
    assert all(p.requires_grad for p in ppo.policy.value_head.parameters())


@pytest.mark.parametrize("loss", ["action", "token"])
@pytest.mark.parametrize("make", [tiny_t5, tiny_llama], ids=["t5", "llama"])
def test_a_tiny_random_model_learns_what_the_expert_does(make, tmp_path, lamp_log, loss):
    trainer = make_trainer(
        make(tmp_path / "model"), tmp_path, lamp_log, loss=loss, minibatch_size=16, num_train_epochs=16,
        learning_rate=1e-3, lr_scheduler_type="linear", freeze_embeddings=False, temperature=1.0, eval_episodes=100,
    )  # fmt: skip
    assert trainer.evaluate()["eval_success_rate"] < 0.6
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_success_rate"] > 0.9
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"] and "bc/log_likelihood" in rows[-1]


def test_saved_folder_is_a_policy_that_ppo_can_start_from(t5, tmp_path, lamp_log):
    trainer = make_trainer(t5, tmp_path / "bc", lamp_log)
    trainer.train()
    trainer.save_model()
    trainer.create_model_card("bc")
    assert "BC" in (tmp_path / "bc" / "README.md").read_text()
    loaded = ScoringPolicy.from_pretrained(tmp_path / "bc")
    prompts, actions = ["The lamp is red."], [["press red", "press green"]]
    assert torch.equal(loaded.score(prompts, actions).logits, trainer.policy.score(prompts, actions).logits)
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "bc").num_parameters() > 0
    args = GLAMConfig(
        output_dir=str(tmp_path / "ppo"), num_envs=4, rollout_steps=8, minibatch_size=16, total_env_steps=32,
        report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    ppo = GLAMTrainer(str(tmp_path / "bc"), args, environment_factory=LampEnv)
    assert ppo.policy.policy_config.temperature == trainer.policy.policy_config.temperature
    ppo.train()
    assert math.isfinite(ppo.state.log_history[0]["loss"])


def test_policy_of_a_token_loss_is_the_likelihood_and_of_the_action_loss_near_uniform(t5, tmp_path, lamp_log):
    for loss, expected in (("token", (1.0, "none")), ("action", (4.0, "prompts"))):
        config = make_trainer(t5, tmp_path, lamp_log, loss=loss).policy.policy_config
        assert (config.temperature, config.calibration.mode) == expected


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step >= self.step


@pytest.mark.parametrize("save_steps", [2, 8], ids=["first epoch", "second epoch"])
@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_resumed_run_equals_the_unbroken_one(t5, tmp_path, corridor_log, save_steps, peft):
    def run(folder, callbacks=None, resume=None):
        trainer = make_trainer(
            t5, folder, corridor_log, callbacks, LoraConfig(r=2, target_modules=["q", "v"]) if peft else None,
            save_strategy="steps", save_steps=save_steps, num_train_epochs=2, learning_rate=1e-3,
            per_device_train_batch_size=4, logging_steps=3,
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    unbroken = run(tmp_path / "a")
    assert unbroken.state.global_step > 9
    run(tmp_path / "b", callbacks=[StopAt(save_steps + 1)])
    resumed = run(tmp_path / "b", resume=str(tmp_path / "b" / f"checkpoint-{save_steps}"))
    unbroken_rows, resumed_rows = ([r for r in t.state.log_history if "loss" in r] for t in (unbroken, resumed))
    assert unbroken_rows == resumed_rows
    for (name, a), (_, b) in zip(unbroken.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_resuming_with_another_log_is_an_error(t5, tmp_path, corridor_log, lamp_log):
    make_trainer(t5, tmp_path, corridor_log, save_strategy="steps", save_steps=2, max_steps=2).train()
    with pytest.raises(InvalidInputError, match="resume with the same log"):
        make_trainer(t5, tmp_path, lamp_log).train(resume_from_checkpoint=True)


# -- bad input


def test_bad_logs_are_one_clear_error(t5, tmp_path, corridor_log, lamp_log):
    log = load_log(corridor_log)

    def refused(dataset, message):
        with pytest.raises(InvalidInputError, match=message):
            make_trainer(t5, tmp_path, dataset)

    refused(str(tmp_path / "nowhere"), "does not exist")
    refused(log.select([]), "empty log")
    refused(log.remove_columns(["action_index"]), r"columns \['action_index'\] are missing")
    changed = [Dataset.from_list([{**row, **c} for row in log], features=log.features)
               for c in ({"schema_version": 99}, {"action_index": 7})]  # fmt: skip
    refused(changed[0], "schema version 99")
    refused(changed[1], "with index 7 is not that one of the admissible actions")
    refused(log.select(range(1, 9)), "select whole episodes")
    refused(concatenate_datasets([log, load_log(lamp_log)]), "several environments")
    refused(load_log(corridor_log, streaming=True), "no streamed one")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"loss": "nll"}, "choose one of action, token, token_paper"),
        ({"minibatch_size": 0}, "greater than 0"),
        ({"loss": "token", "head": "action"}, "choose loss='action'"),
        ({"gradient_accumulation_steps": 3}, "leave it out"),
    ],
)
def test_bad_settings_are_one_clear_error(tmp_path, kwargs, message):
    with pytest.raises(InvalidInputError, match=message):
        BCConfig(output_dir=str(tmp_path), **kwargs)


@pytest.mark.parametrize("loss", ["action", "token"])
def test_append_only_prompts_are_cloned_as_they_are_read_when_acting(llama, tmp_path, corridor_log, loss):
    trainer = make_trainer(llama, tmp_path, corridor_log, loss=loss, append_only=True)
    assert trainer.policy.prompt_template.append_only
    rows = [row for row in trainer._log.to_list() if row["step"] == 2][:2]
    prompts = [p for p, row in zip(trainer.train_dataset["prompt"], trainer._log, strict=True) if row["step"] == 2][:2]
    packed = trainer._pack([{**row, "prompt": prompt} for row, prompt in zip(rows, prompts, strict=True)])["packed"]
    read = {tuple(trainer.policy.packer.prompt_ids(prompt)) for prompt in prompts}
    if loss == "action":
        assert {tuple(ids[:n].tolist()) for ids, n in zip(packed.text_ids, packed.lengths, strict=True)} == read
    else:
        assert {tuple(ids[-n:].tolist()) for ids, n in zip(packed.prompt_ids, packed.lengths, strict=True)} == read
    trainer.train()
