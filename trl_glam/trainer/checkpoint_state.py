# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""When a checkpoint is whole, and the part of it that Trainer does not know.

A checkpoint is whole when its manifest, written last, names every file with the right hash. A kill during a save
leaves a folder without a valid manifest, which is passed over. Beside Trainer's files it holds per rank one JSON
(counters, running episodes, generators) and one safetensors file (the rollout being used up): nothing here is
executable.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers.trainer_utils import sort_checkpoints

from ..rollout import Rollout
from ..types import InvalidInputError, WriteError


MANIFEST_NAME = "manifest.json"


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees either the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    return {path.relative_to(folder).as_posix(): _file_hash(path) for path in files}


def write_manifest(folder: str | Path) -> None:
    """Make a checkpoint whole: name every file in it with its SHA-256."""
    folder = Path(folder)
    write_atomically(folder / MANIFEST_NAME, json.dumps({"sha256": _hashes(folder)}, indent=2))


@contextmanager
def whole_or_gone(folder: str | Path) -> Iterator[None]:
    """
    Write a checkpoint: while it is being written it is not whole, and when that fails it is removed.

    Args:
        folder (`str` or `Path`):
            The checkpoint.

    Raises:
        [`WriteError`]: when something in it could not be written.
    """
    folder = Path(folder)
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        # What a full disk cut short would only take the space that the next one needs.
        shutil.rmtree(folder, ignore_errors=True)
        # torch raises RuntimeError, safetensors its own.
        if isinstance(error, (OSError, SafetensorError, RuntimeError)):
            raise WriteError(
                f"The checkpoint {folder} could not be written ({error}), and what there was of it is removed. The "
                "checkpoints before it are untouched: free some space, and resume."
            ) from error
        raise


def fault_of_checkpoint(folder: str | Path) -> str | None:
    """
    Say what is wrong with a checkpoint.

    Returns:
        `str` or `None`: the fault in words, `None` when the checkpoint is whole.
    """
    manifest = Path(folder) / MANIFEST_NAME
    if not manifest.is_file():
        return f"has no {MANIFEST_NAME}: its save was cut short, or it is not a checkpoint of trl_glam"
    expected = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
    found = _hashes(Path(folder))
    for name, digest in expected.items():
        if name not in found:
            return f"lacks {name}"
        if found[name] != digest:
            return f"holds a changed {name}"
    return None


def find_checkpoint(output_dir: str, requested: str | bool) -> str | None:
    """
    The checkpoint to resume from.

    Args:
        output_dir (`str`):
            Folder of the run.
        requested (`str` or `bool`):
            A folder, `True` for the newest whole one in `output_dir`, or `"auto"` for the same, if there is any.

    Returns:
        `str` or `None`: the folder; `None` when `"auto"` finds that no checkpoint was ever whole.

    Raises:
        [`InvalidInputError`]: when there is none, or the requested one is not whole.
    """
    if isinstance(requested, str) and requested != "auto":
        return _requested_checkpoint(requested)
    candidates = sort_checkpoints(output_dir) if Path(output_dir).is_dir() else []
    for candidate in reversed(candidates):
        if fault_of_checkpoint(candidate) is None:
            return candidate
    # A save that was cut short has no manifest; a manifest that does not agree is another matter.
    damaged = [name for name in candidates if Path(name, MANIFEST_NAME).is_file()]
    if requested == "auto" and not damaged:
        return None
    found = f"{len(candidates)} found, {len(damaged)} of them damaged"
    raise InvalidInputError(
        f"resume_from_checkpoint={requested!r}, but {output_dir} holds no whole checkpoint ({found}); train "
        "without it, or name another output_dir."
    )


def _requested_checkpoint(requested: str) -> str:
    if not Path(requested).is_dir():
        raise InvalidInputError(f"resume_from_checkpoint={requested!r} is no folder.")
    fault = fault_of_checkpoint(requested)
    if fault is not None:
        raise InvalidInputError(
            f"Checkpoint {requested} {fault}; resume from an older one, or pass True to take the newest whole one."
        )
    return requested


def save_state(folder: str | Path, rank: int, state: dict[str, Any], rollout: Rollout | None) -> None:
    """
    Write one rank's part of a checkpoint.

    Args:
        folder (`str` or `Path`):
            The checkpoint.
        rank (`int`):
            Index of the process.
        state (`dict[str, Any]`):
            JSON-serialisable state.
        rollout ([`Rollout`] or `None`):
            The rollout being used up, if any.
    """
    folder = Path(folder)
    if rollout is not None:
        present = {name: getattr(rollout, name) for name in Rollout.ARRAYS if getattr(rollout, name) is not None}
        arrays = {name: np.ascontiguousarray(array) for name, array in present.items()}
        save_file(arrays, folder / f"rollout-{rank}.safetensors")
        state = {**state, "rollout": {"prompts": rollout.prompts, "action_sets": rollout.action_sets}}
    write_atomically(folder / f"trainer_state-{rank}.json", json.dumps(state))


def load_state(folder: str | Path, rank: int) -> tuple[dict[str, Any], Rollout | None]:
    """
    Read one rank's part of a checkpoint.

    Returns:
        `tuple[dict, Rollout | None]`: what [`save_state`] was given.

    Raises:
        [`InvalidInputError`]: when this rank has no part in it.
    """
    path = Path(folder) / f"trainer_state-{rank}.json"
    if not path.is_file():
        raise InvalidInputError(
            f"{folder} holds no state for process {rank}: it was saved by fewer processes, or with "
            "save_only_model=True. Resume with the same number of processes."
        )
    state = json.loads(path.read_text(encoding="utf-8"))
    tables = state.pop("rollout", None)
    if tables is None:
        return state, None
    arrays = load_file(Path(folder) / f"rollout-{rank}.safetensors")
    action_sets = [tuple(actions) for actions in tables["action_sets"]]
    return state, Rollout(prompts=tables["prompts"], action_sets=action_sets, **arrays)
