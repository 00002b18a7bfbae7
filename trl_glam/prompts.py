# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""From an episode to the text the language model reads.

`PromptTemplate` is stateless: it turns a goal, a window of observations and the actions between them into one string,
byte for byte the prompt of GLAM (Carta et al., 2023, https://huggingface.co/papers/2302.02662). `History` holds one
slot's window while an episode runs. Nothing is ever cut here: a prompt that a model cannot read is the policy's error
to raise.
"""

from __future__ import annotations

import string
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
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
}
_OPTIONAL_PLACEHOLDERS = {"observation", "action"}

_LANGUAGE_PIECES = {
    "english": {"header": "Possible action of the agent:", "goal": " \n Goal of the agent: {mission}"},
    "french": {"header": "Actions possibles pour l'agent:", "goal": " \n But de l'agent: {mission}"},
}


@dataclass(frozen=True)
class PromptTemplate:
    r"""
    GLAM's prompt, or one of the user's own pieces.

    The prompt is `header`, one `action_item` per admissible action joined by `action_separator`, `goal`, and for every
    observation of the window `observation`, one `sentence` each, `action` and the action taken there, if any.

    Args:
        num_observations (`int`, *optional*, defaults to `3`):
            Window: how many observations the prompt holds, with the actions between them. The paper uses 3 and ablates
            1, 3, 6 and 9.
        language (`str`, *optional*, defaults to `"english"`):
            `"english"` or `"french"`: the wording of `header` and `goal` when they are not given.
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

    Example:

    ```python
    >>> from trl_glam import PromptTemplate

    >>> template = PromptTemplate(header="Actions:", goal=" | Goal: {mission} |", observation=" ", action="")
    >>> template.render("go to the red ball", [["You see a red ball 1 step left"]], [], ["turn left", "go forward"])
    'Actions: turn left, go forward | Goal: go to the red ball | You see a red ball 1 step left, '
    ```
    """

    num_observations: int = 3
    language: str = "english"
    header: str | None = None
    action_item: str = " {action}"
    action_separator: str = ","
    goal: str | None = None
    observation: str = " \n Observation {index}: "
    sentence: str = "{sentence}, "
    action: str = "\n Action {index}: "

    def __post_init__(self) -> None:
        if not isinstance(self.num_observations, int) or self.num_observations < 1:
            raise InvalidInputError(
                f"PromptTemplate: num_observations={self.num_observations!r} is given, but the window must be an "
                "integer of at least 1 (the paper uses 3)."
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

        Returns:
            `str`: the prompt; the model's continuation is the next action.
        """
        if not observations or len(actions) != len(observations) - 1:
            raise InvalidInputError(
                f"PromptTemplate.render: {len(observations)} observations and {len(actions)} actions are given; it "
                "takes at least one observation and one action fewer than observations."
            )
        if len(observations) > self.num_observations:
            raise InvalidInputError(
                f"PromptTemplate.render: {len(observations)} observations are given, the window holds "
                f"{self.num_observations}; pass the last ones only."
            )
        parts = [
            self.header.format(),
            self.action_separator.format().join(
                self.action_item.format(action=action) for action in admissible_actions
            ),
            self.goal.format(mission=mission),
        ]
        for index, sentences in enumerate(observations):
            parts.append(self.observation.format(index=index))
            parts.extend(self.sentence.format(sentence=sentence) for sentence in sentences)
            parts.append(self.action.format(index=index))
            if index < len(actions):
                parts.append(actions[index])
        return "".join(parts)

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
        self._observations: deque[Sequence[str]] = deque(maxlen=template.num_observations)
        self._actions: deque[str] = deque(maxlen=max(template.num_observations - 1, 0))

    def reset(self, mission: str, sentences: Sequence[str]) -> None:
        """Start an episode with its first observation."""
        self.mission = mission
        self._observations.clear()
        self._actions.clear()
        self._observations.append(sentences)

    def append(self, action: str, sentences: Sequence[str]) -> None:
        """Add the action taken and the observation it led to."""
        self._actions.append(action)
        self._observations.append(sentences)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable form of the window."""
        return {
            "mission": self.mission,
            "observations": [list(sentences) for sentences in self._observations],
            "actions": list(self._actions),
        }

    def load_dict(self, data: dict[str, Any]) -> None:
        """Go on from [`~History.to_dict`]."""
        self.reset(data["mission"], ())
        self._observations.clear()
        self._observations.extend(tuple(sentences) for sentences in data["observations"])
        self._actions.extend(data["actions"])

    def prompt(self, admissible_actions: Sequence[str]) -> str:
        """The prompt of the current observation."""
        return self.template.render(self.mission, self._observations, self._actions, admissible_actions)
