# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What experiment trackers receive: every metric under Trainer's names, and `env_steps` for the x-axis."""

import pytest

from tests.tiny_models import tiny_t5
from tests.toy_envs import LampEnv
from trl_glam import GLAMConfig, GLAMTrainer


NAMES = {
    "train/rollout/success_rate",
    "train/rollout/return",
    "train/ppo/entropy",
    "train/ppo/approx_kl",
    "train/ppo/explained_variance",
    "train/loss",
    "train/grad_norm",
    "train/env_steps",
    "eval/success_rate",
}


@pytest.fixture
def train(tmp_path):
    def run(tracker: str) -> None:
        args = GLAMConfig(
            output_dir=str(tmp_path / "run"),
            num_envs=4,
            rollout_steps=8,
            minibatch_size=32,
            total_env_steps=64,
            eval_strategy="steps",
            eval_steps=2,
            eval_episodes=4,
            calibration_prompts=4,
            save_strategy="no",
            report_to=tracker,
            project="lamps",
            disable_tqdm=True,
        )
        trainer = GLAMTrainer(tiny_t5(tmp_path / "model"), args, environment_factory=LampEnv)
        trainer.train()

    return run


def test_tensorboard_receives_the_metrics_of_every_update(train, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    train("tensorboard")
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    assert set(board.Tags()["scalars"]) >= NAMES
    assert [event.value for event in board.Scalars("train/env_steps")][:2] == [32, 64]


def test_trackio_receives_the_metrics_of_every_update(train, tmp_path, monkeypatch):
    # Read when it is imported: its database is then in this folder.
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="the extra tracking is not installed")
    from trackio.sqlite_storage import SQLiteStorage

    train("trackio")
    (run,) = SQLiteStorage.get_runs("lamps")
    rows = SQLiteStorage.get_logs("lamps", run)
    assert {name for row in rows for name in row} >= NAMES
    assert [row["train/env_steps"] for row in rows if "train/loss" in row] == [32, 64]
