# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Which kind of task the next training episode is of: where the policy is making progress, or losing what it knew.

MAGELLAN's idea (https://huggingface.co/papers/2502.07709) with a table in the place of its learned estimator: a
success rate per kind now and delayed, their distance is the learning progress, and kinds are drawn in proportion to
it. Both rates are moving averages, a fast and a slow one, as in Kanitscheider et al., 2021
(https://huggingface.co/papers/2106.14876). The choice reaches the environment as the reset option `task`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..rollout.episodes import GOAL_STREAM
from ..types import EpisodeRecord, InvalidInputError


@dataclass
class _SuccessRates:
    """Success rate of one kind, over the last few and over the last many episodes."""

    episodes: int = 0
    now: float = 0.0
    delayed: float = 0.0


class LearningProgress:
    """
    Draws the kind of task of every training episode in proportion to its learning progress.

    The probabilities change between rollouts only, by the episodes of all processes, and a draw depends on (seed,
    global slot, episode number) and the probabilities alone: a run is the same on any number of processes.

    Args:
        kinds (`Sequence[str]`):
            The kinds of task; at least two.
        seed (`int`):
            Seed of the run.
        epsilon (`float`, *optional*, defaults to `0.2`):
            Share of the episodes that is drawn uniformly, so that no kind is ever given up.
        rate (`float`, *optional*, defaults to `0.05`):
            Weight of a new episode in the success rate of now; up to `1 / rate` episodes it is their mean. Kinds are
            drawn uniformly until every one has been played so often.
        delayed_rate (`float`, *optional*, defaults to `0.0125`):
            The same of the delayed success rate.

    Raises:
        [`InvalidInputError`]: for fewer than two kinds.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        seed: int,
        epsilon: float = 0.2,
        rate: float = 0.05,
        delayed_rate: float = 0.0125,
    ) -> None:
        if len(kinds) < 2:
            raise InvalidInputError(
                "goal_sampling='learning_progress' chooses among kinds of task, and the environment has "
                f"{list(kinds) or 'none'}: train where there are several (BabyAI-Text/MixedTrainLocal-v0 without a "
                "fixed task), or give your environment an attribute task_kinds that names them and let "
                "reset(options={'task': kind}) begin an episode of a kind."
            )
        self.kinds = tuple(kinds)
        self.seed = seed
        self.epsilon = epsilon
        self.rate = rate
        self.delayed_rate = delayed_rate
        self._rates = {kind: _SuccessRates() for kind in self.kinds}
        self.probabilities = np.full(len(self.kinds), 1 / len(self.kinds))

    def options(self, slot: int, number: int) -> dict[str, Any]:
        """
        Reset options of a training episode, for [`~trl_glam.rollout.SeededEpisodes`].

        Args:
            slot (`int`):
                Global index of the environment.
            number (`int`):
                Number of the episode inside its slot.
        """
        sequence = np.random.SeedSequence(self.seed, spawn_key=(slot, number, GOAL_STREAM))
        drawn = np.random.default_rng(sequence).choice(len(self.kinds), p=self.probabilities)
        return {"task": self.kinds[int(drawn)]}

    def update(self, records: Sequence[EpisodeRecord]) -> None:
        """
        Learn from the episodes of a rollout, and set the probabilities of the next.

        Args:
            records (`Sequence[EpisodeRecord]`):
                Finished episodes of all processes, in the order of one.
        """
        for record in records:
            rates = self._rates[record.key.options["task"]]
            rates.episodes += 1
            rates.now += max(self.rate, 1 / rates.episodes) * (record.success - rates.now)
            rates.delayed += max(self.delayed_rate, 1 / rates.episodes) * (record.success - rates.delayed)
        uniform = np.full(len(self.kinds), 1 / len(self.kinds))
        progress = np.array(list(self.progress.values()))
        known = all(rates.episodes >= 1 / self.rate for rates in self._rates.values())
        focused = progress / progress.sum() if known and progress.sum() > 0 else uniform
        self.probabilities = self.epsilon * uniform + (1 - self.epsilon) * focused

    @property
    def progress(self) -> dict[str, float]:
        """Learning progress of every kind: the distance of its success rate now from the delayed one."""
        return {kind: abs(rates.now - rates.delayed) for kind, rates in self._rates.items()}

    def metrics(self) -> dict[str, float]:
        """What is logged: learning progress of every kind, and the probability of drawing it next."""
        shares = dict(zip(self.kinds, self.probabilities.tolist(), strict=True))
        return {
            **{f"goals/progress/{kind}": value for kind, value in self.progress.items()},
            **{f"goals/probability/{kind}": value for kind, value in shares.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on exactly, JSON-serialisable."""
        rates = {kind: asdict(rates) for kind, rates in self._rates.items()}
        return {"rates": rates, "probabilities": self.probabilities.tolist()}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """
        Go on from [`~LearningProgress.state_dict`].

        Raises:
            [`InvalidInputError`]: when the saved run had other kinds, or drew none.
        """
        saved = [] if state is None else list(state["rates"])
        if saved != list(self.kinds):
            raise InvalidInputError(
                f"The checkpoint is of a run that chose among the kinds of task {saved or 'none'}, this one chooses "
                f"among {list(self.kinds)}; resume with the same environment and goal_sampling."
            )
        self._rates = {kind: _SuccessRates(**rates) for kind, rates in state["rates"].items()}
        self.probabilities = np.array(state["probabilities"])
