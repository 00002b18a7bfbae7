# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Stepping environments, and what a rollout becomes: the one loop, the buffer, and advantages."""

from .buffer import Rollout
from .gae import compute_gae
from .minibatches import episode_minibatches, micro_batches, minibatches
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
    "episode_minibatches",
    "micro_batches",
    "minibatches",
    "shaping_rewards",
]
