# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Acting, for a trainer that learns from what its policy did: rollouts, their log, and where each episode stands.

The policy plays `rollout_steps` steps in every environment with weights that stand still; what comes out is a
`Rollout` with advantages. Left out: what is learned from it (`glam_trainer.py`).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ProgressCallback

from .._compat import parameters_are_sharded
from ..agents import ScoringAgent
from ..logs import LogWriter
from ..policy import EpisodeBatch, PackedBatch, ScoringPolicy
from ..rollout import EpisodeCollector, Rollout, Runner, SeededEpisodes, micro_batches, shaping_rewards
from ..types import EpisodeKey, EpisodeRecord, InvalidInputError, NotFiniteError, Observation, Transition
from .callbacks import EnvironmentProgressCallback
from .checkpoint_state import write_atomically
from .curriculum import LearningProgress
from .gathering import any_process, explained_variance, gather_episodes, sum_over_processes
from .glam_config import GLAMConfig
from .policy_trainer import _PolicyTrainer
from .rollout_metrics import episode_metrics


class _RolloutTrainer(_PolicyTrainer):
    """
    The part of [`GLAMTrainer`] that acts.

    Args:
        *settings:
            As of [`_PolicyTrainer`].
        potential (`Callable[[Observation], float]` or `None`):
            Shapes the rewards of a rollout.

    Attributes:
        env_steps (`int`):
            Environment steps taken so far, by all processes.
        update (`int`):
            Rollouts collected so far.
    """

    args: GLAMConfig

    def __init__(self, *settings: Any, potential: Callable[[Observation], float] | None) -> None:
        super().__init__(*settings)
        args = self.args
        if self.policy.shares_prefixes:
            args.check_episode_minibatches()
        self._potential = potential
        self._num_envs = args.num_envs // args.world_size
        self._first_env = args.process_index * self._num_envs
        self._progress = EnvironmentProgressCallback(args.num_updates * args.num_envs * args.rollout_steps)
        if not args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(self._progress)
        if args.beta > 0 and parameters_are_sharded():
            raise InvalidInputError(
                f"beta={args.beta} needs a second, frozen model, which is not split over processes; set beta to 0, or "
                "use DDP or ZeRO-2."
            )
        # A copy, not the base model: the run may start from a policy that was trained before.
        reference = copy.deepcopy(self.policy.lm).requires_grad_(False) if args.beta > 0 else None
        self._reference_lm = None if reference is None else reference.to(args.device)
        self._probes = self._make_probes()

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
        self._goals: LearningProgress | None = None
        if self.args.goal_sampling == "learning_progress":
            self._goals = LearningProgress(self.environments.task_kinds, self.args.seed)
        self._recent: deque[bool] = deque(maxlen=100)
        self._update_started = time.perf_counter()

    def _make_runner(self) -> Runner:
        args, source = self.args, self.environments
        per_act = -(-self._num_envs // args.per_device_rollout_batch_size)
        self._agent = ScoringAgent(
            self.policy,
            self.model_wrapped,
            args.per_device_rollout_batch_size,
            lockstep_forwards=per_act if args.world_size > 1 else None,
            autocast=self.accelerator.autocast,
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
            packed = pack(self.policy, rollout, indices).to(self.args.device)
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

    # -- resuming

    def _acting_state(self) -> dict[str, Any]:
        """Counters, running episodes with their generators, and the position of the log; JSON-serialisable."""
        return {
            "env_steps": self.env_steps,
            "update": self.update,
            "recent": list(self._recent),
            "unreported": [{**asdict(record), "key": record.key.to_dict()} for record in self._finished.records],
            "has_success_info": self._runner.has_success_info,
            "episode_numbers": sorted(self._episodes.numbers.items()),
            "runner": self._runner.state_dict(),
            "goals": None if self._goals is None else self._goals.state_dict(),
            "log": None if self._writer is None else self._writer.state_dict(),
        }

    def _load_acting_state(self, state: dict[str, Any]) -> None:
        """Go on from [`~_RolloutTrainer._acting_state`]: environments are replayed from their seeds and actions."""
        self.env_steps = state["env_steps"]
        self.update = state["update"]
        self._recent.extend(state["recent"])
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


def pack(policy: ScoringPolicy, rollout: Rollout, indices: np.ndarray) -> PackedBatch | EpisodeBatch:
    """Pack transitions of a rollout, given by their flat indices."""
    prompt_ids, action_set_ids = rollout.prompt_ids.reshape(-1)[indices], rollout.action_set_ids.reshape(-1)[indices]
    return policy.pack(
        [rollout.prompts[i] for i in prompt_ids], [list(rollout.action_sets[i]) for i in action_set_ids]
    )
