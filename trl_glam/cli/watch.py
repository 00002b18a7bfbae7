# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam watch POLICY --env_id ID`: episodes live in the terminal, with the probabilities of every action.

A sink of the one loop that draws each step. Where the output is no terminal, the steps are printed one after another.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable

import gymnasium as gym
from minigrid.core.world_object import WorldObj
from minigrid.minigrid_env import MiniGridEnv
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..agents import ScoringAgent
from ..envs.babyai_text import BabyAITextEnv
from ..prompts import PromptTemplate
from ..rollout.runner import TRAINING_SEEDS, ListedEpisodes, Runner, Sink
from ..types import EpisodeKey, EpisodeRecord, InvalidInputError, Transition
from . import common


_DESCRIPTION = """\
Play episodes in the terminal: the grid where there is one, what the agent is told, the probability of every action,
the value and the reward. Ctrl-C ends it.
"""
_EPILOG = """\
examples:
  trl-glam watch outputs/quickstart --env_id BabyAI-Text/GoToLocalS5N2-v0
  trl-glam watch bot --env_id BabyAI-Text/BossLevel-v0 --delay 0.1
  trl-glam watch random --env_id TextWorld/Simple-v0 --prompt
"""
_HEADINGS = (" ▶", " ▼", " ◀", " ▲")
_SYMBOLS = {"ball": " ●", "box": " ■", "key": " ⚷", "goal": "██", "lava": "▒▒", "floor": "░░"}
_DOORS = {"open": " ▯", "closed": " ▮", "locked": " ▣"}
_BAR_WIDTH = 30


def grid_text(level: MiniGridEnv) -> Text:
    """A grid world in coloured characters, two to a cell so that cells are square."""
    text = Text()
    for y in range(level.height):
        for x in range(level.width):
            if (x, y) == tuple(map(int, level.agent_pos)):
                text.append(_HEADINGS[int(level.agent_dir)], style="bold red")
                continue
            symbol, style = _cell(level.grid.get(x, y))
            text.append(symbol, style=style)
        text.append("\n")
    return text


def _cell(cell: WorldObj | None) -> tuple[str, str]:
    if cell is None:
        return " ·", "bright_black"
    style = {"grey": "bright_black", "purple": "magenta"}.get(cell.color, cell.color)
    if cell.type == "wall":
        return "██", "bright_black"
    if cell.type == "door":
        return _DOORS["open" if cell.is_open else "locked" if cell.is_locked else "closed"], f"bold {style}"
    return _SYMBOLS[cell.type], f"bold {style}"


class Screen(Sink):
    """
    Draws every step.

    Args:
        console (`rich.console.Console`):
            Where to.
        delay (`float`):
            Seconds a step stays.
        show_prompt (`bool`):
            Show the prompt that the model reads instead of the observation.
    """

    def __init__(self, console: Console, delay: float, show_prompt: bool) -> None:
        self.console = console
        self.delay = delay
        self.show_prompt = show_prompt
        self.env: gym.Env | None = None
        self.successes: list[bool] = []
        self._return = 0.0
        self._before: Text | None = None
        self._live = Live(console=console, auto_refresh=False, screen=False) if console.is_terminal else None
        if self._live is not None:
            self._live.start()

    def make(self, make_env: Callable[[EpisodeKey], gym.Env]) -> Callable[[EpisodeKey], gym.Env]:
        """The maker of environments, with an eye on what it makes."""

        def watched(key: EpisodeKey) -> gym.Env:
            self.env = make_env(key)
            return self.env

        return watched

    def remember_grid(self) -> None:
        """Keep the grid as it is before a step: the decision belongs to it."""
        world = None if self.env is None else self.env.unwrapped
        self._before = grid_text(world.level) if isinstance(world, BabyAITextEnv) else None

    def on_transition(self, transition: Transition) -> None:
        if transition.observation.step == 0:
            self._return = 0.0
        self._return += transition.reward
        self._draw(self._step(transition))

    def on_episode_end(self, record: EpisodeRecord) -> None:
        self.successes.append(record.success)
        outcome = "[bold green]success[/]" if record.success else "[bold red]no success[/]"
        line = (
            f"seed {record.key.seed}: {record.mission or 'episode'} - {outcome} after {record.length} steps, "
            f"return {record.episode_return:.3g} ({sum(self.successes)} of {len(self.successes)} succeeded so far)"
        )
        self.console.print(line)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()

    def _draw(self, picture: RenderableType) -> None:
        if self._live is None:
            self.console.print(picture)
            return
        self._live.update(picture, refresh=True)
        time.sleep(self.delay)

    def _step(self, transition: Transition) -> RenderableType:
        observation, decision = transition.observation, transition.decision
        facts = f"step {observation.step + 1}   reward {transition.reward:.3g}   return {self._return:.3g}"
        if decision.value is not None:
            facts += f"   value {decision.value:.3f}"
        told = Text(observation.prompt if self.show_prompt else "\n".join(observation.sentences))
        right = Group(Text(observation.mission, style="bold"), told, Text(), _bars(transition), Text(), Text(facts))
        if self._before is None:
            return Panel(right, title=observation.episode.env_id, title_align="left")
        table = Table.grid(padding=(0, 3))
        table.add_row(self._before, right)
        return Panel(table, title=observation.episode.env_id, title_align="left")


def _bars(transition: Transition) -> Table:
    decision = transition.decision
    table = Table.grid(padding=(0, 1))
    for index, action in enumerate(transition.observation.admissible_actions):
        chosen = index == decision.index
        style = "bold cyan" if chosen else ""
        probability = None if decision.log_probs is None else math.exp(decision.log_probs[index])
        bar = "" if probability is None else "█" * max(round(_BAR_WIDTH * probability), int(probability > 0.001))
        number = "" if probability is None else f"{100 * probability:5.1f} %"
        table.add_row(Text("▸" if chosen else " ", style), Text(action, style), Text(number, style), Text(bar, style))
    return table


def build_parser() -> argparse.ArgumentParser:
    parser = common.CommandParser(
        prog="trl-glam watch",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("policy", metavar="POLICY", help=common.POLICY_HELP)
    common.add_environment_arguments(parser, env_id=parser)
    parser.add_argument("--episodes", type=common.positive_int, default=5, metavar="N", help="how many (default 5)")
    parser.add_argument(
        "--seed",
        type=int,
        default=TRAINING_SEEDS,
        help=f"reset seed of the first episode, the others follow (default {TRAINING_SEEDS}: never trained on)",
    )
    parser.add_argument("--greedy", action="store_true", help="most probable action instead of a draw")
    parser.add_argument("--delay", type=float, default=0.4, metavar="S", help="seconds a step stays (default 0.4)")
    parser.add_argument("--prompt", action="store_true", help="show the prompt that the model reads")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    if args.env_id is None:
        raise InvalidInputError("--env_id is missing; give the Gymnasium id of an environment.")
    if args.seed < 0 or not args.delay >= 0:
        raise InvalidInputError(f"--seed {args.seed} and --delay {args.delay} must not be negative.")
    agent = common.agent_from_spec(args.policy)
    screen = Screen(Console(file=sys.stdout), args.delay, args.prompt)
    keys = [EpisodeKey(args.env_id, args.seed + i, env_kwargs=args.env_kwargs, number=i) for i in range(args.episodes)]
    runner = Runner(
        screen.make(common.env_maker(args.env_module)),
        ListedEpisodes(keys),
        1,
        agent,
        agent.template if isinstance(agent, ScoringAgent) else PromptTemplate(),
        seed=0,
        greedy=args.greedy,
        sinks=[screen],
    )
    try:
        while runner.observations:
            screen.remember_grid()
            runner.step()
    finally:
        runner.close()
    return 0
