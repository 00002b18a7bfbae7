# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`GLAMTrainer`: online PPO of a scoring policy, inside Trainer's own loop.

A rollout is collected in `_prepare_inputs` when the last one is used up, `compute_loss` is the PPO loss on the next
slice of it. So schedules, clipping, accumulation, logging, checkpoints, callbacks, DeepSpeed and the Hub stay
Trainer's. What a run needs to go on exactly is in `exact_state`.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from peft import PeftConfig
from torch import nn
from transformers import PreTrainedTokenizerBase, ProgressCallback, TrainerCallback

from .._compat import parameters_are_sharded
from ..agents import ScoringAgent
from ..logs import LogWriter
from ..policy import EpisodeBatch, PackedBatch, ScoringPolicy
from ..prompts import PromptTemplate
from ..rollout import (
    EpisodeCollector,
    Rollout,
    Runner,
    SeededEpisodes,
    episode_minibatches,
    micro_batches,
    minibatches,
    shaping_rewards,
)
from ..types import EpisodeKey, EpisodeRecord, InvalidInputError, NotFiniteError, Observation, Transition
from .callbacks import EnvironmentProgressCallback, UpdateBoundaryCallback
from .checkpoint_state import write_atomically
from .curriculum import LearningProgress
from .gathering import any_process, explained_variance, gather_episodes, sum_over_processes
from .glam_config import GLAMConfig
from .memory import MemorySettings
from .not_finite import not_finite, packed_tensors
from .policy_trainer import _PolicyTrainer
from .ppo_loss import PPOBatch, ppo_loss
from .rollout_metrics import episode_metrics


class GLAMTrainer(_PolicyTrainer):
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
        )
        if self.policy.shares_prefixes:
            args.check_episode_minibatches()
        self._potential = potential
        self._num_envs = args.num_envs // args.world_size
        self._first_env = args.process_index * self._num_envs
        # Every pass of an update reads its rollout's prompts; with less room they would be tokenized anew each time.
        packer = self.policy.packer
        packer.max_prompts = max(packer.max_prompts, 2 * self._num_envs * args.rollout_steps)
        self._progress = EnvironmentProgressCallback(args.num_updates * args.num_envs * args.rollout_steps)
        if not args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(self._progress)
        self.add_callback(UpdateBoundaryCallback(self))
        # A copy, not the base model: the run may start from a policy that was trained before.
        if args.beta > 0 and parameters_are_sharded():
            raise InvalidInputError(
                f"beta={args.beta} needs a second, frozen model, which is not split over processes; set beta to 0, or "
                "use DDP or ZeRO-2."
            )
        reference = copy.deepcopy(self.policy.lm).requires_grad_(False) if args.beta > 0 else None
        self._reference_lm = None if reference is None else reference.to(args.device)
        # Ends a run early, for a plan of what the whole would take.
        self.stop_after_updates: int | None = None
        self._probes = self._make_probes()
        self._reset_run()

    def _make_probes(self) -> list[tuple[str, tuple[str, ...]]]:
        if not self.args.num_probe_prompts:
            return []
        first = self._first_observations(self.args.num_probe_prompts)
        prompts, actions = [o.prompt for o in first], [o.admissible_actions for o in first]
        if self.is_world_process_zero():
            probes = [{"prompt": p, "admissible_actions": list(a)} for p, a in zip(prompts, actions, strict=True)]
            write_atomically(Path(self.args.output_dir, "probes.json"), json.dumps(probes, indent=1))
        return list(zip(prompts, actions, strict=True))

    def _reset_run(self) -> None:
        self.env_steps = 0
        self.update = 0
        self._runner: Runner | None = None
        self._rollout: Rollout | None = None
        self._queue: deque[np.ndarray] = deque()
        self._goals: LearningProgress | None = None
        if self.args.goal_sampling == "learning_progress":
            self._goals = LearningProgress(self.environments.task_kinds, self.args.seed)
        self._step_kl: list[float] = []
        # Indices of what the running optimizer step has seen.
        self._micro_batches: list[np.ndarray] = []
        self._recent: deque[bool] = deque(maxlen=100)
        self._unlogged_loss: tuple[float, int] | None = None
        self._update_started = time.perf_counter()

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

    # -- rollout

    def _make_runner(self) -> Runner:
        args, source = self.args, self.environments
        per_act = -(-self._num_envs // args.per_device_rollout_batch_size)
        self._agent = ScoringAgent(
            self.policy,
            self.model_wrapped,
            args.per_device_rollout_batch_size,
            lockstep_forwards=per_act if args.world_size > 1 else None,
        )
        self._episodes = SeededEpisodes(
            source.env_id,
            args.seed,
            self._first_env,
            source.env_kwargs,
            options=None if self._goals is None else self._goals.options,
        )
        self._finished = EpisodeCollector()
        self._writer = self._make_log_writer() if args.log_interactions else None
        return Runner(
            source.make,
            self._episodes,
            self._num_envs,
            self._agent,
            self.policy.prompt_template,
            args.seed,
            success_threshold=args.success_threshold,
            sinks=[self._finished, self._progress, *([] if self._writer is None else [self._writer])],
            workers=args.env_workers,
            timeout=args.env_timeout,
            on_environment_error=args.on_environment_error,
        )

    def _make_log_writer(self) -> LogWriter:
        args = self.args
        writer = LogWriter(
            f"{args.output_dir}/interactions",
            run_id=args.run_name or args.output_dir.rstrip("/").split("/")[-1],
            policy=self.policy.policy_config.base_model or "policy",
            rank=args.process_index,
            num_processes=args.world_size,
            num_envs=self._num_envs,
            append=False,
            run={"prompt_template": self.policy.prompt_template.to_dict(), "seed": args.seed},
        )
        if self._begins_anew:
            writer.restart()
        return writer

    def _collect_rollout(self) -> Rollout:
        """
        Play `rollout_steps` steps in every environment with the current weights.

        Returns:
            [`Rollout`]: with advantages and returns.
        """
        args = self.args
        started = time.perf_counter()
        if self.update > 0:
            num_steps = args.rollout_steps * args.num_envs
            self._metrics["ppo/steps_per_second"].append(num_steps / (started - self._update_started))
        if self._runner is None:
            self._runner = self._make_runner()
        # The weights have moved since the last rollout; under accelerate the wrapped model may be a new object too.
        self._agent.forget()
        self._agent.model = self.model_wrapped
        if self._writer is not None:
            self._writer.update = self.update
            self._writer.policy_revision = f"update-{self.update}"
        try:
            with self._acting():
                self._log_probes()
                rollout, steps = self._play()
                self._value_the_ends(rollout, steps)
        except NotFiniteError as error:
            raise self._keep_not_finite(error) from error
        if self._reference_lm is not None:
            rollout.reference_log_probs = self._reference_log_probs(rollout)
        if args.normalize_advantages:
            self._normalize(rollout)
        self.update += 1
        ended_at = [t for t, row in enumerate(steps) for one in row if one.ended and not one.dropped]
        self._log_rollout(rollout, ended_at, time.perf_counter() - started)
        self._update_started = time.perf_counter()
        return rollout

    def _play(self) -> tuple[Rollout, list[list[Transition]]]:
        """Take the steps of a rollout; again, when every episode in it was dropped on all processes."""
        kept = 0.0
        while kept == 0:
            steps = [self._step() for _ in range(self.args.rollout_steps)]
            self.env_steps += self.args.rollout_steps * self.args.num_envs
            rollout = Rollout.from_transitions(steps, self.args.reward_scale)
            if self._potential is not None:
                rollout.rewards += np.float32(self.args.reward_scale) * shaping_rewards(
                    steps, self._runner.observations, self._potential, self.args.gamma, self.args.bootstrap_truncated
                )
            counts = torch.tensor([rollout.weights.sum(), rollout.weights.size], device=self.args.device)
            kept, total = (self.accelerator.reduce(counts, "sum") if self.args.world_size > 1 else counts).tolist()
        # What dropped episodes leave goes to the others: the mean stays one over what was learned from.
        rollout.weights *= np.float32(total / kept)
        return rollout, steps

    def _step(self) -> list[Transition]:
        transitions = self._runner.step()
        if self.policy.shares_prefixes and self.args.bootstrap_truncated:
            # Now, while what the slot has read of the episode is at hand; `_value_the_ends` finds it remembered.
            ends = [one.final_observation for one in transitions if one.truncated]
            rows, slots = [(o.prompt, ()) for o in ends], [o.slot for o in ends]
            self._agent.evaluate(rows, self._agent.lockstep_forwards, value_only=True, slots=slots)
        return transitions

    def _log_probes(self) -> None:
        """Log what the policy would do on the probe prompts; all processes forward, as often."""
        if not self._probes:
            return
        results = self._agent.evaluate(self._probes, -(-len(self._probes) // self._agent.batch_size))
        for number, ((_, actions), (log_probs, _)) in enumerate(zip(self._probes, results, strict=True)):
            for action, log_prob in zip(actions, log_probs, strict=True):
                self._metrics[f"probe/{number}/{action}"] = [math.exp(log_prob)]

    def _value_the_ends(self, rollout: Rollout, steps: list[list[Transition]]) -> None:
        """Value what comes after the rollout: terminal observations of truncated episodes, and the current ones."""
        truncated = [
            (t, n, transition.final_observation)
            for t, row in enumerate(steps)
            for n, transition in enumerate(row)
            if transition.truncated and self.args.bootstrap_truncated
        ]
        current = self._runner.observations
        rows = [(o.prompt, ()) for _, _, o in truncated] + [(o.prompt, ()) for o in current]
        num_forwards = None
        if self.args.world_size > 1:
            mine = torch.tensor(-(-len(rows) // self._agent.batch_size), device=self.args.device)
            num_forwards = int(self.accelerator.gather(mine[None]).max().item())
        slots = [None] * len(truncated) + [o.slot for o in current]
        results = self._agent.evaluate(rows, num_forwards, value_only=True, slots=slots)
        values = np.array([value for _, value in results], dtype=np.float32)
        for (t, n, _), value in zip(truncated, values, strict=False):
            rollout.terminal_values[t, n] = value
        rollout.finish(values[len(truncated) :], self.args.gamma, self.args.gae_lambda)

    @torch.no_grad()
    def _reference_log_probs(self, rollout: Rollout) -> np.ndarray:
        """Log-probabilities of the policy before training, shape `(T, N, A)`."""
        flat = np.full((rollout.actions.size, rollout.log_probs.shape[-1]), -np.inf, dtype=np.float32)
        num_parts = -(-len(flat) // self._agent.batch_size)
        for indices in micro_batches(rollout, np.arange(len(flat)), num_parts, self.policy.shares_prefixes):
            packed = _pack(self.policy, rollout, indices).to(self.args.device)
            with self.accelerator.autocast():
                output = self.policy(packed, lm=self._reference_lm)
            flat[indices, : output.logits.shape[1]] = output.logits.log_softmax(-1).cpu().numpy()
        return flat.reshape(rollout.log_probs.shape)

    def _normalize(self, rollout: Rollout) -> None:
        """Standardise the advantages over the rollouts of all processes."""
        local = rollout.advantages[rollout.kept].astype(np.float64)
        sums = torch.tensor([local.sum(), np.square(local).sum(), local.size], dtype=torch.float64)
        if self.args.world_size > 1:
            sums = self.accelerator.reduce(sums.to(self.args.device), "sum").cpu()
        mean = float(sums[0] / sums[2])
        variance = max(float(sums[1] / sums[2]) - mean**2, 0.0)
        scaled = (rollout.advantages.astype(np.float64) - mean) / (math.sqrt(variance) + 1e-8)
        rollout.advantages = scaled.astype(np.float32)

    def _log_rollout(self, rollout: Rollout, ended_at: Sequence[int], seconds: float) -> None:
        records = gather_episodes(self.accelerator, self._finished.take(), ended_at)
        self._recent.extend(record.success for record in records)
        success_reported = any_process(self.accelerator, self._runner.has_success_info)
        agent = self._agent
        counts = [agent.num_computed, agent.num_asked, agent.num_tokens, agent.num_computed_tokens]
        computed, asked, tokens, computed_tokens = sum_over_processes(self.accelerator, counts)
        agent.num_computed = agent.num_asked = agent.num_tokens = agent.num_computed_tokens = 0
        kept = rollout.kept
        explained = explained_variance(self.accelerator, rollout.returns[kept], rollout.values[kept])
        metrics = {
            **episode_metrics(records, self._recent, success_reported),
            "rollout/steps_per_second": rollout.actions.size * self.args.world_size / seconds,
            "rollout/share_computed": computed / max(asked, 1),
            "rollout/tokens_per_step": tokens / (rollout.actions.size * self.args.world_size),
            "rollout/useful_tokens": tokens / max(computed_tokens, 1),
            "ppo/explained_variance": explained,
        }
        if self.args.on_environment_error == "drop":
            dropped, self._finished.num_dropped = self._finished.num_dropped, 0
            metrics["rollout/dropped_episodes"] = float(sum_over_processes(self.accelerator, [dropped])[0])
        if self._goals is not None:
            self._goals.update(records)
            metrics |= self._goals.metrics()
        for key, value in metrics.items():
            # Not averaged over several rollouts between two logs: the last one counts.
            self._metrics[key] = [value]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Every log carries `env_steps`, the x-axis of learning curves."""
        super().log({**logs, "env_steps": self.env_steps}, start_time)

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
        rollout, packed = self._rollout, _pack(self.policy, self._rollout, indices)
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
            "num_processes": self.args.world_size,
            "env_steps": self.env_steps,
            "update": self.update,
            "queue": [indices.tolist() for indices in self._queue],
            "recent": list(self._recent),
            "metrics": {name: list(values) for name, values in self._metrics.items()},
            "unreported": [{**asdict(record), "key": record.key.to_dict()} for record in self._finished.records],
            "has_success_info": self._runner.has_success_info,
            "episode_numbers": sorted(self._episodes.numbers.items()),
            "runner": self._runner.state_dict(),
            "goals": None if self._goals is None else self._goals.state_dict(),
            "log": None if self._writer is None else self._writer.state_dict(),
            "loss": [self._tr_loss.item(), self._globalstep_last_logged],
        }

    def load_exact_state(self, state: dict[str, Any], rollout: Rollout | None) -> None:
        """Go on from [`~GLAMTrainer.exact_state`]: environments are replayed from their seeds and actions."""
        if state["num_processes"] != self.args.world_size:
            raise InvalidInputError(
                f"The checkpoint is of a run on {state['num_processes']} processes, this one has "
                f"{self.args.world_size}; resume with the same number."
            )
        self.env_steps = state["env_steps"]
        self.update = state["update"]
        self._rollout = rollout
        self._queue = deque(np.array(indices, dtype=np.int64) for indices in state["queue"])
        self._recent.extend(state["recent"])
        self._metrics.update(state["metrics"])
        self._runner = self._make_runner()
        self._runner.has_success_info = state["has_success_info"]
        self._episodes.numbers = dict(state["episode_numbers"])
        if self._goals is not None:
            self._goals.load_state_dict(state["goals"])
        begun_anew = self._runner.load_state_dict(state["runner"], self.args.allow_inexact_resume)
        self._finished.records = [
            EpisodeRecord(
                **{**record, "key": EpisodeKey.from_dict(record["key"]), "actions": tuple(record["actions"])}
            )
            for record in state["unreported"]
        ]
        if self._writer is not None and state["log"] is not None:
            self._writer.load_state_dict(state["log"])
            for key in begun_anew:
                self._writer.forget(key.episode_id)
        self._progress.resume(self.env_steps)
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


def _pack(policy: ScoringPolicy, rollout: Rollout, indices: np.ndarray) -> PackedBatch | EpisodeBatch:
    """Pack transitions of a rollout, given by their flat indices."""
    prompt_ids, action_set_ids = rollout.prompt_ids.reshape(-1)[indices], rollout.action_set_ids.reshape(-1)[indices]
    return policy.pack(
        [rollout.prompts[i] for i in prompt_ids], [list(rollout.action_sets[i]) for i in action_set_ids]
    )
