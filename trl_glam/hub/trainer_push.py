# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Trainer's own ways to the Hub (`trainer.push_to_hub()`, `push_to_hub=True`), led through `push.py`.

Trainer would upload the output folder as it is, in several commits, public unless told otherwise, and from a
checkpoint a fixed list of files that knows no heads, with a pickle. Here a stranger gets the same from all ways.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitInfo
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from .push import push_policy


if TYPE_CHECKING:
    from ..trainer.saved_trainer import _SavedTrainer


def push_run(
    trainer: _SavedTrainer,
    commit_message: str,
    blocking: bool,
    token: str | None,
    revision: str | None,
    private: bool | None,
    card: dict[str, Any],
) -> CommitInfo | Future[CommitInfo] | None:
    """
    Save the policy and put it on the Hub with its card and an episode; implements `trainer.push_to_hub`.

    Args:
        trainer ([`_SavedTrainer`]):
            The trainer; every process calls this.
        commit_message, blocking, token, revision, private:
            As in Trainer; `None` takes the training arguments'.
        card (`dict[str, Any]`):
            Arguments of `create_model_card`.

    Returns:
        [`~huggingface_hub.CommitInfo`] or a `Future` of it on the main process, `None` elsewhere.
    """
    args = trainer.args
    trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
    if trainer.hub_model_id is None:
        trainer.init_hf_repo(token=token, private=private)
    trainer.save_model(_internal_call=True)
    if not trainer.is_world_process_zero():
        return None
    trainer.create_model_card(**card)
    trainer._finish_current_push()
    return push_policy(
        args.output_dir,
        trainer.hub_model_id,
        private=None,
        token=token or args.hub_token,
        revision=revision or args.hub_revision,
        commit_message=commit_message,
        blocking=blocking,
        make_env=trainer.environments.make,
    )


def push_checkpoint(trainer: _SavedTrainer, folder: str) -> None:
    """
    Put the policy of a checkpoint on the Hub, in the background; implements `trainer._push_from_checkpoint`.

    Args:
        trainer ([`_SavedTrainer`]):
            The trainer.
        folder (`str`):
            The checkpoint, whole: its optimizer states and rollouts stay at home.
    """
    args, running = trainer.args, trainer.push_in_progress
    if args.hub_strategy == HubStrategy.END or not trainer.is_world_process_zero():
        return
    if running is not None and not running.is_done() and not args.hub_always_push:
        return
    trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
    # An episode for the card would take time from the training; the last push plays one.
    job = push_policy(
        folder,
        trainer.hub_model_id,
        private=None,
        token=args.hub_token,
        revision=args.hub_revision,
        commit_message=f"Training in progress, step {trainer.state.global_step}",
        blocking=False,
        episode=False,
    )
    unfinished = [] if running is None or running.is_done() else running.jobs
    trainer.push_in_progress = PushInProgress([*unfinished, job])
