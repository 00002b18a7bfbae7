# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Plays a log again from its seeds and actions, and compares every row with what happens.

The replay goes through the runner that wrote the log and the function that made its rows, so what is compared is what
was written. It stops at the first difference: after it the environment and the log tell different stories. The agent's
numbers (`logprobs`, `value`) and the run's own columns (`run_id`, `env_step`, `update`, `policy`) are not the
environment's to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import HfFileSystem

from .._compat import HUB_NETWORK_ERRORS
from ..agents import Agent
from ..envs.maker import EnvironmentMaker
from ..prompts import PromptTemplate
from ..rollout.runner import Runner, Sink
from ..types import Decision, EpisodeKey, InvalidInputError, Observation, Transition
from .dataset import episode_groups, find_shards, open_log
from .schema import observation_row, read_metadata, transition_row


@dataclass(frozen=True)
class Difference:
    """
    Where a log and its replay part.

    Args:
        run_id (`str`), episode_id (`str`), step (`int`), column (`str`):
            The place.
        logged (`Any`), replayed (`Any`):
            What the log says, and what happened when it was played again.
    """

    run_id: str
    episode_id: str
    step: int
    column: str
    logged: Any
    replayed: Any

    def __str__(self) -> str:
        return (
            f"episode {self.episode_id} of run {self.run_id}, step {self.step}, column {self.column}: "
            f"logged {self.logged!r}, replayed {self.replayed!r}"
        )


@dataclass(frozen=True)
class VerifyReport:
    """
    What a replay found.

    Args:
        episodes (`int`), transitions (`int`):
            Replayed without a difference.
        prompts_checked (`bool`):
            Whether the prompts were compared too: their template is known.
        difference ([`Difference`] or `None`):
            The first difference; the replay stopped there.
    """

    episodes: int
    transitions: int
    prompts_checked: bool
    difference: Difference | None = None

    @property
    def ok(self) -> bool:
        return self.difference is None


class _Parted(Exception):
    def __init__(self, difference: Difference) -> None:
        super().__init__(str(difference))
        self.difference = difference


class _Replay(Agent, Sink):
    """Source, agent and sink at once, for a runner with one slot: gives logged keys and actions, compares rows."""

    def __init__(self, episodes: Iterator[list[dict[str, Any]]], with_prompts: bool) -> None:
        self.episodes = episodes
        self.with_prompts = with_prompts
        self.rows: list[dict[str, Any]] = []
        self.num_episodes = 0
        self.num_transitions = 0
        self._seen: set[tuple[str, str]] = set()

    def next(self, slot: int) -> EpisodeKey | None:
        self.rows = next(self.episodes, [])
        if not self.rows:
            return None
        first = self.rows[0]
        name = (first["run_id"], first["episode_id"])
        if name in self._seen:
            self._part(first, "episode_id", first["episode_id"], "the episode was there before")
        self._seen.add(name)
        try:
            number = int(first["episode_id"].split("-")[1])
            options = None if first["env_options"] is None else json.loads(first["env_options"])
            env_kwargs = json.loads(first["env_kwargs"])
        except (ValueError, IndexError) as error:
            raise InvalidInputError(
                f"Episode {first['episode_id']} cannot be replayed: env_kwargs, env_options or episode_id are not in "
                f"the form of an interaction log ({error})."
            ) from None
        return EpisodeKey(first["env_id"], first["env_seed"], options, env_kwargs, first["env_index"], number)

    def act(
        self, observations: Sequence[Observation], generators: Sequence[np.random.Generator], greedy: bool = False
    ) -> list[Decision]:
        (observation,) = observations
        if observation.step == len(self.rows):
            self._part(self.rows[-1], "terminated", "no further row", "the episode goes on")
        logged, replayed = self.rows[observation.step], observation_row(observation)
        if not self.with_prompts or logged["prompt"] is None:
            del replayed["prompt"]
        self._compare(logged, replayed)
        index, admissible = logged["action_index"], observation.admissible_actions
        if not 0 <= index < len(admissible):
            self._part(logged, "action_index", index, f"{len(admissible)} admissible actions")
        return [Decision(index=index)]

    def on_transition(self, transition: Transition) -> None:
        logged, replayed = self.rows[transition.observation.step], transition_row(transition)
        names = ("action", "reward", "terminated", "truncated", "success", "next_observation")
        self._compare(logged, {name: replayed[name] for name in names})
        self.num_transitions += 1
        if transition.ended:
            following = self.rows[transition.observation.step + 1 :]
            if following:
                self._part(following[0], "step", following[0]["step"], "the episode has ended")
            self.num_episodes += 1

    def _compare(self, logged: dict[str, Any], replayed: dict[str, Any]) -> None:
        for column, value in replayed.items():
            if logged[column] != value:
                self._part(logged, column, logged[column], value)

    def _part(self, row: dict[str, Any], column: str, logged: Any, replayed: Any) -> None:
        raise _Parted(Difference(row["run_id"], row["episode_id"], row["step"], column, logged, replayed))


def verify_log(
    path_or_repo: str | Path,
    *,
    env_module: str | None = None,
    template: PromptTemplate | None = None,
    success_threshold: float = 0.0,
    sinks: Sequence[Sink] = (),
) -> VerifyReport:
    """
    Replay every episode of a log and compare observations, missions, actions, rewards, endings and success.

    Args:
        path_or_repo (`str` or `Path`):
            Folder of Parquet shards, one Parquet file, or a dataset on the Hub.
        env_module (`str`, *optional*):
            Module to import first because it registers the log's environments.
        template ([`PromptTemplate`], *optional*):
            Compare the prompts with this template's; the one in the shards' metadata if not given, on the Hub too.
        success_threshold (`float`, *optional*, defaults to `0.0`):
            As in the run, for environments without `info["success"]`.
        sinks (`Sequence[Sink]`, *optional*):
            Told what agrees, for example a progress bar; closed at the end.

    Returns:
        [`VerifyReport`]

    Raises:
        [`InvalidInputError`]: no log, an empty one, another schema version, missing columns, an unknown environment.
    """
    log = open_log(path_or_repo, streaming=True)
    if template is None:
        template = _logged_template(path_or_repo)

    replay = _Replay(episode_groups(log), with_prompts=template is not None)
    runner = Runner(
        EnvironmentMaker(env_module),
        replay,
        1,
        replay,
        template or PromptTemplate(),
        0,
        success_threshold=success_threshold,
        sinks=[replay, *sinks],
    )
    difference = None
    try:
        while runner.observations:
            runner.step()
    except _Parted as parted:
        difference = parted.difference
    finally:
        runner.close()
    return VerifyReport(replay.num_episodes, replay.num_transitions, template is not None, difference)


def _logged_template(path_or_repo: str | Path) -> PromptTemplate | None:
    """The template that all shards name, if they name one."""
    templates = []
    for metadata in _all_metadata(path_or_repo):
        template = None if metadata is None else metadata["run"].get("prompt_template")
        if template not in templates:
            templates.append(template)
    return PromptTemplate.from_dict(templates[0]) if len(templates) == 1 and templates[0] is not None else None


def _all_metadata(path_or_repo: str | Path) -> list[dict[str, Any] | None]:
    if shards := find_shards(path_or_repo):
        return [read_metadata(shard) for shard in shards]
    # On the Hub: `datasets` reads the rows from there, but not what the shards say of themselves.
    filesystem = HfFileSystem()
    try:
        return [read_metadata(shard, filesystem) for shard in filesystem.glob(f"datasets/{path_or_repo}/**/*.parquet")]
    except (OSError, *HUB_NETWORK_ERRORS) as error:
        reason = str(error).strip().split("\n")[0]
        raise InvalidInputError(f"{path_or_repo} could not be read from the Hub ({reason}). Try again.") from None
