# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The random floor and the bot's ceiling on the shipped panels; docs/evaluation.md has the full 1,000 episodes."""

import pytest

import trl_glam  # noqa: F401  (registers the environments)
from trl_glam.agents import BotAgent, RandomAgent
from trl_glam.envs.levels import TASK_KINDS
from trl_glam.evaluation import SUITES, Panel, SuiteTest, evaluate_policy, wilson_interval
from trl_glam.evaluation.scorer import Scorer
from trl_glam.types import InvalidInputError


# Uniform choice among the six actions, measured outside this code base.
RANDOM_RATES = {"goto": 0.32, "pickup": 0.13, "pick up seq go to": 0.08, "putnext": 0.02, "open": 0.007}


def test_random_floor_per_kind():
    result = evaluate_policy(RandomAgent(), Panel.load("mixed_train").head(400))
    assert set(result.per_kind) == set(RANDOM_RATES) == set(TASK_KINDS)
    for kind, success in result.per_kind.items():
        low, high = wilson_interval(success.successes, success.num_episodes, confidence=0.99)
        assert low <= RANDOM_RATES[kind] <= high, kind
    assert abs(result.success_rate - 0.11) <= 0.03


@pytest.mark.parametrize("name", ["french", "goto"])
def test_random_floor_of_going_to_an_object(name):
    result = evaluate_policy(RandomAgent(), Panel.load(name).head(300))
    assert abs(result.success_rate - 0.30) <= 0.05


@pytest.mark.parametrize("name", ["mixed_train", "mixed_test", "composition", "french", "goto_16", "demo"])
def test_the_bot_solves_what_it_is_shown(name):
    assert evaluate_policy(BotAgent(), Panel.load(name).head(15)).success_rate == 1


@pytest.mark.parametrize("test", SUITES["paper"], ids=lambda test: test.name)
def test_every_test_of_the_paper_can_be_played(test):
    scorer = Scorer(BotAgent(), modes=("sampled",), references=())
    panel = test.load_panel(quick=True).head(5)
    scorer.check(test, panel)
    entry = scorer.score(test, panel)
    assert entry["success_rate"] == 1


def test_the_bot_keeps_its_actions_where_others_are_restricted():
    panel = Panel.from_env("BabyAI-Text/PickupLocal-v0", 1, env_kwargs={"actions": "restricted"})
    with pytest.raises(InvalidInputError, match="The bot needs the action"):
        evaluate_policy(BotAgent(), panel)
    entry = Scorer(RandomAgent(), modes=("sampled",)).score(SuiteTest("restricted", ""), panel)
    assert entry["references"]["bot"]["success_rate"] == 1
