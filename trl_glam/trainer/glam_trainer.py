# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`GLAMTrainer`: online PPO of a scoring policy, inside Trainer's own loop.

A rollout is collected (`rollout_trainer.py`) in `_prepare_inputs` when the last one is used up, `compute_loss` is the
PPO loss on the next slice of it. So schedules, clipping, accumulation, logging, checkpoints, callbacks, DeepSpeed and
the Hub stay Trainer's. What a run needs to go on exactly is in `exact_state`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from peft import PeftConfig
from torch import nn
from transformers import PreTrainedTokenizerBase, TrainerCallback

from ..policy import ScoringPolicy
from ..prompts import PromptTemplate
from ..rollout import Rollout, episode_minibatches, micro_batches, minibatches
from ..types import InvalidInputError, NotFiniteError, Observation
from .callbacks import UpdateBoundaryCallback
from .glam_config import GLAMConfig
from .memory import MemorySettings
from .not_finite import not_finite, packed_tensors
from .ppo_loss import PPOBatch, ppo_loss
from .rollout_trainer import _RolloutTrainer, pack


class GLAMTrainer(_RolloutTrainer):
    r"""
    Trainer for online reinforcement learning of a language model in an interactive text environment, as in [Grounding
    Large Language Models in Interactive Environments with Online Reinforcement
    Learning](https://huggingface.co/papers/2302.02662).

    The policy is a softmax over the scores of the admissible action strings, a value head reads the same model, and
    PPO trains both on the environment's reward.

    Args:
        model (`str` or [`ScoringPolicy`]):
            Hub id, folder or `local:` name of a T5-like or causal language model, a saved policy, or a
            [`ScoringPolicy`].
        args ([`GLAMConfig`]):
            Settings of the run.
        environment_factory (`Callable[[], gym.Env]`, *optional*):
            Makes one environment (see [`~trl_glam.envs.check_text_env`]); instead of `args.env_id`. It is not
            [`~trl.GRPOTrainer`]'s argument of the same name, which takes classes whose methods are tools.
        prompt_template ([`PromptTemplate`], *optional*):
            Writes the prompts; the policy's own, or GLAM's, if not given.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer, when it is not the model's own.
        callbacks (`list[TrainerCallback]`, *optional*):
            As in [`~transformers.Trainer`].
        peft_config ([`~peft.PeftConfig`], *optional*):
            Trains adapters instead of the language model's weights.
        quantization_config (*optional*):
            Loads the language model quantised, for training adapters.
        optimizers (`tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None]`, *optional*):
            As in [`~transformers.Trainer`].
        potential (`Callable[[Observation], float]`, *optional*):
            Shapes the reward that is learned from by gamma phi(s') - phi(s), which leaves the best policy what it is
            (Ng et al., 1999). Logs and metrics keep the environment's reward.

    Example:

    ```python
    from trl_glam import GLAMConfig, GLAMTrainer

    trainer = GLAMTrainer(
        model="google/flan-t5-small",
        args=GLAMConfig(output_dir="gotolocal", env_id="BabyAI-Text/GoToLocal-v0", total_env_steps=400_000),
    )
    trainer.train()
    print(trainer.evaluate())
    ```
    """

    _tag_names = ["trl", "trl-glam", "glam", "reinforcement-learning"]
    _name = "GLAM"
    _paper = {
        "title": "Grounding Large Language Models in Interactive Environments with Online Reinforcement Learning",
        "id": "2302.02662",
        "citation": """@inproceedings{carta2023grounding,
    title     = {{Grounding Large Language Models in Interactive Environments with Online Reinforcement Learning}},
    author    = {Carta, Thomas and Romac, Cl{\\'e}ment and Wolf, Thomas and Lamprier, Sylvain and Sigaud, Olivier
                 and Oudeyer, Pierre-Yves},
    booktitle = {International Conference on Machine Learning},
    year      = 2023
}""",
    }

    def __init__(
        self,
        model: str | ScoringPolicy,
        args: GLAMConfig,
        environment_factory: Callable[[], gym.Env] | None = None,
        prompt_template: PromptTemplate | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
        peft_config: PeftConfig | None = None,
        quantization_config: Any | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        potential: Callable[[Observation], float] | None = None,
    ) -> None:
        super().__init__(
            model,
            args,
            environment_factory,
            prompt_template,
            processing_class,
            callbacks,
            peft_config,
            quantization_config,
            optimizers,
            potential=potential,
        )
        # Every pass of an update reads its rollout's prompts; with less room they would be tokenized anew each time.
        packer = self.policy.packer
        packer.max_prompts = max(packer.max_prompts, 2 * self._num_envs * args.rollout_steps)
        self.add_callback(UpdateBoundaryCallback(self))
        # Ends a run early, for a plan of what the whole would take.
        self.stop_after_updates: int | None = None
        self._reset_run()

    def _reset_run(self) -> None:
        super()._reset_run()
        self._rollout: Rollout | None = None
        self._queue: deque[np.ndarray] = deque()
        self._step_kl: list[float] = []
        # Indices of what the running optimizer step has seen.
        self._micro_batches: list[np.ndarray] = []
        self._unlogged_loss: tuple[float, int] | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any):
        """
        Train until `total_env_steps`.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint folder, `True` for the newest whole one in `output_dir`, or `"auto"`: that one, or a new
                beginning where the run was cut off before there was any.

        Returns:
            [`~transformers.trainer_utils.TrainOutput`]
        """
        self._reset_run()
        try:
            return super().train(resume_from_checkpoint, **kwargs)
        finally:
            if self._runner is not None:
                self._runner.close()

    def _memory_settings(self) -> MemorySettings:
        args = self.args
        steps = args.num_updates * args.num_envs * args.rollout_steps // args.world_size
        return replace(super()._memory_settings(), reference=args.beta > 0, cached_prompts=steps)

    def _value_learning_rate(self) -> float:
        return self.args.value_learning_rate or self.args.learning_rate

    # -- update

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # Trainer's placeholder goes unused, and its own version would cast log-probabilities to bf16 under DeepSpeed.
        if not self._queue:
            self._rollout = self._collect_rollout()
            self._fill_queue()
        return self._make_inputs(self._queue.popleft())

    def _fill_queue(self) -> None:
        """Cut the rollout into the micro-batches of all passes."""
        args, (num_steps, num_envs) = self.args, self._rollout.shape
        # The unit of shuffling is what is computed as one: a transition, or an episode's part of the rollout.
        by_episode = self.policy.shares_prefixes
        cut = episode_minibatches if by_episode else minibatches
        for epoch in range(args.num_ppo_epochs):
            for minibatch in cut(
                num_steps,
                num_envs,
                args.minibatch_size // args.world_size,
                seed=args.seed,
                update=self.update,
                epoch=epoch,
                first_env=self._first_env,
            ):
                # Inside an optimizer step the order is free.
                parts = micro_batches(self._rollout, minibatch, args.gradient_accumulation_steps, by_episode)
                self._queue.extend(parts)

    def _make_inputs(self, indices: np.ndarray) -> dict[str, Any]:
        rollout, packed = self._rollout, pack(self.policy, self._rollout, indices)
        steps, envs = np.divmod(indices, rollout.shape[1])
        num_actions = packed.action_mask.shape[1]

        def tensor(array: np.ndarray | None) -> torch.Tensor | None:
            return None if array is None else torch.from_numpy(array[steps, envs]).to(self.args.device)

        self._useful_tokens = packed.useful_tokens
        self._micro_batches.append(indices)
        reference = None if rollout.reference_log_probs is None else rollout.reference_log_probs[..., :num_actions]
        # Micro-batches hold different numbers of transitions; the mean over the optimizer step weighs all alike.
        each = self.args.gradient_accumulation_steps * self.args.world_size / self.args.minibatch_size
        self._metrics["ppo/share_computed"].append(packed.num_rows * each)
        self._metrics["ppo/tokens_per_step"].append(packed.useful_tokens * each)
        self._metrics["ppo/useful_tokens"].append(packed.useful_tokens / self.policy.computed_tokens(packed))
        batch = PPOBatch(
            actions=tensor(rollout.actions),
            old_log_probs=tensor(rollout.log_probs[..., :num_actions]),
            old_values=tensor(rollout.values),
            advantages=tensor(rollout.advantages),
            returns=tensor(rollout.returns),
            reference_log_probs=tensor(reference),
            weights=tensor(rollout.weights * np.float32(len(indices) * each)),
        )
        return {"packed": packed.to(self.args.device), "batch": batch}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        The PPO loss of one micro-batch.

        Raises:
            [`NotFiniteError`]: when it is not finite; the micro-batch is kept in `output_dir`.
        """
        args = self.args
        output = model(inputs["packed"])
        loss, stats = ppo_loss(
            output.logits,
            output.values,
            inputs["batch"],
            cliprange=args.cliprange,
            cliprange_value=args.cliprange_value,
            vf_coef=args.vf_coef,
            entropy_coef=args.entropy_coef,
            beta=args.beta,
            policy_weight=float(self.state.global_step >= args.value_warmup_steps),
        )
        # One transfer for all scalars.
        names = list(stats)
        scalars = torch.stack([loss.detach(), *(stats[name].float() for name in names)]).tolist()
        if not math.isfinite(scalars[0]):
            numbers = dict(zip(names, scalars[1:], strict=True))
            what = f"The PPO loss is {scalars[0]} (environment step {self.env_steps}: {numbers})"
            outputs = {"logits": output.logits, "values": output.values}
            raise self._not_finite(what, self._micro_batches[-1], inputs, outputs)
        for name, value in zip(names, scalars[1:], strict=True):
            self._metrics[f"ppo/{name}"].append(value)
        self._step_kl.append(scalars[1 + names.index("approx_kl")])
        return loss

    def _not_finite(
        self,
        what: str,
        indices: np.ndarray,
        inputs: dict[str, Any],
        outputs: dict[str, torch.Tensor] | None = None,
    ) -> NotFiniteError:
        """Keep a batch whose loss or gradient is not finite; the error to raise."""
        rollout, (steps, envs) = self._rollout, np.divmod(indices, self._rollout.shape[1])
        rows = [
            {
                "env": int(self._first_env + n),
                "rollout_step": int(t),
                "prompt": rollout.prompts[rollout.prompt_ids[t, n]],
                "actions": list(rollout.action_sets[rollout.action_set_ids[t, n]]),
                "action": int(rollout.actions[t, n]),
                "reward": float(rollout.rewards[t, n]),
            }
            for t, n in zip(steps, envs, strict=True)
        ]
        tensors = {**packed_tensors(inputs["packed"]), **(outputs or {})}
        tensors |= {f"batch.{name}": value for name, value in vars(inputs["batch"]).items() if value is not None}
        facts = {"environment_step": self.env_steps, "update": self.update, "rows": rows}
        step, rank = self.state.global_step, self.args.process_index
        return not_finite(what, self.args.output_dir, step, rank, facts, tensors)

    def _check_gradient_norm(self, norm: float) -> None:
        if not math.isfinite(norm):
            indices = np.concatenate(self._micro_batches)
            raise self._not_finite(f"The gradient norm is {norm}", indices, self._make_inputs(indices))

    def finish_optimizer_step(self) -> bool:
        """
        Called after every optimizer step: drop the rest of the rollout's passes when the policy has moved too far.

        Returns:
            `bool`: whether the rollout is used up.
        """
        kl = torch.tensor(float(np.mean(self._step_kl)), device=self.args.device)
        self._step_kl.clear()
        self._micro_batches.clear()
        if self.args.target_kl is not None and self._queue:
            if self.accelerator.reduce(kl, "mean").item() > self.args.target_kl:
                self._metrics["ppo/dropped_passes"].append(len(self._queue) / self._passes_per_update)
                # The schedule goes by environment steps: it takes the steps that are left out.
                for _ in range(len(self._queue) // self.args.gradient_accumulation_steps):
                    self.lr_scheduler.step()
                self._queue.clear()
        return not self._queue

    @property
    def _passes_per_update(self) -> int:
        return self.args.steps_per_update * self.args.gradient_accumulation_steps

    @property
    def is_finished(self) -> bool:
        """Whether the run has taken its environment steps and used them up."""
        return self.update >= (self.stop_after_updates or self.args.num_updates) and not self._queue

    # -- resuming

    def exact_state(self) -> dict[str, Any]:
        """Counters, the queue of passes, running episodes with their generators, and the position of the log."""
        return {
            **self._acting_state(),
            "num_processes": self.args.world_size,
            "queue": [indices.tolist() for indices in self._queue],
            "metrics": {name: list(values) for name, values in self._metrics.items()},
            "loss": [self._tr_loss.item(), self._globalstep_last_logged],
        }

    def load_exact_state(self, state: dict[str, Any], rollout: Rollout | None) -> None:
        """Go on from [`~GLAMTrainer.exact_state`]: environments are replayed from their seeds and actions."""
        if state["num_processes"] != self.args.world_size:
            raise InvalidInputError(
                f"The checkpoint is of a run on {state['num_processes']} processes, this one has "
                f"{self.args.world_size}; resume with the same number."
            )
        self._rollout = rollout
        self._queue = deque(np.array(indices, dtype=np.int64) for indices in state["queue"])
        self._metrics.update(state["metrics"])
        self._load_acting_state(state)
        self._unlogged_loss = tuple(state["loss"])

    def restore_unlogged_loss(self) -> None:
        """Called when Trainer has set its counters: what had not been logged at the checkpoint counts again."""
        if self._unlogged_loss is not None:
            loss, self._globalstep_last_logged = self._unlogged_loss
            self._tr_loss += loss
            self._unlogged_loss = None

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # A run that target_kl has shortened ends before Trainer's last step: resumed at its end, it has nothing to do.
        if self.is_finished:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _rollout_in_use(self) -> Rollout | None:
        return self._rollout if self._queue else None
