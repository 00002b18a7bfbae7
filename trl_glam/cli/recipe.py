# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Recipes: a YAML file and command-line flags -> dataclasses, with one clear error for a wrong key or value.

TRL's `TrlParser` does the work; what is added is finding shipped recipes by name, `--config=NAME`, a bare
`--resume_from_checkpoint`, and errors that name the close match.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn

from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

from ..resources import recipe_path
from ..types import InvalidInputError


class _Parser(TrlParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"{message}; see `{self.prog} --help`.")


def parse_recipe(
    command: str, dataclass_types: Sequence[type], argv: Sequence[str], description: str
) -> tuple[Any, ...]:
    """
    Parse `--config RECIPE --any_field value ...`.

    Args:
        command (`str`):
            Name of the command, for help and errors.
        dataclass_types (`Sequence[type]`):
            Dataclasses whose fields are the flags and the YAML keys.
        argv (`Sequence[str]`):
            Arguments after the command.
        description (`str`):
            First line of `--help`.

    Returns:
        `tuple`: one instance per dataclass.

    Raises:
        [`InvalidInputError`]: an unknown recipe, key, flag, choice or value.
    """
    parser = _Parser(dataclass_types, prog=f"trl-glam {command}", description=description)
    parser.add_argument("--config", metavar="RECIPE", help="YAML file, or the name of a shipped recipe")
    try:
        return parser.parse_args_and_config(_normalised(argv), fail_with_unknown_args=True)[: len(dataclass_types)]
    except InvalidInputError:
        raise
    except ValueError as error:
        raise InvalidInputError(_explain(str(error), dataclass_types)) from error


def _normalised(argv: Sequence[str]) -> list[str]:
    """Spell the flags as `TrlParser` reads them."""
    words: list[str] = []
    for word in argv:
        flag, equals, value = word.partition("=")
        words.extend([flag, value] if flag == "--config" and equals else [word])
    for index in range(len(words) - 1, -1, -1):
        if words[index] == "--resume_from_checkpoint" and (
            index + 1 == len(words) or words[index + 1].startswith("--")
        ):
            words.insert(index + 1, "true")
    if "--config" in words:
        index = words.index("--config") + 1
        if index == len(words):
            raise InvalidInputError("--config is given without a recipe.")
        words[index] = str(recipe_path(words[index]))
    return words


def _explain(message: str, dataclass_types: Sequence[type]) -> str:
    unknown = [word for word in message.replace("'", " ").replace(",", " ").split() if word.startswith("--")]
    if "nknown arguments" not in message and "not used by the" not in message or not unknown:
        return message
    known = [field.name for cls in dataclass_types for field in fields(cls)]
    hints = []
    for flag in unknown:
        close = difflib.get_close_matches(flag.removeprefix("--"), known, n=1)
        hints.append(f"{flag.removeprefix('--')}" + (f" (did you mean {close[0]}?)" if close else ""))
    return f"Unknown settings: {', '.join(hints)}. `--help` lists all of them."


def resume_request(value: str | bool | None) -> str | bool | None:
    """`--resume_from_checkpoint` as Trainer takes it: a folder, `True` for the newest, or `None`."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true" or None
    return value


def model_arguments(model_args: ModelConfig) -> dict[str, Any]:
    """
    What TRL's `ModelConfig` says, as keyword arguments of a trainer.

    Returns:
        `dict[str, Any]`: `model`, `peft_config`, `quantization_config`, and `model_init_kwargs` for the config.
    """
    if model_args.model_name_or_path is None:
        raise InvalidInputError(
            "No model is given: set model_name_or_path, for example google/flan-t5-small, or "
            "local:flan-t5-small-titles where there is no Hub."
        )
    peft_config = get_peft_config(model_args)
    if peft_config is not None:
        # The policy sets the task type its architecture needs; dropout would make the first-pass ratio differ from 1.
        peft_config.task_type = None
        peft_config.lora_dropout = 0.0
    options = {
        "revision": None if model_args.model_revision == "main" else model_args.model_revision,
        "dtype": model_args.dtype or "float32",
        "attn_implementation": model_args.attn_implementation,
    }
    return {
        "model": model_args.model_name_or_path,
        "peft_config": peft_config,
        "quantization_config": get_quantization_config(model_args),
        "model_init_kwargs": {name: value for name, value in options.items() if value},
    }
