# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What commands share: a parser whose errors are one line, the environment's arguments, POLICY -> agent, progress."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import gymnasium as gym
import torch
from huggingface_hub import try_to_load_from_cache
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..agents import Agent, BotAgent, RandomAgent, ScoringAgent
from ..allocator import keep_freed_memory
from ..envs.contract import make_env
from ..local_models import PREFIX
from ..policy.config import POLICY_CONFIG_NAME
from ..policy.scoring_policy import ScoringPolicy
from ..rollout.runner import Sink
from ..types import EpisodeKey, EpisodeRecord, InvalidInputError


POLICY_HELP = "bot, random, drrn:DIR, symbolic:DIR, or a model: a saved policy's folder, a Hub id or a local: name"


class CommandParser(argparse.ArgumentParser):
    """An argument parser that raises [`InvalidInputError`], so that a wrong value is one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"{message}; see `{self.prog} --help`.")


def add_environment_arguments(parser: argparse.ArgumentParser, env_id: argparse._ActionsContainer) -> None:
    """
    Add `--env_id`, `--env_module` and `--env_kwargs`.

    Args:
        parser (`argparse.ArgumentParser`):
            The command's parser.
        env_id (`argparse.ArgumentParser` or one of its groups):
            Where `--env_id` goes, which some commands take in place of something else.
    """
    env_id.add_argument("--env_id", metavar="ID", help="Gymnasium id, for example BabyAI-Text/GoToLocal-v0")
    parser.add_argument("--env_module", metavar="M", help="module to import first, which registers your environment")
    parser.add_argument(
        "--env_kwargs",
        type=json_object,
        default={},
        metavar="JSON",
        help="keyword arguments of the environment, for example '{\"num_dists\": 4}'",
    )


def json_object(text: str) -> dict[str, Any]:
    """A JSON object from the command line."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object, such as '{{\"num_dists\": 4}}'")
    return value


def positive_int(text: str) -> int:
    """An integer of at least 1 from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)


def env_maker(env_module: str | None) -> Callable[[EpisodeKey], gym.Env]:
    """Makes the environment of an episode; `env_module` is imported first so that it can register its own."""
    return lambda key: make_env(key.env_id, key.env_kwargs, env_module)


def agent_from_spec(spec: str, batch_size: int = 64, revision: str | None = None) -> Agent:
    """
    The agent that POLICY names on the command line.

    Args:
        spec (`str`):
            `bot`, `random`, `drrn:DIR`, `symbolic:DIR`, or a model: the folder of a saved policy, a Hub id or a
            `local:` name. A Hub id or `local:` name of a plain language model is the untrained policy.
        batch_size (`int`, *optional*, defaults to `64`):
            Prompts per forward of a model.
        revision (`str`, *optional*):
            Branch, tag or commit of a model on the Hub.

    Returns:
        [`Agent`]

    Raises:
        [`InvalidInputError`]: when there is no such policy.
    """
    kind, _, folder = spec.partition(":")
    if revision is not None and (spec in ("bot", "random") or folder or Path(spec).is_dir()):
        raise InvalidInputError(f"--revision belongs to a model on the Hub, and {spec} is none; leave it out.")
    if spec == "bot":
        return BotAgent()
    if spec == "random":
        return RandomAgent()
    if kind == "drrn":
        from ..baselines.drrn import load as load_drrn

        return load_drrn(folder)
    if kind == "symbolic":
        from ..baselines.symbolic_ppo import load as load_symbolic

        return load_symbolic(folder)
    path = Path(spec)
    if path.is_dir() and not (path / POLICY_CONFIG_NAME).is_file():
        raise InvalidInputError(
            f"{spec} holds no {POLICY_CONFIG_NAME}, so it is not a saved policy. Give the folder that training wrote, "
            "or the Hub id or local: name of a plain language model to use it untrained."
        )
    if path.is_absolute() and not path.exists():
        raise InvalidInputError(f"There is no folder {spec}. POLICY is {POLICY_HELP}.")
    policy = ScoringPolicy.from_pretrained(spec, revision=revision)
    if not torch.cuda.is_available():
        keep_freed_memory()
    return ScoringAgent(policy.to("cuda" if torch.cuda.is_available() else "cpu"), batch_size=batch_size)


def hub_commit(spec: str, revision: str | None) -> str | None:
    """The commit of a model that was loaded from the Hub; `None` for one that lives elsewhere."""
    if Path(spec).is_dir() or spec.startswith(PREFIX):
        return None
    # A policy has the first one, a plain language model the other.
    names = (POLICY_CONFIG_NAME, "config.json")
    cached = (try_to_load_from_cache(spec, name, revision=revision) for name in names)
    return next((Path(path).parent.name for path in cached if isinstance(path, str)), None)


class EpisodeProgress(Sink):
    """
    A progress bar over a known number of episodes with the success rate so far; silent where stderr is no terminal.

    Args:
        description (`str`):
            What runs.
        total (`int`):
            Its length.
    """

    def __init__(self, description: str, total: int) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("success {task.fields[success]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(description, total=total, success="-")
        self._finished = self._successes = 0
        self._bar.start()

    def on_episode_end(self, record: EpisodeRecord) -> None:
        self._finished += 1
        self._successes += record.success
        rate = f"{self._successes / self._finished:.3f}"
        self._bar.update(self._task, completed=self._completed(record), success=rate)

    def _completed(self, record: EpisodeRecord) -> int:
        """How much of the total is done with this episode."""
        return self._finished

    def close(self) -> None:
        self._bar.stop()
