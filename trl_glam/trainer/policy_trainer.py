# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The small base of every trainer of a scoring policy: build the policy, evaluate by episodes, step its optimizer.

`GLAMTrainer` adds rollouts and PPO, `BCTrainer` a collator and two losses. Saving and loading are in
`saved_trainer.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import gymnasium as gym
import torch
from accelerate.utils import DynamoBackend, gather_object
from peft import PeftConfig
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, TrainerCallback, set_seed
from trl.models.utils import disable_gradient_checkpointing

from ..agents import Agent, ScoringAgent
from ..allocator import keep_freed_memory
from ..evaluation import EvaluationResult, Panel
from ..policy import ScoringPolicy
from ..policy.loading import base_of
from ..policy.prepared_weights import prepared_weights
from ..prompts import PromptTemplate
from ..rollout import EpisodeCollector, ListedEpisodes, Runner, Sink
from ..rollout.runner import TRAINING_SEEDS
from ..types import EpisodeKey, InvalidInputError, NotFiniteError, Observation
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
from .saved_trainer import _SavedTrainer
from .sharding import autocast_only, check_strategy, num_parameters, whole_layers, whole_norm
from .zero_clipping import ClippedParts


class _PolicyTrainer(_SavedTrainer):
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
        if self.accelerator.device.type == "cpu":
            keep_freed_memory()
        if args.bf16:
            autocast_only(self.accelerator)
        if self.is_fsdp_enabled:
            # T5's three embeddings become one module: FSDP refuses one weight in several of its groups.
            language_model = base_of(policy.lm)
            language_model.set_input_embeddings(language_model.get_input_embeddings())
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
            autocast=self.accelerator.autocast,
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
        """
        Nothing is recomputed while the policy acts, as there is no backward pass that would need it, and weights are
        rounded once. Autocast itself is the agent's: an environment's own computations are none of its business.
        """
        whole = prepared = nullcontext()
        if self.policy.is_activation_checkpointing:
            whole = disable_gradient_checkpointing(self.policy, self.args.gradient_checkpointing_kwargs)
        # A compiled model has rounding in its own program.
        is_compiled = self.accelerator.state.dynamo_plugin.backend != DynamoBackend.NO
        if self.accelerator.mixed_precision != "no" and not is_compiled:
            prepared = prepared_weights(self.policy.lm)
        with whole, prepared:
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
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            # DeepSpeed's engine without an optimizer would be in the way of the one that trains, and FSDP splits a
            # model with its optimizer only: the model is read as it is, whole or as it was split while training.
            self.model.to(self.args.device)
            return
        model = self._wrap_model(self.model, training=False)
        if model is self.model:
            model = self.accelerator.prepare_model(model, evaluation_mode=True)
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
