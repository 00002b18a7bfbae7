# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The first look at a folder that came from outside: nothing in it may point out of it.

File names, the shards that a weight index names, and the base model of an adapter. Contents are checked by those that
read them; what must not leave the machine is looked for in `hub/scan.py`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..types import InvalidInputError
from .config import POLICY_CONFIG_NAME


def is_safe_name(name: str) -> bool:
    """Whether a file name from outside stays inside the folder it is put in, on every system."""
    parts = PurePosixPath(name).parts
    inside = bool(parts) and not name.startswith("/") and ".." not in parts
    return inside and not re.search(r'[\\:*?"<>|\x00-\x1f]', name) and len(name) < 1024


def check_incoming(folder: str | Path) -> None:
    """
    Check a folder that came from the Hub, before anything in it is used.

    Args:
        folder (`str` or `Path`):
            The folder.

    Raises:
        [`InvalidInputError`]: weights outside of the folder, or an adapter whose base model is not on the Hub.
    """
    folder = Path(folder)
    for index in folder.glob("*.index.json"):
        shards = _read_object(index).get("weight_map", {})
        names = shards.values() if isinstance(shards, dict) else [shards]
        if bad := sorted(str(name) for name in names if not _is_file_here(name)):
            raise InvalidInputError(f"{index.name} names weights outside of the folder ({bad[0]!r}); do not use it.")
    if not (folder / "adapter_config.json").exists():
        return
    for name, key in (("adapter_config.json", "base_model_name_or_path"), (POLICY_CONFIG_NAME, "base_model")):
        if (folder / name).exists() and not _is_hub_id(base := _read_object(folder / name).get(key)):
            raise InvalidInputError(f"{name} names the base model {base!r}, which is not on the Hub.")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInputError(f"{path.name} is not JSON: {error}.") from None
    if not isinstance(content, dict):
        raise InvalidInputError(f"{path.name} holds no JSON object.")
    return content


def _is_file_here(name: Any) -> bool:
    return isinstance(name, str) and is_safe_name(name) and "/" not in name


def _is_hub_id(name: Any) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return isinstance(name, str)
