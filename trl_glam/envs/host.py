# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Holds the environments of some slots: makes, resets and steps them, and checks every word they say.

What an environment does wrong (raising, leaving the process, breaking the contract) comes back as a [`Failure`], never
as an outcome. The same host works in the run's own process (`in_process.py`) and in a subprocess (`workers.py`), so
only plain values leave it. Its digest of all that was said in an episode is what a replay is checked by.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from ..types import EpisodeKey, InvalidInputError
from .contract import TextObservation, as_restorable, read_reset, read_step, unpack_reset, unpack_step


@dataclass(frozen=True)
class Outcome:
    """
    What an environment said to a reset or a step, checked.

    Args:
        text ([`TextObservation`]):
            The observation.
        digest (`str`):
            SHA-256 over everything said in the episode up to here: missions, sentences, actions, rewards, endings.
        reward (`float`, *optional*, defaults to `0.0`):
            Raw reward.
        terminated (`bool`, *optional*, defaults to `False`), truncated (`bool`, *optional*, defaults to `False`):
            As the environment set them.
        success (`bool`, *optional*):
            `info["success"]`, if it is there.
    """

    text: TextObservation
    digest: str
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    success: bool | None = None


@dataclass(frozen=True)
class Failure:
    """
    Why there is no outcome.

    Args:
        reason (`str`):
            What happened, as a sentence.
        ends_run (`bool`, *optional*, defaults to `False`):
            Whether going on without the episode is out of the question.
        is_setting (`bool`, *optional*, defaults to `False`):
            Whether no environment could be made because its id or arguments are wrong.
        details (`str`, *optional*, defaults to `""`):
            The traceback inside the environment.
    """

    reason: str
    ends_run: bool = False
    is_setting: bool = False
    details: str = field(default="", compare=False)


class EnvironmentHost:
    """
    The environments of some slots.

    Args:
        make_env (`Callable[[EpisodeKey], gym.Env]`):
            Makes the environment of an episode; called when a slot's `(env_id, env_kwargs)` changes, and after a
            discard.

    Attributes:
        environments (`dict[int, gym.Env]`):
            By slot.
        steps (`dict[int, int]`):
            By slot, the number of steps of its episode.
    """

    def __init__(self, make_env: Callable[[EpisodeKey], gym.Env]) -> None:
        self.make_env = make_env
        self.environments: dict[int, gym.Env] = {}
        self.steps: dict[int, int] = {}
        self._keys: dict[int, EpisodeKey] = {}
        self._digests: dict[int, str] = {}
        self._missions: dict[int, str] = {}

    def begin(self, slot: int, key: EpisodeKey) -> Outcome | Failure:
        """Reset a slot's environment for an episode, making it first if need be."""
        known = self._keys.get(slot)
        if slot not in self.environments or (known.env_id, known.env_kwargs) != (key.env_id, key.env_kwargs):
            self.discard(slot)
            try:
                self.environments[slot] = self.make_env(key)
            except InvalidInputError as error:
                return Failure(str(error), ends_run=True, is_setting=True)
            except (Exception, SystemExit) as error:
                return _failure(error, "it could not be made: ")
        self._keys[slot], self.steps[slot] = key, 0
        try:
            returned = self.environments[slot].reset(seed=key.seed, options=key.options)
            text = read_reset(*unpack_reset(returned, key.env_id), key.env_id)
            self._missions[slot], self._digests[slot] = text.mission, ""
            return self._outcome(slot, text)
        except (Exception, SystemExit) as error:
            return _failure(error, prefix=f"{key.env_id}, reset: ")

    def step(self, slot: int, action: int) -> Outcome | Failure:
        """Give a slot's environment an action."""
        key, step = self._keys[slot], self.steps[slot]
        try:
            returned = unpack_step(self.environments[slot].step(action), key.env_id, step)
            text = read_step(*returned, key.env_id, self._missions[slot], step)
            _, reward, terminated, truncated, info = returned
            success = bool(info["success"]) if "success" in info else None
            outcome = self._outcome(slot, text, float(reward), bool(terminated), bool(truncated), success)
        except (Exception, SystemExit) as error:
            return _failure(error, prefix=f"{key.env_id}, step {step}: ")
        self.steps[slot] += 1
        return outcome

    def discard(self, slot: int) -> None:
        """Close a slot's environment for good; the next episode there gets a new one."""
        env = self.environments.pop(slot, None)
        if env is not None:
            # It may be given up because it is broken: then its close need not work either.
            with contextlib.suppress(Exception, SystemExit):
                env.close()

    def close(self) -> None:
        """Close all environments."""
        for slot in list(self.environments):
            self.environments.pop(slot).close()

    # -- saving and restoring

    def state(self, slot: int) -> dict[str, Any] | Failure | None:
        """
        What [`~EnvironmentHost.restore`] takes, JSON-serialisable: `{"environment", "digest", "mission", "step"}`;
        `None` for an environment that is replayed instead.
        """
        env = as_restorable(self.environments[slot])
        if env is None:
            return None
        try:
            state = json.loads(json.dumps(env.get_state()))
        except (Exception, SystemExit) as error:
            return _failure(error, "get_state must give a JSON-serialisable value: ")
        return {
            "environment": state,
            "digest": self._digests[slot],
            "mission": self._missions[slot],
            "step": self.steps[slot],
        }

    def restore(self, slot: int, key: EpisodeKey, state: dict[str, Any]) -> Outcome | Failure:
        """Bring a slot's environment to a state; the outcome is that of the reset, with the state's digest."""
        outcome = self.begin(slot, key)
        if isinstance(outcome, Failure):
            return outcome
        env = as_restorable(self.environments[slot])
        if env is None:
            return Failure("its state was saved, and it offers no get_state and set_state now.")
        try:
            env.set_state(state["environment"])
            reached = json.loads(json.dumps(env.get_state()))
        except (Exception, SystemExit) as error:
            return _failure(error, "set_state: ")
        if reached != state["environment"]:
            return Failure("after set_state its get_state gives another state than the one that was set.")
        self._missions[slot], self.steps[slot] = state["mission"], state["step"]
        self._digests[slot] = state["digest"]
        return Outcome(outcome.text, state["digest"])

    def _outcome(
        self,
        slot: int,
        text: TextObservation,
        reward: float = 0.0,
        terminated: bool = False,
        truncated: bool = False,
        success: bool | None = None,
    ) -> Outcome:
        said = (text.mission, *text.sentences, "", *text.admissible_actions, "", str(text.task_kind))
        numbers = f"{reward!r} {terminated} {truncated} {success}"
        whole = "\x1f".join((self._digests[slot], *said, numbers))
        try:
            self._digests[slot] = hashlib.sha256(whole.encode()).hexdigest()
        except UnicodeEncodeError as error:
            # No tokenizer and no log could take it.
            raise InvalidInputError(f"what it says is no text that UTF-8 can hold: {error}.") from None
        return Outcome(text, self._digests[slot], reward, terminated, truncated, success)


def _failure(error: BaseException, before: str = "", prefix: str = "") -> Failure:
    """A failure in words: the contract's own, or the exception with the line that raised it."""
    details = "".join(traceback.format_exception(error))
    last = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, InvalidInputError):
        return Failure(before + str(error).removeprefix(prefix), details=details)
    name = last.filename.replace("\\", "/").rsplit("/", 1)[-1]
    message = f": {error}" if str(error) else ""
    where = f"({name}, line {last.lineno}, in {last.name})"
    return Failure(f"{before}{type(error).__name__}{message} {where}.", details=details)
