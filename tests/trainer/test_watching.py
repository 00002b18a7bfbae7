# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What one can watch during a run: probe prompts, a sample episode, success per task kind, a frozen panel."""

import json
from types import SimpleNamespace

import gymnasium as gym
import pytest

from tests.tiny_models import tiny_t5
from tests.toy_envs import CorridorEnv, LampEnv
from tests.trainer.test_glam_trainer import make_trainer
from trl_glam.evaluation import Panel
from trl_glam.trainer.callbacks import EnvironmentProgressCallback
from trl_glam.trainer.rollout_metrics import episode_metrics
from trl_glam.types import EpisodeKey, EpisodeRecord


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


def test_probe_prompts_show_the_distributions_of_the_policy_of_the_time(t5, tmp_path):
    trainer = make_trainer(t5, tmp_path, env=LampEnv, num_probe_prompts=3, learning_rate=1e-2)
    probes = json.loads((tmp_path / "probes.json").read_text())
    assert len(probes) == 3

    def expected():
        output = trainer.policy.score([p["prompt"] for p in probes], [p["admissible_actions"] for p in probes])
        rows = output.logits.softmax(-1).tolist()
        return {
            f"probe/{i}/{action}": value
            for i, (probe, row) in enumerate(zip(probes, rows, strict=True))
            for action, value in zip(probe["admissible_actions"], row, strict=True)
        }

    before = expected()
    trainer.train()
    logged = [{k: v for k, v in row.items() if k.startswith("probe/")} for row in trainer.state.log_history]
    logged = [row for row in logged if row]
    assert len(logged) == 2
    assert logged[0] == pytest.approx(before, abs=1e-5)
    # The second rollout was played by the policy after one update.
    assert max(abs(logged[0][name] - logged[1][name]) for name in before) > 1e-3


def test_sample_episode_is_shown_and_kept_after_every_evaluation(t5, tmp_path, capsys):
    trainer = make_trainer(t5, tmp_path, log_sample_episode=True, eval_strategy="steps", eval_steps=4)
    trainer.train()
    rows = [json.loads(line) for line in (tmp_path / "sample_episodes.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8]
    for row in rows:
        assert row["steps"] and all(sum(s["probabilities"].values()) == pytest.approx(1) for s in row["steps"])
        assert all(step["action"] in step["probabilities"] for step in row["steps"])
    assert rows[0]["mission"] in " ".join(capsys.readouterr().out.split())


def test_evaluation_plays_the_panel_it_is_told_to(t5, tmp_path):
    gym.register("Watching/Corridor-v0", entry_point=CorridorEnv)
    try:
        panel = Panel.from_env("Watching/Corridor-v0", num_episodes=5, first_seed=7)
        panel.save(tmp_path / "mine.json")
        trainer = make_trainer(t5, tmp_path, eval_panel=str(tmp_path / "mine.json"))
        assert trainer.evaluation_panel().hash == panel.hash
        assert trainer.play(trainer.evaluation_panel()).panel.hash == panel.hash
        assert "eval_return" in trainer.evaluate()
    finally:
        del gym.registry["Watching/Corridor-v0"]


def test_success_has_a_curve_per_task_kind():
    def record(kind, success):
        return EpisodeRecord(EpisodeKey("Any-v0", 0), kind, (0, 1), float(success), 2, success, "mission")

    records = [record("goto", True), record("goto", False), record("open", False)]
    metrics = episode_metrics(records, [True] * 3 + [False], success_reported=True)
    assert metrics["rollout/success_rate"] == 0.75
    assert metrics["rollout/success_rate/goto"] == 0.5 and metrics["rollout/success_rate/open"] == 0.0
    assert metrics["rollout/length"] == 2 and metrics["rollout/episodes"] == 3
    assert "rollout/success_rate_by_return" in episode_metrics([], [True], success_reported=False)


def test_the_bar_says_whether_the_policy_acts_or_learns():
    bar = EnvironmentProgressCallback(total=8)
    bar.on_train_begin(SimpleNamespace(world_size=2), SimpleNamespace(is_world_process_zero=True), None)
    said = []
    # Trainer's first step of an update begins before the rollout, the others after it.
    for _ in range(2):
        bar.on_step_begin(None, None, None)
        for _ in range(2):
            bar.on_transition(None)
        said.append(bar._bar.desc)
        bar.on_step_begin(None, None, None)
        said.append(bar._bar.desc)
    assert said == ["acting", "learning"] * 2
    assert bar._bar.n == 8
    bar.on_train_end(None, None, None)
