# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Logs of BabyAI-Text: every level and variant replays, and a row is small."""

import json

import numpy as np
import pytest

from trl_glam.agents import Agent, BotAgent, MixtureAgent, RandomAgent
from trl_glam.logs import collect_log, verify_log
from trl_glam.logs.writer import shard_paths
from trl_glam.types import Decision


# Ten levels, the mixes and the variants included.
WORLDS = [
    ("GoToLocal", {}),
    ("GoToLocal", {"actions": ["turn left", "turn right", "go forward"], "num_dists": 4}),
    ("GoToRedBall", {"lexicon": "invented_nouns"}),
    ("PickupLocal", {"grammar": "fixed"}),
    ("PutNextLocal", {}),
    ("PickUpSeqGoToLocal", {}),
    ("PickUpSeqPickUpLocal", {"language": "french"}),
    ("Open", {}),
    ("UnlockLocal", {"sampling": "instance"}),
    ("MixedTrainLocal", {}),
    ("MixedTrainLocal", {"task": "open"}),
    ("MixedTestLocal", {"task": "goto"}),
]
IDS = [f"{level}-{json.dumps(kwargs)}" for level, kwargs in WORLDS]


class NoisyAgent(Agent):
    """Draws a distribution and a value at every step: numbers as hard to compress as a model's."""

    def act(self, observations, generators, greedy=False):
        decisions = []
        for observation, generator in zip(observations, generators, strict=True):
            probabilities = generator.dirichlet(np.ones(len(observation.admissible_actions)))
            index = int(generator.choice(len(probabilities), p=probabilities))
            value = float(np.float32(generator.normal()))
            decisions.append(Decision(index, np.log(probabilities).astype(np.float32), value))
        return decisions


def check_replay(tmp_path, level, env_kwargs, num_episodes):
    for name, agent in (("random", RandomAgent()), ("bot", MixtureAgent(BotAgent(), RandomAgent(), 0.2))):
        kwargs = {"env_id": f"BabyAI-Text/{level}-v0", "env_kwargs": env_kwargs, "seed": 1, "policy": name}
        collect_log(agent, tmp_path / name, **kwargs, num_episodes=num_episodes)
        report = verify_log(tmp_path / name)
        assert report.ok, report.difference
        assert report.episodes == num_episodes and report.prompts_checked


@pytest.mark.parametrize(("level", "env_kwargs"), WORLDS, ids=IDS)
def test_levels_and_variants_replay(tmp_path, level, env_kwargs):
    check_replay(tmp_path, level, env_kwargs, num_episodes=2)


@pytest.mark.slow
@pytest.mark.parametrize(("level", "env_kwargs"), WORLDS, ids=IDS)
def test_a_thousand_episodes_replay(tmp_path, level, env_kwargs):
    check_replay(tmp_path, level, env_kwargs, num_episodes=-(-500 // len(WORLDS)))


def test_a_row_takes_at_most_150_bytes_with_its_prompt(tmp_path):
    kwargs = {"env_id": "BabyAI-Text/GoToLocal-v0", "seed": 0, "policy": "noisy"}
    collected = collect_log(NoisyAgent(), tmp_path, **kwargs, num_steps=3000)
    size = sum(path.stat().st_size for path in shard_paths(tmp_path))
    assert size / collected.transitions <= 150
