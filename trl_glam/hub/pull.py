# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Fetches a policy or a log from the Hub into a folder: the known kinds of files, each checked against the Hub's hash.

What is listed is checked before anything is fetched: names that stay inside the folder, and sizes that fit the disk.
An interrupted pull goes on where it stopped. The revision is written down in `hub_source.json`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoSibling

from ..policy.config import POLICY_CONFIG_NAME, PolicyConfig
from ..policy.incoming import check_incoming, is_safe_name
from ..types import InvalidInputError
from .client import call, repo_info
from .scan import DATA_SUFFIXES, TEXT_SUFFIXES


SOURCE_NAME = "hub_source.json"


@dataclass(frozen=True)
class Pulled:
    """
    What a pull brought.

    Args:
        folder (`Path`):
            Where it is.
        repo_type (`str`):
            `"model"` or `"dataset"`.
        revision (`str`):
            The commit.
        skipped (`tuple[str, ...]`):
            Files of other kinds, left on the Hub.
    """

    folder: Path
    repo_type: str
    revision: str
    skipped: tuple[str, ...]


def pull(
    repo_id: str, folder: str | Path | None = None, *, revision: str | None = None, token: str | None = None
) -> Pulled:
    """
    Fetch a repository into a folder.

    Args:
        repo_id (`str`):
            `owner/name` of a model or a dataset; a model wins where both exist.
        folder (`str` or `Path`, *optional*):
            Where to; the repository's name in the current folder if not given.
        revision (`str`, *optional*):
            Branch, tag or commit.
        token (`str`, *optional*):
            Token of the Hub; the stored one if not given.

    Returns:
        [`Pulled`]

    Raises:
        [`InvalidInputError`]: no such repository, names that lead out of the folder, no space, or content that is not
        what the Hub says it is.
    """
    api = HfApi(token=token)
    folder = Path(folder if folder is not None else repo_id.split("/")[-1])
    info, repo_type = call(repo_id, lambda: _info(api, repo_id, revision))
    unsafe = [sibling.rfilename for sibling in info.siblings if not is_safe_name(sibling.rfilename)]
    if unsafe:
        raise InvalidInputError(f"{repo_id} has a file named {unsafe[0]!r}, which may leave the folder.")
    wanted = [sibling for sibling in info.siblings if _is_known(sibling.rfilename)]
    size = sum(sibling.size for sibling in wanted)
    folder.mkdir(parents=True, exist_ok=True)
    if size > shutil.disk_usage(folder).free:
        raise InvalidInputError(f"{repo_id} needs {size / 1e6:.0f} MB, which {folder} has no space for.")
    call(
        repo_id,
        lambda: snapshot_download(
            repo_id,
            repo_type=repo_type,
            revision=info.sha,
            local_dir=folder,
            token=token,
            allow_patterns=[sibling.rfilename for sibling in wanted],
        ),
    )
    for sibling in wanted:
        _check_content(folder / sibling.rfilename, sibling)
    check_incoming(folder)
    if (folder / POLICY_CONFIG_NAME).exists():
        PolicyConfig.load(folder)
    source = {"repo_id": repo_id, "repo_type": repo_type, "revision": info.sha}
    (folder / SOURCE_NAME).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    skipped = {sibling.rfilename for sibling in info.siblings} - {sibling.rfilename for sibling in wanted}
    return Pulled(folder, repo_type, info.sha, tuple(sorted(skipped - {".gitattributes"})))


def _info(api: HfApi, repo_id: str, revision: str | None):
    try:
        return repo_info(api, repo_id, "model", revision=revision, files_metadata=True), "model"
    except RepositoryNotFoundError:
        return repo_info(api, repo_id, "dataset", revision=revision, files_metadata=True), "dataset"


def _is_known(name: str) -> bool:
    return PurePosixPath(name).suffix in (*TEXT_SUFFIXES, *DATA_SUFFIXES)


def _check_content(path: Path, sibling: RepoSibling) -> None:
    """Large files carry a SHA-256, the others git's hash of a blob."""
    if sibling.lfs is not None:
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == sibling.lfs.sha256
    else:
        content = path.read_bytes()
        same = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == sibling.blob_id
    if not same:
        path.unlink()
        raise InvalidInputError(f"{sibling.rfilename} is not what the Hub says it is, so it was removed; pull again.")
