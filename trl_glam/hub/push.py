# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Puts a policy or an interaction log on the Hub: stage, card, scan, and one commit.

The commit is the only visible step, so a repository holds the whole of a push or nothing of it; content that an
interrupted push had sent is not sent again. `prepare_*` does everything but the network, for a dry run. The trainer's
pushes come through here too.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import gymnasium as gym
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi

from ..cards import CURVE_NAME, EPISODE_NAME, EVAL_RESULTS_NAME, write_log_card, write_policy_card
from ..envs.contract import make_env as make_registered_env
from ..evaluation.results import RESULTS_NAME, read_results
from ..policy.config import PolicyConfig
from ..policy.scoring_policy import ScoringPolicy
from ..training_summary import TrainingSummary
from ..types import EpisodeKey, InvalidInputError
from .client import call, repo_info
from .log_facts import log_facts, stage_log
from .scan import check_outgoing
from .showcase import record_episode
from .staging import POLICY_FILES, stage_policy


logger = logging.getLogger(__name__)

# Replaced by every push, so that no weights, results or shards of an earlier one stay beside the new ones. What the
# owner of the repository has put there stays.
_REPLACED = {
    "model": [*POLICY_FILES, CURVE_NAME, EPISODE_NAME, EVAL_RESULTS_NAME, "*.bin", "*.pt"],
    "dataset": ["data/*.parquet"],
}


def prepare_policy(
    folder: str | Path,
    target: str | Path,
    repo_id: str,
    *,
    license: str | None = None,
    episode: bool = True,
    make_env: Callable[[EpisodeKey], gym.Env] | None = None,
) -> Path:
    """
    Write the folder that goes to the Hub, with its card, and check it.

    Args:
        folder (`str` or `Path`):
            A saved policy. Results (`results.json` of `trl-glam eval --output_dir`) and `training_summary.json` in it
            are put on the card.
        target (`str` or `Path`):
            Folder to write; must not exist, or be empty.
        repo_id (`str`):
            Where it will go.
        license (`str`, *optional*):
            Licence of the weights; the base model's, where it is known, if not given.
        episode (`bool`, *optional*, defaults to `True`):
            Play an episode for the card, in the environment of the training.
        make_env (`Callable[[EpisodeKey], gym.Env]`, *optional*):
            Makes that environment; `gym.make` if not given.

    Returns:
        `Path`: the card.

    Raises:
        [`InvalidInputError`]: no saved policy, or something in it must not leave the machine.
    """
    target = _empty_folder(target)
    config, base = stage_policy(folder, target, repo_id)
    summary = TrainingSummary.load(target)
    played = None
    if episode and summary is not None and (summary.registered or make_env is not None):
        module = summary.settings.get("env_module")
        played = record_episode(
            ScoringPolicy.from_pretrained(target),
            target,
            make_env or (lambda key: make_registered_env(key.env_id, key.env_kwargs, module)),
            summary.env_id,
            summary.env_kwargs,
        )
    results = read_results(target) if (target / RESULTS_NAME).exists() else None
    card = write_policy_card(
        target, config, summary, repo_id=repo_id, base=base, results=results, episode=played, license=license
    )
    check_outgoing(target)
    return card


def push_policy(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = True,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Push a policy",
    blocking: bool = True,
    license: str | None = None,
    episode: bool = True,
    make_env: Callable[[EpisodeKey], gym.Env] | None = None,
) -> CommitInfo | Future[CommitInfo]:
    """
    Put a saved policy on the Hub.

    Args:
        folder (`str` or `Path`):
            A saved policy.
        repo_id (`str`):
            `owner/name`; made if it does not exist.
        private (`bool`, *optional*, defaults to `True`):
            Keep the repository private. With `True`, an existing public one is refused; `None` takes it as it is.
        token (`str`, *optional*):
            Token of the Hub; the stored one if not given.
        revision (`str`, *optional*):
            Branch to commit to.
        commit_message (`str`, *optional*):
            Message of the commit.
        blocking (`bool`, *optional*, defaults to `True`):
            Wait for the upload; otherwise it goes on in a thread once the folder is prepared.
        license (`str`, *optional*), episode (`bool`, *optional*), make_env (`Callable`, *optional*):
            As in [`prepare_policy`].

    Returns:
        [`~huggingface_hub.CommitInfo`], or a `Future` of it: `oid` is the revision to load.

    Raises:
        [`InvalidInputError`]: the folder cannot go, or the Hub did not take it.
    """
    staged = tempfile.TemporaryDirectory(prefix="trl_glam_push_")
    target = Path(staged.name, "policy")
    try:
        prepare_policy(folder, target, repo_id, license=license, episode=episode, make_env=make_env)
    except BaseException:
        staged.cleanup()
        raise
    api = HfApi(token=token)

    def upload() -> CommitInfo:
        with staged:
            if (base := PolicyConfig.load(target).base_model) is not None:
                # A stranger needs it, and the name of another machine's folder may look like a Hub id.
                call(base, lambda: repo_info(api, base, "model"))
            return _commit(api, target, repo_id, "model", private, revision, commit_message)

    if blocking:
        return upload()
    future = api.run_as_future(upload)
    future.add_done_callback(_log_failure)
    return future


def _log_failure(future: Future[CommitInfo]) -> None:
    if future.exception() is not None:
        logger.error("A push in the background failed: %s", future.exception())


def prepare_log(
    folder: str | Path,
    target: str | Path,
    repo_id: str,
    *,
    split: str | None = None,
    verify: bool = True,
    env_module: str | None = None,
    success_threshold: float = 0.0,
    license: str | None = None,
) -> Path:
    """
    Write the dataset folder of an interaction log, with its card, and check it.

    Args:
        folder (`str` or `Path`):
            A folder of shards, or a folder whose subfolders hold shards: each of these is a split of the same name.
        target (`str` or `Path`):
            Folder to write; must not exist, or be empty.
        repo_id (`str`):
            Where it will go.
        split (`str`, *optional*):
            Name of the only split; `bot`, `random`, `ppo` (a training's log) or `policy`, by who acted, if not given.
        verify (`bool`, *optional*, defaults to `True`):
            Replay the log first; a log that differs from its replay does not go.
        env_module (`str`, *optional*):
            Module that registers the log's environments.
        success_threshold (`float`, *optional*, defaults to `0.0`):
            As in the run, where its environment gives no `info["success"]`.
        license (`str`, *optional*):
            Licence of the dataset.

    Returns:
        `Path`: the card.
    """
    target = _empty_folder(target)
    splits = stage_log(folder, target, split)
    facts = log_facts(splits, verify=verify, env_module=env_module, success_threshold=success_threshold)
    card = write_log_card(target, facts, repo_id=repo_id, license=license)
    check_outgoing(target)
    return card


def push_log(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = True,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Push an interaction log",
    **options: Any,
) -> CommitInfo:
    """
    Put an interaction log on the Hub; the arguments are those of [`push_policy`] and, in `options`, [`prepare_log`].
    """
    with tempfile.TemporaryDirectory(prefix="trl_glam_push_") as staged:
        target = Path(staged, "log")
        prepare_log(folder, target, repo_id, **options)
        return _commit(HfApi(token=token), target, repo_id, "dataset", private, revision, commit_message)


def _empty_folder(target: str | Path) -> Path:
    target = Path(target)
    if target.exists() and any(target.iterdir()):
        raise InvalidInputError(f"{target} is not empty; give a new folder.")
    target.mkdir(parents=True, exist_ok=True)
    return target


def _commit(
    api: HfApi,
    folder: Path,
    repo_id: str,
    repo_type: str,
    private: bool | None,
    revision: str | None,
    message: str,
) -> CommitInfo:
    call(repo_id, lambda: api.create_repo(repo_id, repo_type=repo_type, private=private is not False, exist_ok=True))
    is_private = call(repo_id, lambda: repo_info(api, repo_id, repo_type)).private
    if private and not is_private:
        raise InvalidInputError(
            f"{repo_id} is public already; say that this push may be public (--public), or name another."
        )

    def commit() -> CommitInfo:
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        there = [file.rfilename for file in repo_info(api, repo_id, repo_type, revision=revision).siblings or []]
        stale = [n for n in there if n not in files and any(fnmatch(n, pattern) for pattern in _REPLACED[repo_type])]
        operations = [CommitOperationDelete(name) for name in stale]
        operations += [CommitOperationAdd(name, path) for name, path in files.items()]
        # Not upload_folder: that makes a commit every five minutes, and each shows a part of the policy.
        return api.create_commit(
            repo_id, operations, commit_message=message, repo_type=repo_type, revision=revision, num_threads=2
        )

    return call(repo_id, commit)
