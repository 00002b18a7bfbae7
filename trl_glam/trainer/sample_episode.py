# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What the policy does, in words: one episode as a table, with the probability of every action.

[`EpisodeStory`] listens to a runner and tells the episode it hears. [`SampleEpisodeCallback`] has the trainer play the
same episode after every evaluation, prints it and keeps it, so that one can read what has changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers import TrainerCallback

from ..rollout import Sink
from ..types import Transition


if TYPE_CHECKING:
    from .policy_trainer import _PolicyTrainer

SAMPLE_EPISODES_NAME = "sample_episodes.jsonl"


class EpisodeStory(Sink):
    """
    Keeps one episode as its reader sees it.

    Attributes:
        mission (`str`):
            The mission, empty before the first step.
        steps (`list[dict]`):
            Per step `observation` (`str`), `action` (`str`), `probabilities` (`dict[str, float]`, most probable
            first), `value` (`float` or `None`) and `reward` (`float`, raw).
        success (`bool`):
            Whether it ended well.
    """

    def __init__(self) -> None:
        self.mission = ""
        self.steps: list[dict[str, Any]] = []
        self.success = False

    def on_transition(self, transition: Transition) -> None:
        observation, decision = transition.observation, transition.decision
        self.mission = observation.mission
        probabilities = np.exp(decision.log_probs)
        order = np.argsort(-probabilities, kind="stable")
        self.steps.append(
            {
                "observation": ". ".join(observation.sentences) + ".",
                "action": observation.admissible_actions[decision.index],
                "probabilities": {observation.admissible_actions[i]: float(probabilities[i]) for i in order},
                "value": decision.value,
                "reward": transition.reward,
            }
        )
        self.success = transition.success

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        return f"{'reached' if self.success else 'did not reach'} the goal in {len(self.steps)} steps"

    def told(self, max_steps: int) -> list[str]:
        """The first steps and the outcome, one text each, in rich's markup."""
        told = []
        for step in self.steps[:max_steps]:
            listed = ", ".join(f"{action} {p:.2f}" for action, p in step["probabilities"].items())
            told.append(f"{step['observation']}\n-> [bold]{step['action']}[/bold]  ({listed})")
        return [*told, f"[bold]{self.outcome}[/bold]"]


class SampleEpisodeCallback(TrainerCallback):
    """
    Plays the first episode of the evaluation panel after every evaluation, prints it as a table and appends it to
    `output_dir/sample_episodes.jsonl`. `log_sample_episode=True` in the arguments adds it.

    Args:
        trainer ([`_PolicyTrainer`]):
            The trainer that plays.
        max_steps (`int`, *optional*, defaults to `8`):
            Steps shown in the table; the file holds all.
    """

    def __init__(self, trainer: _PolicyTrainer, max_steps: int = 8) -> None:
        self.trainer = trainer
        self.max_steps = max_steps

    def on_evaluate(self, args, state, control, **kwargs):
        story = EpisodeStory()
        panel = self.trainer.evaluation_panel().head(1)
        # On all processes: a sharded model needs them all to forward; the first one plays.
        self.trainer.play(panel, greedy=args.eval_greedy, sinks=[story])
        if state.is_world_process_zero:
            row = {
                "step": state.global_step,
                "mission": story.mission,
                "steps": story.steps,
                "success": story.success,
            }
            with Path(args.output_dir, SAMPLE_EPISODES_NAME).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            Console().print(self._table(story, state.global_step))

    def _table(self, story: EpisodeStory, global_step: int) -> Table:
        table = Table(title=f"Step {global_step}: {story.mission} ({story.outcome})", show_lines=True)
        table.add_column("observation", ratio=3)
        table.add_column("action")
        table.add_column("probabilities", ratio=2)
        table.add_column("value", justify="right")
        table.add_column("reward", justify="right")
        for step in story.steps[: self.max_steps]:
            table.add_row(
                step["observation"],
                step["action"],
                ", ".join(f"{action} {p:.2f}" for action, p in step["probabilities"].items()),
                "-" if step["value"] is None else f"{step['value']:.2f}",
                f"{step['reward']:.2f}",
            )
        return table
