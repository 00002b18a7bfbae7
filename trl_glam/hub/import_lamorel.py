# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A checkpoint of GLAM's own code (lamorel) -> our folder, so that the published models can be used.

Such a checkpoint, `model.checkpoint`, is the state dict of lamorel's server under DDP: `module._LLM_model.*` is the
language model, `module._module_functions.*.value_head_op.*` the value head and `action_heads_op` an action head. It is
read with `weights_only=True`: nothing in it runs. Optimizer states are not imported, adapters neither.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ..policy.loading import base_of
from ..policy.scoring_policy import ScoringPolicy
from ..prompts import PromptTemplate
from ..types import InvalidInputError


CHECKPOINT_NAME = "model.checkpoint"
_WRAPPERS = r"(?:module\.|_orig_mod\.)*"
_PARTS = {
    "lm": re.compile(_WRAPPERS + r"_LLM_model\." + _WRAPPERS + "(.+)"),
    "value_head": re.compile(_WRAPPERS + r"_module_functions\..+?\.value_head_op\.(.+)"),
    "action_head": re.compile(_WRAPPERS + r"_module_functions\..+?\.action_heads_op\.(.+)"),
}


def import_lamorel(
    path: str | Path,
    output_dir: str | Path,
    *,
    base_model: str = "google/flan-t5-large",
    actions: Sequence[str] | None = None,
    num_observations: int = 3,
    language: str = "english",
) -> ScoringPolicy:
    """
    Convert a checkpoint of GLAM's code.

    Args:
        path (`str` or `Path`):
            `model.checkpoint`, or the folder that holds it.
        output_dir (`str` or `Path`):
            Folder to write.
        base_model (`str`, *optional*, defaults to `"google/flan-t5-large"`):
            The model that was trained: gives the shape and the tokenizer.
        actions (`list[str]`, *optional*):
            The actions of an action head, in its order; GLAM's six, as far as the head goes, if not given.
        num_observations (`int`, *optional*, defaults to `3`), language (`str`, *optional*, defaults to `"english"`):
            GLAM's prompt template.

    Returns:
        [`ScoringPolicy`]: as saved: scoring `"paper"`, temperature 1, no calibration, the paper's value head.

    Raises:
        [`InvalidInputError`]: no such checkpoint, or one of another model.
    """
    parts = split_state(read_checkpoint(path))
    head = {"head": "scoring"}
    if parts["action_head"]:
        num_actions = max(parts["action_head"].items(), key=lambda item: int(item[0].split(".")[0]))[1].shape[0]
        names = actions or ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")[:num_actions]
        head = {"head": "action", "num_actions": num_actions, "actions": list(names)}
    elif actions is not None:
        raise InvalidInputError(
            "actions are the outputs of an action head, which this checkpoint has not; leave them out."
        )
    policy = ScoringPolicy.from_pretrained(
        base_model,
        scoring="paper",
        temperature=1.0,
        calibration="none",
        value_head="paper",
        detach_value=False,
        prompt_template=PromptTemplate(num_observations=num_observations, language=language),
        **head,
    )
    _load(base_of(policy.lm), parts["lm"], base_model)
    _load(policy.value_head.mlp, parts["value_head"], "GLAM's value head")
    if parts["action_head"]:
        _load(policy.action_head.mlp, parts["action_head"], "GLAM's action head")
    policy.save_pretrained(output_dir)
    return policy


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict, and nothing but tensors."""
    path = Path(path)
    path = path / CHECKPOINT_NAME if path.is_dir() else path
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InvalidInputError(
            f"{path} does not exist; give a {CHECKPOINT_NAME} of GLAM's code, or its folder."
        ) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).split("\n")[0]
        raise InvalidInputError(f"{path} cannot be read as a state dict of tensors ({reason}).") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InvalidInputError(f"{path} is no state dict: it must hold tensors by name.")
    return dict(state)


def split_state(state: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """`module._LLM_model.x` -> `["lm"]["x"]`, and so on; a name of neither kind is an error."""
    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in _PARTS}
    for key, tensor in state.items():
        matches = [(part, match[1]) for part, pattern in _PARTS.items() if (match := pattern.fullmatch(key))]
        if not matches:
            raise InvalidInputError(
                f"The checkpoint holds {key!r}, which is no part of GLAM's model; expected are names such as "
                "'module._LLM_model.shared.weight' and 'module._module_functions.value.value_head_op.0.weight'."
            )
        part, name = matches[0]
        parts[part][name] = tensor
    for part in ("lm", "value_head"):
        if not parts[part]:
            raise InvalidInputError(f"The checkpoint holds no weights of the {part.replace('lm', 'language model')}.")
    return parts


def _load(module: nn.Module, state: dict[str, torch.Tensor], what: str) -> None:
    own = module.state_dict()
    # Names of one tensor: embeddings that encoder and decoder share are in the file once or three times.
    shared = {name for name in own if "embed_tokens" in name}
    missing, unexpected = own.keys() - state.keys() - shared, state.keys() - own.keys()
    reshaped = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if missing or unexpected or reshaped:
        wrong = sorted(missing)[:2] + sorted(unexpected)[:2] + sorted(reshaped)[:2]
        raise InvalidInputError(
            f"The checkpoint is not one of {what}: {len(missing)} weights are missing, {len(unexpected)} unexpected, "
            f"{len(reshaped)} of another shape ({', '.join(wrong)}). Give the base model it was trained from."
        )
    module.load_state_dict(state, strict=False)
