# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Who acts: a scoring policy, a random choice, the demonstrator, or a mixture of two.

An agent answers a list of observations with a list of decisions, nothing more; `rollout/runner.py` steps the
environments. Baselines with their own learning (DRRN, Symbolic-PPO) are agents too and live in `trl_glam/baselines/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from .envs.bot import BabyAIDemonstrator
from .envs.textworld import TextWorldEnv, Walkthrough
from .policy.prefix_cache import PrefixCache
from .policy.scoring_policy import ScoringPolicy, choose
from .prompts import PromptTemplate
from .types import Decision, NotFiniteError, Observation


class Agent:
    """
    Base class of everything that acts.

    An agent with memory keys it by `observation.slot` and clears it at `observation.step == 0`.

    Attributes:
        needs_environment (`bool`):
            Whether it asks the environment itself, which must then live in the same process.
    """

    name = "agent"
    needs_environment = False

    def bind(self, slot: int, env: gym.Env) -> None:
        """
        Learn which environment runs in a slot. Called before the slot's first episode there; most agents need nothing.

        Args:
            slot (`int`):
                Local index of the slot.
            env (`gym.Env`):
                The environment, already reset.
        """

    def act(
        self, observations: Sequence[Observation], generators: Sequence[np.random.Generator], greedy: bool = False
    ) -> list[Decision]:
        """
        Choose an action for every observation.

        Args:
            observations (`list[Observation]`):
                Observations of running episodes, at most one a slot.
            generators (`list[np.random.Generator]`):
                One generator per observation, owned by its episode: draws never depend on the other observations.
            greedy (`bool`, *optional*, defaults to `False`):
                Take the most probable action instead of drawing one.

        Returns:
            `list[Decision]`: one decision per observation, in order.
        """
        raise NotImplementedError


class ScoringAgent(Agent):
    """
    A [`ScoringPolicy`] as an agent.

    While the weights stand still, a (prompt, admissible actions) pair is computed once and remembered: small worlds
    repeat themselves a lot. A policy that shares prefixes (an append-only prompt, a causal model) reads in each slot
    what is new since its last step. Call [`~ScoringAgent.forget`] when the weights change.

    Args:
        policy ([`ScoringPolicy`]):
            Packs the prompts.
        model (`torch.nn.Module`, *optional*):
            The module whose `forward` computes them: the policy itself, or the policy as wrapped for DDP, DeepSpeed or
            FSDP.
        batch_size (`int`, *optional*, defaults to `64`):
            Prompts per forward.
        lockstep_forwards (`int`, *optional*):
            Issue exactly this number of forwards whenever it acts, whatever is remembered or still running, as ranks
            that share parameters (ZeRO-3, FSDP) must.
        autocast (`Callable[[], AbstractContextManager]`, *optional*):
            Makes the context of its forwards, such as `accelerator.autocast`. Environments are outside.

    Attributes:
        num_asked (`int`), num_computed (`int`):
            Prompts asked for and computed so far.
        num_tokens (`int`), num_computed_tokens (`int`):
            Tokens read for them, and those that passed through the model, padding included.
    """

    name = "policy"

    def __init__(
        self,
        policy: ScoringPolicy,
        model: nn.Module | None = None,
        batch_size: int = 64,
        lockstep_forwards: int | None = None,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self.policy = policy
        self.model = policy if model is None else model
        self.batch_size = batch_size
        self.lockstep_forwards = lockstep_forwards
        self.autocast = autocast
        self.num_computed = 0
        self.num_asked = 0
        self.num_tokens = 0
        self.num_computed_tokens = 0
        # Keys and values of what each slot has read; used if the policy shares prefixes.
        self.prefixes = PrefixCache()
        self._known: dict[tuple[str, tuple[str, ...]], tuple[np.ndarray, float]] = {}

    @property
    def template(self) -> PromptTemplate:
        """The prompt template the policy was trained with; GLAM's for a policy that records none."""
        return self.policy.prompt_template or PromptTemplate()

    def forget(self) -> None:
        """Drop what was computed with the previous weights."""
        self._known.clear()
        self.prefixes.clear()

    def act(
        self, observations: Sequence[Observation], generators: Sequence[np.random.Generator], greedy: bool = False
    ) -> list[Decision]:
        for observation in observations:
            if observation.step == 0:
                self.prefixes.clear(observation.slot)
        rows = [(o.prompt, o.admissible_actions) for o in observations]
        outputs = self.evaluate(rows, self.lockstep_forwards, slots=[o.slot for o in observations])
        return [
            Decision(index=choose(log_probs, generator, greedy), log_probs=log_probs, value=value)
            for (log_probs, value), generator in zip(outputs, generators, strict=True)
        ]

    @torch.no_grad()
    def evaluate(
        self,
        rows: Sequence[tuple[str, tuple[str, ...]]],
        num_forwards: int | None = None,
        value_only: bool = False,
        slots: Sequence[int | None] | None = None,
    ) -> list[tuple[np.ndarray, float]]:
        """
        Log-probabilities and value of prompts.

        Args:
            rows (`list[tuple[str, tuple[str, ...]]]`):
                (prompt, admissible actions) pairs; an empty tuple of actions asks for the value alone.
            num_forwards (`int`, *optional*):
                Exact number of forwards to issue, dummy ones included; as few as possible if not given.
            value_only (`bool`, *optional*, defaults to `False`):
                Skip the scores; `rows` then have empty tuples of actions.
            slots (`list[int | None]`, *optional*):
                Slot in which each prompt's episode is played: what was read there is not read again, if the policy
                shares prefixes. `None` for a prompt of none.

        Returns:
            `list[tuple[np.ndarray, float]]`: per row the float32 log-probabilities of shape `(num_admissible,)` and
            the value.
        """
        self.num_asked += len(rows)
        new = list(dict.fromkeys(row for row in rows if row not in self._known))
        self.num_computed += len(new)
        slot_of = dict(zip(rows, slots or [None] * len(rows), strict=True))
        cache = self.prefixes if slots is not None and self.policy.shares_prefixes else None
        # Rows of like length share a forward, so that little of it is padding.
        new.sort(key=lambda row: len(row[0]))
        batches = [new[start : start + self.batch_size] for start in range(0, len(new), self.batch_size)]
        if num_forwards is not None:
            batches += [[self._dummy_row(value_only)]] * (num_forwards - len(batches))
        training = self.model.training
        self.model.eval()
        for batch in batches:
            prompts, actions = [prompt for prompt, _ in batch], [list(actions) for _, actions in batch]
            packed = self.policy.pack(prompts, actions, cache, [slot_of.get(row) for row in batch])
            self.num_tokens += packed.useful_tokens
            with self.autocast():
                # What the cache holds depends on how autocast rounds it.
                self.num_computed_tokens += self.policy.computed_tokens(packed)
                output = self.model(packed.to(self.policy.device), value_only=value_only)
            values = output.values.cpu().tolist()
            if value_only:
                log_probs = np.zeros((len(batch), 0), dtype=np.float32)
            else:
                log_probs = output.logits.float().log_softmax(-1).cpu().numpy()
            for i, row in enumerate(batch):
                self._known[row] = (log_probs[i, : len(row[1])].copy(), values[i])
            self._check_finite(batch)
        self.model.train(training)
        return [self._known[row] for row in rows]

    def _check_finite(self, rows: Sequence[tuple[str, tuple[str, ...]]]) -> None:
        """A draw from NaN would be an action nobody chose."""
        bad = []
        for row in rows:
            log_probs, value = self._known[row]
            if not (np.isfinite(log_probs).all() and math.isfinite(value)):
                del self._known[row]
                bad.append(
                    {"prompt": row[0], "actions": list(row[1]), "log_probs": log_probs.tolist(), "value": value}
                )
        if bad:
            raise NotFiniteError(
                f"The policy's log-probabilities or values of {len(bad)} of {len(rows)} prompts are not finite: the "
                f"first {bad[0]['log_probs']} with value {bad[0]['value']} for {bad[0]['prompt']!r}.",
                bad,
            )

    def _dummy_row(self, value_only: bool) -> tuple[str, tuple[str, ...]]:
        """A row that costs little and touches the same modules as a real one."""
        if value_only:
            return "", ()
        config = self.policy.policy_config
        return "", tuple(config.actions or list(config.calibration.offsets)[:1] or ["none"])


class RandomAgent(Agent):
    """Uniform over the admissible actions."""

    name = "random"

    def act(
        self, observations: Sequence[Observation], generators: Sequence[np.random.Generator], greedy: bool = False
    ) -> list[Decision]:
        decisions = []
        for observation, generator in zip(observations, generators, strict=True):
            n = len(observation.admissible_actions)
            log_probs = np.full(n, -np.log(n), dtype=np.float32)
            # There is no most probable action: a "greedy" random agent still draws.
            decisions.append(Decision(index=int(generator.integers(n)), log_probs=log_probs))
        return decisions


class BotAgent(Agent):
    """BabyAI's bot, or a TextWorld game's walkthrough; asks the environment itself, so it plays nothing else."""

    name = "bot"
    needs_environment = True

    def __init__(self) -> None:
        self._envs: dict[int, gym.Env] = {}
        self._bots: dict[int, BabyAIDemonstrator | Walkthrough] = {}

    def bind(self, slot: int, env: gym.Env) -> None:
        self._envs[slot] = env

    def act(
        self, observations: Sequence[Observation], generators: Sequence[np.random.Generator], greedy: bool = False
    ) -> list[Decision]:
        decisions = []
        for observation in observations:
            if observation.step == 0:
                env = self._envs[observation.slot]
                demonstrator = Walkthrough if isinstance(env.unwrapped, TextWorldEnv) else BabyAIDemonstrator
                self._bots[observation.slot] = demonstrator(env)
            decisions.append(Decision(index=self._bots[observation.slot].act()))
        return decisions


class MixtureAgent(Agent):
    """
    The first agent, replaced by the second with a fixed probability at every step.

    Args:
        first ([`Agent`]):
            Acts most of the time.
        second ([`Agent`]):
            Acts otherwise, for example [`RandomAgent`].
        probability (`float`):
            Probability of the second agent, in `[0, 1]`.
    """

    def __init__(self, first: Agent, second: Agent, probability: float) -> None:
        self.first = first
        self.second = second
        self.probability = probability
        self.name = f"{first.name}+{probability:g}*{second.name}"
        self.needs_environment = first.needs_environment or second.needs_environment

    def bind(self, slot: int, env: gym.Env) -> None:
        self.first.bind(slot, env)
        self.second.bind(slot, env)

    def act(
        self, observations: Sequence[Observation], generators: Sequence[np.random.Generator], greedy: bool = False
    ) -> list[Decision]:
        coins = [generator.random() < self.probability for generator in generators]
        # Both are asked everywhere: the demonstrator follows the episode only if it sees every step.
        first = self.first.act(observations, generators, greedy)
        second = self.second.act(observations, generators, greedy)
        return [b if coin else a for a, b, coin in zip(first, second, coins, strict=True)]
