# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""From an episode to the text the language model reads.

`PromptTemplate` is stateless: it turns a goal, a window of observations and the actions between them into one string,
byte for byte the prompt of GLAM (Carta et al., 2023, https://huggingface.co/papers/2302.02662). Without a window
(`num_observations=None`) the prompt holds the whole episode and each step only appends to it, so that a causal model
need not read again what it has read. `History` holds one slot's window while an episode runs. Nothing is ever cut
here: a prompt that a model cannot read is the policy's error to raise.
"""

from __future__ import annotations

import re
import string
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from .types import InvalidInputError


# Which placeholder each piece of a template may use, and must use.
_PLACEHOLDERS = {
    "header": set(),
    "action_item": {"action"},
    "action_separator": set(),
    "goal": {"mission"},
    "observation": {"index"},
    "sentence": {"sentence"},
    "action": {"index"},
    "new_actions": set(),
}
_OPTIONAL_PLACEHOLDERS = {"observation", "action"}

_LANGUAGE_PIECES = {
    "english": {
        "header": "Possible action of the agent:",
        "goal": " \n Goal of the agent: {mission}",
        "new_actions": " \n Possible action of the agent:",
    },
    "french": {
        "header": "Actions possibles pour l'agent:",
        "goal": " \n But de l'agent: {mission}",
        "new_actions": " \n Actions possibles pour l'agent:",
    },
}


@dataclass(frozen=True)
class PromptTemplate:
    r"""
    GLAM's prompt, or one of the user's own pieces.

    The prompt is `header`, one `action_item` per admissible action joined by `action_separator`, `goal`, and for every
    observation of the window `observation`, one `sentence` each, `action` and the action taken there, if any.

    With `num_observations=None` the prompt is append-only: it holds the whole episode, and the prompt of a step begins
    with the prompt of the step before it. The head lists the actions of the first observation; where the set changes,
    the new one stands before its observation, after `new_actions`.

    Args:
        num_observations (`int` or `None`, *optional*, defaults to `3`):
            Window: how many observations the prompt holds, with the actions between them. The paper uses 3 and ablates
            1, 3, 6 and 9. `None`: all of the episode's.
        language (`str`, *optional*, defaults to `"english"`):
            `"english"` or `"french"`: the wording of `header`, `goal` and `new_actions` when they are not given.
        header (`str`, *optional*):
            Text before the admissible actions.
        action_item (`str`, *optional*, defaults to `" {action}"`):
            Text of one admissible action.
        action_separator (`str`, *optional*, defaults to `","`):
            Text between admissible actions.
        goal (`str`, *optional*):
            Text of the goal, with `{mission}`.
        observation (`str`, *optional*, defaults to `" \n Observation {index}: "`):
            Text before the sentences of an observation; `{index}` counts from 0 inside the window.
        sentence (`str`, *optional*, defaults to `"{sentence}, "`):
            Text of one sentence.
        action (`str`, *optional*, defaults to `"\n Action {index}: "`):
            Text after the sentences, before the action taken.
        new_actions (`str`, *optional*):
            Text before admissible actions that differ from those of the step before; append-only prompts alone.

    Example:

    ```python
    >>> from trl_glam import PromptTemplate

    >>> template = PromptTemplate(header="Actions:", goal=" | Goal: {mission} |", observation=" ", action="")
    >>> template.render("go to the red ball", [["You see a red ball 1 step left"]], [], ["turn left", "go forward"])
    'Actions: turn left, go forward | Goal: go to the red ball | You see a red ball 1 step left, '
    ```
    """

    num_observations: int | None = 3
    language: str = "english"
    header: str | None = None
    action_item: str = " {action}"
    action_separator: str = ","
    goal: str | None = None
    observation: str = " \n Observation {index}: "
    sentence: str = "{sentence}, "
    action: str = "\n Action {index}: "
    new_actions: str | None = None

    def __post_init__(self) -> None:
        window = self.num_observations
        if window is not None and (not isinstance(window, int) or window < 1):
            raise InvalidInputError(
                f"PromptTemplate: num_observations={self.num_observations!r} is given, but the window must be an "
                "integer of at least 1 (the paper uses 3), or None for the whole episode."
            )
        if self.language not in _LANGUAGE_PIECES:
            raise InvalidInputError(
                f"PromptTemplate: language={self.language!r} is given; choose one of {sorted(_LANGUAGE_PIECES)}, or "
                "give `header` and `goal` in your own language."
            )
        for name, default in _LANGUAGE_PIECES[self.language].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        for name, allowed in _PLACEHOLDERS.items():
            self._check_piece(name, allowed)
        if self.append_only:
            for name in ("observation", "action", "new_actions"):
                if not getattr(self, name).strip():
                    raise InvalidInputError(
                        f"PromptTemplate: {name}={getattr(self, name)!r} is blank; an append-only prompt "
                        "(num_observations=None) is cut into segments there, so it must have visible text."
                    )

    @property
    def append_only(self) -> bool:
        """Whether the prompt holds the whole episode, so that a step's prompt begins with that of the step before."""
        return self.num_observations is None

    def _check_piece(self, name: str, allowed: set[str]) -> None:
        text = getattr(self, name)
        try:
            found = {placeholder for _, placeholder, _, _ in string.Formatter().parse(text) if placeholder is not None}
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"PromptTemplate: {name}={text!r} is no format string: {error}.") from None
        missing = set() if name in _OPTIONAL_PLACEHOLDERS else allowed - found
        if not found <= allowed or missing:
            wanted = " and ".join(f"{{{placeholder}}}" for placeholder in sorted(allowed)) or "no placeholder"
            raise InvalidInputError(
                f"PromptTemplate: {name}={text!r} has the placeholders {sorted(found)}; it takes {wanted}."
            )

    def render(
        self,
        mission: str,
        observations: Sequence[Sequence[str]],
        actions: Sequence[str],
        admissible_actions: Sequence[str],
        past_admissible_actions: Sequence[Sequence[str]] | None = None,
    ) -> str:
        """
        Write the prompt.

        Args:
            mission (`str`):
                The goal in words.
            observations (`list[list[str]]`):
                Observations of the window, oldest first, each a list of sentences.
            actions (`list[str]`):
                Actions taken between them: `len(actions) == len(observations) - 1`.
            admissible_actions (`list[str]`):
                Actions that may be taken now.
            past_admissible_actions (`list[list[str]]`, *optional*):
                Actions that could be taken at each of the earlier observations, as many as `actions`; the present ones
                if not given. Only an append-only prompt shows them.

        Returns:
            `str`: the prompt; the model's continuation is the next action.
        """
        if not observations or len(actions) != len(observations) - 1:
            raise InvalidInputError(
                f"PromptTemplate.render: {len(observations)} observations and {len(actions)} actions are given; it "
                "takes at least one observation and one action fewer than observations."
            )
        if self.num_observations is not None and len(observations) > self.num_observations:
            raise InvalidInputError(
                f"PromptTemplate.render: {len(observations)} observations are given, the window holds "
                f"{self.num_observations}; pass the last ones only."
            )
        sets = self._sets(len(actions), admissible_actions, past_admissible_actions)
        parts = [self.header.format(), self._listed(sets[0]), self.goal.format(mission=mission)]
        for index, sentences in enumerate(observations):
            if index > 0 and sets[index] != sets[index - 1]:
                parts += [self.new_actions.format(), self._listed(sets[index])]
            parts.append(self.observation.format(index=index))
            parts.extend(self.sentence.format(sentence=sentence) for sentence in sentences)
            parts.append(self.action.format(index=index))
            if index < len(actions):
                parts.append(actions[index])
        return "".join(parts)

    def _listed(self, actions: Sequence[str]) -> str:
        return self.action_separator.format().join(self.action_item.format(action=action) for action in actions)

    def _sets(
        self, num_past: int, admissible_actions: Sequence[str], past: Sequence[Sequence[str]] | None
    ) -> list[tuple[str, ...]]:
        """The admissible actions that each observation shows; a window shows the present ones throughout."""
        now = tuple(admissible_actions)
        if past is None or not self.append_only:
            return [now] * (num_past + 1)
        if len(past) != num_past:
            raise InvalidInputError(
                f"PromptTemplate.render: {num_past} actions and {len(past)} sets of past admissible actions are "
                "given; an append-only prompt takes one set for each action."
            )
        return [*map(tuple, past), now]

    def segments(self, prompt: str) -> list[tuple[str, bool]]:
        """
        Cut an append-only prompt where a step can end: before observations and new actions, before and after actions.

        The cuts depend on the text before them alone, so the segments of a step's prompt are the first segments of the
        next one's. A prompt with a window is one segment.

        Args:
            prompt (`str`):
                What [`~PromptTemplate.render`] wrote, with or without its trailing space.

        Returns:
            `list[tuple[str, bool]]`: the segments, which joined give the prompt, and whether each is an action taken.
        """
        if not self.append_only:
            return [(prompt, False)]
        segments, start, is_action = [], 0, False
        for match in self._boundaries.finditer(prompt):
            ends_step = match.lastgroup == "action"
            cut = match.end() if ends_step else match.start()
            if cut > start:
                segments.append((prompt[start:cut], is_action))
            start, is_action = cut, ends_step
        if start < len(prompt):
            segments.append((prompt[start:], is_action))
        return segments

    @cached_property
    def _boundaries(self) -> re.Pattern[str]:
        def pattern(piece: str) -> str:
            # The last space before an action belongs to the action; what stands for {index} are digits.
            literals = [re.escape(literal) for literal in piece.removesuffix(" ").format(index="\0").split("\0")]
            return r"\d+".join(literals)

        return re.compile(
            f"(?P<action>{pattern(self.action)})|{pattern(self.observation)}|{pattern(self.new_actions)}"
        )

    def content_free(self, admissible_actions: Sequence[str]) -> str:
        """The prompt with `"N/A"` for goal and observation, used by content-free calibration."""
        return self.render("N/A", [["N/A"]], [], admissible_actions)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable form, saved in `policy_config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PromptTemplate:
        """Rebuild a template; an unknown key raises [`InvalidInputError`]."""
        allowed = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - allowed)
        if unknown:
            raise InvalidInputError(
                f"PromptTemplate: unknown keys {unknown} in the prompt template; allowed are {sorted(allowed)}."
            )
        return cls(**data)


class History:
    """
    One slot's window over a running episode: the last observations and the actions between them.

    Args:
        template ([`PromptTemplate`]):
            Decides the window and writes the prompt.
    """

    def __init__(self, template: PromptTemplate) -> None:
        self.template = template
        self.mission = ""
        window = template.num_observations
        self._observations: deque[Sequence[str]] = deque(maxlen=window)
        self._actions: deque[str] = deque(maxlen=None if window is None else window - 1)
        self._sets: deque[tuple[str, ...]] = deque(maxlen=self._actions.maxlen)

    def reset(self, mission: str, sentences: Sequence[str]) -> None:
        """Start an episode with its first observation."""
        self.mission = mission
        self._observations.clear()
        self._actions.clear()
        self._sets.clear()
        self._observations.append(sentences)

    def append(self, action: str, sentences: Sequence[str], admissible_actions: Sequence[str]) -> None:
        """Add the action taken, the actions it was chosen from, and the observation it led to."""
        self._actions.append(action)
        self._sets.append(tuple(admissible_actions))
        self._observations.append(sentences)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable form of the window."""
        return {
            "mission": self.mission,
            "observations": [list(sentences) for sentences in self._observations],
            "actions": list(self._actions),
            "admissible_actions": [list(actions) for actions in self._sets],
        }

    def load_dict(self, data: dict[str, Any]) -> None:
        """Go on from [`~History.to_dict`]."""
        self.reset(data["mission"], ())
        self._observations.clear()
        self._observations.extend(tuple(sentences) for sentences in data["observations"])
        self._actions.extend(data["actions"])
        self._sets.extend(tuple(actions) for actions in data["admissible_actions"])

    def prompt(self, admissible_actions: Sequence[str]) -> str:
        """The prompt of the current observation."""
        return self.template.render(self.mission, self._observations, self._actions, admissible_actions, self._sets)
