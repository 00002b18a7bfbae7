# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Finds what a folder says of a run: Trainer's log, the interaction log, results of evaluations, the settings.

Everything is optional but one of the first three: a finished run has all of them, a run that goes on has checkpoints
or only a growing log, a collection only a log, an evaluation only `results.json`. Runs of the same settings that
differ in their seed form a group. Nothing is computed here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..evaluation.results import RESULTS_NAME, read_results
from ..training_summary import TrainingSummary
from ..types import InvalidInputError


STATE_NAME = "trainer_state.json"


@dataclass(frozen=True)
class Run:
    """
    One folder.

    Args:
        folder (`Path`):
            Where it is.
        group (`str`):
            Name of the runs that share its settings.
        finished (`bool`):
            The trainer has saved its state at the end; `True` for a folder that no trainer wrote.
        rows (`list[dict[str, Any]]`):
            Trainer's log history, as far as it is on disk.
        log (`Path` or `None`):
            Folder of its interaction log.
        results (`list[dict[str, Any]]`):
            Contents of its `results.json` files.
        summary ([`~trl_glam.training_summary.TrainingSummary`] or `None`):
            Its settings, if saved.
    """

    folder: Path
    group: str
    finished: bool
    rows: list[dict[str, Any]] = field(default_factory=list)
    log: Path | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    summary: TrainingSummary | None = None

    @property
    def is_training(self) -> bool:
        return bool(self.rows) or self.summary is not None or self.log is not None and self.log != self.folder


def find_runs(paths: Iterable[str | Path]) -> list[Run]:
    """
    Read the runs that folders hold.

    Args:
        paths (`list[str]`):
            Folders: of a run, of an interaction log, of an evaluation, or a folder of such folders (`seed-0`, ...).

    Returns:
        `list[Run]`: in the order given.

    Raises:
        [`InvalidInputError`]: when a folder does not exist or holds nothing to report.
    """
    folders: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            raise InvalidInputError(f"{path} is no folder; give the output_dir of a run, a log or an evaluation.")
        found = [path] if _is_run(path) else sorted(child for child in path.iterdir() if _is_run(child))
        if not found:
            raise InvalidInputError(
                f"{path} holds no run to report: neither {STATE_NAME} (of a run or its checkpoints), nor an "
                f"interaction log (interactions/*.parquet; train with log_interactions=True), nor {RESULTS_NAME}."
            )
        folders += [folder for folder in found if folder not in folders]
    summaries = [TrainingSummary.load(folder) for folder in folders]
    groups = _groups(folders, summaries)
    return [
        Run(
            folder=folder,
            group=group,
            finished=(folder / STATE_NAME).is_file() or not _is_training_folder(folder),
            rows=_log_history(folder),
            log=_log_folder(folder),
            results=[read_results(path) for path in _results(folder)],
            summary=summary,
        )
        for folder, group, summary in zip(folders, groups, summaries, strict=True)
    ]


def _checkpoints(folder: Path) -> list[Path]:
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.split("-")[1].isdecimal()]
    states = [path / STATE_NAME for path in sorted(numbered, key=lambda path: int(path.name.split("-")[1]))]
    return [state for state in states if state.is_file()]


def _log_folder(folder: Path) -> Path | None:
    for candidate in (folder / "interactions", folder):
        if candidate.is_dir() and any(candidate.glob("*.parquet")):
            return candidate
    return None


def _results(folder: Path) -> list[Path]:
    return sorted([*folder.glob(RESULTS_NAME), *folder.glob(f"*/{RESULTS_NAME}")])


def _is_training_folder(folder: Path) -> bool:
    return bool(_checkpoints(folder)) or (folder / "interactions").is_dir() or (folder / STATE_NAME).is_file()


def _is_run(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    has_results = (folder / RESULTS_NAME).is_file()
    return bool((folder / STATE_NAME).is_file() or _checkpoints(folder) or _log_folder(folder) or has_results)


def _log_history(folder: Path) -> list[dict[str, Any]]:
    states = [folder / STATE_NAME] if (folder / STATE_NAME).is_file() else _checkpoints(folder)[-1:]
    if not states:
        return []
    try:
        rows = json.loads(states[0].read_text(encoding="utf-8"))["log_history"]
    except (ValueError, KeyError) as error:
        raise InvalidInputError(f"{states[0]} is no trainer state ({error!r}).") from None
    return [row for row in rows if "env_steps" in row]


def _groups(folders: Sequence[Path], summaries: Sequence[TrainingSummary | None]) -> list[str]:
    """A name for each folder, the same for folders whose settings differ in the seed alone."""
    keys, names = [], {}
    for folder, summary in zip(folders, summaries, strict=True):
        name = folder.resolve().name
        if name.startswith("seed-") and name.removeprefix("seed-").isdecimal():
            key, name = str(folder.resolve().parent), folder.resolve().parent.name
        elif summary is not None:
            settings = {k: v for k, v in summary.settings.items() if k not in ("seed", "output_dir", "run_name")}
            key = json.dumps([summary.trainer, summary.env_id, summary.env_kwargs, settings], sort_keys=True)
        else:
            key = str(folder.resolve())
        keys.append(key)
        names.setdefault(key, name if name not in names.values() else f"{folder.resolve().parent.name}/{name}")
    return [names[key] for key in keys]
