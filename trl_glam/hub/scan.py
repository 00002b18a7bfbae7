# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The last look at a folder before it leaves.

Only kinds of files that are known to be data, no pickle, no link, and in what can hold text no token, no path of this
machine and no name that means something here only. Parquet is read value by value, because its pages are compressed;
tensors are not searched. The first look at a folder that came is `policy/incoming.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import get_token

from ..local_models import MODELS, PREFIX
from ..types import InvalidInputError


TEXT_SUFFIXES = (".json", ".md", ".yaml", ".txt", ".jinja")
DATA_SUFFIXES = (".safetensors", ".parquet", ".model", ".png", ".gif")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".checkpoint")

_TOKEN = re.compile(
    r"(?:hf_|api_org_)[A-Za-z0-9]{30,}|\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{40,}|\bsk-[\w-]{32,}"
    r"|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
# An absolute path of some machine: at the start of a word, two levels deep, below a folder that machines have.
_PATH = re.compile(
    r"(?<![\w./:~-])/(?:home|Users|root|tmp|var|mnt|media|srv|opt|data|scratch|work|workspace|content|kaggle|gpfs|lustre)"
    r"/[\w.-]+|(?<![\w])~/[\w.-]+|\b[A-Za-z]:\\{1,2}Users\\{1,2}\w+|file://\S+"
)
_TEXT_IN_BYTES = re.compile(rb"[\x20-\x7e]{12,}")
_LOCAL = re.compile(re.escape(PREFIX) + "(?:" + "|".join(map(re.escape, MODELS)) + ")")


@dataclass(frozen=True)
class Finding:
    """Something that must not leave: in which file, and what, without saying a secret again."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file} holds {self.what}"


def scan_folder(folder: str | Path) -> list[Finding]:
    """
    Look for what must not leave the machine.

    Args:
        folder (`str` or `Path`):
            The staged folder.

    Returns:
        `list[Finding]`: empty when it may go.
    """
    folder = Path(folder)
    findings: list[Finding] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            findings.append(Finding(name, "a link"))
        elif path.is_file():
            findings.extend(Finding(name, what) for what in _scan_file(path))
    return findings


def check_outgoing(folder: str | Path) -> None:
    """Raise [`InvalidInputError`] if [`scan_folder`] finds anything."""
    if findings := scan_folder(folder):
        shown = "; ".join(map(str, findings[:5]))
        more = f"; and {len(findings) - 5} more" if len(findings) > 5 else ""
        raise InvalidInputError(f"Nothing was pushed: {shown}{more}. Remove it from the folder and push again.")


def _scan_file(path: Path) -> Iterator[str]:
    if path.suffix in PICKLE_SUFFIXES:
        yield "a pickle, or what may be one: such files run code when they are read"
    elif path.suffix in TEXT_SUFFIXES:
        yield from find_secrets(path.read_text(encoding="utf-8"))
    elif path.suffix == ".safetensors":
        yield from find_secrets(json.dumps(_safetensors_header(path).get("__metadata__", {})))
    elif path.suffix == ".parquet":
        yield from _scan_parquet(path)
    elif path.suffix in DATA_SUFFIXES:
        # Pixels spell "~/N" now and then; text that somebody put there comes in longer runs.
        yield from find_secrets(b"\n".join(_TEXT_IN_BYTES.findall(path.read_bytes())).decode("ascii"))
    else:
        yield "a kind of file that no policy and no log has"


def find_secrets(text: str) -> Iterator[str]:
    """What in a text must not leave, described."""
    token = get_token()
    if _TOKEN.search(text) or (token is not None and token in text):
        yield "an access token"
    if match := _PATH.search(text):
        yield f"a path of this machine ({match[0]!r})"
    elif str(Path.home()) != "/" and str(Path.home()) + "/" in text:
        yield "the path of the home folder"
    if match := _LOCAL.search(text):
        yield f"a name that means something on this machine only ({match[0]!r})"


def _safetensors_header(path: Path) -> dict:
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def _scan_parquet(path: Path) -> Iterator[str]:
    file = pq.ParquetFile(path)
    metadata = file.schema_arrow.metadata or {}
    found = set(find_secrets("\n".join(value.decode("utf-8", "replace") for value in metadata.values())))
    for batch in file.iter_batches(batch_size=10_000):
        for column in batch.columns:
            values = column.flatten() if pa.types.is_list(column.type) else column
            if pa.types.is_string(values.type):
                found.update(find_secrets("\n".join(text for text in values.unique().to_pylist() if text)))
    yield from sorted(found)
