# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam demo`: a real language model learns a BabyAI-Text level by PPO, and shows what it has learned.

Everything is what `trl-glam train --config quickstart` does, with evaluations before and after on the same 100 seeds,
one episode told side by side, and a picture of the learning curve. It takes no decision of its own: the recipe holds
them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.table import Table
from trl import ModelConfig

from ..agents import BotAgent, RandomAgent
from ..envs.contract import make_env
from ..evaluation import EvaluationResult, Panel, evaluate_policy
from ..figures import learning_curve
from ..trainer import GLAMConfig, GLAMTrainer
from ..trainer.sample_episode import EpisodeStory
from ..types import EpisodeKey, InvalidInputError
from .recipe import parse_recipe
from .train import finish, make_trainer, run_summary


_EPISODES = 100
# Steps of the episode that is told before and after.
_SHOWN_STEPS = 4


class _Clock:
    """Splits the time of the demo into named parts."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.parts: dict[str, float] = {}

    @contextmanager
    def part(self, name: str):
        begun = time.perf_counter()
        yield
        self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - begun

    def __str__(self) -> str:
        split = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.parts.items())
        return f"Time: {time.perf_counter() - self.started:.0f} s ({split})."


def main(argv: Sequence[str]) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="trl-glam demo",
        description="Train a small language model by PPO on a BabyAI-Text level, and show what it has learned.",
    )
    parser.add_argument("--model", default=None, help="Hub id, folder or local: name (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the run (default: 0)")
    parser.add_argument("--output_dir", default="outputs/demo", help="where everything goes (default: outputs/demo)")
    parser.add_argument("--total_env_steps", type=int, default=None, help="length of the run (default: the recipe's)")
    options = parser.parse_args(argv)
    words = ["--config", "quickstart", "--seed", str(options.seed), "--output_dir", options.output_dir]
    if options.model is not None:
        words += ["--model_name_or_path", options.model]
    if options.total_env_steps is not None:
        words += ["--total_env_steps", str(options.total_env_steps)]
    args, model_args = parse_recipe("demo", (GLAMConfig, ModelConfig), words, "")
    if Path(args.output_dir, "interactions").exists():
        raise InvalidInputError(f"{args.output_dir} holds an earlier demo; remove it, or give another --output_dir.")
    _Demo(args, model_args).run()
    return 0


class _Demo:
    def __init__(self, args: GLAMConfig, model_args: ModelConfig) -> None:
        self.args, self.model_args = args, model_args
        self.folder = Path(args.output_dir)
        self.console = Console()
        self.clock = _Clock()
        self.panel = Panel.from_env(args.env_id, _EPISODES, env_kwargs=args.env_kwargs)
        self.invented = Panel.from_env(
            args.env_id, _EPISODES, env_kwargs={**(args.env_kwargs or {}), "lexicon": "invented_words"}
        )
        self.rows: list[tuple[str, EvaluationResult, EvaluationResult | None]] = []

    def run(self) -> None:
        say, clock = self.console.print, self.clock
        say(f"[bold]trl-glam demo[/bold]: {self.model_args.model_name_or_path} learns {self.args.env_id} by PPO.")
        with clock.part("loading"):
            trainer = make_trainer(self.args, self.model_args)
        say(run_summary(trainer))
        say(f"Playing {_EPISODES} fixed episodes with a random policy, the demonstrator and the untrained model ...")
        with clock.part("evaluation before"):
            self._add("random", evaluate_policy(RandomAgent(), self.panel), None)
            bot = evaluate_policy(BotAgent(), self.panel)
            self._add("untrained", trainer.play(self.panel), trainer.play(self.panel, greedy=True))
            before = _tell(trainer, self.panel)
        with clock.part("training"):
            trainer.train()
        say(f"Playing the same {_EPISODES} episodes with the trained model ...")
        with clock.part("evaluation after"):
            self._add("trained", trainer.play(self.panel), trainer.play(self.panel, greedy=True))
            self.rows.append(("bot", bot, bot))
            self._add("trained, invented words", trainer.play(self.invented), trainer.play(self.invented, greedy=True))
            self._add(
                "trained, another episode's mission",
                trainer.play(self.panel, make_env=_with_other_mission),
                trainer.play(self.panel, greedy=True, make_env=_with_other_mission),
            )
            after = _tell(trainer, self.panel)
        with clock.part("saving"):
            finish(trainer)
            curve = self._draw(trainer)
            self._write_results()
        say(self._table())
        say(self._side_by_side(before, after))
        say(
            f"Saved in {self.folder}: the policy with its card (README.md), {curve.name}, demo.json, and every "
            "training episode (interactions/).",
            soft_wrap=True,
        )
        say(
            f"Watch it: trl-glam watch {self.folder} --env_id {self.args.env_id}   "
            f"Test it: trl-glam eval {self.folder} --env_id {self.args.env_id} --output_dir {self.folder}/eval",
            soft_wrap=True,
        )
        say(str(clock))

    def _add(self, name: str, sampled: EvaluationResult, greedy: EvaluationResult | None) -> None:
        self.rows.append((name, sampled, greedy))

    def _table(self) -> Table:
        table = Table(title=f"Success on {_EPISODES} fixed episodes of {self.args.env_id} (95 % Wilson interval)")
        for column in ("policy", "sampled", "steps", "greedy", "steps"):
            table.add_column(column, justify="left" if column == "policy" else "right")
        for name, sampled, greedy in self.rows:
            cells = [] if greedy is None else [_rate(greedy), f"{greedy.mean_length:.1f}"]
            table.add_row(name, _rate(sampled), f"{sampled.mean_length:.1f}", *(cells or ["-", "-"]))
        return table

    def _side_by_side(self, before: EpisodeStory, after: EpisodeStory) -> Table:
        seed = self.panel.episodes()[0].seed
        table = Table(title=f"The episode of seed {seed}, most probable action in every step: {before.mission}")
        table.add_column("before training")
        table.add_column("after training")
        *first, ended_before = before.told(_SHOWN_STEPS)
        *then, ended_after = after.told(_SHOWN_STEPS)
        for left, right in zip_longest(first, then, fillvalue=""):
            table.add_row(left, right, end_section=True)
        table.add_row(ended_before, ended_after)
        return table

    def _draw(self, trainer: GLAMTrainer) -> Path:
        history = [
            {"env_steps": row["env_steps"], "success_rate": row["rollout/success_rate"]}
            for row in trainer.state.log_history
            if "rollout/success_rate" in row
        ]
        references = {name: result.success_rate for name, result, _ in self.rows if name in ("random", "bot")}
        paths = learning_curve(
            history,
            self.folder / "learning_curve.png",
            title=f"PPO on {self.args.env_id}",
            ylabel="success, last 100 episodes",
            references=references,
        )
        return Path(paths[0])

    def _write_results(self) -> None:
        rows = {
            name: {"sampled": sampled.to_dict(), "greedy": None if greedy is None else greedy.to_dict()}
            for name, sampled, greedy in self.rows
        }
        document = {"env_id": self.args.env_id, "seed": self.args.seed, "panel_sha256": self.panel.hash, "rows": rows}
        (self.folder / "demo.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


class _OtherMission(gym.Wrapper):
    """Shows the mission of another episode: who reads the mission must fail where the two differ."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        other, _ = self.env.reset(seed=seed + _EPISODES, options=options)
        self.mission = other["mission"]
        obs, info = self.env.reset(seed=seed, options=options)
        return {**obs, "mission": self.mission}, info

    def step(self, action: int):
        obs, *rest = self.env.step(action)
        return {**obs, "mission": self.mission}, *rest


def _with_other_mission(key: EpisodeKey) -> gym.Env:
    return _OtherMission(make_env(key.env_id, key.env_kwargs))


def _tell(trainer: GLAMTrainer, panel: Panel) -> EpisodeStory:
    """The panel's first episode, with most probable actions."""
    story = EpisodeStory()
    trainer.play(panel.head(1), greedy=True, sinks=[story])
    return story


def _rate(result: EvaluationResult) -> str:
    low, high = result.interval
    return f"{result.success_rate:.2f} ({low:.2f}-{high:.2f})"
