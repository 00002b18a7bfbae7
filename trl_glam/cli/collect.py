# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam collect`: play episodes with any policy and write the interaction log.

Episode i of a collection has a seed that depends on `--seed` and i alone, and the log holds episodes 0, 1, 2, ... in this
order whatever the number of environments. So `--steps N` takes the first episodes whose steps reach N (and not the
shortest ones), a collection that was killed goes on where its log ends, and its rows are those of an unbroken run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..agents import MixtureAgent, RandomAgent, ScoringAgent
from ..envs.contract import make_env
from ..logs.schema import read_metadata
from ..logs.writer import LogWriter, shard_paths
from ..prompts import PromptTemplate
from ..rollout.runner import Runner, SeededEpisodes, Sink
from ..types import EpisodeKey, EpisodeRecord, InvalidInputError, Transition
from .common import agent_from_spec


class OrderedEpisodes(Sink):
    """
    Source of episodes first, first + 1, ... and the sink that hands them on in this order.

    Args:
        env_id (`str`), env_kwargs (`dict[str, Any]`):
            The environment.
        seed (`int`):
            Seed of the collection.
        first (`int`):
            Number of the first episode.
        last (`int` or `None`):
            Number of the episode to stop before; endless if `None`.
        sink ([`Sink`]):
            Told about whole episodes, one after the other.
    """

    def __init__(
        self, env_id: str, env_kwargs: dict[str, Any], seed: int, first: int, last: int | None, sink: Sink
    ) -> None:
        self.env_id = env_id
        self.env_kwargs = env_kwargs
        self.seed = seed
        self.last = last
        self.sink = sink
        self._number = first
        self._due = first
        self._running: dict[int, list[Transition]] = {}
        self._ended: dict[int, EpisodeRecord] = {}

    def next(self, slot: int) -> EpisodeKey | None:
        if self._number == self.last:
            return None
        episodes = SeededEpisodes(self.env_id, self.seed, first_slot=self._number, env_kwargs=self.env_kwargs)
        self._number += 1
        return episodes.next(0)

    def on_transition(self, transition: Transition) -> None:
        self._running.setdefault(transition.observation.episode.slot, []).append(transition)

    def on_episode_end(self, record: EpisodeRecord) -> None:
        self._ended[record.key.slot] = record
        while self._due in self._ended:
            for transition in self._running.pop(self._due):
                self.sink.on_transition(transition)
            self.sink.on_episode_end(self._ended.pop(self._due))
            self._due += 1
