# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What an environment must give so that a policy can choose among action strings in it.

`reset` and `step` give an observation that is a `str` or `{"mission": str, "text": str}`; `info["admissible_actions"]`
is a non-empty list of different strings in every info except the one that ends an episode; an action is an index into
it, and an index past it raises. `info["descriptions"]` (the text in sentences), `info["task_kind"]`, `info["success"]`
and `info["mission"]` (for plain-string observations) are optional. [`read_reset`] and [`read_step`] hold every step of
a run to that, [`check_text_env`] holds an environment to all of it before the run; `wrappers.py` brings near misses
into the form. An environment that offers [`RestorableEnv`] is brought back from its state instead of being replayed.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

from ..types import InvalidInputError


class TextObservation(NamedTuple):
    """
    What an environment said at one step, checked.

    Args:
        mission (`str`):
            The goal in words; may be empty.
        sentences (`tuple[str, ...]`):
            The observation, one sentence an entry.
        admissible_actions (`tuple[str, ...]`):
            The actions that may be taken; may be empty only where an episode ends.
        task_kind (`str` or `None`):
            Kind of task, if the environment names one.
    """

    mission: str
    sentences: tuple[str, ...]
    admissible_actions: tuple[str, ...]
    task_kind: str | None


@runtime_checkable
class RestorableEnv(Protocol):
    """
    What an environment may offer so that a resumed run does not play its episode again from the start: worth it where
    a step is slow. An environment offers both methods or is replayed from its seed and actions.

    The state is kept in a checkpoint as JSON. It says all that the actions since the reset have changed; what the
    reset's seed and options decide need not be in it.
    """

    def get_state(self) -> Any:
        """The state of the running episode, JSON-serialisable; the same state gives the same value."""

    def set_state(self, state: Any) -> None:
        """
        Go to a state of [`~RestorableEnv.get_state`]; called after a reset with the seed and options of its episode.
        """


def as_restorable(env: gym.Env) -> RestorableEnv | None:
    """
    The part of an environment that saves and restores all of it.

    Args:
        env (`gym.Env`):
            An environment, wrapped or not.

    Returns:
        [`RestorableEnv`] or `None`: `None` if it has none, or if it is wrapped by something that may hold state of its
        own, such as a time limit: then its wrapper has to offer both methods.
    """
    # `gym.make` puts these around; a reset is all they need.
    while isinstance(env, (OrderEnforcing, PassiveEnvChecker)):
        env = env.env
    return env if isinstance(env, RestorableEnv) else None


def unpack_reset(returned: Any, env_id: str) -> tuple[Any, dict[str, Any]]:
    """What `env.reset` returned, if it is (observation, info); else an [`~trl_glam.types.InvalidInputError`]."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise _broken(f"{env_id}, reset", f"it returns {_shape(returned)}, it must return (observation, info)")
    return returned


def unpack_step(returned: Any, env_id: str, step: int) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """What `env.step` returned, if it is five values; else an [`~trl_glam.types.InvalidInputError`]."""
    if not isinstance(returned, tuple) or len(returned) != 5:
        raise _broken(
            f"{env_id}, step {step}",
            f"it returns {_shape(returned)}, it must return (observation, reward, terminated, truncated, info)",
        )
    return returned


def _shape(returned: Any) -> str:
    return f"{len(returned)} values" if isinstance(returned, tuple) else f"a {type(returned).__name__}"


def read_reset(obs: Any, info: Any, env_id: str) -> TextObservation:
    """
    Check and read what `env.reset` returned.

    Args:
        obs (`str` or `dict[str, Any]`):
            The observation.
        info (`dict[str, Any]`):
            The info.
        env_id (`str`):
            Name of the environment, for messages.

    Returns:
        [`TextObservation`]: what it says.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: if the contract is broken; names the environment and the rule.
    """
    return _read(obs, info, f"{env_id}, reset", "", ended=False)


def read_step(
    obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any, env_id: str, mission: str, step: int
) -> TextObservation:
    """
    Check and read what `env.step` returned.

    Args:
        obs (`str` or `dict[str, Any]`), reward (`float`), terminated (`bool`), truncated (`bool`), info (`dict[str,
        Any]`):
            What `step` returned.
        env_id (`str`):
            Name of the environment, for messages.
        mission (`str`):
            The episode's mission: that of a plain-string observation whose info holds none.
        step (`int`):
            Number of the step in its episode, for messages.

    Returns:
        [`TextObservation`]: what it says.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: if the contract is broken; names the environment, the step and the rule.
    """
    if not isinstance(reward, (float, int, np.floating, np.integer)) or not math.isfinite(reward):
        raise _broken(f"{env_id}, step {step}", f"the reward is {reward!r}, it must be a finite number")
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, (bool, np.bool_)):
            raise _broken(f"{env_id}, step {step}", f"{name} is {flag!r}, it must be True or False")
    return _read(obs, info, f"{env_id}, step {step}", mission, ended=bool(terminated or truncated))


def _broken(where: str, what: str) -> InvalidInputError:
    return InvalidInputError(f"{where}: {what} (see trl_glam.envs.check_text_env).")


def _read(obs: Any, info: Any, where: str, mission: str, ended: bool) -> TextObservation:
    if not isinstance(info, dict):
        raise _broken(where, f"info is a {type(info).__name__}, it must be a dict")
    if isinstance(obs, str):
        text, mission = obs, info.get("mission", mission)
    elif not isinstance(obs, dict):
        raise _broken(
            where, f"the observation is a {type(obs).__name__}, it must be a str or a dict with mission and text"
        )
    elif "text" not in obs or "mission" not in obs:
        raise _broken(where, f"the observation has the keys {sorted(obs)}, it must have 'mission' and 'text'")
    else:
        text, mission = obs["text"], obs["mission"]
    if not isinstance(text, str):
        raise _broken(where, f"the text is a {type(text).__name__}, it must be a str")
    if not isinstance(mission, str):
        raise _broken(where, f"the mission is a {type(mission).__name__}, it must be a str")
    sentences = info.get("descriptions")
    if sentences is None:
        sentences = (text,)
    elif not isinstance(sentences, (list, tuple)) or not all(isinstance(sentence, str) for sentence in sentences):
        raise _broken(where, f"info['descriptions'] is {sentences!r}, it must be a list of strings")
    actions = info.get("admissible_actions")
    if actions is None:
        if not ended:
            raise _broken(where, "info has no 'admissible_actions', it must list the actions that may be taken now")
        actions = ()
    _check_actions(actions, where, ended)
    kind = info.get("task_kind")
    if kind is not None and not isinstance(kind, str):
        raise _broken(where, f"info['task_kind'] is {kind!r}, it must be a str")
    success = info.get("success", False)
    if not isinstance(success, (bool, np.bool_)):
        raise _broken(where, f"info['success'] is {success!r}, it must be True or False")
    return TextObservation(mission, tuple(sentences), tuple(actions), kind)


def _check_actions(actions: Any, where: str, ended: bool) -> None:
    if not isinstance(actions, (list, tuple)):
        raise _broken(where, f"info['admissible_actions'] is a {type(actions).__name__}, it must be a list of strings")
    for action in actions:
        if not isinstance(action, str):
            raise _broken(where, f"the admissible action {action!r} is a {type(action).__name__}, it must be a str")
        if not action.strip():
            raise _broken(where, f"the admissible action {action!r} is blank, it must have words to score")
    if not actions and not ended:
        raise _broken(where, "info['admissible_actions'] is empty, an agent must have at least one action")
    if len(set(actions)) < len(actions):
        twice = next(action for action in actions if actions.count(action) > 1)
        raise _broken(where, f"the admissible action {twice!r} is listed twice, each must be there once")


# ---- making ------------------------------------------------------------------------------------------------------


def make_env(env_id: str, env_kwargs: dict[str, Any] | None = None, env_module: str | None = None) -> gym.Env:
    """
    Make an environment by its Gymnasium id.

    Args:
        env_id (`str`):
            Gymnasium id, like `"BabyAI-Text/GoToLocal-v0"`.
        env_kwargs (`dict[str, Any]`, *optional*):
            Arguments of the environment.
        env_module (`str`, *optional*):
            Python module (or `.py` file) that registers the id; it is imported first. Modules in the working directory
            are found.

    Returns:
        `gym.Env`: the environment, not reset.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: if the module, the id or an argument does not exist.
    """
    if env_module is not None:
        _import_module(env_module)
    try:
        return gym.make(env_id, disable_env_checker=True, **(env_kwargs or {}))
    except gym.error.Error as error:
        advice = "" if env_module else " If a module of yours registers it, name it as env_module."
        raise InvalidInputError(f"The environment {env_id!r} cannot be made: {error}{advice}") from error
    except TypeError as error:
        raise InvalidInputError(f"The environment {env_id!r} does not take {env_kwargs}: {error}") from error


def _import_module(name: str) -> None:
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise InvalidInputError(
                f"env_module={name!r} is no file: give the path of a Python file or a module's name."
            )
        if path.stem not in sys.modules:
            spec = importlib.util.spec_from_file_location(path.stem, path)
            module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        return
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, something that it imports is not
        raise InvalidInputError(
            f"env_module={name!r} is not found: give a module that Python can import from here, or a .py file's path."
        ) from error


# ---- checking ----------------------------------------------------------------------------------------------------


def check_text_env(env: gym.Env, num_episodes: int = 3, seed: int = 0, max_steps: int = 10_000) -> None:
    """
    Hold an environment to the contract by playing random episodes in it.

    Args:
        env (`gym.Env`):
            The environment.
        num_episodes (`int`, *optional*, defaults to `3`):
            Episodes to play, each twice.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the first episode; the others follow.
        max_steps (`int`, *optional*, defaults to `10_000`):
            An episode must end within so many steps.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: if a rule is broken; names every broken rule that was met.
    """
    complaints = []
    name = getattr(env.spec, "id", None) or type(env.unwrapped).__name__ if isinstance(env, gym.Env) else str(env)
    if not isinstance(env, gym.Env):
        raise InvalidInputError(
            f"{name}: a {type(env).__name__} is no gymnasium.Env (see trl_glam.envs.check_text_env)."
        )
    if not isinstance(env.action_space, spaces.Discrete) or env.action_space.start != 0:
        complaints.append(
            f"action_space is {env.action_space}, it must be Discrete(n), n the largest number of admissible actions"
        )
    parameters = inspect.signature(env.unwrapped.reset).parameters
    if "seed" not in parameters or "options" not in parameters:
        complaints.append("reset must be reset(self, *, seed=None, options=None): an episode is told by its seed")
    if not complaints:
        for episode in range(num_episodes):
            try:
                first = _play(env, name, seed + episode, max_steps)
                second = _play(env, name, seed + episode, max_steps)
                if first != second:
                    step = next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
                    complaints.append(
                        f"two plays of seed {seed + episode} with the same actions differ from step {step} on: "
                        f"{first[step]} and {second[step]}; all chance must come from self.np_random"
                    )
            except InvalidInputError as error:
                complaints.append(str(error))
            if complaints:
                break
    if not complaints:
        complaints += _accepts_too_much(env, name, seed)
    if complaints:
        listed = " ".join(f"({number}) {complaint}" for number, complaint in enumerate(complaints, 1))
        raise InvalidInputError(f"{name} breaks the contract of a text environment: {listed}")


def _play(env: gym.Env, name: str, seed: int, max_steps: int) -> list[tuple]:
    """One random episode, as a list of what was said at each step."""
    text = read_reset(*unpack_reset(env.reset(seed=seed), name), name)
    generator = np.random.default_rng(seed)
    said: list[tuple] = [(text, 0.0)]
    for step in range(max_steps):
        if len(text.admissible_actions) > env.action_space.n:
            raise _broken(
                f"{name}, step {step}",
                f"{len(text.admissible_actions)} actions are admissible, action_space is {env.action_space}: it must "
                "be Discrete(n), n the largest number",
            )
        returned = unpack_step(env.step(int(generator.integers(len(text.admissible_actions)))), name, step)
        text = read_step(*returned, name, text.mission, step)
        said.append((text, float(returned[1])))
        if returned[2] or returned[3]:
            return said
    raise _broken(name, f"an episode did not end within {max_steps} steps, it must have a time limit (truncated=True)")


def _accepts_too_much(env: gym.Env, name: str, seed: int) -> list[str]:
    obs, info = env.reset(seed=seed)
    text = read_reset(obs, info, name)
    index = len(text.admissible_actions)
    try:
        env.step(index)
    except Exception:
        return []
    return [f"step({index}) is accepted though only {index} actions are admissible: an index past them must raise"]
