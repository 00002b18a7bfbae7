# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The settings that every trainer of a scoring policy shares: environment, policy, evaluation by episodes.

`GLAMConfig` adds PPO, `BCConfig` behaviour cloning. Checks that need no model are made here, before anything is
loaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .._compat import _BaseConfig
from ..rollout.runner import ON_ENVIRONMENT_ERROR
from ..types import InvalidInputError
from .sharding import check_deepspeed_field, check_started


if TYPE_CHECKING:
    JSONObject = dict[str, Any]
else:
    # A flag's text; Trainer's `__post_init__` makes it a dict.
    JSONObject = dict | str

SCORINGS = ("sum", "token", "word", "paper")
CALIBRATIONS = ("none", "prompts", "content_free")
HEADS = ("scoring", "action")
INITS = ("pretrained", "random", "embeddings")
VALUE_HEADS = ("standardized", "paper")


@dataclass
class _PolicyTrainerConfig(_BaseConfig):
    r"""
    What [`GLAMConfig`] and [`BCConfig`] share: the environment, the policy, and evaluation by episodes.

    Parameters:
        env_id (`str`, *optional*):
            Gymnasium id of the environment, for example `"BabyAI-Text/GoToLocal-v0"`. Not together with the trainer's
            `environment_factory`.
        env_module (`str`, *optional*):
            Python module to import first, so that it registers `env_id`.
        env_kwargs (`dict[str, Any]`, *optional*):
            Keyword arguments of `gym.make`.
        scoring (`str`, *optional*):
            `"sum"`, `"token"`, `"word"` or `"paper"`. `None`: what the policy folder says, else `"sum"`.
        temperature (`float`, *optional*):
            Temperature of the softmax over the scores. `None`: what the policy folder says, else 4.0.
        calibration (`str`, *optional*):
            `"none"`, `"prompts"` or `"content_free"`. `None`: what the policy folder says, else `"prompts"`.
        calibration_prompts (`int`, *optional*, defaults to `64`):
            Number of first observations (fixed seeds) that calibrate the scores and standardise the value head's
            inputs.
        head (`str`, *optional*):
            `"scoring"` or `"action"`. `None`: what the policy folder says, else `"scoring"`.
        init (`str`, *optional*, defaults to `"pretrained"`):
            Which weights of the language model are kept: `"pretrained"` (all), `"embeddings"` or `"random"` (none).
        value_head (`str`, *optional*):
            `None`: what the policy folder says, else `"standardized"`. `"standardized"` (two layers over standardised
            features, a zero last layer) or `"paper"` (three sigmoid layers).
        detach_value (`bool`, *optional*):
            Whether the value loss stops at the value head. `None`: yes for `"standardized"`, no for `"paper"`.
        freeze_embeddings (`bool`, *optional*, defaults to `True`):
            Whether the token embeddings and the output layer stay as they are.
        freeze_encoder (`bool`, *optional*, defaults to `False`):
            Whether to train the decoder of a T5-like model alone. Each prompt is then encoded once in the whole run,
            and an update costs several times less.
        num_observations (`int`, *optional*):
            Window of the prompt. `None`: what the policy folder or the given template says, else 3.
        append_only (`bool`, *optional*, defaults to `False`):
            The prompt holds the whole episode and each step only appends to it, instead of a window. A causal model
            then reads in each step only what is new. `False`: what the policy folder or the given template says.
        success_threshold (`float`, *optional*, defaults to `0.0`):
            An episode of an environment without `info["success"]` succeeds when its return exceeds this.
        eval_panel (`str`, *optional*):
            Name or path of the panel that `evaluate` plays. `None`: `eval_episodes` episodes of the training
            environment on fixed seeds of their own.
        eval_episodes (`int`, *optional*, defaults to `100`):
            Number of evaluation episodes without a panel.
        eval_greedy (`bool`, *optional*, defaults to `False`):
            Evaluate the most probable action instead of sampling.
        log_sample_episode (`bool`, *optional*, defaults to `False`):
            Show the first evaluation episode as a table after every evaluation, and keep it in
            `output_dir/sample_episodes.jsonl` ([`SampleEpisodeCallback`]).
        per_device_rollout_batch_size (`int`, *optional*, defaults to `64`):
            Prompts per forward of a process while acting; a memory and speed knob, results do not depend on it.
        env_workers (`int`, *optional*, defaults to `0`):
            Subprocesses that the environments of a process live in, side by side; 0 steps them in turn in the process
            itself. Results do not depend on it.
        env_timeout (`float`, *optional*, defaults to `600.0`):
            Seconds that one `reset` or `step` of an environment may take. One that takes longer is killed where it
            lives in a subprocess (`env_workers`), and ends the run where it does not. `None` waits for ever.
        on_environment_error (`str`, *optional*, defaults to `"stop"`):
            What becomes of an environment that raises, hangs, dies or breaks the contract. `"stop"` ends the run,
            `"drop"` drops the episode (it is neither learned from, nor counted, nor logged) and goes on with the next
            one in a new environment. Both say which environment, seed, step and actions it was.
        num_processes (`int`, *optional*):
            Number of processes that the run is meant for: another number ends it at once. `None`: any number.
        check_memory (`bool`, *optional*, defaults to `True`):
            Whether `trl-glam train` and `trl-glam bc` refuse a run whose estimated peak memory is more than is free.
        model_init_kwargs (`dict[str, Any]`, *optional*):
            Passed to the language model's `from_pretrained`.
    """

    _VALID_DICT_FIELDS = [*_BaseConfig._VALID_DICT_FIELDS, "env_kwargs", "model_init_kwargs"]

    env_id: str | None = field(default=None, metadata={"help": "Gymnasium id of the environment."})
    env_module: str | None = field(
        default=None, metadata={"help": "Python module to import first, so that it registers `env_id`."}
    )
    env_kwargs: JSONObject | None = field(default=None, metadata={"help": "Keyword arguments of `gym.make`, as JSON."})
    scoring: str | None = field(
        default=None,
        metadata={"help": "Score of an action: sum, token, word or paper. Default: the policy folder's, else sum."},
    )
    temperature: float | None = field(
        default=None,
        metadata={"help": "Temperature of the softmax over scores. Default: the policy folder's, else 4.0."},
    )
    calibration: str | None = field(
        default=None,
        metadata={"help": "none, prompts or content_free. Default: the policy folder's, else prompts."},
    )
    calibration_prompts: int = field(
        default=64,
        metadata={"help": "Number of first observations that calibrate scores and standardise the value's inputs."},
    )
    head: str | None = field(
        default=None, metadata={"help": "scoring or action. Default: the policy folder's, else scoring."}
    )
    init: str = field(
        default="pretrained",
        metadata={"help": "Weights that are kept: pretrained (all), embeddings or random (none)."},
    )
    value_head: str | None = field(
        default=None,
        metadata={"help": "standardized or paper (three sigmoid layers). Default: the folder's, else standardized."},
    )
    detach_value: bool | None = field(
        default=None,
        metadata={"help": "Stop the value loss at the value head. Default: yes for standardized, no for paper."},
    )
    freeze_embeddings: bool = field(
        default=True, metadata={"help": "Keep the token embeddings and the output layer as they are."}
    )
    freeze_encoder: bool = field(
        default=False,
        metadata={
            "help": "Train the decoder of a T5-like model alone: several times cheaper, each prompt is encoded once."
        },
    )
    num_observations: int | None = field(
        default=None,
        metadata={"help": "Window of the prompt. Default: the policy folder's or the template's, else 3."},
    )
    append_only: bool = field(
        default=False,
        metadata={"help": "Prompts of the whole episode instead of a window; a causal model reads only what is new."},
    )
    success_threshold: float = field(
        default=0.0,
        metadata={"help": "Return above which an episode succeeds, for environments without info['success']."},
    )
    eval_panel: str | None = field(
        default=None, metadata={"help": "Panel to evaluate on. Default: eval_episodes episodes on fixed seeds."}
    )
    eval_episodes: int = field(default=100, metadata={"help": "Number of evaluation episodes without a panel."})
    eval_greedy: bool = field(
        default=False, metadata={"help": "Evaluate the most probable action instead of sampling."}
    )
    log_sample_episode: bool = field(
        default=False, metadata={"help": "Show and keep one evaluation episode, step by step, after every evaluation."}
    )
    per_device_rollout_batch_size: int = field(
        default=64, metadata={"help": "Prompts per forward of a process while acting; results do not depend on it."}
    )
    env_workers: int = field(
        default=0,
        metadata={"help": "Subprocesses that the environments of a process live in; 0 steps them in turn."},
    )
    env_timeout: float | None = field(
        default=600.0, metadata={"help": "Seconds that one reset or step of an environment may take; null: no limit."}
    )
    on_environment_error: str = field(
        default="stop",
        metadata={"help": "An environment that fails ends the run (stop) or costs its episode (drop)."},
    )
    num_processes: int | None = field(
        default=None, metadata={"help": "Processes that the run is meant for: another number ends it at once."}
    )
    check_memory: bool = field(
        default=True, metadata={"help": "Refuse a run whose estimated peak memory is more than is free."}
    )
    model_init_kwargs: JSONObject | None = field(
        default=None, metadata={"help": "Keyword arguments of the language model's `from_pretrained`, as JSON."}
    )

    # Overridden defaults: a run starts on a CPU with no flags.
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Recompute activations in the backward pass: less memory, about 30%% slower."}
    )
    bf16: bool | None = field(
        default=None,
        metadata={
            "help": "bfloat16 autocast over fp32 weights. Default: on for CUDA devices that have it, off elsewhere."
        },
    )
    learning_rate: float = field(default=1e-4, metadata={"help": "Learning rate of the language model."})
    adam_beta2: float = field(default=0.99, metadata={"help": "Adam's decay of the squared gradient."})
    warmup_steps: float = field(
        default=10, metadata={"help": "Optimizer steps (or ratio below 1) in which the rate rises."}
    )
    lr_scheduler_type: str = field(default="constant_with_warmup", metadata={"help": "Schedule of the learning rate."})
    per_device_train_batch_size: int = field(
        default=64,
        metadata={"help": "Most transitions per forward and backward of a process; results do not depend on it."},
    )
    logging_strategy: str = field(
        default="no",
        metadata={"help": "`no` logs once per update (rollout); `steps` every `logging_steps` optimizer steps."},
    )

    def __post_init__(self) -> None:
        check_started(self.num_processes)
        self._check_choice("scoring", SCORINGS, optional=True)
        self._check_choice("calibration", CALIBRATIONS, optional=True)
        self._check_choice("head", HEADS, optional=True)
        self._check_choice("init", INITS)
        self._check_choice("value_head", VALUE_HEADS, optional=True)
        self._check_choice("on_environment_error", ON_ENVIRONMENT_ERROR)
        self._check_positive(
            "temperature", "num_observations", "eval_episodes", "per_device_rollout_batch_size", "calibration_prompts"
        )
        self._check_positive("per_device_train_batch_size", "learning_rate", "env_timeout")
        self._check_at_least_zero("env_workers", "weight_decay", "max_grad_norm")
        if self.append_only and self.num_observations is not None:
            raise InvalidInputError(
                f"append_only=True and num_observations={self.num_observations} are given; an append-only prompt "
                "holds the whole episode and has no window: leave one of them out."
            )
        if self.auto_find_batch_size:
            raise InvalidInputError(
                "auto_find_batch_size=True changes the batch in the middle of a rollout; lower "
                "per_device_train_batch_size instead, it changes memory and nothing else."
            )
        if str(self.hub_strategy) in ("checkpoint", "all_checkpoints"):
            raise InvalidInputError(
                f"hub_strategy={str(self.hub_strategy)!r} would push pickled optimizer states; choose 'end' or "
                "'every_save'."
            )
        cuda = torch.cuda.is_available()
        if not cuda and not torch.backends.mps.is_available() and not os.environ.get("DS_ACCELERATOR"):
            self.use_cpu = True
        if self.bf16 is None:
            self.bf16 = not self.fp16 and cuda and torch.cuda.is_bf16_supported()
        # transformers' new name of the same thing; it warns of the old one.
        if self.activation_checkpointing is None:
            self.activation_checkpointing = self.gradient_checkpointing
        self.remove_unused_columns = False
        if self.ddp_find_unused_parameters is None:
            # Everything that is trained gets a gradient in every step; looking for what does not costs a walk over
            # the graph.
            self.ddp_find_unused_parameters = False
        super().__post_init__()
        if self.deepspeed:
            check_deepspeed_field(self.world_size)

    # What a plain language model is given when neither the config nor a policy folder says: measured to explore and to
    # learn, where temperature 1 without calibration starts at 0.99 on one action.

    @property
    def learning_temperature(self) -> float:
        """Temperature of a policy made from a plain language model, if none is given."""
        return 4.0

    @property
    def learning_calibration(self) -> str:
        """Calibration of a policy made from a plain language model, if none is given."""
        return "prompts"

    def _check_choice(self, name: str, allowed: tuple[str, ...], optional: bool = False) -> None:
        value = getattr(self, name)
        if value is None and optional:
            return
        if value not in allowed:
            raise InvalidInputError(f"{name}={value!r} is given; choose one of {', '.join(allowed)}.")

    def _check_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidInputError(f"{name}={value!r} is given; it must be greater than 0.")

    def _check_at_least_zero(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InvalidInputError(f"{name}={value!r} is given; it must not be negative.")
