# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The saved folder: writing it, reading it, and loading its weights into a policy that exists. Safetensors and JSON
only.

```
config.json, model.safetensors      the language model in its own layout: the plain Auto classes load it
  or adapter_config.json, adapter_model.safetensors
tokenizer files
value_head.safetensors              with the statistics that standardize its input
action_head.safetensors             only with head="action"
policy_config.json                  written last
```
Every tensor has one home, and reading is strict: transformers itself fills a missing weight with noise and warns.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, is_offline_mode, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .._compat import HUB_NETWORK_ERRORS, parameters_are_sharded
from ..types import InvalidInputError
from .config import POLICY_CONFIG_NAME, Calibration, PolicyConfig, check_choice
from .incoming import check_incoming
from .loading import add_adapter, load_language_model
from .self_check import reads_packed_rows


VALUE_HEAD_NAME = "value_head.safetensors"
ACTION_HEAD_NAME = "action_head.safetensors"
_ADAPTER_NAME = "adapter_model.safetensors"


def save_policy(
    policy, folder, is_main_process: bool, state_dict: dict[str, torch.Tensor] | None, **kwargs: Any
) -> None:
    """Implements [`ScoringPolicy.save_pretrained`]."""
    folder = Path(folder)
    parts = {name: None for name, _ in policy.named_children()}
    if state_dict is not None:
        parts = _split(state_dict, parts)
        _share_ties(policy.lm, parts["lm"])
    if isinstance(policy.lm, PeftModel):
        kwargs.setdefault("save_embedding_layers", False)
    policy.lm.save_pretrained(folder, is_main_process=is_main_process, state_dict=parts["lm"], **kwargs)
    if not is_main_process:
        return
    policy.tokenizer.save_pretrained(folder)
    for name, file in (("value_head", VALUE_HEAD_NAME), ("action_head", ACTION_HEAD_NAME)):
        if name in parts:
            state = parts[name] or getattr(policy, name).state_dict()
            save_file({key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}, folder / file)
    policy.policy_config.save(folder)


def _split(state_dict: dict[str, torch.Tensor], names) -> dict[str, dict[str, torch.Tensor]]:
    """`{"lm.x": ..., "value_head.y": ...}` -> `{"lm": {"x": ...}, "value_head": {"y": ...}}`."""
    parts: dict[str, dict[str, torch.Tensor]] = {name: {} for name in names}
    for key, tensor in state_dict.items():
        name, _, rest = key.partition(".")
        parts[name][rest] = tensor
    return parts


def _share_ties(lm: PreTrainedModel | PeftModel, state: dict[str, torch.Tensor]) -> None:
    """One tensor for what is one parameter, so that it is saved once; FSDP gathers it under each of its names."""
    parameters = dict(lm.named_parameters(remove_duplicate=False))
    for target, source in getattr(lm, "all_tied_weights_keys", {}).items():
        if target in state and source in state and parameters[target] is parameters[source]:
            state[target] = state[source]


def load_policy(
    cls,
    name: str,
    choices: dict[str, Any],
    options: dict[str, Any],
    init: str,
    peft_config: PeftConfig | None,
    revision: str | None,
    tokenizer: PreTrainedTokenizerBase | None,
):
    """Implements [`ScoringPolicy.from_pretrained`]; `choices` holds the given fields of [`PolicyConfig`]."""
    check_choice("init", init, ("pretrained", "random", "embeddings"))
    folder = _saved_policy(name, revision)
    if folder is None:
        lm, own_tokenizer = load_language_model(name, revision=revision, init=init, **options)
        mode = choices.pop("calibration", "none")
        architecture = "encoder_decoder" if lm.config.is_encoder_decoder else "decoder_only"
        config = PolicyConfig(architecture, calibration=Calibration(mode), init=init, base_model=name, **choices)
        config.base_revision = _commit(name, revision)
    else:
        config = _override(PolicyConfig.load(folder), choices, init, name)
        adapter = (folder / "adapter_config.json").exists()
        if adapter and peft_config is not None:
            raise InvalidInputError(f"{name} holds an adapter already; leave peft_config out to go on training it.")
        source = config.base_model if adapter else str(folder)
        revision_of_source = config.base_revision if adapter else None
        lm, own_tokenizer = load_language_model(source, revision=revision_of_source, strict=not adapter, **options)
        if adapter:
            lm = add_adapter(lm, _adapter_config(folder), config.base_model)
    if peft_config is not None:
        if init != "pretrained":
            raise InvalidInputError(f"init={init!r} with peft_config would freeze random weights that are not saved.")
        lm = add_adapter(lm, peft_config, name)
        config = replace(config, base_model=name, base_revision=_commit(name, revision))
    policy = cls(lm, own_tokenizer if tokenizer is None else tokenizer, config)
    if folder is not None:
        if adapter:
            load_weights(policy, folder)
        else:
            _load_heads(policy, folder)
    # Sharded parameters cannot be read outside of a forward that all processes call.
    if config.architecture == "decoder_only" and not parameters_are_sharded() and not reads_packed_rows(policy):
        policy.longest_packed = 0
    return policy.eval()


def _override(config: PolicyConfig, choices: dict[str, Any], init: str, name: str) -> PolicyConfig:
    """A saved config with the explicitly given choices; those that its weights contradict are errors."""
    if init != "pretrained":
        raise InvalidInputError(
            f"{name} is a saved policy with weights of its own; init={init!r} does not apply to it."
        )
    for key in ("head", "num_actions", "actions", "value_head"):
        if key in choices and choices[key] != getattr(config, key):
            raise InvalidInputError(
                f"{key}={choices[key]!r} was given, but {name} was saved with {key}={getattr(config, key)!r}. Leave "
                "it out, or start from a language model."
            )
    choices = dict(choices)
    calibration, mode = config.calibration, choices.pop("calibration", config.calibration.mode)
    if mode != calibration.mode:
        calibration = Calibration(mode)
    elif choices.get("scoring", config.scoring) != config.scoring:
        # Offsets are scores of one mode; the strings are scored anew by the reference model, on the same prompts.
        calibration = Calibration(mode, prompts=calibration.prompts)
    return replace(config, calibration=calibration, **choices)


def _saved_policy(name: str, revision: str | None) -> Path | None:
    """The folder of a saved policy, fetched from the Hub if need be; `None` if the name is not one's."""
    if Path(name).is_dir():
        return Path(name) if Path(name, POLICY_CONFIG_NAME).exists() else None
    if name.startswith("local:"):
        return None
    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        hf_hub_download(name, POLICY_CONFIG_NAME, revision=revision)
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (RemoteEntryNotFoundError, RepositoryNotFoundError, HFValidationError):
        # A plain language model, or nothing at all: loading it tells which.
        return None
    except (HfHubHTTPError, LocalEntryNotFoundError, *HUB_NETWORK_ERRORS) as error:
        if is_offline_mode():
            return None  # what the cache holds decides
        # Never None: a policy that cannot be reached now would be taken for its bare language model.
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        raise InvalidInputError(f"{name} could not be fetched from the Hub ({reason}). Try again.") from error
    check_incoming(folder)
    return folder


def _commit(name: str, revision: str | None) -> str | None:
    """The commit a Hub id stands for, so that the base model can be found again after its branch has moved on."""
    if Path(name).is_dir() or name.startswith("local:"):
        return revision
    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else revision


def _adapter_config(folder: Path) -> PeftConfig:
    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = False
    return config


def load_weights(policy, folder: str | os.PathLike) -> None:
    """Implements [`ScoringPolicy.load_weights`]: everything is read and checked before anything changes."""
    folder = Path(folder)
    if isinstance(policy.lm, PeftModel):
        adapter = _read(folder / _ADAPTER_NAME)
        own = get_peft_model_state_dict(policy.lm, save_embedding_layers=False)
        _check(own, adapter, folder / _ADAPTER_NAME)
        _load_heads(policy, folder)
        set_peft_model_state_dict(policy.lm, adapter)
        return
    saved, _ = load_language_model(str(folder), dtype=policy.lm.dtype, strict=True)
    if saved.all_tied_weights_keys != policy.lm.all_tied_weights_keys:
        raise InvalidInputError(
            f"{folder} ties other weights than this policy: {sorted(saved.all_tied_weights_keys)} instead of "
            f"{sorted(policy.lm.all_tied_weights_keys)}. It comes from another model."
        )
    state = saved.state_dict()
    _check(policy.lm.state_dict(), state, folder)
    _load_heads(policy, folder)
    policy.lm.load_state_dict(state)


def _load_heads(policy, folder: Path) -> None:
    heads: list[tuple[nn.Module, dict[str, torch.Tensor]]] = []
    for name, file in (("value_head", VALUE_HEAD_NAME), ("action_head", ACTION_HEAD_NAME)):
        if name in dict(policy.named_children()):
            head, state = getattr(policy, name), _read(folder / file)
            _check(head.state_dict(), state, folder / file)
            heads.append((head, state))
    for head, state in heads:
        head.load_state_dict(state)


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidInputError(f"{path} cannot be read ({error}); is the folder a complete saved policy?") from error


def _check(own: dict[str, torch.Tensor], saved: dict[str, torch.Tensor], where: Path) -> None:
    """Raise [`InvalidInputError`] unless the same weights of the same shapes are there."""
    missing, unexpected = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    reshaped = [key for key in own.keys() & saved.keys() if own[key].shape != saved[key].shape]
    if missing or unexpected or reshaped:
        raise InvalidInputError(
            f"{where} does not fit this policy: {len(missing)} weights missing {missing[:3]}, {len(unexpected)} "
            f"unexpected {unexpected[:3]}, {len(reshaped)} of another shape {sorted(reshaped)[:3]}."
        )
