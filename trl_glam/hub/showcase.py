# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Plays the one episode that a card shows: in words, and as a GIF where the world is a grid.

It is the first of the evaluation seeds with actions drawn from the policy: nobody chose it. The policy is loaded from
the staged folder, so an episode on a card is also the proof that the folder loads and acts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from ..agents import ScoringAgent
from ..cards import EPISODE_NAME
from ..evaluation.evaluate import template_of
from ..figures import episode_gif, grid_frame, grid_world
from ..policy.scoring_policy import ScoringPolicy
from ..rollout import ListedEpisodes, Runner
from ..rollout.runner import TRAINING_SEEDS
from ..types import EpisodeKey


# Pixels of the animation, about.
_WIDTH = 360


def record_episode(
    policy: ScoringPolicy,
    folder: str | Path,
    make_env: Callable[[EpisodeKey], gym.Env],
    env_id: str,
    env_kwargs: dict[str, Any] | None = None,
    seed: int = TRAINING_SEEDS,
) -> dict[str, Any]:
    """
    Play an episode and write its GIF into a folder.

    Args:
        policy ([`ScoringPolicy`]):
            Who acts, by its own prompt template.
        folder (`str` or `Path`):
            Gets `episode.gif`, if the environment is a grid world.
        make_env (`Callable[[EpisodeKey], gym.Env]`):
            Makes the environment.
        env_id (`str`), env_kwargs (`dict[str, Any]`, *optional*):
            The environment.
        seed (`int`, *optional*):
            Reset seed; the first that no training uses, if not given.

    Returns:
        `dict[str, Any]`: `env_id, seed, mission, success, return, length`, the first `prompt` with its
        `admissible_actions`, and `steps`: `observation` (sentences), `action`, `probability`.
    """
    envs: list[gym.Env] = []

    def make(key: EpisodeKey) -> gym.Env:
        envs.append(make_env(key))
        return envs[-1]

    key = EpisodeKey(env_id, seed, env_kwargs=env_kwargs or {})
    agent = ScoringAgent(policy)
    runner = Runner(make, ListedEpisodes([key]), 1, agent, template_of(agent), seed=0)
    transitions, frames = [], []
    try:
        first = runner.observations[0]
        world = grid_world(envs[0])
        # About as wide on the page whatever the grid's size.
        tile_size = 32 if world is None else max(12, _WIDTH // world.width)
        while runner.observations:
            if world is not None:
                frames.append(grid_frame(envs[0], tile_size))
            transitions += runner.step()
        if world is not None:
            frames.append(grid_frame(envs[0], tile_size))
    finally:
        runner.close()
    steps = [_step(transition) for transition in transitions]
    success, total = transitions[-1].success, sum(transition.reward for transition in transitions)
    if frames:
        actions = [f"{i + 1}. {step['action']} ({step['probability']:.0%})" for i, step in enumerate(steps)]
        ending = f"{'success' if success else 'no success'} after {len(steps)} step{'s' if len(steps) != 1 else ''}"
        captions = [f"Goal: {first.mission}\n{caption}" for caption in [*actions, f"{ending}, return {total:.2f}"]]
        episode_gif(frames, Path(folder, EPISODE_NAME), captions)
    return {
        "env_id": env_id,
        "seed": seed,
        "mission": first.mission,
        "success": success,
        "return": total,
        "length": len(transitions),
        "prompt": first.prompt,
        "admissible_actions": list(first.admissible_actions),
        "steps": steps,
    }


def _step(transition) -> dict[str, Any]:
    observation, decision = transition.observation, transition.decision
    return {
        "observation": list(observation.sentences),
        "action": observation.admissible_actions[decision.index],
        "probability": float(np.exp(decision.log_probs[decision.index])),
    }
