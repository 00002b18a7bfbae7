# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The paper's ablations train: an action head in place of the scores (AFlan), random weights (NPAE, NPA, NPE)."""

import pytest
import torch

from tests.tiny_models import tiny_t5
from tests.toy_envs import CorridorEnv, LampEnv
from tests.trainer.test_glam_trainer import make_trainer
from trl_glam import ScoringPolicy
from trl_glam.cli.train import finish
from trl_glam.types import InvalidInputError


ACTIONS = [f"press {colour}" for colour in LampEnv.COLOURS]


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


@pytest.mark.parametrize(
    ("name", "init", "head"),
    [
        ("AFlan", "pretrained", "action"),
        ("NPAE", "embeddings", "action"),
        ("NPA", "random", "action"),
        ("NPE", "embeddings", "scoring"),
    ],
)
def test_a_variant_trains_and_is_saved_whole(t5, tmp_path, name, init, head):
    trainer = make_trainer(t5, tmp_path, env=LampEnv, init=init, head=head, seed=3)
    policy, config = trainer.policy, trainer.policy.policy_config
    assert config.calibration.mode == ("none" if head == "action" else "prompts")
    before = {key: value.clone() for key, value in policy.named_parameters()}
    same = ScoringPolicy.from_pretrained(t5).lm.get_input_embeddings().weight
    assert torch.equal(policy.lm.get_input_embeddings().weight, same) == (init != "random")
    trainer.train()
    moved = {key for key, value in policy.named_parameters() if not torch.equal(value, before[key])}
    assert any(key.startswith("lm.") for key in moved)
    assert any(key.startswith("action_head.") for key in moved) == (head == "action")
    finish(trainer)
    loaded = ScoringPolicy.from_pretrained(tmp_path)
    prompts = ["The lamp is red.", "The lamp is blue."]
    expected, found = (p.score(prompts, [ACTIONS] * 2).logits for p in (policy.eval(), loaded))
    assert torch.equal(expected, found)
    if head == "action":
        assert loaded.policy_config.num_actions == 3 and loaded.policy_config.actions == ACTIONS


def test_an_action_head_needs_a_fixed_set_of_actions(t5, tmp_path):
    with pytest.raises(InvalidInputError, match="num_actions=3 was given actions=\\['walk', 'wait'\\]"):
        make_trainer(t5, tmp_path, env=CorridorEnv, head="action").train()
