# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Callbacks of PPO: a progress bar over environment steps with the success rate, and where an update ends."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tqdm.auto import tqdm
from transformers import TrainerCallback

from ..rollout import Sink
from ..types import EpisodeRecord, Transition


if TYPE_CHECKING:
    from .glam_trainer import GLAMTrainer


class EnvironmentProgressCallback(TrainerCallback, Sink):
    """
    A bar over environment steps; it moves while episodes are played and names the phase while the policy learns.

    Args:
        total (`int`):
            Environment steps of the whole run, over all processes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._done = 0
        self._bar: tqdm | None = None
        self._processes = 1
        self._successes: deque[bool] = deque(maxlen=100)

    def resume(self, env_steps: int) -> None:
        """Begin at a step other than 0."""
        self._done = env_steps
        if self._bar is not None:
            self._bar.n = env_steps
            self._bar.refresh()

    def on_train_begin(self, args, state, control, **kwargs):
        self._processes = args.world_size
        if state.is_world_process_zero:
            self._bar = tqdm(total=self.total, initial=self._done, unit="step", dynamic_ncols=True, desc="acting")

    def on_transition(self, transition: Transition) -> None:
        # Every process plays as many steps as this one.
        if self._bar is not None:
            # Trainer's step begins before the rollout that it needs.
            self._bar.set_description_str("acting", refresh=False)
            self._bar.update(self._processes)

    def on_episode_end(self, record: EpisodeRecord) -> None:
        self._successes.append(record.success)
        if self._bar is not None:
            success = sum(self._successes) / len(self._successes)
            self._bar.set_postfix_str(f"success {success:.2f}, length {record.length}", refresh=False)

    def on_step_begin(self, args, state, control, **kwargs):
        if self._bar is not None:
            self._bar.set_description_str("learning", refresh=False)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self._bar is not None and logs and any(name.startswith("eval_") for name in logs):
            shown = {name: round(value, 3) for name, value in logs.items() if name.startswith("eval_")}
            self._bar.write(f"step {state.global_step}: {shown}")

    def on_train_end(self, args, state, control, **kwargs):
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._done = 0


class UpdateBoundaryCallback(TrainerCallback):
    """
    Logs once per rollout and ends the run by environment steps.

    Args:
        trainer ([`GLAMTrainer`]):
            The trainer it belongs to.
    """

    def __init__(self, trainer: GLAMTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        # Trainer begins its sum anew; a checkpoint inside an update had not logged all of it.
        self.trainer.restore_unlogged_loss()

    def on_step_end(self, args, state, control, **kwargs):
        used_up = self.trainer.finish_optimizer_step()
        if used_up and args.logging_strategy == "no":
            control.should_log = True
        if self.trainer.is_finished:
            control.should_training_stop = True
        return control
