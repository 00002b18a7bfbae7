# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The guide's own environment keeps the contract and can be learned; its tables name what exists."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium as gym
import pytest

import trl_glam  # noqa: F401  registers the environments
from tests.tiny_models import tiny_t5
from trl_glam.cli.new_env import TEMPLATE
from trl_glam.envs import check_text_env
from trl_glam.envs.textworld import CHALLENGES
from trl_glam.trainer import GLAMConfig, GLAMTrainer


GUIDE = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.S)


@pytest.fixture
def cafe():
    """The class that the guide's first snippet defines."""
    names: dict = {}
    exec(SNIPPETS[0], names)
    yield names["Cafe"]
    del gym.registry["Cafe/Morning-v0"]


def test_guide_environment_keeps_the_contract(cafe):
    check_text_env(cafe())
    exec(SNIPPETS[1], {"Cafe": cafe})


def test_guide_environment_is_short_and_is_the_template(cafe):
    body = SNIPPETS[0][SNIPPETS[0].index("class Cafe") : SNIPPETS[0].index("gym.register")]
    assert sum(bool(line.strip()) for line in body.splitlines()) <= 30
    template = (TEMPLATE / "cafe.py").read_text(encoding="utf-8")
    assert body in template


def test_guide_environment_is_learned(cafe, tmp_path):
    args = GLAMConfig(
        output_dir=str(tmp_path),
        num_envs=16,
        rollout_steps=16,
        minibatch_size=64,
        num_ppo_epochs=2,
        total_env_steps=8192,
        num_observations=1,
        learning_rate=2e-4,
        lr_scheduler_type="linear",
        freeze_embeddings=False,
        temperature=1.0,
        eval_episodes=100,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=0,
    )
    trainer = GLAMTrainer(tiny_t5(tmp_path / "model", dropout=0.0), args, environment_factory=cafe)
    before = trainer.evaluate()["eval_success_rate"]
    trainer.train()
    after = trainer.evaluate()["eval_success_rate"]
    assert before < 0.5 and after > 0.9


def test_training_snippet_runs(cafe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = SNIPPETS[2].replace("google/flan-t5-small", tiny_t5(tmp_path / "model"))
    code = code.replace("total_env_steps=8192", 'total_env_steps=512, report_to="none", disable_tqdm=True')
    names = {"Cafe": cafe}
    exec(code, names)
    assert names["trainer"].env_steps == 512


def test_guide_names_every_textworld_setting():
    section = GUIDE[GUIDE.index("## TextWorld") :]
    for name, (_, settings) in CHALLENGES.items():
        assert f"TextWorld/{name}-v0" in section
        assert all(f"`{setting}`" in section for setting in settings)
