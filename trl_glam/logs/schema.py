# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The columns of an interaction log: one row per environment step.

`COLUMNS` is the one source of names, types, meanings and units: the Parquet schema, the checks of `load_log`, the
guide and the dataset card are made from it. This module turns a `Transition` into a row and describes a run in the
shards' metadata; it reads and writes no rows.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, List, Value

from ..types import EpisodeKey, InvalidInputError, Observation, Transition


SCHEMA_VERSION = 1
METADATA_KEY = b"trl_glam"
# What a replay depends on, and what wrote the log.
RECORDED_PACKAGES = ("trl-glam", "minigrid", "gymnasium", "numpy", "torch", "transformers", "trl", "datasets")
# An extra, recorded where it is installed.
_OPTIONAL_PACKAGES = ("textworld",)


@dataclass(frozen=True)
class Column:
    """One column: its name, its `datasets` type, what it means, its unit, and whether it may be null."""

    name: str
    feature: Value | List
    meaning: str
    unit: str = ""
    nullable: bool = False

    @property
    def type_name(self) -> str:
        if isinstance(self.feature, List):
            return f"list of {self.feature.feature.dtype}"
        return self.feature.dtype


_TEXT, _TEXTS, _FLAG = Value("string"), List(Value("string")), Value("bool")
COLUMNS: tuple[Column, ...] = (
    Column("schema_version", Value("int32"), "version of this table"),
    Column("run_id", _TEXT, "names the run that wrote the row; `run_id` and `episode_id` together name an episode"),
    Column("env_id", _TEXT, "Gymnasium id of the environment"),
    Column("env_kwargs", _TEXT, "keyword arguments of `gym.make`", "JSON object"),
    Column("env_options", _TEXT, "options of `env.reset`", "JSON object", nullable=True),
    Column("env_seed", Value("int64"), "seed of `env.reset`"),
    Column(
        "env_index", Value("int32"), "global index of the environment; in `collect`, number of the episode", "from 0"
    ),
    Column("env_step", Value("int64"), "environment steps of the run before this one", "steps, all processes"),
    Column("update", Value("int32"), "policy update during which the step was taken; 0 outside training", "from 0"),
    Column("episode_id", _TEXT, "`{env_index}-{number of the episode there}-{env_seed}`"),
    Column("step", Value("int32"), "actions taken in the episode before this one", "from 0"),
    Column("task_kind", _TEXT, "kind of task, if the environment names one", nullable=True),
    Column("mission", _TEXT, "the goal in words"),
    Column("observation", _TEXTS, "what the agent saw before it acted", "one sentence an entry"),
    Column("prompt", _TEXT, "what the language model read: goal, window of observations and actions", nullable=True),
    Column("admissible_actions", _TEXTS, "the actions that could be taken"),
    Column("action_index", Value("int32"), "the action taken, as an index into `admissible_actions`", "from 0"),
    Column("action", _TEXT, "the action taken, in words"),
    Column("logprobs", List(Value("float32")), "log-probability of every admissible action", "nats", nullable=True),
    Column("value", Value("float32"), "the agent's value estimate", "scaled reward", nullable=True),
    Column("reward", Value("float64"), "reward of the step as the environment gave it", "raw reward"),
    Column("terminated", _FLAG, "the task ended here"),
    Column("truncated", _FLAG, "a time limit cut the episode here"),
    Column("success", _FLAG, "the episode ended here, and in success"),
    Column("next_observation", _TEXTS, "what followed the last action; null before the last row", nullable=True),
    Column("policy", _TEXT, "who acted: `bot`, `random`, a mixture, or the model's name"),
    Column("policy_revision", _TEXT, "commit or checkpoint of the policy", nullable=True),
)
FEATURES = Features({column.name: column.feature for column in COLUMNS})


def columns_markdown() -> str:
    """`COLUMNS` as a Markdown table, for the guide and the dataset card."""
    lines = ["| column | type | meaning | unit |", "|---|---|---|---|"]
    for column in COLUMNS:
        type_name = f"{column.type_name} or null" if column.nullable else column.type_name
        lines.append(f"| `{column.name}` | {type_name} | {column.meaning} | {column.unit} |")
    return "\n".join(lines) + "\n"


def observation_row(observation: Observation) -> dict[str, Any]:
    """
    The columns that are settled before the agent acts.

    Args:
        observation ([`Observation`]):
            What the agent sees.

    Returns:
        `dict[str, Any]`: column name to value.
    """
    return {
        **_key_columns(observation.episode),
        "step": observation.step,
        "task_kind": observation.task_kind,
        "mission": observation.mission,
        "observation": list(observation.sentences),
        "prompt": observation.prompt,
        "admissible_actions": list(observation.admissible_actions),
    }


@lru_cache(maxsize=1024)  # the same for every step of an episode
def _key_columns(key: EpisodeKey) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "env_id": key.env_id,
        "env_kwargs": key.env_kwargs_json,
        "env_options": None if key.options is None else json.dumps(key.options, sort_keys=True),
        "env_seed": key.seed,
        "env_index": key.slot,
        "episode_id": key.episode_id,
    }


def transition_row(transition: Transition) -> dict[str, Any]:
    """
    The columns that the episode itself decides; the writer adds those of the run.

    Args:
        transition ([`Transition`]):
            One environment step.

    Returns:
        `dict[str, Any]`: column name to value.
    """
    observation, decision, final = transition.observation, transition.decision, transition.final_observation
    return {
        **observation_row(observation),
        "action_index": decision.index,
        "action": observation.admissible_actions[decision.index],
        "logprobs": None if decision.log_probs is None else decision.log_probs.tolist(),
        "value": decision.value,
        "reward": transition.reward,
        "terminated": transition.terminated,
        "truncated": transition.truncated,
        "success": transition.success,
        "next_observation": None if final is None else list(final.sentences),
    }


def run_metadata(run_id: str, run: dict[str, Any]) -> dict[str, Any]:
    """
    What a shard's Parquet metadata says under the key `trl_glam`, as JSON.

    Args:
        run_id (`str`):
            Name of the run.
        run (`dict[str, Any]`):
            What the run was asked to do: its settings, the prompt template.

    Returns:
        `dict[str, Any]`: schema version, run and the versions of the packages that a replay depends on.
    """
    installed = [package for package in _OPTIONAL_PACKAGES if importlib.util.find_spec(package) is not None]
    versions = {package: version(package) for package in (*RECORDED_PACKAGES, *installed)}
    return {"schema_version": SCHEMA_VERSION, "run_id": run_id, "run": run, "versions": versions}


def shard_schema(metadata: dict[str, Any]) -> pa.Schema:
    """The Arrow schema of a shard, with the `datasets` features and our metadata in it."""
    schema = FEATURES.arrow_schema
    return schema.with_metadata({**schema.metadata, METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})


def read_metadata(shard: str | Path, filesystem: Any | None = None) -> dict[str, Any] | None:
    """
    What [`run_metadata`] wrote into a shard.

    Args:
        shard (`str` or `Path`):
            A Parquet file.
        filesystem (`fsspec.AbstractFileSystem`, *optional*):
            Where it is, if not on this machine.

    Returns:
        `dict[str, Any]` or `None`: `None` for a Parquet file that something else wrote, such as a copy of a log.

    Raises:
        [`InvalidInputError`]: the file cannot be read, or is of another schema version.
    """
    try:
        metadata = pq.read_schema(shard, filesystem=filesystem).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidInputError(f"{shard} cannot be read as Parquet: {error}") from None
    if METADATA_KEY not in metadata:
        return None
    found = json.loads(metadata[METADATA_KEY])
    check_version(found["schema_version"], str(shard))
    return found


def check_version(found: int, source: str) -> None:
    """Raise [`InvalidInputError`] unless a log's schema version is the one this package reads."""
    if found != SCHEMA_VERSION:
        raise InvalidInputError(
            f"{source} has schema version {found}, this trl_glam reads version {SCHEMA_VERSION}; collect the log "
            "again, or install the trl_glam that wrote it."
        )


def check_columns(found: list[str], source: str) -> None:
    """Raise [`InvalidInputError`] if a log lacks columns; further columns are allowed."""
    missing = [name for name in FEATURES if name not in found]
    if missing:
        raise InvalidInputError(
            f"{source} is no interaction log of schema version {SCHEMA_VERSION}: the columns {missing} are missing."
        )
