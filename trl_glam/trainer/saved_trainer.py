# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What a trainer of a scoring policy saves, loads and pushes: whole folders, exact checkpoints, cards.

Trainer's own paths for saving, loading and pushing know one `model.safetensors` only; those that would lose a head or
write a pickle are overridden here. `policy_trainer.py` builds on it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers.trainer_utils import rotate_checkpoints

from .._compat import _BaseTrainer, parameters_are_sharded
from ..cards import write_policy_card
from ..hub.client import call
from ..hub.trainer_push import push_checkpoint, push_run
from ..policy import PolicyConfig, ScoringPolicy
from ..training_summary import TrainingSummary, curves_of, recipe_settings
from .checkpoint_state import find_checkpoint, load_state, save_state, whole_or_gone, write_manifest
from .environment_source import EnvironmentSource
from .policy_trainer_config import _PolicyTrainerConfig
from .sharding import load_fsdp_weights


TRAINING_ARGUMENTS_NAME = "training_args.json"


class _SavedTrainer(_BaseTrainer):
    """
    The part of [`_PolicyTrainer`] that saves, loads and pushes.

    Attributes:
        environments ([`EnvironmentSource`]):
            Where the environments come from; a card names them.
    """

    args: _PolicyTrainerConfig
    environments: EnvironmentSource
    _begins_anew = False

    @property
    def policy(self) -> ScoringPolicy:
        """The policy without wrappers."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any):
        """
        Train.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint folder, `True` for the newest whole one in `output_dir`, or `"auto"`: that one, or a new
                beginning where the run was cut off before there was any.

        Returns:
            [`~transformers.trainer_utils.TrainOutput`]
        """
        asked = resume_from_checkpoint
        if resume_from_checkpoint:
            resume_from_checkpoint = find_checkpoint(self.args.output_dir, resume_from_checkpoint)
        self._begins_anew = asked == "auto" and resume_from_checkpoint is None
        return super().train(resume_from_checkpoint or None, **kwargs)

    def exact_state(self) -> dict[str, Any]:
        """What this process needs, beyond Trainer's files, to go on exactly; JSON-serialisable."""
        return {}

    def load_exact_state(self, state: dict[str, Any], rollout: Any) -> None:
        """Go on from what [`~_SavedTrainer.exact_state`] gave."""

    def _rollout_in_use(self) -> Any | None:
        return None

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        output_dir = self.args.output_dir if output_dir is None else output_dir
        if not self.args.should_save:
            return
        os.makedirs(output_dir, exist_ok=True)
        if self.is_deepspeed_enabled and not parameters_are_sharded():
            # accelerate's copy of weights that are whole here has lost what shares memory: ties would be saved twice.
            state_dict = None
        self.policy.save_pretrained(output_dir, state_dict=state_dict)
        # JSON where Trainer writes a pickle.
        Path(output_dir, TRAINING_ARGUMENTS_NAME).write_text(self.args.to_json_string(), encoding="utf-8")
        self._training_summary().save(output_dir)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = os.path.join(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        state = None if self.args.save_only_model else self.exact_state()
        with self._without_push_and_rotation() as (push, limit), whole_or_gone(folder):
            super()._save_checkpoint(model, trial)
            if state is not None:
                save_state(folder, self.args.process_index, state, self._rollout_in_use())
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                write_manifest(folder)
        if self.policy.encoder_cache is not None:
            # A resumed run encodes its prompts anew, in other batches: last digits may differ. So does this one.
            self.policy.encoder_cache.clear()
        if self.args.should_save:
            # Only now is there something whole to push, and something older that may go.
            if push:
                self._push_from_checkpoint(folder)
            rotate_checkpoints(
                self.args.output_dir, limit, best_model_checkpoint=self.state.best_model_checkpoint, use_mtime=True
            )

    @contextmanager
    def _without_push_and_rotation(self):
        push, limit = self.args.push_to_hub, self.args.save_total_limit
        self.args.push_to_hub, self.args.save_total_limit = False, None
        try:
            yield push, limit
        finally:
            self.args.push_to_hub, self.args.save_total_limit = push, limit

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            load_fsdp_weights(self.accelerator, model, resume_from_checkpoint)
        else:
            self.policy.load_weights(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            load_fsdp_weights(self.accelerator, self.model, self.state.best_model_checkpoint)
        elif self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self.policy.load_weights(self.state.best_model_checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            # What was fixed when a string was first met: beside which others its offset was computed changes the last
            # digits, and the order of an action head's outputs is that of the first set.
            saved, own = PolicyConfig.load(checkpoint), self.policy.policy_config
            self.policy.policy_config = replace(own, calibration=saved.calibration, actions=saved.actions)
            self.load_exact_state(*load_state(checkpoint, self.args.process_index))

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository on the Hub: private, unless `private=False` or `hub_private_repo=False`."""
        private = self.args.hub_private_repo if private is None else private
        name = self.args.hub_model_id or Path(self.args.output_dir).name
        call(name, lambda: super(_SavedTrainer, self).init_hf_repo(token, private is not False))

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ):
        """
        Save the policy and put it on the Hub, with its card, the learning curve and an episode, in one commit.

        Args:
            commit_message, blocking, token, revision, private (*optional*):
                As in [`~transformers.Trainer`]; a repository is private unless told otherwise.
            kwargs:
                Passed to [`~_SavedTrainer.create_model_card`].

        Returns:
            [`~huggingface_hub.CommitInfo`], or a `Future` of it if not `blocking`.
        """
        return push_run(self, commit_message, blocking, token, revision, private, kwargs)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        push_checkpoint(self, checkpoint_folder)

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """Write the policy's card and `training_summary.json`, which it is rendered from, into `output_dir`."""
        if self.is_world_process_zero():
            summary = self._training_summary(dataset_name, [tags] if isinstance(tags, str) else tags or [])
            summary.save(self.args.output_dir)
            write_policy_card(
                self.args.output_dir,
                self.policy.policy_config,
                summary,
                repo_id=self.hub_model_id or self.args.hub_model_id or model_name,
            )

    def _training_summary(self, dataset_name: str | None = None, tags: Sequence[str] = ()) -> TrainingSummary:
        return TrainingSummary(
            trainer=self._name,
            env_id=self.environments.env_id,
            env_kwargs=self.environments.env_kwargs,
            registered=self.environments.is_registered,
            settings=recipe_settings(self.args),
            curves=curves_of(self.state.log_history),
            tags=list(dict.fromkeys([*self._tag_names, *tags])),
            dataset=dataset_name,
            paper=self._paper,
        )
