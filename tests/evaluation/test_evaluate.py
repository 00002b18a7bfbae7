# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Evaluation: outcomes that depend on panel, policy and seed alone, every episode to its end."""

import gymnasium as gym
import numpy as np
import pytest

from tests.tiny_models import tiny_t5
from tests.toy_envs import CorridorEnv, LampEnv
from trl_glam.agents import Agent, RandomAgent, ScoringAgent
from trl_glam.evaluation import Panel, evaluate_policy, wilson_interval
from trl_glam.evaluation.panels import EpisodeGroup
from trl_glam.policy import ScoringPolicy
from trl_glam.prompts import PromptTemplate
from trl_glam.types import Decision, EnvironmentFault, InvalidInputError


@pytest.fixture(scope="module", autouse=True)
def toy_environments():
    gym.register("EvaluationLamp-v0", LampEnv)
    gym.register("EvaluationCorridor-v0", CorridorEnv)
    yield
    del gym.registry["EvaluationLamp-v0"], gym.registry["EvaluationCorridor-v0"]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return ScoringPolicy.from_pretrained(tiny_t5(tmp_path_factory.mktemp("t5")), temperature=4.0)


@pytest.fixture
def panel():
    return Panel.from_env("EvaluationCorridor-v0", 30, env_kwargs={"length": 4, "max_steps": 8})


def shuffled(panel, seed):
    """The same keys (slots included) in another order."""

    class Shuffled(Panel):
        def episodes(self):
            keys = super().episodes()
            return [keys[i] for i in np.random.default_rng(seed).permutation(len(keys))]

    return Shuffled(panel.name, panel.groups)


def outcomes(result):
    return [(r.key.seed, r.key.slot, r.actions, r.episode_return, r.length, r.success) for r in result.records]


@pytest.mark.parametrize("greedy", [False, True])
def test_outcomes_do_not_depend_on_the_number_of_environments_or_the_order(panel, policy, greedy):
    for make_agent in (RandomAgent, lambda: ScoringAgent(policy, batch_size=5)):
        results = [
            evaluate_policy(make_agent(), p, seed=3, greedy=greedy, num_envs=n)
            for p, n in [(panel, 1), (panel, 7), (panel, 32), (shuffled(panel, 1), 7)]
        ]
        assert all(outcomes(result) == outcomes(results[0]) for result in results[1:])
        assert len(results[0].records) == 30
        assert [record.key.slot for record in results[0].records] == list(range(30))


def test_episodes_do_not_share_their_draws():
    panel = Panel("same world", (EpisodeGroup("EvaluationCorridor-v0", (7,) * 20, {"length": 99, "max_steps": 8}),))
    result = evaluate_policy(RandomAgent(), panel)
    assert len({record.actions for record in result.records}) > 10


def test_the_seed_changes_sampled_actions_and_not_greedy_ones(panel, policy):
    assert outcomes(evaluate_policy(policy, panel, seed=0)) != outcomes(evaluate_policy(policy, panel, seed=1))
    greedy = [outcomes(evaluate_policy(policy, panel, seed=seed, greedy=True)) for seed in (0, 1)]
    assert greedy[0] == greedy[1]


class WaitAtEvenSeeds(Agent):
    """Walks at once where the seed is odd, and only waits where it is even."""

    def act(self, observations, generators, greedy=False):
        return [Decision(index=int(observation.episode.seed % 2 == 0)) for observation in observations]


class Walks(CorridorEnv):
    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        return obs, float(terminated), terminated, truncated, info


def test_long_episodes_count_as_much_as_short_ones():
    # Failures take 40 steps, successes 2: stopping once 20 episodes have finished would report (almost) 1.
    panel = Panel.from_env("walks", 20)
    result = evaluate_policy(WaitAtEvenSeeds(), panel, num_envs=4, make_env=lambda key: Walks(2, max_steps=40))
    assert result.success_rate == 0.5
    assert result.interval == wilson_interval(10, 20)
    assert {record.length for record in result.records if not record.success} == {40}


def test_success_from_the_return_is_said_so():
    panel = Panel.from_env("EvaluationCorridor-v0", 5)
    result = evaluate_policy(RandomAgent(), panel, success_threshold=100)
    assert result.success_rate == 0 and result.to_dict()["success_is"].startswith("return >")
    lamp = evaluate_policy(RandomAgent(), Panel.from_env("EvaluationLamp-v0", 5))
    assert lamp.to_dict()["success_is"] == "info['success']"


def test_rates_per_kind_add_up():
    result = evaluate_policy(RandomAgent(), Panel.from_env("EvaluationLamp-v0", 300))
    low, high = wilson_interval(result.success.successes, 300, confidence=0.999)
    assert low < 1 / 3 < high
    assert set(result.per_kind) == {"red", "green", "blue"}
    assert sum(kind.num_episodes for kind in result.per_kind.values()) == 300
    assert sum(kind.successes for kind in result.per_kind.values()) == result.success.successes
    assert result.mean_length == 1 and result.mean_return == result.success_rate


def test_each_episode_gets_its_own_environment_arguments():
    panel = Panel("two", tuple(EpisodeGroup("EvaluationCorridor-v0", (1, 2), {"max_steps": n}) for n in (3, 6)))
    made = []

    def make_env(key):
        made.append(dict(key.env_kwargs))
        return CorridorEnv(**key.env_kwargs)

    result = evaluate_policy(
        WaitAtEvenSeeds(), panel, num_envs=2, env_kwargs={"length": 99}, make_env=make_env, template=PromptTemplate()
    )
    assert [record.length for record in result.records] == [3, 6, 3, 6]
    assert {"max_steps": 3, "length": 99} in made and {"max_steps": 6, "length": 99} in made


def test_environments_and_sinks_are_closed_even_after_an_error():
    closed = []

    class Fails(CorridorEnv):
        def close(self):
            closed.append(self)

        def step(self, action):
            raise RuntimeError("broken world")

    with pytest.raises(EnvironmentFault, match="RuntimeError: broken world"):
        evaluate_policy(RandomAgent(), Panel.from_env("x", 3), num_envs=3, make_env=lambda key: Fails())
    assert len(closed) == 3


def test_bad_numbers_of_environments_and_unknown_environments():
    with pytest.raises(InvalidInputError, match="num_envs=0"):
        evaluate_policy(RandomAgent(), Panel.from_env("EvaluationLamp-v0", 1), num_envs=0)
    with pytest.raises(InvalidInputError):
        evaluate_policy(RandomAgent(), Panel.from_env("NoSuchWorld-v0", 1))
