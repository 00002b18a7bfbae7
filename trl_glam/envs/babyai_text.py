# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""BabyAI-Text: a BabyAI level told in sentences and acted on by choosing an action string.

[`BabyAITextEnv`] joins a level (`levels.py`), its view (`view.py`) and the words (`language.py`) into a Gymnasium
environment of `contract.py`'s contract. Prompts and windows of past observations are made outside, in
`trl_glam/prompts.py`.
"""

from __future__ import annotations

import difflib
import operator
import string
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from ..types import InvalidInputError
from .fast_level import FastLevel
from .language import phrasebook
from .levels import make_level, task_kinds
from .view import look, render_image


NO_OP = 6
SAMPLINGS = ("episode", "instance")

_CANONICAL = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")
_SYNONYMS = ("rotate left", "rotate right", "move ahead", "take", "release", "switch")
_FRENCH = ("tourner à gauche", "tourner à droite", "aller tout droit", "attraper", "lâcher", "basculer")
_NO_OPS = ("sleep", "do nothing", "think")
_FRENCH_NO_OPS = ("dormir", "ne rien faire", "réfléchir")
# Action string -> Minigrid's action.
ACTION_CODES: dict[str, int] = {
    text: code for actions in (_CANONICAL, _SYNONYMS, _FRENCH) for code, text in enumerate(actions)
} | dict.fromkeys(_NO_OPS + _FRENCH_NO_OPS, NO_OP)
ACTION_SETS: dict[str, tuple[str, ...]] = {
    "canonical": _CANONICAL,
    "restricted": _CANONICAL[:3],
    "augmented": _CANONICAL + _NO_OPS,
    "synonyms": _SYNONYMS,
    "french": _FRENCH,
}
_IN_FRENCH = dict(zip(_CANONICAL + _NO_OPS, _FRENCH + _FRENCH_NO_OPS, strict=True))
_IN_SYNONYMS = dict(zip(_CANONICAL, _SYNONYMS, strict=True))
_EPISODE_OPTIONS = ("actions", "task", "grammar", "language", "lexicon", "goal_phrase")
_CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " àâçèéêëîïôùûü"


def resolve_actions(actions: str | Sequence[str], language: str = "english", lexicon: str | None = None) -> list[str]:
    """
    The action strings of a choice.

    Args:
        actions (`str` or `list[str]`):
            A key of `ACTION_SETS`, which is put into the language, or the strings themselves.
        language (`str`, *optional*, defaults to `"english"`):
            `"english"` or `"french"`.
        lexicon (`str`, *optional*):
            `"synonym_actions"` replaces each canonical string by its synonym.

    Returns:
        `list[str]`: the strings, in order.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: for an unknown set or string, duplicates, or no action at all.
    """
    if isinstance(actions, str):
        if actions not in ACTION_SETS:
            raise InvalidInputError(
                f"actions={actions!r} is not known: give a list of strings or one of {', '.join(ACTION_SETS)}."
            )
        chosen = list(ACTION_SETS[actions])
        if language == "french":
            chosen = [_IN_FRENCH.get(text, text) for text in chosen]
    else:
        chosen = list(actions)
    if not chosen:
        raise InvalidInputError("actions is empty: an agent needs at least one action.")
    for text in chosen:
        if text not in ACTION_CODES:
            close = difflib.get_close_matches(str(text), ACTION_CODES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(ACTION_CODES)}."
            raise InvalidInputError(f"The action {text!r} is not known: {hint}")
    if len(set(chosen)) < len(chosen):
        raise InvalidInputError(f"actions={chosen} names an action twice: each string must be there once.")
    if lexicon == "synonym_actions":
        chosen = [_IN_SYNONYMS.get(text, text) for text in chosen]
    return chosen


class BabyAITextEnv(gym.Env):
    """
    A BabyAI level in words, after "Grounding Large Language Models in Interactive Environments with Online
    Reinforcement Learning" (huggingface.co/papers/2302.02662).

    An observation is `{"mission": str, "text": str}` (and `"image"`, if asked for); `info` holds `descriptions` (the
    sentences of the text), `admissible_actions`, `success`, and `task_kind` on a level of several kinds. An action is
    an index into `admissible_actions`. The reward is `1 - 0.9 * steps / max_steps` on success, else 0. A time limit
    truncates; success on the last step terminates. Every argument in `reset(options={...})` named below holds for that
    episode only.

    Args:
        level (`str`):
            Level without prefix and version, like `"GoToLocal"`.
        actions (`str` or `list[str]`, *optional*, defaults to `"canonical"`):
            Key of `ACTION_SETS` or the action strings; an option of `reset` too.
        task (`str`, *optional*):
            Kind of task of a level that has several; drawn if `None`. An option of `reset` too.
        sampling (`str`, *optional*, defaults to `"episode"`):
            `"episode"` draws the kind at every reset from the reset's seed; `"instance"` once, at the first reset.
        grammar (`str`, *optional*, defaults to `"glam"`):
            `"glam"`, the original's, or `"fixed"`. An option of `reset` too.
        language (`str`, *optional*, defaults to `"english"`):
            `"english"` or `"french"`. An option of `reset` too.
        lexicon (`str`, *optional*):
            A rewording: key of `trl_glam.envs.language.LEXICONS`. An option of `reset` too.
        goal_phrase (`str`, *optional*):
            Words put before the mission, like `"You have to"`. An option of `reset` too.
        include_image (`bool`, *optional*, defaults to `False`):
            Put Minigrid's image, uint8 of shape `(7, 7, 3)`, into the observation.
        max_steps (`int`, *optional*):
            Time limit; the level's own if `None`.
        render_mode (`str`, *optional*):
            `"rgb_array"`, or `None`.
        **level_options:
            Arguments of the level's class, like `num_dists` or `room_size`.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: for an unknown level, option, name or action index.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        level: str,
        actions: str | Sequence[str] = "canonical",
        task: str | None = None,
        sampling: str = "episode",
        grammar: str = "glam",
        language: str = "english",
        lexicon: str | None = None,
        goal_phrase: str | None = None,
        include_image: bool = False,
        max_steps: int | None = None,
        render_mode: str | None = None,
        **level_options: Any,
    ) -> None:
        if sampling not in SAMPLINGS:
            raise InvalidInputError(f"sampling={sampling!r} is not known: choose one of {', '.join(SAMPLINGS)}.")
        self.level_name = level
        self.sampling = sampling
        self.include_image = include_image
        self.render_mode = render_mode
        self._level_options = level_options if max_steps is None else level_options | {"max_steps": max_steps}
        self._defaults = {
            "actions": actions,
            "task": task,
            "grammar": grammar,
            "language": language,
            "lexicon": lexicon,
            "goal_phrase": goal_phrase,
        }
        self._kinds = task_kinds(level)
        self._instance_task: str | None = None
        self._levels: dict[str | None, FastLevel] = {}
        self._configure(self._defaults)
        self.level = self._level_of(task or next(iter(self._kinds), None))
        self.last_action: int | None = None
        self.action_space = spaces.Discrete(len(self._actions))
        size = self.level.agent_view_size
        characters = "".join(sorted({*_CHARACTERS, *(goal_phrase or "")}))
        self.observation_space = spaces.Dict(
            {
                "mission": spaces.Text(max_length=1000, min_length=0, charset=characters),
                "text": spaces.Text(max_length=10_000, min_length=0, charset=characters),
            }
            | ({"image": spaces.Box(0, 255, (size, size, 3), np.uint8)} if include_image else {})
        )

    @property
    def task_kinds(self) -> tuple[str, ...]:
        """What the reset option `task` chooses among; nothing where the kind is fixed, or there is only one."""
        return self._kinds if self._defaults["task"] is None else ()

    @property
    def admissible_actions(self) -> list[str]:
        """The admissible action strings of the episode; they are the same at every step."""
        return self._actions

    @property
    def action_codes(self) -> list[int]:
        """Minigrid's action of each admissible action; 6 does nothing."""
        return self._codes

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        if options:
            unknown = sorted(set(options) - set(_EPISODE_OPTIONS))
            if unknown:
                raise InvalidInputError(
                    f"reset got the option {unknown[0]!r}: an episode takes {', '.join(_EPISODE_OPTIONS)}."
                )
            self._configure(self._defaults | options)
        else:
            self._configure(self._defaults)
        if len(self._actions) > self.action_space.n:
            raise InvalidInputError(
                f"This episode has {len(self._actions)} actions, the action space {self.action_space.n}: make the "
                "environment with its largest action set."
            )
        self._task = self._draw_task(seed)
        self.level = self._level_of(self._task)
        self.level.reset(seed=seed)
        self.last_action = None
        mission = self._phrases.mission(self.level.instrs)
        self.mission = f"{self._goal_phrase} {mission}" if self._goal_phrase else mission
        return self._observe(success=False)

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        index = operator.index(action)
        if not 0 <= index < len(self._codes):
            raise InvalidInputError(
                f"Action {index} is out of range: {self.level_name} has {len(self._codes)} admissible actions, "
                f"0 to {len(self._codes) - 1}."
            )
        self.last_action = self._codes[index]
        _, reward, terminated, truncated, _ = self.level.step(self.last_action)
        observation, info = self._observe(success=reward > 0)
        return observation, reward, terminated, truncated and not terminated, info

    def render(self) -> np.ndarray | None:
        """The level as an RGB image of shape `(height, width, 3)`, uint8; `None` without `render_mode`."""
        return self.level.get_frame() if self.render_mode == "rgb_array" else None

    # ---- inside --------------------------------------------------------------------------------------------------

    def _configure(self, choice: dict[str, Any]) -> None:
        if choice["task"] is not None and choice["task"] not in self._kinds:
            kinds = f"its kinds are {', '.join(self._kinds)}" if self._kinds else "it has one kind of task"
            raise InvalidInputError(f"task={choice['task']!r} does not exist on {self.level_name}: {kinds}.")
        self._phrases = phrasebook(choice["language"], choice["grammar"], choice["lexicon"])
        self._actions = resolve_actions(choice["actions"], choice["language"], choice["lexicon"])
        self._codes = [ACTION_CODES[text] for text in self._actions]
        self._fixed_task = choice["task"]
        self._goal_phrase = choice["goal_phrase"]

    def _draw_task(self, seed: int) -> str | None:
        if self._fixed_task is not None or not self._kinds:
            return self._fixed_task
        if self.sampling == "instance" and self._instance_task is not None:
            return self._instance_task
        # A child generator: the level's own draws stay those of the original for the same seed.
        child = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
        self._instance_task = self._kinds[int(child.integers(len(self._kinds)))]
        return self._instance_task

    def _level_of(self, task: str | None) -> FastLevel:
        if task not in self._levels:
            self._levels[task] = make_level(self.level_name, task, render_mode=self.render_mode, **self._level_options)
        return self._levels[task]

    def _observe(self, success: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        level = self.level
        carried = level.carrying
        sentences = self._phrases.sentences(look(level), None if carried is None else (carried.type, carried.color))
        observation: dict[str, Any] = {"mission": self.mission, "text": ", ".join(sentences)}
        if self.include_image:
            observation["image"] = render_image(level)
        info = {"descriptions": sentences, "admissible_actions": list(self._actions), "success": success}
        if self._kinds:
            info["task_kind"] = self._task
        return observation, info
