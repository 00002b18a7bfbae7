# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The contract names each broken rule, environment and step; near misses have wrappers."""

import math

import gymnasium as gym
import numpy as np
import pytest

from tests.toy_envs import CorridorEnv, LampEnv
from trl_glam.envs import PlainText, StringActions, check_text_env, make_env, read_reset, read_step
from trl_glam.types import InvalidInputError


class CountEnv(gym.Env):
    """Counts to three; what it says can be broken one thing at a time."""

    observation_space = gym.spaces.Text(100)

    def __init__(self, **broken):
        self.action_space = broken.pop("action_space", gym.spaces.Discrete(2))
        self.broken = broken

    def _obs(self):
        return self.broken.get("obs", {"mission": "count", "text": f"It is {self.count}."})

    def _info(self):
        return {"admissible_actions": ["up", "wait"], **self.broken.get("info", {})}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = (
            int(self.np_random.integers(2)) if not self.broken.get("unseeded") else int(np.random.rand() * 1e9)
        )
        info = self._info()
        for key in self.broken.get("without", ()):
            del info[key]
        return self.broken.get("reset", (self._obs(), self.broken.get("whole_info", info)))

    def step(self, action):
        if not self.broken.get("any_index") and not 0 <= action < 2:
            raise IndexError(action)
        self.count += 1
        ended = self.count >= 3 and not self.broken.get("endless")
        result = (self._obs(), self.broken.get("reward", 1.0), self.broken.get("flag", ended), False, self._info())
        return self.broken.get("step", result)


class SeedlessEnv(CountEnv):
    def reset(self):
        return super().reset()


BROKEN = [
    ({"action_space": gym.spaces.Box(0, 1, (1,))}, "action_space is Box"),
    ({"action_space": gym.spaces.Discrete(1)}, "2 actions are admissible, action_space is Discrete"),
    ({"reset": "hello"}, "reset: it returns a str, it must return"),
    ({"whole_info": None}, "info is a NoneType"),
    ({"obs": 3}, "the observation is a int"),
    ({"obs": {"text": "x"}}, "'mission' and 'text'"),
    ({"obs": {"text": 1, "mission": "x"}}, "the text is a int"),
    ({"obs": {"text": "x", "mission": None}}, "the mission is a NoneType"),
    ({"without": ["admissible_actions"]}, "no 'admissible_actions'"),
    ({"info": {"admissible_actions": "up"}}, "admissible_actions'. is a str"),
    ({"info": {"admissible_actions": []}}, "is empty"),
    ({"info": {"admissible_actions": ["up", " "]}}, "blank"),
    ({"info": {"admissible_actions": ["up", 2]}}, "is a int, it must be a str"),
    ({"info": {"admissible_actions": ["up", "up"]}}, "'up' is listed twice"),
    ({"info": {"descriptions": "It is 1."}}, "descriptions"),
    ({"info": {"task_kind": 3}}, "task_kind"),
    ({"info": {"success": "yes"}}, "success"),
    ({"reward": math.nan}, "the reward is nan"),
    ({"reward": None}, "the reward is None"),
    ({"flag": "no"}, "terminated is 'no'"),
    ({"step": (1, 2)}, "step 0: it returns 2 values"),
    ({"endless": True}, "did not end within 50 steps"),
    ({"unseeded": True}, "two plays of seed 0"),
    ({"any_index": True}, r"step\(2\) is accepted"),
]


@pytest.mark.parametrize("broken, message", BROKEN, ids=[message for _, message in BROKEN])
def test_each_broken_rule_is_named(broken, message):
    with pytest.raises(InvalidInputError, match=message) as raised:
        check_text_env(CountEnv(**broken), max_steps=50)
    assert "CountEnv" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_reset_without_seed_is_named():
    with pytest.raises(InvalidInputError, match="seed=None, options=None"):
        check_text_env(SeedlessEnv())
    with pytest.raises(InvalidInputError, match="no gymnasium.Env"):
        check_text_env(object())


@pytest.mark.parametrize("env", [CountEnv(), LampEnv(), CorridorEnv()], ids=lambda env: type(env).__name__)
def test_sound_environments_pass(env):
    check_text_env(env)


def test_reading_names_environment_and_step():
    with pytest.raises(InvalidInputError, match="World-v0, step 7: the reward is inf"):
        read_step("text", math.inf, False, False, {"admissible_actions": ["a"]}, "World-v0", "", 7)
    with pytest.raises(InvalidInputError, match="World-v0, reset: info"):
        read_reset("text", {}, "World-v0")


def test_reading_plain_strings():
    info = {"admissible_actions": ["a"], "mission": "win"}
    text = read_reset("One. Two.", info, "w")
    assert text == ("win", ("One. Two.",), ("a",), None)
    later = read_step("Three.", np.float32(1), np.bool_(False), False, {"admissible_actions": ["a"]}, "w", "win", 0)
    assert later.mission == "win"
    # The info that ends an episode need not list actions.
    assert read_step("End.", 0, True, False, {}, "w", "win", 1).admissible_actions == ()


class ParserEnv(gym.Env):
    """Speaks plain strings and takes the action's text."""

    observation_space = gym.spaces.Text(100)
    action_space = gym.spaces.Text(20)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return "A room. A door.", {"admissible_actions": ["open door", "wait"]}

    def step(self, action):
        assert isinstance(action, str)
        done = action == "open door"
        actions = {} if done else {"admissible_actions": ["wait", "open door"]}
        return "The end." if done else "A room.", float(done), done, False, actions


def test_wrappers_bring_near_misses_into_the_form():
    env = PlainText(StringActions(ParserEnv(), max_actions=2), mission="get out", split=lambda text: text.split(". "))
    check_text_env(env)
    obs, info = env.reset(seed=0)
    assert obs == {"mission": "get out", "text": "A room. A door."}
    assert info["descriptions"] == ["A room", "A door."]
    assert env.step(1)[2] is False
    assert env.step(1)[2] is True  # the list has turned round
    with pytest.raises(InvalidInputError, match="Action 0 is out of range"):
        env.step(0)
    fixed = PlainText(ParserEnv(), actions=["wait"])
    assert fixed.reset(seed=0)[1]["admissible_actions"] == ["wait"]


def test_make_env_imports_a_users_module(tmp_path, monkeypatch):
    code = "import gymnasium as gym\nfrom tests.toy_envs import LampEnv\ngym.register('{}-v0', LampEnv)\n"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_lamp_module.py").write_text(code.format("LampByModule"))
    (tmp_path / "my_lamp_file.py").write_text(code.format("LampByFile"))
    assert isinstance(make_env("LampByModule-v0", {}, "my_lamp_module").unwrapped, LampEnv)
    assert isinstance(make_env("LampByFile-v0", env_module=str(tmp_path / "my_lamp_file.py")).unwrapped, LampEnv)
    for module in ("no_such_module", "no_such_package.worlds", "no_such_file.py"):
        with pytest.raises(InvalidInputError, match="no_such"):
            make_env("Lamp-v0", {}, module)
    with pytest.raises(InvalidInputError, match="env_module"):
        make_env("NoSuchWorld-v0")
