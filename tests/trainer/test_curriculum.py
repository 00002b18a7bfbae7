# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Goal sampling by learning progress, and shaping in the trainer: probabilities, resuming, processes, raw metrics."""

from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
from transformers import TrainerCallback

from tests.tiny_models import tiny_t5
from tests.toy_envs import CorridorEnv, LampEnv
from trl_glam import GLAMConfig, GLAMTrainer
from trl_glam.rollout import SeededEpisodes
from trl_glam.trainer.curriculum import LearningProgress
from trl_glam.types import EpisodeKey, EpisodeRecord, InvalidInputError


KINDS = ("easy", "moving", "hopeless")


class ChosenLampEnv(LampEnv):
    """The lamp, whose colour the reset option `task` chooses."""

    task_kinds = LampEnv.COLOURS

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.colour = (options or {}).get("task", self.colour)
        return f"The lamp is {self.colour}.", self._info()


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


def records(kind: str, successes: list[bool]) -> list[EpisodeRecord]:
    return [EpisodeRecord(EpisodeKey("E", 0, {"task": kind}), kind, (0,), float(s), 1, s) for s in successes]


def make_trainer(model, folder, env=ChosenLampEnv, callbacks=None, potential=None, **kwargs) -> GLAMTrainer:
    settings = {"num_envs": 8, "rollout_steps": 8, "minibatch_size": 32, "total_env_steps": 256, "num_ppo_epochs": 1}
    settings |= {"eval_episodes": 8, "calibration_prompts": 4, "save_strategy": "no", "seed": 0}
    settings |= {"report_to": "none", "disable_tqdm": True, "learning_rate": 1e-3, "output_dir": str(folder)}
    args = GLAMConfig(**(settings | kwargs))
    return GLAMTrainer(model, args, environment_factory=env, callbacks=callbacks, potential=potential)


def test_kinds_are_drawn_in_proportion_to_their_progress_with_a_uniform_share():
    goals = LearningProgress(KINDS, seed=0)
    goals.update([*records("easy", [True] * 100), *records("hopeless", [False] * 100)])
    # One kind has never been played: nothing is known of its progress.
    np.testing.assert_allclose(goals.probabilities, 1 / 3)
    goals.update(records("moving", [False] * 80 + [True] * 20))
    assert goals.progress["easy"] == goals.progress["hopeless"] == 0
    # From 0 after 80 failures: 1 - (1 - rate)^20, fast and slow.
    expected = (1 - 0.95**20) - (1 - 0.9875**20)
    assert goals.progress["moving"] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(goals.probabilities, [0.2 / 3, 0.8 + 0.2 / 3, 0.2 / 3])
    goals.update(records("easy", [False] * 20))
    falling = goals.progress["easy"]
    assert falling == pytest.approx(expected, abs=1e-12), "what is being forgotten counts like what is being learned"
    np.testing.assert_allclose(goals.probabilities, [0.2 / 3 + 0.4, 0.2 / 3 + 0.4, 0.2 / 3])
    drawn = Counter(goals.options(slot, 0)["task"] for slot in range(3000))
    assert drawn["easy"] / 3000 == pytest.approx(0.4667, abs=0.03)


def test_progress_ends_when_a_kind_is_mastered():
    goals = LearningProgress(KINDS, seed=0)
    goals.update([one for kind in KINDS for one in records(kind, [False] * 40)])
    goals.update(records("moving", [True] * 20))
    peak = goals.progress["moving"]
    goals.update(records("moving", [True] * 400))
    assert goals.progress["moving"] < peak / 20


def test_draws_are_the_same_however_the_slots_are_spread_over_processes():
    goals = LearningProgress(KINDS, seed=3)
    goals.update([one for kind in KINDS for one in records(kind, [False] * 40)] + records("moving", [True] * 9))

    def play(first_slot: int, num_slots: int) -> list[EpisodeKey]:
        episodes = SeededEpisodes("E", 3, first_slot, options=goals.options)
        return [episodes.next(slot) for _ in range(5) for slot in range(num_slots)]

    one = {(key.slot, key.number): key for key in play(0, 8)}
    two = {(key.slot, key.number): key for key in play(0, 4) + play(4, 4)}
    assert one == two
    assert {key.options["task"] for key in one.values()} == set(KINDS)


def test_training_episodes_are_of_the_kinds_that_were_drawn_and_evaluation_is_left_alone(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, goal_sampling="learning_progress", log_interactions=True)
    trainer.train()
    from trl_glam.logs import load_log

    rows = load_log(str(tmp_path / "interactions"))
    assert len(rows) == 256
    for row in rows:
        assert row["env_options"] == f'{{"task": "{row["task_kind"]}"}}'
    last = [row for row in trainer.state.log_history if "loss" in row][-1]
    shares = [last[f"goals/probability/{colour}"] for colour in LampEnv.COLOURS]
    assert sum(shares) == pytest.approx(1) and min(shares) >= 0.2 / 3 - 1e-9
    assert max(last[f"goals/progress/{colour}"] for colour in LampEnv.COLOURS) > 0
    assert all(key.options is None for key in trainer.evaluation_panel().episodes())


class StopAt(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step >= 6


@pytest.mark.parametrize("save_steps", [4, 5], ids=["at an update's end", "inside an update"])
def test_a_resumed_run_draws_the_same_kinds_as_the_unbroken_one(t5, tmp_path, save_steps):
    kwargs = {"goal_sampling": "learning_progress", "save_strategy": "steps", "save_steps": save_steps}

    def run(folder, **more):
        resume = more.pop("resume", None)
        trainer = make_trainer(t5, tmp_path / folder, **kwargs, **more)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    def history(trainer):
        rows = [row for row in trainer.state.log_history if "loss" in row]
        return [{k: v for k, v in row.items() if "per_second" not in k} for row in rows]

    unbroken = run("a")
    run("b", callbacks=[StopAt()])
    resumed = run("b", resume=str(tmp_path / "b" / f"checkpoint-{save_steps}"))
    assert history(unbroken) == history(resumed)
    assert unbroken._goals.state_dict() == resumed._goals.state_dict()
    probabilities = {tuple(row[f"goals/probability/{c}"] for c in LampEnv.COLOURS) for row in history(unbroken)}
    assert len(probabilities) > 1, "the draws never depended on what was learned"


def test_resuming_a_run_that_drew_no_kinds_is_an_error(t5, tmp_path):
    make_trainer(t5, tmp_path, save_strategy="steps", save_steps=4).train()
    trainer = make_trainer(t5, tmp_path, goal_sampling="learning_progress")
    with pytest.raises(InvalidInputError, match="chose among the kinds of task none"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_an_environment_without_kinds_is_one_clear_error(t5, tmp_path):
    with pytest.raises(InvalidInputError, match="give your environment an attribute task_kinds"):
        make_trainer(t5, tmp_path, env=CorridorEnv, goal_sampling="learning_progress")
    with pytest.raises(InvalidInputError, match="choose one of environment, learning_progress"):
        make_trainer(t5, tmp_path, goal_sampling="magic")


def test_babyai_levels_name_the_kinds_that_may_be_chosen():
    mixed = gym.make("BabyAI-Text/MixedTrainLocal-v0")
    assert mixed.get_wrapper_attr("task_kinds") == ("goto", "pickup", "open", "putnext", "pick up seq go to")
    assert gym.make("BabyAI-Text/MixedTrainLocal-v0", task="goto").get_wrapper_attr("task_kinds") == ()
    assert gym.make("BabyAI-Text/GoToLocal-v0").get_wrapper_attr("task_kinds") == ()


def test_shaping_reaches_the_loss_scaled_once_and_no_metric(t5, tmp_path):
    def run(potential):
        trainer = make_trainer(
            t5, tmp_path, env=CorridorEnv, potential=potential, reward_scale=10.0, total_env_steps=64, gamma=0.9
        )
        trainer.train()
        return trainer

    plain, shaped = run(None), run(lambda observation: 7.0)
    # A constant potential: 0.9 * 7 - 7 everywhere, -7 at a termination, both times the scale.
    difference = shaped._rollout.rewards - plain._rollout.rewards
    terminated = plain._rollout.ended & (plain._rollout.terminal_values == 0)
    np.testing.assert_allclose(difference[~plain._rollout.ended], -7.0, rtol=1e-5)
    assert set(np.round(difference[terminated], 3)) <= {-70.0, -7.0} and -70.0 in np.round(difference, 3)
    first, second = plain.state.log_history[0], shaped.state.log_history[0]
    names = [name for name in first if name.startswith("rollout/") and "per_second" not in name]
    assert {name: first[name] for name in names} == {name: second[name] for name in names}
