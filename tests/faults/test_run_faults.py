# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Faults of the run itself: numbers that are not finite, disks that are full, checkpoints and logs that are damaged,
environments that do not come back. Each is a row of the table in docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import TrainerCallback

from tests.faults.small import make_trainer
from tests.rollout import worlds
from tests.tiny_models import tiny_t5
from tests.toy_envs import CorridorEnv
from trl_glam import BCConfig, BCTrainer, GLAMConfig, GLAMTrainer, RandomAgent, ScoringPolicy
from trl_glam.cli import main as command_line
from trl_glam.envs import PlainText, RestorableEnv
from trl_glam.envs.contract import as_restorable
from trl_glam.logs import LogWriter, collect_log, load_log
from trl_glam.prompts import PromptTemplate
from trl_glam.rollout import Runner, SeededEpisodes
from trl_glam.trainer.checkpoint_state import MANIFEST_NAME, fault_of_checkpoint, find_checkpoint, write_manifest
from trl_glam.trainer.ppo_loss import PPOBatch, ppo_loss
from trl_glam.types import InvalidInputError, NotFiniteError, WriteError


ROOT = Path(__file__).parents[2]
SAVING = {"save_strategy": "steps", "save_steps": 3}


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step >= self.step


# -- dropped episodes in training


def test_dropped_episodes_are_not_learned_from_counted_or_logged(t5, tmp_path):
    faulty = partial(worlds.FaultyCorridor, "nan reward", 3)
    trainer = make_trainer(t5, tmp_path, faulty, on_environment_error="drop", log_interactions=True)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert len(rows) == 2 and trainer.state.global_step == 8, "the number of updates and steps stays"
    assert sum(row["rollout/dropped_episodes"] for row in rows) > 3
    weights = trainer._rollout.weights
    assert (weights == 0).any() and weights.mean() == pytest.approx(1.0)
    kept = trainer._rollout.advantages[trainer._rollout.kept]
    assert abs(kept.mean()) < 1e-6 and abs(kept.std() - 1) < 1e-4
    log = load_log(tmp_path / "interactions")
    assert all(seed % 3 for seed in log["env_seed"])
    # Whole episodes only, and every step of the run has its number.
    assert len(log.episodes()) == sum(row["rollout/episodes"] for row in rows)
    assert max(log["env_step"]) < 64 and len(set(log["env_step"])) == len(log)
    metrics = trainer.evaluate()
    assert metrics["eval_dropped_episodes"] > 0


def test_weight_0_is_as_if_the_row_were_not_there():
    torch.manual_seed(0)
    logits, values = torch.randn(6, 3, requires_grad=True), torch.randn(6, requires_grad=True)
    rows = {
        "actions": torch.randint(3, (6,)), "old_log_probs": torch.randn(6, 3).log_softmax(-1),
        "old_values": torch.randn(6), "advantages": torch.randn(6), "returns": torch.randn(6),
        "reference_log_probs": torch.randn(6, 3).log_softmax(-1),
    }  # fmt: skip
    settings = {"cliprange": 0.2, "cliprange_value": 0.2, "vf_coef": 0.5, "entropy_coef": 0.01, "beta": 0.1}
    kept = torch.tensor([True, False, True, True, False, True])
    weighted, stats = ppo_loss(logits, values, PPOBatch(**rows, weights=kept * 6 / 4), **settings)
    alone = {name: tensor[kept] for name, tensor in rows.items()}
    expected, expected_stats = ppo_loss(logits[kept], values[kept], PPOBatch(**alone), **settings)
    torch.testing.assert_close(weighted, expected)
    for name in stats:
        torch.testing.assert_close(stats[name], expected_stats[name])
    gradient = torch.autograd.grad(weighted, (logits, values))
    assert all((part[~kept] == 0).all() for part in gradient)


def test_rollout_in_which_everything_is_dropped_is_taken_again(t5, tmp_path):
    class Bad(CorridorEnv):
        steps_left = 3 * 4

        def step(self, action):
            Bad.steps_left -= 1
            if Bad.steps_left == 0:
                raise ValueError("once")
            return super().step(action)

    Bad.steps_left = 10**9
    trainer = make_trainer(
        t5, tmp_path, lambda: Bad(length=99, max_steps=99), num_envs=1, rollout_steps=4, minibatch_size=4,
        total_env_steps=4, on_environment_error="drop",
    )  # fmt: skip
    Bad.steps_left = 4
    trainer.train()
    assert trainer.update == 1 and trainer.env_steps == 8 and trainer._rollout.kept.all()


# -- numbers


class Exploding(CorridorEnv):
    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        return obs, 1e38, terminated, truncated, info


def kept_batch(folder):
    (batch,) = (Path(folder) / "not_finite").iterdir()
    facts = json.loads((batch / "batch.json").read_text())
    path = batch / "batch.safetensors"
    return batch, facts, load_file(path) if path.exists() else {}


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_loss_that_is_not_finite_keeps_its_batch(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, Exploding, reward_scale=100.0)
    with pytest.raises(NotFiniteError, match="The PPO loss is .* at optimizer step 0. The batch is kept in") as caught:
        trainer.train()
    batch, facts, tensors = kept_batch(tmp_path)
    assert str(batch) in str(caught.value)
    assert len(facts["rows"]) == 16 == len(tensors["batch.actions"]) == len(tensors["logits"])
    assert not torch.isfinite(tensors["batch.returns"]).all()
    # It is the batch: the policy gives the same scores for what is written there.
    output = trainer.policy.score([row["prompt"] for row in facts["rows"]], [row["actions"] for row in facts["rows"]])
    torch.testing.assert_close(output.logits, tensors["logits"], rtol=1e-4, atol=1e-4)


def test_gradient_that_is_not_finite_stops_before_the_weights_move(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, per_device_train_batch_size=4)
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    bias = trainer.policy.value_head.mlp[-1].bias
    bias.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NotFiniteError, match="The gradient norm is nan at optimizer step 0"):
        trainer.train()
    assert all(torch.equal(parameter, before[name]) for name, parameter in trainer.model.named_parameters())
    _, facts, tensors = kept_batch(tmp_path)
    assert len(facts["rows"]) == 16 == len(tensors["batch.actions"]), "all micro-batches of the step"


@pytest.mark.parametrize("where", ["rollout", "evaluation"])
def test_scores_that_are_not_finite_stop_before_an_action_is_drawn(t5, tmp_path, where):
    trainer = make_trainer(t5, tmp_path)
    with torch.no_grad():
        trainer.policy.lm.decoder.block[0].layer[0].SelfAttention.q.weight.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="log-probabilities or values of .* prompts are not finite"):
        trainer.train() if where == "rollout" else trainer.evaluate()
    _, facts, _ = kept_batch(tmp_path)
    assert facts["rows"][0]["prompt"].startswith("Possible action") and trainer.env_steps == 0


def test_cloning_loss_that_is_not_finite_keeps_its_batch(t5, tmp_path):
    world = {"env_id": "BabyAI-Text/GoToLocalS5N2-v0", "env_kwargs": {"max_steps": 4}}
    collect_log(RandomAgent(), tmp_path / "log", **world, seed=0, policy="random", num_steps=16)
    args = BCConfig(str(tmp_path / "bc"), minibatch_size=8, calibration_prompts=4, report_to="none", disable_tqdm=True)
    trainer = BCTrainer(t5, args, str(tmp_path / "log"))
    with torch.no_grad():
        trainer.policy.lm.lm_head.weight.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="The behaviour cloning loss is nan at optimizer step 0"):
        trainer.train()
    _, facts, tensors = kept_batch(tmp_path / "bc")
    assert len(facts["rows"]) == 8 == len(tensors["actions"]) and "action_index" in facts["rows"][0]


def test_command_line_says_it_in_one_line(monkeypatch, capsys):
    for error in (NotFiniteError("The loss\nis nan."), WriteError("The disk is full.")):
        monkeypatch.setattr("trl_glam.cli.env.main", lambda argv, error=error: (_ for _ in ()).throw(error))
        assert command_line.main(["env"]) == 1
        assert capsys.readouterr().err.count("\n") == 1


# -- a full disk


LIMITED = """
    import resource, sys
    from pathlib import Path

    def limit(size):
        # No file may grow beyond: the kernel refuses the write as it does on a full disk, with another error number.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
"""


def run_limited(script: str, *arguments: object) -> subprocess.CompletedProcess:
    code = textwrap.dedent(LIMITED) + textwrap.dedent(script)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=500)


def test_full_disk_leaves_the_log_as_it_was(tmp_path):
    done = run_limited(
        """
        from tests.logs.conftest import make_episode, write_episode
        from trl_glam.logs import LogWriter
        from trl_glam.types import WriteError

        writer = LogWriter(sys.argv[1], run_id="r", policy="random", seconds_per_flush=0.0)
        for number in range(3):
            write_episode(writer, make_episode(number=number))
        (shard,) = writer.paths
        limit(shard.stat().st_size + 100)
        try:
            for number in range(3, 100):
                write_episode(writer, make_episode(number=number, length=50))
        except WriteError as error:
            writer.close()
            print(error)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "could not be written ([Errno 27] File too large). What it held before is whole" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["steps-000-00000.parquet"]
    assert len(load_log(tmp_path).episodes()) >= 3
    # With space again it goes on.
    LogWriter(tmp_path, run_id="r", policy="random").close()


def test_full_disk_leaves_the_checkpoints_as_they_were(t5, tmp_path):
    done = run_limited(
        """
        from tests.faults.small import make_trainer
        from transformers import TrainerCallback
        from trl_glam.types import WriteError

        class Fill(TrainerCallback):
            def on_save(self, args, state, control, **kwargs):
                limit(20_000)

        trainer = make_trainer(sys.argv[1], Path(sys.argv[2]), callbacks=[Fill()], save_strategy="steps", save_steps=3)
        try:
            trainer.train()
        except WriteError as error:
            print(error)
        """,
        t5,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "checkpoint-6 could not be written" in done.stdout and "is removed" in done.stdout
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    assert fault_of_checkpoint(tmp_path / "checkpoint-3") is None
    unbroken = make_trainer(t5, tmp_path / "unbroken", **SAVING)
    unbroken.train()
    resumed = make_trainer(t5, tmp_path, **SAVING)
    resumed.train(resume_from_checkpoint=True)
    assert_equal_tensors(resumed, unbroken)


def test_no_space_in_any_file_of_a_checkpoint(t5, tmp_path, monkeypatch):
    trainer = make_trainer(t5, tmp_path, callbacks=[StopAt(3)], **SAVING)
    trainer.train()
    first = tmp_path / "checkpoint-3"
    for name in ("_save_rng_state", "_save_optimizer_and_scheduler"):
        failing = make_trainer(t5, tmp_path, **SAVING)

        def no_space(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(failing, name, no_space)
        with pytest.raises(WriteError, match="No space left on device"):
            failing.train(resume_from_checkpoint=True)
        assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
        assert fault_of_checkpoint(first) is None


# -- checkpoints and logs that are damaged


def assert_equal_tensors(left, right):
    ours, theirs = left.model.state_dict(), right.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def trained(t5, tmp_path_factory):
    """Folder of a run that died after its checkpoints 3 and 6, with a log."""
    folder = tmp_path_factory.mktemp("trained")
    make_trainer(t5, folder, log_interactions=True, **SAVING).train()
    # Trainer saves at the end of a run too.
    shutil.rmtree(folder / "checkpoint-8")
    return folder


@pytest.fixture
def run_folder(trained, tmp_path):
    # The run is known by its folder's name.
    return Path(shutil.copytree(trained, tmp_path / trained.name))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), "changed model.safetensors"),
        (lambda folder: flip_a_bit(folder / "optimizer.pt"), "changed optimizer.pt"),
        (lambda folder: (folder / "value_head.safetensors").unlink(), "lacks value_head.safetensors"),
        (lambda folder: (folder / "rollout-0.safetensors").unlink(), "lacks rollout-0.safetensors"),
        (lambda folder: (folder / MANIFEST_NAME).unlink(), "has no manifest.json"),
    ],
    ids=["truncated weights", "flipped bit", "missing file", "missing rollout", "cut save"],
)
def test_damaged_checkpoint_is_passed_over(run_folder, damage, fault):
    damage(run_folder / "checkpoint-6")
    assert fault in fault_of_checkpoint(run_folder / "checkpoint-6")
    for request in (True, "auto"):
        assert find_checkpoint(str(run_folder), request).endswith("checkpoint-3")
    with pytest.raises(InvalidInputError, match=fault):
        find_checkpoint(str(run_folder), str(run_folder / "checkpoint-6"))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_auto_begins_anew_only_where_nothing_was_ever_whole(t5, run_folder):
    for number in (3, 6):
        (run_folder / f"checkpoint-{number}" / "optimizer.pt").unlink()
    with pytest.raises(InvalidInputError, match=r"no whole checkpoint \(2 found, 2 of them damaged\)"):
        find_checkpoint(str(run_folder), "auto")
    for number in (3, 6):
        (run_folder / f"checkpoint-{number}" / MANIFEST_NAME).unlink()
    assert find_checkpoint(str(run_folder), "auto") is None
    with pytest.raises(InvalidInputError, match="no whole checkpoint"):
        find_checkpoint(str(run_folder), True)
    before = load_log(run_folder / "interactions").to_list()
    trainer = make_trainer(t5, run_folder, log_interactions=True, **SAVING)
    trainer.train(resume_from_checkpoint="auto")
    assert load_log(run_folder / "interactions").to_list() == before, "the log begins anew, and doubles nothing"


def test_log_that_is_not_there_any_more_is_refused(t5, run_folder):
    shutil.rmtree(run_folder / "interactions")
    with pytest.raises(InvalidInputError, match="does not hold the log that the checkpoint continues"):
        make_trainer(t5, run_folder, log_interactions=True, **SAVING).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 2, "minibatch_size": 8}, "4 environments on this process, this one 2"),
    ],
)
def test_resume_with_other_sizes_is_refused(t5, run_folder, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        make_trainer(t5, run_folder, **SAVING, **settings).train(resume_from_checkpoint=True)


def test_run_that_target_kl_has_shortened_is_over_when_it_is_resumed(t5, tmp_path):
    settings = {"target_kl": 1e-6, "learning_rate": 1e-2, "warmup_steps": 0, "num_ppo_epochs": 4}
    trainer = make_trainer(t5, tmp_path, save_strategy="steps", save_steps=1, **settings)
    trainer.train()
    assert trainer.state.global_step < trainer.args.max_steps
    resumed = make_trainer(t5, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=True)
    assert (resumed.env_steps, resumed.state.global_step) == (trainer.env_steps, trainer.state.global_step)
    assert_equal_tensors(resumed, trainer)


# -- into a freshly initialised model


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_resume_into_a_freshly_initialised_model_restores_every_tensor(t5, tmp_path, peft):
    def build(**kwargs):
        args = make_trainer(t5, tmp_path, **SAVING).args
        config = LoraConfig(r=2, target_modules=["q", "v"], modules_to_save=[]) if peft else None
        return GLAMTrainer(t5, args, environment_factory=CorridorEnv, peft_config=config, **kwargs)

    trained = build()
    trained.train()
    fresh = build()
    torch.manual_seed(99)
    changed = set()
    with torch.no_grad():
        for name, tensor in fresh.model.state_dict().items():
            # The base model of an adapter is the one it was made for; it is not part of the checkpoint.
            if tensor.is_floating_point() and not (peft and ".base_layer." in name or peft and "lora_" not in name
                                                   and not name.startswith("value_head.")):  # fmt: skip
                tensor.copy_(torch.randn_like(tensor))
                changed.add(name)
    assert any(name.startswith("value_head.") for name in changed) and any(name.startswith("lm.") for name in changed)
    fresh.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert fresh.state.global_step == 8 == trained.state.global_step
    assert_equal_tensors(fresh, trained)
    ours, theirs = fresh.optimizer.state_dict()["state"], trained.optimizer.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for number in ours:
        assert all(torch.equal(ours[number][name], theirs[number][name]) for name in ours[number])


class GrowingCorridor(CorridorEnv):
    """Names an action that was never there before at every other cell."""

    def _info(self):
        return {"admissible_actions": [*super()._info()["admissible_actions"], f"climb rope {self.cell + self.time}"]}


def change_policy_config(checkpoint: Path, change) -> None:
    """Change what a checkpoint says of its policy; the checkpoint stays whole."""
    path = checkpoint / "policy_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    write_manifest(checkpoint)


def test_offsets_of_strings_that_turned_up_on_the_way_come_back(t5, tmp_path):
    # Beside which other strings one is scored may change the last digits of its offset, and a resumed run would meet
    # them in other company: so they are read, not computed. Numbers that no computation would give tell the two apart.
    first = make_trainer(t5, tmp_path, GrowingCorridor, [StopAt(3)], **SAVING)
    met = set(first.policy.policy_config.calibration.offsets)
    first.train()
    later = set(first.policy.policy_config.calibration.offsets) - met
    assert later
    change_policy_config(
        tmp_path / "checkpoint-3", lambda config: config["calibration"]["offsets"].update(dict.fromkeys(later, 0.25))
    )
    resumed = make_trainer(t5, tmp_path, GrowingCorridor, [StopAt(4)], **SAVING)
    resumed.train(resume_from_checkpoint=True)
    assert {resumed.policy.policy_config.calibration.offsets[name] for name in later} == {0.25}


def test_an_action_head_keeps_its_order_over_a_resume(t5, tmp_path):
    def build(stop):
        policy = ScoringPolicy.from_pretrained(t5, head="action", num_actions=2)
        args = make_trainer(t5, tmp_path, TwoActions, **SAVING).args
        return GLAMTrainer(policy, args, environment_factory=TwoActions, callbacks=[StopAt(stop)])

    first = build(3)
    first.train()
    order = first.policy.policy_config.actions
    change_policy_config(tmp_path / "checkpoint-3", lambda config: config["actions"].reverse())
    resumed = build(4)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.policy.policy_config.actions == order[::-1]


class TwoActions(CorridorEnv):
    def _info(self):
        return {"admissible_actions": ["walk", "wait"]}


# -- environments that do not come back


def make_runner(make_env, **kwargs):
    return Runner(make_env, SeededEpisodes("toy", 7), 3, RandomAgent(), PromptTemplate(), seed=7, **kwargs)


def test_environment_that_does_not_replay_is_refused_or_begins_anew(t5, tmp_path):
    interrupted = make_trainer(
        t5, tmp_path, worlds.UnseededCorridor, [StopAt(3)], log_interactions=True, total_env_steps=96, **SAVING
    )
    interrupted.train()
    with pytest.raises(InvalidInputError, match="UnseededCorridor .* does not come back .*allow_inexact_resume"):
        make_trainer(t5, tmp_path, worlds.UnseededCorridor, log_interactions=True, **SAVING).train("auto")
    resumed = make_trainer(
        t5, tmp_path, worlds.UnseededCorridor, log_interactions=True, total_env_steps=96, allow_inexact_resume=True,
        **SAVING,
    )  # fmt: skip
    resumed.train(resume_from_checkpoint=True)
    assert resumed.env_steps == 96
    # An episode that began anew is in the log once, whole, from its first step on.
    log = load_log(tmp_path / "interactions")
    assert log.episodes()["length"] == [length for length in log.episodes()["length"] if length > 0]
    names, steps = log["episode_id"], log["step"]
    for name in set(names):
        own = [step for other, step in zip(names, steps, strict=True) if other == name]
        assert own == list(range(len(own)))


def test_environment_that_offers_its_state_is_not_replayed():
    assert isinstance(worlds.CountingCorridor(), RestorableEnv) and not isinstance(CorridorEnv(), RestorableEnv)
    runner = make_runner(worlds.make_counting)
    for _ in range(13):
        runner.step()
    state, numbers = json.loads(json.dumps(runner.state_dict())), dict(runner.episodes.numbers)
    expected = [story(runner.step()) for _ in range(12)]
    worlds.CountingCorridor.steps_played = 0
    fresh = make_runner(worlds.make_counting)
    fresh.episodes.numbers = numbers
    assert fresh.load_state_dict(state) == [] and worlds.CountingCorridor.steps_played == 0
    assert [story(fresh.step()) for _ in range(12)] == expected


def test_environment_with_a_state_comes_back_in_a_process_too():
    runner = make_runner(worlds.make_counting, workers=2)
    fresh = make_runner(worlds.make_counting, workers=1)
    try:
        for _ in range(13):
            runner.step()
        fresh.episodes.numbers = dict(runner.episodes.numbers)
        fresh.load_state_dict(runner.state_dict())
        assert story(fresh.step()) == story(runner.step())
        # Its process is replaced: it comes back from the state and the actions since.
        victim = fresh._environments._workers[0].process
        victim.kill()
        victim.join()
        assert [story(fresh.step()) for _ in range(8)] == [story(runner.step()) for _ in range(8)]
    finally:
        runner.close()
        fresh.close()


def test_set_state_that_does_not_do_what_it_says_is_refused():
    runner = make_runner(worlds.make_forgetful)
    runner.step()
    with pytest.raises(InvalidInputError, match="after set_state its get_state gives another state"):
        make_runner(worlds.make_forgetful).load_state_dict(runner.state_dict())


def test_state_of_a_wrapped_environment_counts_only_when_the_wrapper_holds_none():
    import gymnasium as gym

    assert as_restorable(gym.wrappers.OrderEnforcing(worlds.CountingCorridor())) is not None
    assert as_restorable(gym.wrappers.TimeLimit(worlds.CountingCorridor(), 9)) is None
    assert as_restorable(PlainText(worlds.CountingCorridor())) is None


def story(transitions):
    return [(t.observation.episode.episode_id, t.observation.prompt, t.decision.index, t.reward) for t in transitions]


# -- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_environment_error": "ignore"}, "choose one of stop, drop"),
        ({"env_timeout": 0.0}, "must be greater than 0"),
        ({"env_workers": -1}, "must not be negative"),
    ],
)
def test_wrong_settings_are_one_clear_error(tmp_path, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        GLAMConfig(output_dir=str(tmp_path), **settings)


def test_numbers_of_a_rollout_with_faults_are_saved_and_come_back(t5, tmp_path):
    faulty = partial(worlds.FaultyCorridor, "raise", 3)
    settings = {"on_environment_error": "drop", "log_interactions": True, "total_env_steps": 96, **SAVING}
    unbroken = make_trainer(t5, tmp_path / "a", faulty, **settings)
    unbroken.train()
    make_trainer(t5, tmp_path / "b", faulty, [StopAt(3)], **settings).train()
    resumed = make_trainer(t5, tmp_path / "b", faulty, **settings)
    resumed.train(resume_from_checkpoint=True)
    assert_equal_tensors(resumed, unbroken)
    assert np.array_equal(resumed._rollout.weights, unbroken._rollout.weights)
    ours, theirs = (load_log(tmp_path / name / "interactions")["env_step"] for name in "ab")
    assert ours == theirs
