# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""An interaction log -> the splits of a dataset repository, and what its card says of them.

A split is a role: who acted. Shards keep their rows; where the policy's name or the metadata holds a path of this
machine or a `local:` name, the shard is written anew without it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..evaluation.statistics import wilson_interval
from ..logs import load_log, verify_log
from ..logs.dataset import find_shards
from ..logs.schema import METADATA_KEY, read_metadata
from ..types import InvalidInputError
from .staging import public_json, public_text


def stage_log(folder: str | Path, target: Path, split: str | None = None) -> dict[str, list[Path]]:
    """
    Copy the shards of a log to `target/data/{split}-*.parquet`.

    Args:
        folder (`str` or `Path`):
            A folder of shards, or of subfolders with shards.
        target (`Path`):
            The dataset's folder.
        split (`str`, *optional*):
            Name of the only split.

    Returns:
        `dict[str, list[Path]]`: the shards of each split.
    """
    folder = Path(folder)
    subfolders = sorted(path for path in folder.glob("*") if path.is_dir() and [*path.glob("*.parquet")])
    if [*folder.glob("*.parquet")] or not subfolders:
        shards = find_shards(folder)
        sources = {split or _role(shards): shards}
    elif split is not None:
        raise InvalidInputError(f"split={split!r} is given, but {folder} holds {len(subfolders)} logs; leave it out.")
    else:
        sources = {path.name: find_shards(path) for path in subfolders}
    staged: dict[str, list[Path]] = {}
    (target / "data").mkdir()
    for name, shards in sources.items():
        if not re.fullmatch(r"\w+", name):
            raise InvalidInputError(f"{name!r} is no name of a split; it may hold letters, digits and underscores.")
        shards = [shard for shard in shards if pq.read_metadata(shard).num_rows]
        if not shards:
            raise InvalidInputError(f"{folder}: the log {name!r} is empty.")
        staged[name] = []
        for i, shard in enumerate(shards):
            staged[name].append(target / "data" / f"{name}-{i:05d}-of-{len(shards):05d}.parquet")
            _copy_shard(shard, staged[name][-1])
    return staged


def _role(shards: list[Path]) -> str:
    tables = [pq.read_table(shard, columns=["policy", "update"]) for shard in shards]
    table = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    policies = table["policy"].unique().to_pylist()
    if len(policies) == 1 and policies[0] in ("bot", "random"):
        return policies[0]
    return "ppo" if table.num_rows and pc.max(table["update"]).as_py() > 0 else "policy"


def _copy_shard(shard: Path, target: Path) -> None:
    metadata = read_metadata(shard)
    table = pq.read_table(shard)
    names = table["policy"].unique().to_pylist()
    public = {name: public_text(name) for name in names}
    public_metadata = public_json(metadata)
    if public_metadata == metadata and all(name == public[name] for name in names):
        shutil.copyfile(shard, target)
        return
    column = table.schema.get_field_index("policy")
    policies = pa.array([public[name] for name in table["policy"].to_pylist()], pa.string())
    table = table.set_column(column, table.schema.field(column), policies)
    described = dict(table.schema.metadata or {})
    if metadata is not None:
        described[METADATA_KEY] = json.dumps(public_metadata, sort_keys=True).encode()
    pq.write_table(table.replace_schema_metadata(described), target, compression="zstd", compression_level=9)


def log_facts(
    splits: Mapping[str, list[Path]], *, verify: bool, env_module: str | None = None, success_threshold: float = 0.0
) -> dict[str, Any]:
    """
    What the card of a log says.

    Args:
        splits (`dict[str, list[Path]]`):
            What [`stage_log`] gives.
        verify (`bool`):
            Replay every shard; a difference is an error.
        env_module (`str`, *optional*):
            Module that registers the log's environments.
        success_threshold (`float`, *optional*, defaults to `0.0`):
            As in the run, for environments without `info["success"]`.

    Returns:
        `dict[str, Any]`: `splits` (name, episodes, transitions, success_rate, interval, mean_return, mean_length,
        policies with their revisions, environments with their keyword arguments), `kinds` (success per task kind),
        `versions` (all that wrote shards, per package), `languages`, `verified`, `verify_options` (arguments of
        `trl-glam verify-log`), `sample` (the first episode), `has_prompts` (all rows of the first split).
    """
    rows, kinds, versions, languages = [], [], defaultdict(set), set()
    for name, shards in splits.items():
        frame = _episodes(shards)
        successes = int(frame["success"].sum())
        rows.append(
            {
                "name": name,
                "episodes": len(frame),
                "transitions": int(frame["length"].sum()),
                "success_rate": successes / len(frame),
                "interval": wilson_interval(successes, len(frame)),
                "mean_return": float(frame["episode_return"].mean()),
                "mean_length": float(frame["length"].mean()),
                "policies": [
                    {"name": policy, "revisions": list(dict.fromkeys(of_policy["policy_revision"].dropna()))}
                    for policy, of_policy in frame.groupby("policy")
                ],
                "environments": sorted({*zip(frame["env_id"], frame["env_kwargs"], strict=True)}),
            }
        )
        for kind, of_kind in frame.groupby("task_kind"):
            rate = float(of_kind["success"].mean())
            kinds.append({"split": name, "name": kind, "episodes": len(of_kind), "success_rate": rate})
        for shard in shards:
            # Shards that another program wrote carry no versions.
            if (metadata := read_metadata(shard)) is not None:
                for package, number in metadata["versions"].items():
                    versions[package].add(number)
        settings = [json.loads(text) for text in frame["env_kwargs"].unique()]
        languages |= {"fr" if kwargs.get("language") == "french" else "en" for kwargs in settings}
    first = next(iter(splits.values()))
    return {
        "splits": rows,
        "kinds": kinds,
        "versions": {package: sorted(numbers) for package, numbers in versions.items()},
        "languages": sorted(languages),
        "verified": _verified(splits, env_module, success_threshold) if verify else None,
        "verify_options": (f" --env_module {env_module}" if env_module else "")
        + (f" --success_threshold {success_threshold:g}" if success_threshold else ""),
        "sample": _sample(first[0]),
        "has_prompts": not any(pq.read_table(shard, columns=["prompt"])["prompt"].null_count for shard in first),
    }


def _episodes(shards: list[Path]):
    import pandas as pd

    return pd.concat([load_log(shard).episodes().to_pandas() for shard in shards])


def _verified(splits: Mapping[str, list[Path]], env_module: str | None, success_threshold: float) -> dict[str, Any]:
    total = {"episodes": 0, "transitions": 0, "prompts_checked": True}
    for shards in splits.values():
        for shard in shards:
            report = verify_log(shard, env_module=env_module, success_threshold=success_threshold)
            if not report.ok:
                raise InvalidInputError(f"The log differs from its replay, so it is not pushed: {report.difference}.")
            total["episodes"] += report.episodes
            total["transitions"] += report.transitions
            total["prompts_checked"] &= report.prompts_checked
    return total


def _sample(shard: Path) -> dict[str, Any]:
    log = load_log(shard)
    first = log[0]
    rows = []
    for row in log:
        if (row["run_id"], row["episode_id"]) != (first["run_id"], first["episode_id"]):
            break
        rows.append(row)
    steps = [{name: row[name] for name in ("observation", "action", "reward")} for row in rows]
    total = sum(row["reward"] for row in rows)
    return {"mission": first["mission"], "success": rows[-1]["success"], "return": total, "steps": steps}
