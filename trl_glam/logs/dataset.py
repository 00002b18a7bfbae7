# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Reads an interaction log as a `datasets.Dataset`, whole or streamed, by episode, or as text to imitate.

`InteractionLog` and `StreamedInteractionLog` are plain `Dataset`s and `IterableDataset`s with three more methods, so
that everything that takes a dataset takes a log. They add no state: a transform that chooses rows (`filter`, `select`,
`shuffle`) gives a log again, one that changes them (`map`) a plain dataset. Writing and replaying are in `writer.py`
and `replay.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, Features, IterableDataset, List, Value, concatenate_datasets, load_dataset
from datasets.data_files import EmptyDatasetError
from huggingface_hub.errors import HfHubHTTPError

from .._compat import HUB_NETWORK_ERRORS
from ..prompts import History, PromptTemplate
from ..types import InvalidInputError
from .schema import FEATURES, check_columns, check_version


# What `episodes` says of an episode: these columns of its rows, and what follows from them.
_EPISODE_COLUMNS = ("run_id", "episode_id", "env_id", "env_kwargs", "env_options", "env_seed", "env_index",
                    "task_kind", "mission", "policy", "policy_revision")  # fmt: skip
_STEP_COLUMNS = ("step", "action_index", "reward", "terminated", "truncated", "success")
_RENDER_COLUMNS = ("run_id", "episode_id", "step", "terminated", "truncated", "mission", "observation",
                   "admissible_actions", "action")  # fmt: skip
EPISODE_FEATURES = Features(
    {
        **{name: FEATURES[name] for name in _EPISODE_COLUMNS},
        "actions": List(Value("int32")),
        "length": Value("int32"),
        "episode_return": Value("float64"),
        "terminated": Value("bool"),
        "truncated": Value("bool"),
        "success": Value("bool"),
    }
)
_SFT_FEATURES = Features({"prompt": Value("string"), "completion": Value("string")})


def load_log(
    path_or_repo: str | Path,
    streaming: bool = False,
    *,
    success: bool | None = None,
    min_return: float | None = None,
    policy: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> InteractionLog | StreamedInteractionLog:
    """
    Read an interaction log.

    Args:
        path_or_repo (`str` or `Path`):
            Folder of Parquet shards, one Parquet file, or a dataset on the Hub.
        streaming (`bool`, *optional*, defaults to `False`):
            Read rows as they are asked for, without a copy on disk.
        success (`bool`, *optional*):
            Keep the episodes that ended in success, or the others.
        min_return (`float`, *optional*):
            Keep the episodes whose raw return is at least this.
        policy (`str`, *optional*):
            Keep the episodes of this policy.
        split (`str`, *optional*):
            Split of a dataset on the Hub; all of them, one after the other, if not given.
        revision (`str`, *optional*):
            Revision of a dataset on the Hub.

    Returns:
        [`InteractionLog`], or [`StreamedInteractionLog`] if `streaming`: one row a step, the episodes whole and one
        after the other.

    Raises:
        [`InvalidInputError`]: nothing there, an empty log, another schema version, missing columns, or an action
        outside the admissible ones.

    Example:

    ```python
    >>> from trl_glam.logs import load_log

    >>> log = load_log("logs/bot", success=True)
    >>> log.to_sft()
    >>> log.episodes().to_pandas().groupby("task_kind").success.mean()
    ```
    """
    log = open_log(path_or_repo, streaming, split=split, revision=revision).with_checked_actions(str(path_or_repo))
    if success is None and min_return is None and policy is None:
        return log
    return log.filter_episodes(success=success, min_return=min_return, policy=policy)


def open_log(
    path_or_repo: str | Path, streaming: bool = False, *, split: str | None = None, revision: str | None = None
) -> InteractionLog | StreamedInteractionLog:
    """[`load_log`] without its check of the actions and its filters: what a replay starts from."""
    source = str(path_or_repo)
    shards = find_shards(path_or_repo)
    if shards:
        data_files = [str(shard) for shard in shards if _num_rows(shard)]
        if not data_files:
            raise InvalidInputError(f"{source} is an empty log: it has no rows.")
        dataset = load_dataset("parquet", data_files=data_files, split="train", streaming=streaming)
    else:
        try:
            splits = load_dataset(source, revision=revision, streaming=streaming)
        except (FileNotFoundError, EmptyDatasetError, ConnectionError, HfHubHTTPError, *HUB_NETWORK_ERRORS) as error:
            reason = str(error).strip().split("\n")[0]
            raise InvalidInputError(
                f"{source} is neither a folder with Parquet shards nor a dataset that can be read: {reason}"
            ) from None
        if split is not None and split not in splits:
            raise InvalidInputError(f"{source} has no split {split!r}; it has {', '.join(splits)}.")
        dataset = concatenate_datasets(list(splits.values())) if split is None else splits[split]
    return as_log(dataset, source)


def as_log(dataset: Dataset | IterableDataset, source: str) -> InteractionLog | StreamedInteractionLog:
    """
    A dataset that was read by other means, as a log; its columns and its schema version are checked.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            It is turned into a log in place.
        source (`str`):
            Its name in errors.
    """
    check_columns(list(dataset.features or {}), source)
    wrong = [name for name in FEATURES if dataset.features[name] != FEATURES[name]]
    if wrong:
        raise InvalidInputError(f"{source} is no interaction log: the columns {wrong} have another type.")
    log = _with_methods(dataset)
    streaming = isinstance(log, IterableDataset)
    versions = [row["schema_version"] for row in log.take(1)] if streaming else log.unique("schema_version")
    if not versions:
        raise InvalidInputError(f"{source} is an empty log: it has no rows.")
    for version in versions:
        check_version(version, source)
    return log


def _num_rows(shard: Path) -> int:
    try:
        metadata = pq.read_metadata(shard)
    except pa.ArrowInvalid as error:
        raise InvalidInputError(f"{shard} cannot be read as Parquet: {error}") from None
    check_columns(metadata.schema.to_arrow_schema().names, str(shard))
    return metadata.num_rows


def find_shards(path_or_repo: str | Path) -> list[Path]:
    """
    The Parquet files of a local log; none if the name is that of a Hub repository.

    Raises:
        [`InvalidInputError`]: a folder without Parquet files, or a name that is neither a path nor a repository.
    """
    path = Path(path_or_repo)
    if path.is_file():
        return [path]
    if path.is_dir():
        shards = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
        if not shards:
            raise InvalidInputError(f"{path} is an empty log: there is no Parquet file in it or in its folder 'data'.")
        return shards
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path_or_repo)):
        raise InvalidInputError(
            f"{path_or_repo} does not exist; give a folder of Parquet shards or a dataset 'owner/name'."
        )
    return []


class _LogViews:
    """What a log can do beyond being a dataset; how is up to the two kinds of dataset."""

    _generated: Callable[..., Dataset | IterableDataset]
    _stored_prompts: Callable[[], Dataset | IterableDataset]
    _keep: Callable[..., InteractionLog | StreamedInteractionLog]

    def to_sft(self, template: PromptTemplate | None = None) -> Dataset | IterableDataset:
        """
        Every step as text to imitate.

        Args:
            template ([`PromptTemplate`], *optional*):
                Write the prompts anew, for example with another window; the stored prompts if not given.

        Returns:
            `Dataset` or `IterableDataset` with the columns `prompt` and `completion` (the action taken).
        """
        if template is not None:
            return self._generated(_rendered, _SFT_FEATURES, _RENDER_COLUMNS, template=template)
        return self._stored_prompts().rename_column("action", "completion")

    def episodes(self) -> Dataset | IterableDataset:
        """
        One row an episode: what was played by whom, `actions` (indices), `length`, `episode_return` (raw), `success`,
        and how it ended.
        """
        return self._generated(_summaries, EPISODE_FEATURES, _EPISODE_COLUMNS + _STEP_COLUMNS)

    def filter_episodes(
        self, *, success: bool | None = None, min_return: float | None = None, policy: str | None = None
    ) -> InteractionLog | StreamedInteractionLog:
        """
        Keep whole episodes; see [`load_log`] for the arguments.
        """
        return self._keep(success=success, min_return=min_return, policy=policy)


class InteractionLog(_LogViews, Dataset):
    """A `Dataset` of steps; made by [`load_log`]."""

    def select(self, *args, **kwargs) -> InteractionLog:
        return _with_methods(super().select(*args, **kwargs))

    def shuffle(self, *args, **kwargs) -> InteractionLog:
        return _with_methods(super().shuffle(*args, **kwargs))

    def _generated(self, function, features: Features, columns: tuple[str, ...], **arguments) -> Dataset:
        rows = [*function(self.select_columns(list(columns)), **arguments)]
        return Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)

    def _stored_prompts(self) -> Dataset:
        texts = self.select_columns(["prompt", "action"])
        for table in texts.with_format("arrow").iter(batch_size=10_000):
            _check_prompts(table)
        return texts

    def _keep(self, **wanted) -> InteractionLog:
        kept, start = [], 0
        for rows in _whole_episodes(self.select_columns(list(_EPISODE_COLUMNS + _STEP_COLUMNS))):
            if _is_wanted(_summary(rows), **wanted):
                kept.extend(range(start, start + len(rows)))
            start += len(rows)
        return self.select(kept)

    def with_checked_actions(self, source: str) -> InteractionLog:
        """This log, if every action is the admissible one that its index says."""
        columns = ["run_id", "episode_id", "step", "admissible_actions", "action_index", "action"]
        for table in self.select_columns(columns).with_format("arrow").iter(batch_size=10_000):
            _check_actions(table, source)
        return self


class StreamedInteractionLog(_LogViews, IterableDataset):
    """An `IterableDataset` of steps; made by [`load_log`] with `streaming=True`."""

    def filter(self, *args, **kwargs) -> StreamedInteractionLog:
        return _with_methods(super().filter(*args, **kwargs))

    def take(self, n: int) -> StreamedInteractionLog:
        return _with_methods(super().take(n))

    def skip(self, n: int) -> StreamedInteractionLog:
        return _with_methods(super().skip(n))

    def _generated(self, function, features: Features, columns: tuple[str, ...], **arguments) -> IterableDataset:
        kwargs = {"log": self.select_columns(list(columns)), **arguments}
        return IterableDataset.from_generator(function, features=features, gen_kwargs=kwargs)

    def _stored_prompts(self) -> IterableDataset:
        return _mapped(self.select_columns(["prompt", "action"]), _check_prompts)

    def _keep(self, **wanted) -> StreamedInteractionLog:
        kwargs = {"log": self, **wanted}
        return _with_methods(IterableDataset.from_generator(_kept_rows, features=self.features, gen_kwargs=kwargs))

    def with_checked_actions(self, source: str) -> StreamedInteractionLog:
        """This log, with every row checked as it is read."""
        return _with_methods(_mapped(self, partial(_check_actions, source=source)))


def _with_methods(dataset: Dataset | IterableDataset) -> InteractionLog | StreamedInteractionLog:
    # `datasets` builds every result as the base class; the subclasses add methods and no state, so it may be set.
    dataset.__class__ = InteractionLog if isinstance(dataset, Dataset) else StreamedInteractionLog
    return dataset


def episode_groups(log: Dataset | IterableDataset) -> Iterator[list[dict[str, Any]]]:
    """Neighbouring rows of the same episode, together."""
    # Rows come faster out of Arrow tables than one by one.
    rows = chain.from_iterable(table.to_pylist() for table in log.with_format("arrow").iter(batch_size=1000))
    for _, episode in groupby(rows, key=lambda row: (row["run_id"], row["episode_id"])):
        yield list(episode)


def _whole_episodes(log: Dataset | IterableDataset) -> Iterator[list[dict[str, Any]]]:
    for episode in episode_groups(log):
        last = episode[-1]
        ended = last["terminated"] or last["truncated"]
        if [row["step"] for row in episode] != list(range(len(episode))) or not ended:
            raise InvalidInputError(
                f"The rows of episode {last['episode_id']} of run {last['run_id']} are not all here, or not in "
                "their order; select whole episodes with filter_episodes, and shuffle what to_sft or episodes give."
            )
        yield episode


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    last = rows[-1]
    return {
        **{name: last[name] for name in _EPISODE_COLUMNS},
        "actions": [row["action_index"] for row in rows],
        "length": len(rows),
        "episode_return": float(sum(row["reward"] for row in rows)),
        "terminated": last["terminated"],
        "truncated": last["truncated"],
        "success": last["success"],
    }


def _summaries(log: Dataset | IterableDataset) -> Iterator[dict[str, Any]]:
    for episode in _whole_episodes(log):
        yield _summary(episode)


def _is_wanted(
    summary: dict[str, Any], success: bool | None = None, min_return: float | None = None, policy: str | None = None
) -> bool:
    return (
        (success is None or summary["success"] == success)
        and (min_return is None or summary["episode_return"] >= min_return)
        and (policy is None or summary["policy"] == policy)
    )


def _kept_rows(log: IterableDataset, **wanted) -> Iterator[dict[str, Any]]:
    for episode in _whole_episodes(log):
        if _is_wanted(_summary(episode), **wanted):
            yield from episode


def _rendered(log: Dataset | IterableDataset, template: PromptTemplate) -> Iterator[dict[str, Any]]:
    history = History(template)
    for episode in _whole_episodes(log):
        for step, row in enumerate(episode):
            if step == 0:
                history.reset(row["mission"], row["observation"])
            else:
                before = episode[step - 1]
                history.append(before["action"], row["observation"], before["admissible_actions"])
            yield {"prompt": history.prompt(row["admissible_actions"]), "completion": row["action"]}


def _check_prompts(table: pa.Table) -> pa.Table:
    if table["prompt"].null_count:
        raise InvalidInputError("The log was written without prompts; give to_sft a PromptTemplate that writes them.")
    return table


def _mapped(dataset: IterableDataset, function) -> IterableDataset:
    features = dataset.features
    return dataset.with_format("arrow").map(function, batched=True, features=features).with_format(None)


def _check_actions(table: pa.Table, source: str) -> pa.Table:
    lists = table["admissible_actions"].combine_chunks()
    index, action = table["action_index"].combine_chunks(), table["action"].combine_chunks()
    outside = pc.or_(pc.less(index, 0), pc.greater_equal(index, pc.list_value_length(lists)))
    position = pc.add(lists.offsets[:-1], pc.if_else(outside, 0, index))
    # Null where the row lacks one of the two.
    wrong = pc.fill_null(pc.or_(outside, pc.not_equal(lists.values.take(position), action)), True)
    if pc.any(wrong).as_py():
        row = table.slice(pc.index(wrong, True).as_py(), 1).to_pylist()[0]
        raise InvalidInputError(
            f"{source}: in step {row['step']} of episode {row['episode_id']} of run {row['run_id']} the action "
            f"'{row['action']}' with index {row['action_index']} is not that one of the admissible actions "
            f"{row['admissible_actions']}."
        )
    return table
