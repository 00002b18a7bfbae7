# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The small base of every trainer of a scoring policy: build the policy, evaluate by episodes, save whole folders.

`GLAMTrainer` adds rollouts and PPO, `BCTrainer` a collator and two losses. Trainer's own paths for saving, loading and
pushing know one `model.safetensors` only; those that would lose a head or write a pickle are overridden here.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from accelerate.utils import gather_object
from peft import PeftConfig
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, TrainerCallback, set_seed
from transformers.trainer_utils import rotate_checkpoints
from trl.models.utils import disable_gradient_checkpointing

from .._compat import _BaseTrainer, parameters_are_sharded
from ..agents import Agent, ScoringAgent
from ..cards import write_policy_card
from ..evaluation import EvaluationResult, Panel
from ..hub.client import call
from ..hub.trainer_push import push_checkpoint, push_run
from ..policy import PolicyConfig, ScoringPolicy
from ..prompts import PromptTemplate
from ..rollout import EpisodeCollector, ListedEpisodes, Runner, Sink
from ..rollout.runner import TRAINING_SEEDS
from ..training_summary import TrainingSummary, curves_of, recipe_settings
from ..types import EpisodeKey, InvalidInputError, NotFiniteError, Observation
from .checkpoint_state import find_checkpoint, load_state, save_state, whole_or_gone, write_manifest
from .environment_source import EnvironmentSource
from .gathering import any_process, mean_metrics
from .memory import (
    MemoryEstimate,
    MemorySettings,
    check_memory,
    estimate_memory,
    free_memory,
    typical_rows,
)
from .not_finite import not_finite
from .pass_without_data import Rows
from .policy_setup import build_policy, set_template
from .policy_trainer_config import _PolicyTrainerConfig
from .sample_episode import SampleEpisodeCallback
from .sharding import check_strategy, num_parameters, whole_layers, whole_norm
from .zero_clipping import ClippedParts


TRAINING_ARGUMENTS_NAME = "training_args.json"


class _PolicyTrainer(_BaseTrainer):
    """
    Base of [`GLAMTrainer`] and [`BCTrainer`].

    Args:
        model (`str` or [`ScoringPolicy`]):
            A Hub id, a folder, a `local:` name, or a policy.
        args ([`_PolicyTrainerConfig`]):
            Settings.
        environment_factory (`Callable[[], gym.Env]`, *optional*):
            Makes one environment; instead of `args.env_id`.
        prompt_template ([`PromptTemplate`], *optional*):
            Writes the prompts.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer, when it is not the model's own.
        callbacks (`list[TrainerCallback]`, *optional*):
            As in Trainer.
        peft_config ([`~peft.PeftConfig`], *optional*):
            Trains adapters instead of the language model.
        quantization_config (*optional*):
            Loads the language model quantised.
        optimizers (`tuple`, *optional*, defaults to `(None, None)`):
            As in Trainer.
    """

    # The loss of a micro-batch is a mean over it: Trainer divides by the number of micro-batches.
    loss_is_scaled_for_ga = False
    # A head that no loss reaches is frozen: DDP waits for a gradient of everything that may have one.
    _trains_value = True

    def __init__(
        self,
        model: str | ScoringPolicy,
        args: _PolicyTrainerConfig,
        environment_factory: Callable[[], gym.Env] | None,
        prompt_template: PromptTemplate | None,
        processing_class: PreTrainedTokenizerBase | None,
        callbacks: list[TrainerCallback] | None,
        peft_config: PeftConfig | None,
        quantization_config: Any | None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None],
    ) -> None:
        set_seed(args.seed)
        self.environments = EnvironmentSource(args.env_id, args.env_kwargs, args.env_module, environment_factory)
        policy = build_policy(
            model, args, processing_class, peft_config, quantization_config, self.environments.num_actions
        )
        set_template(policy, prompt_template, args)
        if args.fp16 and policy.policy_config.architecture == "encoder_decoder":
            raise InvalidInputError("fp16=True overflows in T5 models; use bf16=True or fp32.")
        if args.freeze_embeddings:
            policy.get_input_embeddings().requires_grad_(False)
            policy.get_output_embeddings().requires_grad_(False)
        if args.freeze_encoder:
            policy.freeze_encoder()
        policy.value_head.requires_grad_(self._trains_value)
        self._metrics: dict[str, list[float]] = defaultdict(list)
        self._begins_anew = False
        self._useful_tokens = 0
        train_dataset, data_collator = self._training_data(policy, args)
        super().__init__(
            model=policy,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=_Placeholder(1),
            data_collator=data_collator,
            processing_class=policy.tokenizer,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        check_strategy(self.accelerator)
        self._num_parameters = num_parameters(policy)
        self._clipped_parts: ClippedParts | None = None
        with whole_layers(policy):
            self._prepare_policy(policy)
        if args.log_sample_episode:
            self.add_callback(SampleEpisodeCallback(self))

    # -- environments and evaluation

    def evaluation_panel(self) -> Panel:
        """The panel `evaluate` plays: `args.eval_panel`, or the training environment on seeds of its own."""
        if self.args.eval_panel is not None:
            return Panel.load(self.args.eval_panel)
        return Panel.from_env(
            self.environments.env_id, self.args.eval_episodes, TRAINING_SEEDS, self.environments.env_kwargs
        )

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """
        Play the evaluation panel, in environments of its own, every episode to its end.

        Args:
            eval_dataset ([`Panel`], *optional*):
                The episodes; [`~_PolicyTrainer.evaluation_panel`] if not given.
            ignore_keys (`list[str]`, *optional*):
                Unused; part of Trainer's signature.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`):
                Prefix of the metrics.

        Returns:
            `dict[str, float]`: success rate with its 95 % Wilson interval, return, length, success per task kind.
        """
        panel = eval_dataset if isinstance(eval_dataset, Panel) else self.evaluation_panel()
        result = self.play(panel, greedy=self.args.eval_greedy)
        low, high = result.interval
        # A success read off the return is named so.
        name = "success_rate" if result.success_reported else "success_rate_by_return"
        metrics = {
            f"{metric_key_prefix}_{name}": result.success_rate,
            f"{metric_key_prefix}_{name}_low": low,
            f"{metric_key_prefix}_{name}_high": high,
            f"{metric_key_prefix}_return": result.mean_return,
            f"{metric_key_prefix}_length": result.mean_length,
        }
        if self.args.on_environment_error == "drop":
            metrics[f"{metric_key_prefix}_dropped_episodes"] = len(panel) - len(result.records)
        for kind, success in result.per_kind.items():
            metrics[f"{metric_key_prefix}_{name}/{kind}"] = success.rate
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def play(
        self,
        panel: Panel,
        greedy: bool = False,
        seed: int = 0,
        make_env: Callable[[EpisodeKey], gym.Env] | None = None,
        sinks: Sequence[Sink] = (),
    ) -> EvaluationResult:
        """
        Play a panel with the policy as it is now, on all processes.

        Args:
            panel ([`Panel`]):
                The episodes.
            greedy (`bool`, *optional*, defaults to `False`):
                Most probable actions instead of draws.
            seed (`int`, *optional*, defaults to `0`):
                Seed of the action draws.
            make_env (`Callable[[EpisodeKey], gym.Env]`, *optional*):
                Makes the environment of an episode; the panel's own, or the training environment, if not given.
            sinks (`Sequence[Sink]`, *optional*):
                Told about the transitions and episodes that this process plays.

        Returns:
            [`EvaluationResult`]: the same on every process and for every number of processes.
        """
        self._prepare_for_forward()
        args, keys = self.args, panel.episodes()
        world = args.world_size
        num_slots = min(32, -(-len(keys) // world))
        agent = ScoringAgent(
            self.policy,
            self.model_wrapped,
            args.per_device_rollout_batch_size,
            lockstep_forwards=-(-num_slots // args.per_device_rollout_batch_size) if world > 1 else None,
        )
        collected = EpisodeCollector()
        runner = Runner(
            make_env or self.environments.make,
            ListedEpisodes(keys[args.process_index :: world]),
            num_slots,
            agent,
            self.policy.prompt_template,
            seed,
            greedy=greedy,
            success_threshold=args.success_threshold,
            sinks=[collected, *sinks],
            workers=args.env_workers,
            timeout=args.env_timeout,
            on_environment_error=args.on_environment_error,
        )
        try:
            with self._acting(), whole_layers(self.policy) if self.model_wrapped is self.model else nullcontext():
                # Ranks that share parameters must forward together: all go on while any has an episode to play.
                while any_process(self.accelerator, bool(runner.observations)):
                    runner.step()
        except NotFiniteError as error:
            raise self._keep_not_finite(error) from error
        finally:
            runner.close()
        records = collected.records if world == 1 else gather_object(collected.records)
        if not records:
            raise InvalidInputError("No episode of the evaluation could be played: every environment failed.")
        records = tuple(sorted(records, key=lambda record: record.key.slot))
        success_reported = any_process(self.accelerator, runner.has_success_info)
        return EvaluationResult(panel, records, seed, greedy, success_reported)

    def _keep_not_finite(self, error: NotFiniteError) -> NotFiniteError:
        """Keep the prompts whose scores are not finite; the error to raise."""
        step, rank = self.state.global_step, self.args.process_index
        return not_finite(str(error), self.args.output_dir, step, rank, {"rows": error.rows})

    # -- the policy

    @property
    def policy(self) -> ScoringPolicy:
        """The policy without wrappers."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _prepare_policy(self, policy: ScoringPolicy) -> None:
        """Calibrate the scores and fit the value inputs on first observations of seeds that no run trains on."""
        calibration = policy.policy_config.calibration
        must_calibrate = calibration.mode != "none" and not calibration.prompts
        if not must_calibrate and policy.value_head.is_fitted:
            return
        first = self._first_observations(self.args.calibration_prompts)
        prompts, actions = [o.prompt for o in first], [o.admissible_actions for o in first]
        if not policy.value_head.is_fitted:
            policy.fit_value_normalizer(prompts)
        if must_calibrate:
            strings = list(dict.fromkeys(action for row in actions for action in row))
            if calibration.mode == "content_free":
                prompts = [policy.prompt_template.content_free(strings)]
            policy.calibrate(prompts, strings)

    def _first_observations(self, count: int) -> list[Observation]:
        seeds = range(2 * TRAINING_SEEDS, 2 * TRAINING_SEEDS + count)
        keys = [EpisodeKey(self.environments.env_id, seed, env_kwargs=self.environments.env_kwargs) for seed in seeds]
        runner = Runner(
            self.environments.make,
            ListedEpisodes(keys),
            count,
            Agent(),
            self.policy.prompt_template,
            seed=0,
            timeout=self.args.env_timeout,
            on_environment_error=self.args.on_environment_error,
        )
        try:
            return runner.observations
        finally:
            runner.close()

    @contextmanager
    def _acting(self) -> Iterator[None]:
        """Nothing is recomputed while the policy acts: there is no backward pass that would need it."""
        with disable_gradient_checkpointing(self.policy, self.args.gradient_checkpointing_kwargs):
            yield

    def check_memory(self) -> str:
        """
        Say what the run will take at its peak; called before training, by all processes.

        Returns:
            `str`: one line, see [`MemoryEstimate`].

        Raises:
            [`InvalidInputError`]: when it is more than is free, unless `args.check_memory` is off.
        """
        args = self.args
        available = float(free_memory(args.device))
        if args.world_size > 1:
            available = self.accelerator.gather(torch.tensor([available], device=args.device)).min().item()
        settings, rows = self._memory_settings(), self._typical_rows()
        return check_memory(self.policy, rows, settings, int(available), refuse=args.check_memory)

    def memory_estimate(self) -> MemoryEstimate:
        """What the run will take at its peak, in bytes of one process."""
        return estimate_memory(self.policy, self._typical_rows(), self._memory_settings())

    def _typical_rows(self) -> Rows:
        return typical_rows(self.policy, self._first_observations(min(self.args.calibration_prompts, 8)))

    def _memory_settings(self) -> MemorySettings:
        args = self.args
        strategy = "single" if args.world_size == 1 else "ddp"
        if self.is_deepspeed_enabled:
            strategy = f"zero{self.accelerator.state.deepspeed_plugin.zero_stage}"
        elif self.is_fsdp_enabled:
            strategy = "fsdp"
        return MemorySettings(
            update_rows=args.per_device_train_batch_size,
            acting_rows=args.per_device_rollout_batch_size,
            optim=str(args.optim),
            bf16=args.bf16,
            gradient_checkpointing=args.gradient_checkpointing,
            strategy=strategy,
            world_size=args.world_size,
        )

    def _prepare_for_forward(self) -> None:
        # As Trainer's own evaluation does before any training has wrapped the model.
        if self.model_wrapped is not self.model or self.is_in_train:
            return
        if self.is_deepspeed_enabled:
            # An engine without an optimizer would be in the way of the one that trains: the model is read as it is.
            self.model.to(self.args.device)
            return
        model = self._wrap_model(self.model, training=False)
        if model is self.model:
            model = (
                self.accelerator.prepare(model)
                if self.is_fsdp_enabled
                else self.accelerator.prepare_model(model, evaluation_mode=True)
            )
        if self.is_fsdp_enabled:
            self.model = model
        if model is not self.model:
            self.model_wrapped = model

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Adam over the language model, with the value head in a group of its own learning rate."""
        if self.optimizer is None:
            model = self.model if model is None else model
            cls, kwargs = self.get_optimizer_cls_and_kwargs(self.args, model)
            decay = set(self.get_decay_parameter_names(model))
            groups: dict[tuple[bool, bool], list[nn.Parameter]] = defaultdict(list)
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    groups["value_head." in name, name in decay].append(parameter)
            value_rate = self._value_learning_rate()
            # The value head's groups are a part of their own where it is clipped by itself.
            self._part_of_group = [int(is_value and self._clips_value_apart) for is_value, _ in sorted(groups)]
            self.optimizer = cls(
                [
                    {
                        "params": parameters,
                        "weight_decay": self.args.weight_decay if decays else 0.0,
                        "lr": value_rate if is_value else self.args.learning_rate,
                    }
                    for (is_value, decays), parameters in sorted(groups.items())
                ],
                **kwargs,
            )
        return self.optimizer

    def _value_learning_rate(self) -> float:
        return self.args.learning_rate

    # -- Trainer's loop

    def _training_data(
        self, policy: ScoringPolicy, args: _PolicyTrainerConfig
    ) -> tuple[torch.utils.data.Dataset, Callable[[list], Any]]:
        """What Trainer counts its steps by, and its collator."""
        return _Placeholder(args.max_steps * args.gradient_accumulation_steps), lambda rows: rows[0]

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        """
        Clip the gradients to `max_grad_norm`.

        A value head that shares no gradient with the language model is clipped by itself: else its large early
        gradients would scale the policy's down, Adam would take that for their size, and the policy would leap once
        they shrink.
        """
        if self._clipped_parts is not None:
            # DeepSpeed has taken its step already.
            if self._clips_value_apart:
                self._metrics["value_grad_norm"].append(self._clipped_parts.norm(1))
            return torch.tensor(self._clipped_parts.norm(0))
        if not self._clips_value_apart:
            return super()._clip_grad_norm(model)
        value = list(self.policy.value_head.parameters())
        own = set(map(id, value))
        value_norm = whole_norm(self.accelerator.clip_grad_norm_(value, self.args.max_grad_norm))
        self._check_gradient_norm(value_norm)
        self._metrics["value_grad_norm"].append(value_norm)
        others = [parameter for parameter in model.parameters() if id(parameter) not in own]
        return self.accelerator.clip_grad_norm_(others, self.args.max_grad_norm)

    @property
    def _clips_value_apart(self) -> bool:
        return self._trains_value and self.policy.policy_config.detach_value

    def _get_grad_norm(self, model: nn.Module, grad_norm: torch.Tensor | None = None) -> Any:
        if grad_norm is None and self._clipped_parts is not None:
            grad_norm = torch.tensor(self._clipped_parts.norm(0))
        norm = whole_norm(super()._get_grad_norm(model, grad_norm))
        # An optimizer step with NaN would leave nothing to go on from. fp16's scaler skips such steps itself, as
        # DeepSpeed does.
        if not self.args.fp16:
            self._check_gradient_norm(norm)
        return norm

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*args, **kwargs)
        if self.is_deepspeed_enabled:
            self._clipped_parts = ClippedParts(self.model_wrapped.optimizer, self._part_of_group)
        return prepared

    def _check_gradient_norm(self, norm: float) -> None:
        """Raise [`NotFiniteError`] when the norm of the gradient is not finite; the batch is kept."""
        raise NotImplementedError

    def get_train_dataloader(self) -> DataLoader:
        """Placeholders, one per micro-batch of this process: what is trained on is made in `_prepare_inputs`."""
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=self.data_collator)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """6 x parameters x tokens that are not padding (Kaplan et al., 2020,
        https://huggingface.co/papers/2001.08361)."""
        # Trainer passes its placeholder; what was trained on is the last micro-batch.
        return 6 * self._num_parameters * self._useful_tokens

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics gathered since the last log, averaged over all processes."""
        if self._metrics and "loss" in logs:
            logs = {**logs, **mean_metrics(self.accelerator, self._metrics)}
            self._metrics.clear()
        super().log(logs, start_time)

    # -- saving, loading, pushing

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
        """Go on from what [`~_PolicyTrainer.exact_state`] gave."""

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
            # Split as it is; the standard folder beside it is whole.
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self.policy.load_weights(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
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
        call(name, lambda: super(_PolicyTrainer, self).init_hf_repo(token, private is not False))

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
                Passed to [`~_PolicyTrainer.create_model_card`].

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


class _Placeholder(torch.utils.data.Dataset):
    """Has a length and nothing else: Trainer counts its batches."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, int]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return {"index": index}
