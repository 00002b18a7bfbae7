# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What the baselines share: words, settings, the optimizer on disk, and the command."""

import pytest
import torch

from trl_glam.baselines.training import BaselineConfig, Vocabulary, checkpoints, load_optimizer, save_optimizer
from trl_glam.cli.main import main
from trl_glam.types import InvalidInputError


def test_vocabulary_knows_what_it_learned_and_nothing_else():
    vocabulary = Vocabulary()
    vocabulary.learn("go to the Red ball, then")
    assert vocabulary.encode("the red BALL") == [4, 5, 6]
    assert vocabulary.encode("the blue ball") == [4, 1, 6]
    assert vocabulary.encode("!") == [1]
    assert Vocabulary(vocabulary.words).encode("then go") == vocabulary.encode("then go") == [7, 2]


def test_a_full_vocabulary_learns_no_more():
    vocabulary = Vocabulary(size=4)
    vocabulary.learn("one two three")
    assert vocabulary.words == ["one", "two"] and max(vocabulary.encode("one two three")) < 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "set env_id"),
        ({"env_id": "X-v0", "num_envs": 0}, "num_envs=0"),
        ({"env_id": "X-v0", "gamma": 1.5}, "gamma=1.5"),
        ({"env_id": "X-v0", "env_kwargs": "{"}, "not JSON"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        BaselineConfig(**settings)


def test_resuming_takes_the_newest_checkpoint_or_says_that_there_is_none(tmp_path):
    config = BaselineConfig(env_id="X-v0", output_dir=str(tmp_path), resume_from_checkpoint="true")
    with pytest.raises(InvalidInputError, match="no checkpoint-N"):
        config.checkpoint()
    for step in (900, 1000, 80):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-2000.partial").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-80", "checkpoint-900", "checkpoint-1000"]
    assert config.checkpoint() == tmp_path / "checkpoint-1000"
    with pytest.raises(InvalidInputError, match="is no checkpoint"):
        BaselineConfig(env_id="X-v0", resume_from_checkpoint=str(tmp_path)).checkpoint()


def test_the_optimizer_goes_on_where_it_was(tmp_path):
    def model_and_optimizer():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.Adam(model.parameters(), lr=0.1)

    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    unbroken = model_and_optimizer()
    for _ in range(5):
        step(*unbroken)
    first, resumed = model_and_optimizer(), model_and_optimizer()
    for _ in range(3):
        step(*first)
    save_optimizer(first[1], tmp_path / "optimizer.safetensors")
    resumed[0].load_state_dict(first[0].state_dict())
    load_optimizer(resumed[1], tmp_path / "optimizer.safetensors")
    for _ in range(2):
        step(*resumed)
    assert torch.equal(resumed[0].weight, unbroken[0].weight)


def test_the_command_says_what_is_wrong_in_one_line(capsys):
    assert main(["baseline", "dqn"]) == 2
    assert main(["baseline", "drrn", "--env_id", "X-v0", "--nom_envs", "3"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and "drrn, symbolic" in errors[0] and "nom_envs" in errors[1]
