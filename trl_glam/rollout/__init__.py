# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Stepping environments, and what a rollout becomes: the one loop, the buffer, and advantages."""

from .buffer import Rollout, minibatches
from .gae import compute_gae
from .runner import EpisodeCollector, ListedEpisodes, Runner, SeededEpisodes, Sink
from .shaping import shaping_rewards


__all__ = [
    "EpisodeCollector",
    "ListedEpisodes",
    "Rollout",
    "Runner",
    "SeededEpisodes",
    "Sink",
    "compute_gae",
    "minibatches",
    "shaping_rewards",
]
