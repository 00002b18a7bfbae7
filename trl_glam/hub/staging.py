# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A policy's folder -> the folder that goes to the Hub: the known files only, without private names.

An adapter on a base model that is not on the Hub is merged into it and goes whole. Paths, `local:` names and the local
name of the policy are rewritten in every JSON file. The card is rendered by `push.py`.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from ..cards import BaseModel, describe_base
from ..evaluation.results import RESULTS_NAME, read_results
from ..local_models import MODELS, PREFIX
from ..policy.calibration import complete_offsets
from ..policy.config import POLICY_CONFIG_NAME, PolicyConfig
from ..policy.scoring_policy import ScoringPolicy
from ..training_summary import SUMMARY_NAME, TrainingSummary, adapter_settings


# What a policy consists of, beside its card. Anything else in the folder (optimizer states, logs) stays at home.
WEIGHT_FILES = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "chat_template.jinja",
)
OTHER_FILES = (POLICY_CONFIG_NAME, "training_args.json", SUMMARY_NAME, RESULTS_NAME)
POLICY_FILES = (*WEIGHT_FILES, *TOKENIZER_FILES, *OTHER_FILES)
_VOCABULARIES = ("tokenizer.json", "vocab.json")


def stage_policy(folder: str | Path, target: str | Path, repo_id: str) -> tuple[PolicyConfig, BaseModel]:
    """
    Write the publishable form of a saved policy.

    Args:
        folder (`str` or `Path`):
            The policy's folder.
        target (`str` or `Path`):
            An empty folder.
        repo_id (`str`):
            The policy's name from now on.

    Returns:
        `tuple[PolicyConfig, BaseModel]`: the staged policy's config, and how to speak of its base model.

    Raises:
        [`InvalidInputError`]: the folder is no saved policy.
    """
    folder, target = Path(folder), Path(target)
    config = PolicyConfig.load(folder)
    base_name, base = config.base_model, describe_base(config.base_model)
    is_adapter = (folder / "adapter_config.json").exists()
    policy = None
    if base.hub_id is None and (is_adapter or _unseen_actions(folder, config)):
        policy = ScoringPolicy.from_pretrained(folder)
    if policy is not None and _unseen_actions(folder, config):
        # The base model stays here: what the results needed of it goes along.
        complete_offsets(policy, _unseen_actions(folder, config))
        config = policy.policy_config
    if is_adapter and base.hub_id is None:
        policy.lm = policy.lm.merge_and_unload()
        policy.save_pretrained(target)
        _copy(folder, target, [name for name in OTHER_FILES if name != POLICY_CONFIG_NAME])
        if (summary := TrainingSummary.load(target)) is not None:
            # Merged weights do not show that an adapter was trained.
            summary.settings |= adapter_settings(folder)
            summary.save(target)
    else:
        _copy(folder, target, POLICY_FILES)
    if base.hub_id is None:
        config = replace(config, base_model=None, base_revision=None)
    config.save(target)
    for path in target.glob("*.json"):
        if path.name not in _VOCABULARIES:
            content = json.loads(path.read_text(encoding="utf-8"))
            public = public_json(content)
            if path.name == RESULTS_NAME:
                # The commit that holds this file cannot be named in it.
                public["policy"], public["policy_revision"] = repo_id, None
                _unname_base(public, base_name, base)
            if path.name == "tokenizer_config.json":
                # How the tokenizer was found on this machine.
                for key in ("is_local", "local_files_only", "name_or_path"):
                    public.pop(key, None)
            if public != content:
                path.write_text(json.dumps(public, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return PolicyConfig.load(target), base


def _unseen_actions(folder: Path, config: PolicyConfig) -> list[str]:
    """The action strings of the folder's results that the policy has no calibration offset for."""
    if config.calibration.mode == "none" or not (folder / RESULTS_NAME).exists():
        return []
    entries = read_results(folder)["suites"].values()
    actions = {action for entry in entries for action in entry["env_kwargs"].get("actions", ())}
    return sorted(actions - config.calibration.offsets.keys())


def _unname_base(results: dict[str, Any], name: str | None, base: BaseModel) -> None:
    """The rule that served unseen actions names the model that scored them, maybe by its path."""
    if name is not None and base.hub_id is None:
        for entry in results["suites"].values():
            entry["calibration"] = entry["calibration"] and entry["calibration"].replace(name, base.text)


def _copy(folder: Path, target: Path, patterns) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            shutil.copyfile(path, target / path.name)


def public_json(value: Any) -> Any:
    """A JSON value without paths of this machine (their last part stays) and without `local:` names (described)."""
    if isinstance(value, dict):
        return {key: public_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [public_json(item) for item in value]
    return public_text(value) if isinstance(value, str) else value


def public_text(text: str) -> str:
    """[`public_json`] of a string."""
    if "\n" not in text and (_is_path(text)):
        return PureWindowsPath(text).name
    return re.sub(
        re.escape(PREFIX) + "(" + "|".join(map(re.escape, MODELS)) + ")", lambda m: describe_base(m[0]).text, text
    )


def _is_path(text: str) -> bool:
    is_absolute = PurePath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return (is_absolute and len(PureWindowsPath(text).parts) > 2) or text.startswith("~/")
