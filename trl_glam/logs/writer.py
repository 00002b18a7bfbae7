# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Writes an interaction log while environments are stepped: zstd Parquet shards of whole episodes.

A shard grows by being written anew, whole, under a temporary name and renamed over its former self; when it is large
enough the next one begins. So whatever moment the process dies at, every `*.parquet` file is complete, no episode is
cut or stored twice, and a slow policy does not leave thousands of tiny files. An episode that is still running when
the writer is closed is not written: the log holds whole episodes only. Every rank writes shards of its own.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import List

from ..rollout.runner import Sink
from ..types import EnvironmentFault, EpisodeRecord, InvalidInputError, Transition, WriteError
from .schema import FEATURES, SCHEMA_VERSION, read_metadata, run_metadata, shard_schema, transition_row


# Every step's own texts and numbers compress better plain; the rest repeats itself and goes into dictionaries. With a
# model's numbers a row of GoToLocal takes 54 bytes, half as much again with Parquet's defaults; higher levels of zstd
# save one byte.
_PLAIN_COLUMNS = ("prompt", "logprobs", "value", "env_step")
_PARQUET_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 6,
    "use_dictionary": [
        f"{name}.list.element" if isinstance(feature, List) else name
        for name, feature in FEATURES.items()
        if name not in _PLAIN_COLUMNS
    ],
}


def shard_paths(directory: str | Path, rank: int | None = None) -> list[Path]:
    """
    The complete shards of a log folder, in writing order.

    Args:
        directory (`str` or `Path`):
            The folder.
        rank (`int`, *optional*):
            Only the shards of this process.
    """
    return sorted(Path(directory).glob("steps-*.parquet" if rank is None else f"steps-{rank:03d}-*.parquet"))


class LogWriter(Sink):
    """
    A sink of the runner that writes an interaction log.

    A folder holds one run. Opened on a folder with shards of the same run, the writer goes on after them and drops
    every episode that is already there.

    Args:
        directory (`str` or `Path`):
            Folder of the shards; made if it does not exist.
        run_id (`str`):
            Name of the run, the same on every rank and after a restart.
        policy (`str`):
            Who acts: `"bot"`, `"random"` or the model's name.
        policy_revision (`str`, *optional*):
            Commit or checkpoint of the policy; may be set again while writing.
        rank (`int`, *optional*, defaults to `0`):
            This process.
        num_processes (`int`, *optional*, defaults to `1`):
            Number of processes that write; `env_step` counts over all of them.
        num_envs (`int`, *optional*, defaults to `1`):
            Environments of each of several processes, which step together: `env_step` is then what one process with
            all environments would write.
        rows_per_shard (`int`, *optional*, defaults to `20000`):
            Begin a new shard after this many rows.
        seconds_per_flush (`float`, *optional*, defaults to `60.0`):
            Write what has gathered at the latest after this time: what a crash can cost.
        store_prompts (`bool`, *optional*, defaults to `True`):
            Store the rendered prompts; without them, `to_sft` needs a template.
        run (`dict[str, Any]`, *optional*):
            What the run was asked to do, JSON-serialisable, for the shards' metadata; `"prompt_template"` there lets
            `verify_log` check the prompts too.
        append (`bool`, *optional*, defaults to `True`):
            Go on after what the folder holds. With `False` a folder with shards is refused, unless
            [`~LogWriter.load_state_dict`] goes back to a position in it.

    Attributes:
        update (`int`):
            Policy update that the next rows belong to; the trainer sets it.
        env_steps (`int`):
            Environment steps seen by this process.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        run_id: str,
        policy: str,
        policy_revision: str | None = None,
        rank: int = 0,
        num_processes: int = 1,
        num_envs: int = 1,
        rows_per_shard: int = 20_000,
        seconds_per_flush: float = 60.0,
        store_prompts: bool = True,
        run: dict[str, Any] | None = None,
        append: bool = True,
    ) -> None:
        self.directory = Path(directory)
        self.run_id = run_id
        self.policy = policy
        self.policy_revision = policy_revision
        self.rank = rank
        self.num_processes = num_processes
        self.num_envs = num_envs
        self.rows_per_shard = rows_per_shard
        self.seconds_per_flush = seconds_per_flush
        self.store_prompts = store_prompts
        self.update = 0
        self.env_steps = 0
        self._schema = shard_schema(run_metadata(run_id, run or {}))
        self._running: dict[str, list[dict[str, Any]]] = {}
        self._pending: list[pa.Table] = []
        self._num_pending_rows = 0
        self._last_flush = time.monotonic()
        self._write_failed = False
        self.directory.mkdir(parents=True, exist_ok=True)
        self._open()
        self._must_not_append = not append and bool(self.paths)

    @property
    def num_episodes(self) -> int:
        """Whole episodes of this process, on disk or about to be."""
        return len(self._written)

    @property
    def num_rows(self) -> int:
        """Rows of this process's whole episodes, on disk or about to be."""
        return self._rows_before + self._shard_rows + self._num_pending_rows

    @property
    def paths(self) -> list[Path]:
        """The complete shards of this process."""
        return shard_paths(self.directory, self.rank)

    # -- sink

    def on_transition(self, transition: Transition) -> None:
        """Gather a row of a running episode."""
        if self._must_not_append:
            raise InvalidInputError(
                f"{self.directory} holds a log already; resume the run from its checkpoint, or give another folder."
            )
        row = transition_row(transition)
        if not self.store_prompts:
            row["prompt"] = None
        row["run_id"] = self.run_id
        rounds, env = divmod(self.env_steps, self.num_envs)
        row["env_step"] = (rounds * self.num_processes + self.rank) * self.num_envs + env
        row["update"] = self.update
        row["policy"] = self.policy
        row["policy_revision"] = self.policy_revision
        self.env_steps += 1
        self._running.setdefault(row["episode_id"], []).append(row)

    def on_episode_end(self, record: EpisodeRecord) -> None:
        """Take a whole episode into the log, unless it is there already."""
        rows = self._running.pop(record.key.episode_id)
        if record.key.episode_id not in self._written:
            self._written.add(record.key.episode_id)
            # As a table, since many thousand dicts would keep the garbage collector busy.
            self._pending.append(pa.Table.from_pylist(rows, schema=self._schema))
            self._num_pending_rows += len(rows)
        if self._shard_rows + self._num_pending_rows >= self.rows_per_shard:
            self.flush()
        elif time.monotonic() - self._last_flush >= self.seconds_per_flush:
            self.flush()

    def on_episode_dropped(self, fault: EnvironmentFault) -> None:
        """Forget an episode whose environment failed: the log holds whole episodes only."""
        self.forget(fault.key.episode_id)

    def forget(self, episode_id: str) -> None:
        """Drop what was gathered of a running episode."""
        self._running.pop(episode_id, None)

    def close(self) -> None:
        """Write the last whole episodes, unless writing has just failed. Running ones are dropped."""
        if not self._write_failed:
            self.flush()
        self._running.clear()

    # -- shards

    def flush(self) -> None:
        """Bring every whole episode to disk."""
        self._last_flush = time.monotonic()
        if not self._pending:
            return
        self._write_failed = True  # until it has not
        # The file begun is read back: kept in memory, its rows would be most of what a long run holds.
        self._write_shard(self._begun_rows(), *self._pending)
        self._write_failed = False
        self._shard_rows += self._num_pending_rows
        self._pending, self._num_pending_rows = [], 0
        if self._shard_rows >= self.rows_per_shard:
            self._rows_before += self._shard_rows
            self._shard_number += 1
            self._shard_rows = 0

    def _path(self, number: int) -> Path:
        return self.directory / f"steps-{self.rank:03d}-{number:05d}.parquet"

    def _begun_rows(self) -> pa.Table:
        """What the shard that is not full yet holds on disk."""
        if self._shard_rows == 0:
            return self._schema.empty_table()
        path = self._path(self._shard_number)
        try:
            with pq.ParquetFile(path) as file:
                # Threads would each keep memory of their own.
                return file.read(use_threads=False).cast(self._schema)
        except (OSError, pa.ArrowException) as error:
            raise WriteError(
                f"The log {path} could not be read to go on with it ({error}); bring the file back, and resume."
            ) from error

    def _write_shard(self, *tables: pa.Table) -> None:
        path = self._path(self._shard_number)
        temporary = path.with_suffix(".tmp")
        rows = pa.concat_tables(tables).combine_chunks()
        try:
            with open(temporary, "wb") as file:
                pq.write_table(rows, file, row_group_size=self.rows_per_shard, **_PARQUET_OPTIONS)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except (OSError, pa.ArrowException) as error:
            temporary.unlink(missing_ok=True)
            raise WriteError(
                f"The log {path} could not be written ({error}). What it held before is whole: free some space, and "
                "resume."
            ) from error

    def _open(self) -> None:
        """Find what a former process left: which episodes are there, and where to go on."""
        for leftover in self.directory.glob(f"steps-{self.rank:03d}-*.tmp"):
            leftover.unlink()
        self._written: set[str] = set()
        self._shard_number = 0
        self._rows_before = 0
        self._shard_rows = 0
        paths = self.paths
        for path in paths:
            metadata = read_metadata(path)
            if metadata is None or metadata["run_id"] != self.run_id:
                found = "another program's rows" if metadata is None else f"the log of the run '{metadata['run_id']}'"
                raise InvalidInputError(
                    f"{self.directory} holds {found}, '{self.run_id}' cannot be added to it; give another folder."
                )
            table = pq.read_table(path, columns=["episode_id", "env_step"])
            self._written.update(table["episode_id"].to_pylist())
            for step in table["env_step"].to_pylist():
                rounds, env = divmod(step, self.num_envs * self.num_processes)
                self.env_steps = max(self.env_steps, rounds * self.num_envs + env % self.num_envs + 1)
            self._rows_before += table.num_rows
        if paths:
            self._shard_number = int(paths[-1].stem.rsplit("-", 1)[1])
            # `table` is the last one's.
            if table.num_rows < self.rows_per_shard:
                self._shard_rows = table.num_rows
                self._rows_before -= table.num_rows
            else:
                self._shard_number += 1

    # -- exact resume

    def state_dict(self) -> dict[str, Any]:
        """
        The position of the writer, after a flush, and the rows of the running episodes; JSON-serialisable.
        """
        self.flush()
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.run_id,
            "shard_number": self._shard_number,
            "shard_rows": self._shard_rows,
            "env_steps": self.env_steps,
            "update": self.update,
            "running": {episode: list(rows) for episode, rows in self._running.items()},
        }

    def restart(self) -> None:
        """Go back to an empty log: for a run that was cut off before its first checkpoint and begins anew."""
        self.load_state_dict(
            {"run_id": self.run_id, "shard_number": 0, "shard_rows": 0, "env_steps": 0, "update": 0, "running": {}}
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go back to a position: rows and shards written after it are removed.

        Args:
            state (`dict[str, Any]`):
                What [`~LogWriter.state_dict`] gave.

        Raises:
            [`InvalidInputError`]: the folder holds less than the state says.
        """
        number, rows = state["shard_number"], state["shard_rows"]
        shards = self.paths
        expected = [self._path(i) for i in range(number + (rows > 0))]
        if state["run_id"] != self.run_id or shards[: len(expected)] != expected:
            raise InvalidInputError(
                f"{self.directory} does not hold the log that the checkpoint continues (run '{state['run_id']}', "
                f"{len(expected)} shards of rank {self.rank}); bring the folder back, or resume without the log."
            )
        if rows > 0:
            self._shard_number = number
            held = pq.read_table(self._path(number)).cast(self._schema)
            if held.num_rows < rows:
                raise InvalidInputError(
                    f"{self._path(number)} holds {held.num_rows} rows, the checkpoint continues after {rows}; "
                    "bring the file back, or resume without the log."
                )
            if held.num_rows > rows:
                self._write_shard(held.slice(0, rows))
        for later in shards[len(expected) :]:
            later.unlink()
        self._pending, self._num_pending_rows = [], 0
        self._open()
        self._must_not_append = False
        self.env_steps = state["env_steps"]
        self.update = state["update"]
        self._running = {episode: list(rows) for episode, rows in state["running"].items()}
