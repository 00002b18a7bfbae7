# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""One slot of a runner: its running episode, prompt window, generator of action draws, and how it is saved.

The environment itself is elsewhere (`trl_glam/envs/in_process.py`); a slot turns what it says into observations and
transitions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..envs.contract import TextObservation
from ..envs.host import Failure, Outcome
from ..prompts import History, PromptTemplate
from ..types import Decision, EnvironmentFault, EpisodeKey, EpisodeRecord, Observation, Transition
from .episodes import action_generator


class Slot:
    """
    A running episode.

    Args:
        index (`int`):
            Local index of the slot.
        template ([`PromptTemplate`]):
            Writes the prompts.

    Attributes:
        observation ([`Observation`] or `None`):
            What the agent sees now; `None` when no episode runs.
        digest (`str`):
            SHA-256 of all that the environment has said in the episode.
        faults_in_a_row (`int`):
            Episodes that were dropped here since the last whole one.
    """

    def __init__(self, index: int, template: PromptTemplate) -> None:
        self.index = index
        self.key: EpisodeKey | None = None
        self.history = History(template)
        self.generator: np.random.Generator | None = None
        self.observation: Observation | None = None
        self.actions: list[int] = []
        self.episode_return = 0.0
        self.digest = ""
        self.faults_in_a_row = 0

    def take(self, key: EpisodeKey, seed: int) -> None:
        """Take an episode, before its environment is reset; `seed` is that of the action draws."""
        self.key, self.actions, self.episode_return = key, [], 0.0
        self.generator = action_generator(seed, key)

    def open(self, outcome: Outcome) -> None:
        """Begin the episode with what the environment said to the reset."""
        self.digest = outcome.digest
        self.history.reset(outcome.text.mission, outcome.text.sentences)
        self.observation = self._observe(outcome.text)

    def advance(self, decision: Decision, outcome: Outcome, success_threshold: float = 0.0) -> Transition:
        """Go on with what the environment said to an action."""
        before = self.observation
        self.actions.append(decision.index)
        self.episode_return += outcome.reward
        self.digest = outcome.digest
        action = before.admissible_actions[decision.index]
        self.history.append(action, outcome.text.sentences, before.admissible_actions)
        self.observation = after = self._observe(outcome.text)
        ended = outcome.terminated or outcome.truncated
        success = self.episode_return > success_threshold if outcome.success is None else outcome.success
        return Transition(
            observation=before,
            decision=decision,
            reward=outcome.reward,
            terminated=outcome.terminated,
            truncated=outcome.truncated and not outcome.terminated,
            success=ended and success,
            final_observation=after if ended else None,
        )

    def drop(self, decision: Decision) -> Transition:
        """The last transition of an episode whose environment failed: it has no outcome."""
        self.actions.append(decision.index)
        return Transition(self.observation, decision, 0.0, False, False, success=False, dropped=True)

    def fault(self, failure: Failure, note: str = "") -> EnvironmentFault:
        """A failure with the episode it happened in."""
        fault = EnvironmentFault(self.key, tuple(self.actions), failure.reason + note)
        if failure.details:
            fault.add_note(f"Inside the environment:\n{failure.details}")
        return fault

    def record(self, transition: Transition) -> EpisodeRecord:
        """The finished episode, from its last transition."""
        return EpisodeRecord(
            key=self.key,
            task_kind=transition.observation.task_kind,
            actions=tuple(self.actions),
            episode_return=self.episode_return,
            length=len(self.actions),
            success=transition.success,
            mission=self.history.mission,
        )

    def _observe(self, text: TextObservation) -> Observation:
        # After the end an environment need not name actions; the prompt then keeps the last ones.
        shown = text.admissible_actions or self.observation.admissible_actions
        return Observation(
            episode=self.key,
            slot=self.index,
            step=len(self.actions),
            mission=self.history.mission,
            sentences=text.sentences,
            admissible_actions=text.admissible_actions,
            prompt=self.history.prompt(shown),
            task_kind=text.task_kind,
        )

    # -- saving

    def state_dict(self, environment: dict[str, Any] | None) -> dict[str, Any]:
        """
        What is needed to go on exactly, JSON-serialisable.

        Args:
            environment (`dict[str, Any]` or `None`):
                The environment's own state; without it the environment is replayed.
        """
        state = {
            "key": self.key.to_dict(),
            "actions": list(self.actions),
            "generator": self.generator.bit_generator.state,
            "digest": self.digest,
            "faults_in_a_row": self.faults_in_a_row,
        }
        if environment is not None:
            now = self.observation
            state["environment"] = environment
            state["history"] = self.history.to_dict()
            state["episode_return"] = self.episode_return
            state["text"] = [list(now.sentences), list(now.admissible_actions), now.task_kind]
        return state

    def load_window(self, state: dict[str, Any]) -> None:
        """Go on from [`~Slot.state_dict`] with an environment's own state: nothing is replayed."""
        sentences, actions, task_kind = state["text"]
        self.actions, self.episode_return = list(state["actions"]), state["episode_return"]
        self.digest = state["digest"]
        self.history.load_dict(state["history"])
        text = TextObservation(self.history.mission, tuple(sentences), tuple(actions), task_kind)
        self.observation = self._observe(text)
