# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Reads an interaction log in two passes: a few numbers of every episode, then all of the few episodes that are shown.

A log of a long run does not fit into memory with its prompts. The first pass reads narrow columns, shard by shard; the
second reads whole shards, but only those that hold a chosen episode.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ..logs.dataset import find_shards
from ..logs.schema import check_columns
from ..types import InvalidInputError


_NARROW = ("run_id", "episode_id", "env_id", "env_kwargs", "env_options", "env_seed", "env_step", "update", "step",
           "task_kind", "policy", "reward", "success", "logprobs")  # fmt: skip


@dataclass(frozen=True)
class LoggedEpisode:
    """
    One episode of a log in a few numbers.

    Args:
        shard (`Path`), start (`int`), length (`int`):
            Where its rows are.
        identity (`tuple`):
            Environment, arguments, options and seed: equal for two policies on the same episode.
        policy (`str`), task_kind (`str` or `None`), update (`int`):
            As logged.
        env_step (`int`):
            Environment steps of the run when it ended.
        success (`bool`), episode_return (`float`):
            How it ended.
        entropy (`float` or `None`):
            Mean entropy of the policy over its steps, in nats; `None` where no probabilities were logged.
    """

    shard: Path
    start: int
    length: int
    identity: tuple[str, str, str | None, int]
    policy: str
    task_kind: str | None
    update: int
    env_step: int
    success: bool
    episode_return: float
    entropy: float | None


def read_episodes(log: str | Path) -> list[LoggedEpisode]:
    """
    Every episode of a log, in the order of its shards.

    Args:
        log (`str` or `Path`):
            Folder of Parquet shards.

    Raises:
        [`InvalidInputError`]: no log, an empty one, or one of another schema.
    """
    episodes: list[LoggedEpisode] = []
    for shard in find_shards(log):
        check_columns(pq.read_schema(shard).names, str(shard))
        episodes += _read_shard(shard)
    if not episodes:
        raise InvalidInputError(f"{log} is an empty log: no episode has ended yet.")
    return episodes


def _read_shard(shard: Path) -> Iterator[LoggedEpisode]:
    table = pq.read_table(shard, columns=list(_NARROW))
    if table.num_rows == 0:
        return
    starts = np.flatnonzero(table["step"].to_numpy() == 0)
    lengths = np.diff(np.append(starts, table.num_rows))
    first = table.select([name for name in _NARROW if name != "logprobs"]).take(starts).to_pylist()
    ends = starts + lengths - 1
    returns = np.add.reduceat(table["reward"].to_numpy(), starts)
    successes, env_steps = table["success"].to_numpy()[ends], table["env_step"].to_numpy()[ends]
    entropies = _entropies(table["logprobs"].combine_chunks(), starts, lengths)
    for i, row in enumerate(first):
        yield LoggedEpisode(
            shard=shard,
            start=int(starts[i]),
            length=int(lengths[i]),
            identity=(row["env_id"], row["env_kwargs"], row["env_options"], row["env_seed"]),
            policy=row["policy"],
            task_kind=row["task_kind"],
            update=row["update"],
            env_step=int(env_steps[i]) + 1,
            success=bool(successes[i]),
            episode_return=float(returns[i]),
            entropy=None if np.isnan(entropies[i]) else float(entropies[i]),
        )


def _entropies(log_probs: Any, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Mean entropy of each episode; NaN where a step has no probabilities."""
    offsets = log_probs.offsets.to_numpy()
    values = log_probs.values.to_numpy()
    cumulated = np.concatenate([[0.0], np.cumsum(-np.exp(values) * np.maximum(values, -1e9), dtype=np.float64)])
    per_step = cumulated[offsets[1:]] - cumulated[offsets[:-1]]
    per_step[offsets[1:] == offsets[:-1]] = np.nan
    return np.add.reduceat(per_step, starts) / lengths


def read_rows(episodes: Iterable[LoggedEpisode]) -> dict[LoggedEpisode, list[dict[str, Any]]]:
    """All columns of chosen episodes: a list of rows, one a step, for each."""
    by_shard: dict[Path, list[LoggedEpisode]] = defaultdict(list)
    for episode in episodes:
        by_shard[episode.shard].append(episode)
    rows = {}
    for shard, chosen in by_shard.items():
        table = pq.read_table(shard)
        for episode in chosen:
            rows[episode] = table.slice(episode.start, episode.length).to_pylist()
    return rows
