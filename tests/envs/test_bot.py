# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The demonstrator solves the local tasks, also when it is not always obeyed, and never hangs."""

import gymnasium as gym
import numpy as np
import pytest
from minigrid.envs.babyai.core.verifier import GoToInstr
from minigrid.utils.baby_ai_bot import BabyAIBot

import trl_glam  # noqa: F401  (registers the environments)
from tests.toy_envs import LampEnv
from trl_glam.envs.bot import BabyAIDemonstrator
from trl_glam.envs.levels import TASK_KINDS
from trl_glam.types import InvalidInputError


LOCAL_TASKS = [
    *(("MixedTrainLocal", {"task": kind}) for kind in TASK_KINDS),
    *(("MixedTestLocal", {"task": kind}) for kind in TASK_KINDS),
    ("GoToLocal", {}),
    ("GoToLocal", {"actions": "restricted"}),
    ("GoToLocalS5N2", {}),
    ("GoToObjS4", {"actions": "synonyms"}),
    ("GoToFrench", {}),
    ("PickupLocal", {"actions": "augmented"}),
    ("PutNextLocal", {}),
    ("PickUpThenGoToLocal", {}),
    ("GoToAfterPickUpLocal", {}),
    ("PickUpSeqGoToLocal", {}),
    ("PickUpSeqPickUpLocal", {}),
]


def _episode(env, seed, disobey=0.0):
    _, info = env.reset(seed=seed)
    bot = BabyAIDemonstrator(env)
    generator = np.random.default_rng(seed)
    while True:
        action = bot.act()
        if generator.random() < disobey:
            action = int(generator.integers(len(info["admissible_actions"])))
        _, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return info["success"], bot


@pytest.mark.parametrize("level, kwargs", LOCAL_TASKS, ids=str)
def test_bot_solves_every_local_task(level, kwargs):
    env = gym.make(f"BabyAI-Text/{level}-v0", **kwargs)
    assert all(_episode(env, seed)[0] for seed in range(50))


@pytest.mark.parametrize("task", TASK_KINDS)
def test_bot_recovers_when_it_is_not_obeyed(task):
    # Random actions may destroy a named box, which nobody can mend.
    env = gym.make("BabyAI-Text/MixedTrainLocal-v0", task=task)
    assert sum(_episode(env, seed, disobey=0.2)[0] for seed in range(40)) >= 37


@pytest.mark.parametrize("level, first", [("PickUpThenGoToLocal", "a_done"), ("GoToAfterPickUpLocal", "b_done")])
def test_fresh_plan_goes_on_from_what_is_done(level, first, monkeypatch):
    env = gym.make(f"BabyAI-Text/{level}-v0")
    planned = []
    monkeypatch.setattr(BabyAIBot, "_process_instr", lambda bot, instruction: planned.append(instruction))
    for seed in range(5):
        env.reset(seed=seed)
        setattr(env.unwrapped.level.instrs, first, "success")
        BabyAIDemonstrator(env).act()
        assert {type(part) for part in planned} == {GoToInstr}


@pytest.mark.parametrize("level", ["Unlock", "KeyInBox", "BossLevel", "PutNextS5N2Carrying", "UnblockPickup"])
def test_bot_never_hangs(level):
    env = gym.make(f"BabyAI-Text/{level}-v0", max_steps=150)
    for seed in range(4):
        _episode(env, seed, disobey=0.1)


def test_bot_gives_up_where_there_is_no_plan():
    env = gym.make("BabyAI-Text/KeyInBox-v0", max_steps=30)
    success, bot = _episode(env, 0)
    assert not success and bot.given_up


def test_bot_refuses_other_environments_and_lacking_actions():
    with pytest.raises(InvalidInputError, match="BabyAI-Text levels only, not LampEnv"):
        BabyAIDemonstrator(LampEnv())
    env = gym.make("BabyAI-Text/PickupLocal-v0", actions="restricted")
    with pytest.raises(InvalidInputError, match="'pickup'.*canonical"):
        _episode(env, 0)
