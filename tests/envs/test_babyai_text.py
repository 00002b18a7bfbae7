# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The environment itself: reproducible, checked, quiet, and clear about bad input."""

import itertools
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import trl_glam  # noqa: F401  (registers the environments)
from trl_glam.envs import check_text_env, make_env
from trl_glam.envs.babyai_text import ACTION_SETS, BabyAITextEnv
from trl_glam.envs.levels import TASK_KINDS
from trl_glam.types import InvalidInputError


def _make(level="GoToLocal", **kwargs):
    return gym.make(f"BabyAI-Text/{level}-v0", disable_env_checker=True, **kwargs)


def _play(env, seed, num_steps=20):
    obs, info = env.reset(seed=seed)
    said = [(obs["mission"], obs["text"], info)]
    for action in np.random.default_rng(seed).integers(0, 6, num_steps).tolist():
        obs, *result, info = env.step(action)
        said.append((obs["text"], result, info))
        if result[1] or result[2]:
            break
    return said


@pytest.mark.parametrize(
    "level, kwargs",
    [("GoToLocal", {}), ("GoToFrench", {}), ("MixedTrainLocal", {}), ("BossLevel", {"include_image": True})],
)
def test_environment_checkers_are_content(level, kwargs, recwarn):
    env = _make(level, max_steps=50, **kwargs)
    check_env(env.unwrapped, skip_render_check=True)
    check_text_env(env)
    assert not [warning for warning in recwarn if "gymnasium" in str(warning.filename)]


def test_import_registers_without_minigrid_and_torch():
    code = "import sys, trl_glam, gymnasium; print('minigrid' in sys.modules, 'torch' in sys.modules, "
    code += "'BabyAI-Text/GoToLocal-v0' in gymnasium.registry)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False", "True"]


def test_prints_nothing(capfd):
    _play(_make("MixedTestLocal", task="putnext"), 0)
    assert capfd.readouterr() == ("", "")


def test_same_seed_same_episode_whatever_ran_before():
    fresh = {seed: _play(_make("MixedTrainLocal"), seed) for seed in range(8)}
    used = _make("MixedTrainLocal")
    for seed in (5, 3, 7, 3, 0, 1):
        assert _play(used, seed) == fresh[seed]
    assert len({episode[0][2]["task_kind"] for episode in fresh.values()}) > 2


def test_episodes_do_not_depend_on_the_number_of_environments():
    alone = _make("MixedTrainLocal")
    expected = [_play(alone, seed) for seed in range(6)]
    envs = [_make("MixedTrainLocal") for _ in range(3)]
    for env, seed in zip(envs, range(3), strict=True):
        env.reset(seed=seed)
    assert [_play(envs[seed % 3], seed) for seed in reversed(range(6))] == expected[::-1]


def test_unseeded_resets_follow_the_last_seed():
    env = _make()
    env.reset(seed=1)
    first = [env.reset()[0] for _ in range(3)]
    env.reset(seed=1)
    assert [env.reset()[0] for _ in range(3)] == first
    assert len({obs["text"] for obs in first}) > 1


def test_task_kind_is_drawn_per_episode_or_kept():
    env = _make("MixedTrainLocal")
    kinds = [env.reset(seed=seed)[1]["task_kind"] for seed in range(200)]
    assert {kind: kinds.count(kind) > 20 for kind in TASK_KINDS} == dict.fromkeys(TASK_KINDS, True)
    kept = _make("MixedTrainLocal", sampling="instance")
    assert len({kept.reset(seed=seed)[1]["task_kind"] for seed in range(20)}) == 1
    assert env.reset(seed=0, options={"task": "open"})[1]["task_kind"] == "open"
    assert [env.reset(seed=seed)[1]["task_kind"] for seed in range(5)] == kinds[:5]


def test_drawing_the_kind_leaves_the_levels_own_draws_alone():
    env = _make("MixedTrainLocal")
    obs, info = env.reset(seed=4)
    assert env.reset(seed=4, options={"task": info["task_kind"]})[0] == obs


def test_success_on_the_last_step_terminates():
    env = _make("GoToObjS4", max_steps=2)
    solved = 0
    for seed, actions in itertools.product(range(5), itertools.product(range(3), repeat=2)):
        env.reset(seed=seed)
        assert env.step(actions[0])[1:4] == (0.0, False, False)
        _, reward, terminated, truncated, info = env.step(actions[1])
        assert (terminated, truncated) == ((True, False) if reward > 0 else (False, True))
        assert info["success"] == terminated
        assert reward == (pytest.approx(0.1) if terminated else 0)
        solved += terminated
    assert solved > 0


def test_options_hold_for_one_episode():
    env = _make()
    plain, info = env.reset(seed=0)
    options = {
        "lexicon": "invented_words",
        "goal_phrase": "You have to",
        "actions": "restricted",
    }
    worded, worded_info = env.reset(seed=0, options=options)
    assert worded["mission"] == "You have to go to the jatu xolo"
    assert "jatu dax" in worded["text"] and "green key" not in worded["text"]
    assert worded_info["admissible_actions"] == ["turn left", "turn right", "go forward"]
    french, french_info = env.reset(seed=0, options={"language": "french"})
    assert french["mission"] == "aller à la balle verte"
    assert french_info["admissible_actions"][0] == "tourner à gauche"
    assert env.reset(seed=0)[0] == plain


@pytest.mark.parametrize("name", ACTION_SETS)
def test_action_sets_act_alike(name):
    plain, other = _make(), _make(actions=name)
    for seed in range(3):
        plain.reset(seed=seed)
        _, info = other.reset(seed=seed)
        assert info["admissible_actions"] == list(ACTION_SETS[name])
        for action in range(min(6, len(info["admissible_actions"]))):
            assert plain.step(action)[0] == other.step(action)[0]


def test_no_ops_do_nothing_but_take_time():
    env = _make(actions="augmented", max_steps=3)
    obs, _ = env.reset(seed=0)
    results = [env.step(index) for index in (6, 7, 8)]
    assert all(result[0] == obs for result in results)
    assert [result[3] for result in results] == [False, False, True]


def test_synonym_actions_replace_candidates_only():
    obs, info = _make(lexicon="synonym_actions").reset(seed=0)
    assert info["admissible_actions"] == ["rotate left", "rotate right", "move ahead", "take", "release", "switch"]
    assert obs == _make().reset(seed=0)[0]


def test_action_list_may_be_reordered():
    env, plain = _make(actions=("go forward", "turn left")), _make()
    env.reset(seed=0)
    plain.reset(seed=0)
    assert env.step(0)[0] == plain.step(2)[0]
    assert env.step(1)[0] == plain.step(0)[0]


def test_render():
    env = _make(render_mode="rgb_array")
    env.reset(seed=0)
    frame = env.render()
    assert frame.dtype == np.uint8 and frame.shape == (256, 256, 3)


@pytest.mark.parametrize("index", [-1, 6, 100])
def test_action_index_out_of_range(index):
    env = _make()
    env.reset(seed=0)
    with pytest.raises(InvalidInputError, match=f"Action {index} is out of range.*0 to 5"):
        env.step(index)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"level": "GoToLocl"}, "did you mean GoToLocal"),
        ({"level": "MiniGrid-Empty-5x5-v0"}, "no BabyAI level"),
        ({"level": "GoToLocal", "task": "goto"}, "one kind of task"),
        ({"level": "MixedTrainLocal", "task": "fly"}, "pick up seq go to"),
        ({"level": "GoToLocal", "num_doors": 3}, "num_doors"),
        ({"level": "GoToLocal", "room_size": 1}, "room_size"),
        ({"level": "GoToLocal", "sampling": "always"}, "episode, instance"),
        ({"level": "GoToLocal", "actions": "all"}, "canonical"),
        ({"level": "GoToLocal", "actions": []}, "at least one"),
        ({"level": "GoToLocal", "actions": ["toggle", "toggle"]}, "twice"),
        ({"level": "GoToLocal", "actions": ["turn lefd"]}, "did you mean 'turn left'"),
        ({"level": "GoToLocal", "lexicon": "klingon"}, "invented_words"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(InvalidInputError, match=message):
        BabyAITextEnv(**kwargs)


def test_bad_options():
    env = _make(actions="restricted")
    with pytest.raises(InvalidInputError, match="'lexikon'"):
        env.reset(seed=0, options={"lexikon": "oov_nouns"})
    with pytest.raises(InvalidInputError, match="largest action set"):
        env.reset(seed=0, options={"actions": "canonical"})


def test_unknown_id_suggests_a_known_one():
    with pytest.raises(InvalidInputError, match="GoToLocal"):
        make_env("BabyAI-Text/GoToLocl-v0")
    with pytest.raises(InvalidInputError, match="num_doors"):
        make_env("BabyAI-Text/GoToLocal-v0", {"num_doors": 3})
