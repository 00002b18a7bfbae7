# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Scores a policy on one test after the other: sampled and greedy, with the random floor and the bot's ceiling beside.

`suites.py` says what the tests are, `evaluate.py` plays a panel, `results.py` keeps the scores; here they meet. The
floor and the ceiling depend on the episodes and the number of actions only, so they are played once for all tests that
share those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
from accelerate import PartialState
from accelerate.utils import gather_object

from ..agents import Agent, BotAgent, RandomAgent, ScoringAgent
from ..policy import PolicyConfig
from ..rollout.runner import Sink
from ..types import EpisodeKey, InvalidInputError, Transition
from .evaluate import EvaluationResult, SuccessRate, evaluate_policy, make_runner, own_part, template_of
from .panels import Panel
from .results import score_entry
from .suites import SuiteTest


MODES = ("sampled", "greedy")
_REFERENCES = {"random": RandomAgent, "bot": BotAgent}


class Scorer:
    """
    Plays tests with one policy under fixed conditions.

    Args:
        agent ([`Agent`]):
            The policy.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the action draws.
        modes (`Sequence[str]`, *optional*, defaults to `("sampled", "greedy")`):
            How it acts; the first is the headline.
        references (`Sequence[str]`, *optional*, defaults to `("random", "bot")`):
            What to play beside it; the bot knows BabyAI-Text levels only.
        num_envs (`int`, *optional*, defaults to `32`):
            Environments side by side.
        confidence (`float`, *optional*, defaults to `0.95`):
            Nominal coverage of the intervals.
        make_env (`Callable[[EpisodeKey], gym.Env]`, *optional*):
            Makes the environment of an episode.
        make_sinks (`Callable[[str, int], Sequence[Sink]]`, *optional*):
            Makes the listeners of one pass from its description and number of episodes, for example a progress bar.
        processes ([`~accelerate.PartialState`], *optional*):
            Processes to share the episodes with; each has a scorer of its own, and all play the same tests.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        seed: int = 0,
        modes: Sequence[str] = MODES,
        references: Sequence[str] = ("random", "bot"),
        num_envs: int = 32,
        confidence: float = 0.95,
        make_env: Callable[[EpisodeKey], gym.Env] | None = None,
        make_sinks: Callable[[str, int], Sequence[Sink]] = lambda description, num_episodes: (),
        processes: PartialState | None = None,
    ) -> None:
        self.agent = agent
        self.seed = seed
        self.modes = modes
        self.references = [_REFERENCES[name]() for name in references]
        self.num_envs = num_envs
        self.confidence = confidence
        self.make_env = make_env
        self.make_sinks = make_sinks
        self.processes = processes
        self._reference_scores: dict[tuple, SuccessRate] = {}
        # Taken before anything is played: `check` and earlier tests add offsets to the policy's own.
        config = self._calibrated_policy()
        self._offsets_of_training = set() if config is None else set(config.calibration.offsets)

    def check(self, test: SuiteTest, panel: Panel) -> None:
        """
        Ask the policy for one decision in every environment of a test, before hours go into the tests before it.

        Raises:
            [`InvalidInputError`]: when the environment cannot be made or the policy cannot act there.
        """
        try:
            runner = make_runner(
                self.agent,
                panel.head(len(panel.groups)),
                num_envs=len(panel.groups),
                seed=self.seed,
                template=test.reword(template_of(self.agent)),
                env_kwargs=_env_kwargs(self.agent, test, panel),
                make_env=self.make_env,
            )
            try:
                runner.step()
            finally:
                runner.close()
        except InvalidInputError as error:
            raise InvalidInputError(f"{self.agent.name} cannot play test {test.name!r}: {error}") from error

    def score(self, test: SuiteTest, panel: Panel) -> dict[str, Any]:
        """
        Play a test in every mode.

        Args:
            test ([`SuiteTest`]):
                What is reworded.
            panel ([`Panel`]):
                The episodes.

        Returns:
            `dict[str, Any]`: the test's entry of `results.json`.
        """
        met = _ActionsMet()
        modes = {mode: self._play(self.agent, test, panel, mode, [met]) for mode in self.modes}
        if self.processes is not None:
            met.actions.update(gather_object(list(met.actions)))
        if isinstance(self.agent, ScoringAgent):
            # Another test has other prompts: what was computed for this one would only fill the memory.
            self.agent.forget()
        return score_entry(
            modes,
            env_kwargs=test.env_kwargs,
            references={agent.name: self._reference(agent, test, panel) for agent in self.references},
            published=test.published,
            calibration=self._calibration_rule(met.actions),
            language=test.language,
        )

    def _play(
        self, agent: Agent, test: SuiteTest, panel: Panel, mode: str, sinks: Sequence[Sink] = ()
    ) -> EvaluationResult:
        num_episodes = len(range(len(panel))[own_part(self.processes)])
        return evaluate_policy(
            agent,
            panel,
            seed=self.seed,
            greedy=mode == "greedy",
            num_envs=self.num_envs,
            template=test.reword(template_of(agent)),
            env_kwargs=_env_kwargs(agent, test, panel),
            make_env=self.make_env,
            confidence=self.confidence,
            sinks=[*self.make_sinks(f"{test.name}, {agent.name}, {mode}", num_episodes), *sinks],
            processes=self.processes,
        )

    def _reference(self, agent: Agent, test: SuiteTest, panel: Panel) -> SuccessRate:
        # Words do not change what these two do, the actions to choose among do.
        key = (agent.name, panel.hash, repr(test.env_kwargs.get("actions")))
        if key not in self._reference_scores:
            self._reference_scores[key] = self._play(agent, test, panel, "sampled").success
        return self._reference_scores[key]

    def _calibrated_policy(self) -> PolicyConfig | None:
        config = self.agent.policy.policy_config if isinstance(self.agent, ScoringAgent) else None
        return config if config is not None and config.calibration.mode != "none" else None

    def _calibration_rule(self, actions: set[str]) -> str | None:
        config = self._calibrated_policy()
        if config is None:
            return None
        if new := sorted(actions - self._offsets_of_training):
            return f"{config.calibration.mode}, offsets of {config.base_model} computed for unseen {', '.join(new)}"
        return f"{config.calibration.mode}, offsets frozen in training"


class _ActionsMet(Sink):
    """The action strings that a policy had to choose among."""

    def __init__(self) -> None:
        self.actions: set[str] = set()

    def on_transition(self, transition: Transition) -> None:
        self.actions.update(transition.observation.admissible_actions)


def _env_kwargs(agent: Agent, test: SuiteTest, panel: Panel) -> dict[str, Any]:
    # BabyAI's bot moves objects out of its way even where the task is to go somewhere: it keeps its six actions.
    # Other worlds have no such option.
    in_babyai = all(group.env_id.startswith("BabyAI-Text/") for group in panel.groups)
    return (
        {**test.env_kwargs, "actions": "canonical"} if isinstance(agent, BotAgent) and in_babyai else test.env_kwargs
    )
