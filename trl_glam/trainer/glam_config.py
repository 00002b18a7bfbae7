# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`GLAMConfig`: every setting of a PPO run, its default, and the checks that need no model.

Sizes are totals over all processes, so a recipe means the same on 1 or 8 of them; what depends on the number of
processes (gradient accumulation, the number of optimizer steps) is derived here, not asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..types import InvalidInputError
from .policy_trainer_config import _PolicyTrainerConfig
from .sharding import started_processes


GOAL_SAMPLINGS = ("environment", "learning_progress")


@dataclass
class GLAMConfig(_PolicyTrainerConfig):
    r"""
    Configuration of [`GLAMTrainer`]; a [`~transformers.TrainingArguments`] like any other TRL config.

    `num_envs` and `minibatch_size` are totals over all processes. `gradient_accumulation_steps` and `max_steps` are
    derived. The defaults are what was measured to learn on small machines; `recipes/paper/` holds the paper's.

    Parameters:
        num_envs (`int`, *optional*, defaults to `32`):
            Environments side by side, over all processes.
        rollout_steps (`int`, *optional*, defaults to `64`):
            Steps of every environment between two updates.
        total_env_steps (`int`, *optional*, defaults to `100000`):
            Environment steps of the whole run; rounded up to whole rollouts.
        minibatch_size (`int`, *optional*, defaults to `256`):
            Transitions of one optimizer step, over all processes.
        num_ppo_epochs (`int`, *optional*, defaults to `1`):
            Passes over a rollout.
        gamma (`float`, *optional*, defaults to `0.95`):
            Discount factor.
        gae_lambda (`float`, *optional*, defaults to `0.9`):
            Trace decay of the advantage.
        cliprange (`float`, *optional*, defaults to `0.2`):
            Epsilon of the ratio.
        cliprange_value (`float`, *optional*, defaults to `0.2`):
            Epsilon of the value around its old value, in scaled-reward units; `None` does not clip.
        vf_coef (`float`, *optional*, defaults to `0.5`):
            Weight of the value loss.
        entropy_coef (`float`, *optional*, defaults to `0.01`):
            Weight of the entropy bonus.
        normalize_advantages (`bool`, *optional*, defaults to `True`):
            Standardise the advantages once per rollout, over all processes.
        target_kl (`float`, *optional*):
            KL(old || new) per optimizer step above which the remaining passes over a rollout are dropped.
        reward_scale (`float`, *optional*, defaults to `1.0`):
            Factor of the reward in the loss; logs and metrics keep the raw reward.
        bootstrap_truncated (`bool`, *optional*, defaults to `True`):
            Whether a time limit is worth the value of the observation it stopped at; `False` treats it as an end.
        beta (`float`, *optional*, defaults to `0.0`):
            Weight of the KL to the reference policy (the policy before training).
        value_learning_rate (`float`, *optional*, defaults to `1e-3`):
            Learning rate of the value head; `None` uses `learning_rate`.
        value_warmup_steps (`int`, *optional*, defaults to `0`):
            Optimizer steps at the start in which only the value is trained.
        goal_sampling (`str`, *optional*, defaults to `"environment"`):
            Who chooses the kind of task of a training episode. `"environment"`: itself. `"learning_progress"`: kinds
            are drawn in proportion to how fast their success rate changes, a fifth of the episodes uniformly
            ([`~trl_glam.trainer.curriculum.LearningProgress`]).
        num_probe_prompts (`int`, *optional*, defaults to `0`):
            First observations, of seeds that no run trains on, whose action distributions are logged at every update
            as `probe/{prompt}/{action}`; the prompts are in `output_dir/probes.json`.
        log_interactions (`bool`, *optional*, defaults to `False`):
            Write every training episode to `output_dir/interactions` as a dataset.
        allow_inexact_resume (`bool`, *optional*, defaults to `False`):
            Resume although an environment does not come back to where it was: its episode begins anew, and the run is
            no longer that of an unbroken one.
    """

    num_envs: int = field(default=32, metadata={"help": "Environments side by side, over all processes."})
    rollout_steps: int = field(default=64, metadata={"help": "Steps of every environment between two updates."})
    total_env_steps: int = field(
        default=100_000, metadata={"help": "Environment steps of the whole run; rounded up to whole rollouts."}
    )
    minibatch_size: int = field(
        default=256, metadata={"help": "Transitions of one optimizer step, over all processes."}
    )
    num_ppo_epochs: int = field(default=1, metadata={"help": "Passes over a rollout."})
    gamma: float = field(default=0.95, metadata={"help": "Discount factor."})
    gae_lambda: float = field(default=0.9, metadata={"help": "Trace decay of the advantage."})
    cliprange: float = field(default=0.2, metadata={"help": "Epsilon of the probability ratio."})
    cliprange_value: float | None = field(
        default=0.2, metadata={"help": "Epsilon of the value around its old value; null does not clip."}
    )
    vf_coef: float = field(default=0.5, metadata={"help": "Weight of the value loss."})
    entropy_coef: float = field(default=0.01, metadata={"help": "Weight of the entropy bonus."})
    normalize_advantages: bool = field(default=True, metadata={"help": "Standardise advantages once per rollout."})
    target_kl: float | None = field(
        default=None, metadata={"help": "KL per optimizer step above which the rest of a rollout's passes is dropped."}
    )
    reward_scale: float = field(default=1.0, metadata={"help": "Factor of the reward in the loss."})
    bootstrap_truncated: bool = field(
        default=True, metadata={"help": "Bootstrap the value of the observation a time limit stopped at."}
    )
    beta: float = field(default=0.0, metadata={"help": "Weight of the KL to the policy before training."})
    value_learning_rate: float | None = field(
        default=1e-3, metadata={"help": "Learning rate of the value head; null uses learning_rate."}
    )
    value_warmup_steps: int = field(
        default=0, metadata={"help": "Optimizer steps at the start in which only the value is trained."}
    )
    goal_sampling: str = field(
        default="environment",
        metadata={"help": "Who chooses an episode's kind of task: environment, or learning_progress."},
    )
    num_probe_prompts: int = field(
        default=0, metadata={"help": "Fixed prompts whose action distributions are logged at every update."}
    )
    log_interactions: bool = field(
        default=False, metadata={"help": "Write every training episode to output_dir/interactions as a dataset."}
    )
    allow_inexact_resume: bool = field(
        default=False,
        metadata={"help": "Begin an episode anew whose environment does not come back to where it was at a resume."},
    )

    def __post_init__(self) -> None:
        self._check_choice("goal_sampling", GOAL_SAMPLINGS)
        self._check_positive("num_envs", "rollout_steps", "total_env_steps", "minibatch_size", "num_ppo_epochs")
        self._check_positive("cliprange", "cliprange_value", "target_kl", "reward_scale", "value_learning_rate")
        self._check_at_least_zero("vf_coef", "entropy_coef", "beta", "value_warmup_steps", "num_probe_prompts")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInputError(f"{name}={getattr(self, name)!r} is given; it must be between 0 and 1.")
        self._derive_sizes(started_processes())
        super().__post_init__()

    @property
    def num_updates(self) -> int:
        """Rollouts of the whole run."""
        return -(-self.total_env_steps // (self.num_envs * self.rollout_steps))

    @property
    def steps_per_update(self) -> int:
        """Optimizer steps per rollout, when none is dropped."""
        return self.num_ppo_epochs * (self.num_envs * self.rollout_steps // self.minibatch_size)

    def check_episode_minibatches(self) -> None:
        """Raise [`InvalidInputError`] unless a minibatch can hold all steps of some environments of every process."""
        envs, remainder = divmod(self.minibatch_size, self.rollout_steps)
        if remainder or envs == 0 or self.num_envs % envs or envs % self.world_size:
            parts = [n for n in range(1, self.num_envs + 1) if self.num_envs % n == 0 and n % self.world_size == 0]
            sizes = [n * self.rollout_steps for n in parts if (n * self.rollout_steps) % self.num_envs == 0]
            raise InvalidInputError(
                f"minibatch_size={self.minibatch_size} with an append-only prompt: a causal model reads an episode "
                f"once for all its steps, so a minibatch holds all {self.rollout_steps} rollout_steps of some of the "
                f"{self.num_envs} environments, equally many on each of {self.world_size} processes; choose one of "
                f"{sizes}, or other num_envs and rollout_steps."
            )

    def _derive_sizes(self, world_size: int) -> None:
        if self.num_envs % world_size:
            raise InvalidInputError(
                f"num_envs={self.num_envs} does not divide over {world_size} processes; choose a multiple of "
                f"{world_size}."
            )
        if self.minibatch_size % self.num_envs or self.rollout_steps % max(self.minibatch_size // self.num_envs, 1):
            allowed = [self.num_envs * n for n in range(1, self.rollout_steps + 1) if self.rollout_steps % n == 0]
            raise InvalidInputError(
                f"minibatch_size={self.minibatch_size} does not cut {self.num_envs} environments x "
                f"{self.rollout_steps} steps "
                f"into equal parts that hold every environment equally often; choose one of {allowed}."
            )
        local = self.minibatch_size // world_size
        wanted = self.per_device_train_batch_size
        micro = max(size for size in range(1, local + 1) if local % size == 0 and size <= max(wanted, 1))
        accumulation = local // micro
        if self.gradient_accumulation_steps not in (1, accumulation):
            raise InvalidInputError(
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} is given; it follows from "
                "minibatch_size, the number of processes and per_device_train_batch_size: leave it out."
            )
        max_steps = self.num_updates * self.steps_per_update
        if self.max_steps not in (-1, max_steps):
            raise InvalidInputError(
                f"max_steps={self.max_steps} is given; the length of a run is total_env_steps: leave max_steps out."
            )
        self.per_device_train_batch_size = micro
        self.gradient_accumulation_steps = accumulation
        self.max_steps = max_steps
