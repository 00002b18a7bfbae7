# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What listens to a runner: it is told every step, every episode that ended, and every one that was dropped."""

from __future__ import annotations

from ..types import EnvironmentFault, EpisodeRecord, Transition


class Sink:
    """Base class of what listens to a runner: a buffer, a log writer, statistics, a progress bar."""

    def on_transition(self, transition: Transition) -> None:
        """Called for every step, in the order of the slots."""

    def on_episode_end(self, record: EpisodeRecord) -> None:
        """Called after the transition that ends an episode."""

    def on_episode_dropped(self, fault: EnvironmentFault) -> None:
        """
        Called instead of `on_episode_end` for an episode whose environment failed: after its last transition, which
        has no outcome (`transition.dropped`), or without any when it failed at its reset.
        """

    def close(self) -> None:
        """Called once when nothing more will come."""


class EpisodeCollector(Sink):
    """
    Keeps the records of finished episodes, and counts the dropped ones.

    Attributes:
        records (`list[EpisodeRecord]`):
            In the order in which they ended.
        num_dropped (`int`):
            Episodes whose environment failed.
    """

    def __init__(self) -> None:
        self.records: list[EpisodeRecord] = []
        self.num_dropped = 0

    def on_episode_end(self, record: EpisodeRecord) -> None:
        self.records.append(record)

    def on_episode_dropped(self, fault: EnvironmentFault) -> None:
        self.num_dropped += 1

    def take(self) -> list[EpisodeRecord]:
        """Hand the records over and begin anew."""
        records, self.records = self.records, []
        return records
