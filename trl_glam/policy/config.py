# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`PolicyConfig`: everything that turns a language model into a policy, and the file `policy_config.json`.

The language model's own `config.json` says nothing about how actions are scored; this file says all of it, so that a
saved folder acts as the policy that was trained. Left out: how the policy was trained (`GLAMConfig`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..types import InvalidInputError


SCHEMA_VERSION = 1
POLICY_CONFIG_NAME = "policy_config.json"

_CHOICES = {
    "architecture": ("encoder_decoder", "decoder_only"),
    "scoring": ("sum", "paper", "token", "word"),
    "head": ("scoring", "action"),
    "value_head": ("standardized", "paper"),
    "boundary": ("text", "space"),
    "init": ("pretrained", "random", "embeddings"),
}
CALIBRATION_MODES = ("none", "prompts", "content_free")


def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise [`InvalidInputError`] unless `value` is one of `allowed`."""
    if value not in allowed:
        raise InvalidInputError(f"{name}={value!r} is not a choice; allowed are {', '.join(map(repr, allowed))}.")


@dataclass
class Calibration:
    """
    What is subtracted from an action's score before the softmax.

    Args:
        mode (`str`, *optional*, defaults to `"none"`):
            `"none"`; `"prompts"`: the initial model's mean score of each action string over a set of initial prompts;
            `"content_free"`: the same over prompts without content ("Calibrate Before Use",
            https://huggingface.co/papers/2102.09690). Both remove a string's surface prior.
        offsets (`dict[str, float]`, *optional*):
            Offset of each action string, frozen once computed.
        prompts (`list[str]`, *optional*):
            The prompts the offsets are means over; a string met later is scored on the same ones.
    """

    mode: str = "none"
    offsets: dict[str, float] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_choice("calibration", self.mode, CALIBRATION_MODES)


@dataclass
class PolicyConfig:
    """
    How a language model becomes a policy; the content of `policy_config.json`.

    Args:
        architecture (`str`):
            `"encoder_decoder"` (T5 family) or `"decoder_only"` (causal models).
        scoring (`str`, *optional*, defaults to `"sum"`):
            `"sum"`, `"paper"`, `"token"` or `"word"`: see `scoring.py`.
        temperature (`float`, *optional*, defaults to `1.0`):
            Divides the calibrated scores.
        calibration ([`Calibration`], *optional*):
            Offsets of the action strings.
        head (`str`, *optional*, defaults to `"scoring"`):
            `"scoring"`: score the action strings; `"action"`: a classification head over a fixed action set.
        num_actions (`int`, *optional*):
            Outputs of the action head.
        actions (`list[str]`, *optional*):
            The action head's fixed action set, in the order of its outputs; taken from the first batch if not given.
        value_head (`str`, *optional*, defaults to `"standardized"`):
            `"standardized"` or `"paper"`: see `heads.py`.
        detach_value (`bool`, *optional*, defaults to `True`):
            Whether the value head's gradient stops before the language model. The paper lets it through.
        boundary (`str`, *optional*):
            Where the prompt ends and the action begins: `"text"`, both are tokenized alone (encoder-decoder);
            `"space"`, the prompt's trailing space moves to the action (causal).
        prompt_template (`dict`, *optional*):
            The [`PromptTemplate`] the policy was trained with, as `to_dict()` gives it.
        base_model (`str`, *optional*):
            Name of the language model the policy started from: a folder, a Hub id or a `local:` name.
        base_revision (`str`, *optional*):
            Its revision on the Hub.
        init (`str`, *optional*, defaults to `"pretrained"`):
            Which weights it started from: `"pretrained"`, `"random"` or `"embeddings"`.
        schema_version (`int`, *optional*):
            Version of this file's layout.
    """

    architecture: str
    scoring: str = "sum"
    temperature: float = 1.0
    calibration: Calibration = field(default_factory=Calibration)
    head: str = "scoring"
    num_actions: int | None = None
    actions: list[str] | None = None
    value_head: str = "standardized"
    detach_value: bool = True
    boundary: str | None = None
    prompt_template: dict[str, Any] | None = None
    base_model: str | None = None
    base_revision: str | None = None
    init: str = "pretrained"
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise InvalidInputError(
                f"{POLICY_CONFIG_NAME} has schema_version={self.schema_version!r}, this version of trl_glam reads "
                f"{SCHEMA_VERSION}; use the trl_glam version that wrote it."
            )
        check_choice("architecture", self.architecture, _CHOICES["architecture"])
        if self.boundary is None:
            self.boundary = "text" if self.architecture == "encoder_decoder" else "space"
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        if not (isinstance(self.temperature, int | float) and 0 < self.temperature < float("inf")):
            raise InvalidInputError(f"temperature={self.temperature!r}; it must be a finite number above 0.")
        if self.scoring == "paper" and self.calibration.mode != "none":
            raise InvalidInputError(
                "scoring='paper' pads an action up to the longest one beside it, so a string has no score, and no "
                "calibration offset, of its own. Use calibration='none' or another scoring."
            )
        self._check_action_head()

    def _check_action_head(self) -> None:
        if self.head == "scoring":
            if self.num_actions is not None or self.actions is not None:
                raise InvalidInputError(
                    f"num_actions={self.num_actions!r} and actions={self.actions!r} belong to head='action'; with "
                    "head='scoring' every observation brings its own actions. Leave them out."
                )
            return
        if self.num_actions is None and self.actions is not None:
            self.num_actions = len(self.actions)
        if not isinstance(self.num_actions, int) or self.num_actions < 1:
            raise InvalidInputError(f"head='action' needs num_actions >= 1; given was {self.num_actions!r}.")
        if self.actions is not None and len(set(self.actions)) != self.num_actions:
            raise InvalidInputError(
                f"head='action' with num_actions={self.num_actions} was given actions={self.actions!r}; it needs "
                "exactly that many different strings."
            )
        if self.calibration.mode != "none":
            raise InvalidInputError(
                f"calibration={self.calibration.mode!r} removes the prior of an action string; head='action' scores "
                "no strings. Use calibration='none'."
            )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PolicyConfig:
        """Rebuild a config; an unknown or missing key or a wrong choice raises [`InvalidInputError`]."""
        data = dict(data)
        _check_keys(POLICY_CONFIG_NAME, data, cls, required=("architecture", "schema_version"))
        calibration = data.pop("calibration", {})
        _check_keys(f"calibration in {POLICY_CONFIG_NAME}", calibration, Calibration)
        return cls(calibration=Calibration(**calibration), **data)

    def save(self, folder: str | Path) -> None:
        """Write `policy_config.json` into a folder."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        Path(folder, POLICY_CONFIG_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> PolicyConfig:
        """Read `policy_config.json` from a folder."""
        path = Path(folder, POLICY_CONFIG_NAME)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInputError(
                f"{path} cannot be read as JSON ({error}); is the folder a saved policy?"
            ) from error
        return cls.from_dict(data)


def _check_keys(where: str, data: Any, cls: type, required: tuple[str, ...] = ()) -> None:
    if not isinstance(data, dict):
        raise InvalidInputError(f"{where} must be a JSON object, not {type(data).__name__}.")
    allowed = {f.name for f in fields(cls)}
    if unknown := sorted(set(data) - allowed):
        raise InvalidInputError(f"{where} has unknown keys {unknown}; allowed are {sorted(allowed)}.")
    if missing := sorted(set(required) - set(data)):
        raise InvalidInputError(f"{where} lacks the keys {missing}.")
