# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The viewer's episodes: which ones, and each as compact JSON with the grid at every step.

A log holds seeds and actions, not pictures. Worlds on a grid are played again to get the cells, and what they say is
compared with the log: an episode that the installed version plays differently is shown as text, never with a wrong
picture. Other worlds need no environment at all.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.minigrid_env import MiniGridEnv

from ..envs.babyai_text import BabyAITextEnv
from ..envs.contract import make_env
from ..envs.view import render_image
from ..types import InvalidInputError
from .log_table import LoggedEpisode, read_rows


GRID_NAMESPACE = "BabyAI-Text/"


def choose(episodes: Mapping[Path, Sequence[LoggedEpisode]], num_episodes: int) -> dict[Path, list[LoggedEpisode]]:
    """
    Episodes to show: an equal share of every log, first those that another log has played too, then evenly spread.

    Args:
        episodes (`dict[Path, list[LoggedEpisode]]`):
            Episodes of every log.
        num_episodes (`int`):
            How many in all, at most.

    Returns:
        `dict[Path, list[LoggedEpisode]]`: in the order in which they were played.
    """
    logs_of: dict[tuple, set[Path]] = defaultdict(set)
    for log, played in episodes.items():
        for episode in played:
            logs_of[episode.identity].add(log)
    chosen = {}
    for log, played in episodes.items():
        share = max(num_episodes // len(episodes), 1)
        shared = [episode for episode in played if len(logs_of[episode.identity]) > 1][:share]
        others = [episode for episode in played if len(logs_of[episode.identity]) == 1]
        room = min(share - len(shared), len(others))
        spread = {round(i) for i in np.linspace(0, len(others) - 1, room)} if room > 0 else set()
        chosen[log] = sorted(
            shared + [others[i] for i in sorted(spread)], key=lambda episode: (episode.env_step, episode.start)
        )
    return chosen


class EpisodeBook:
    """
    Collects episodes for the page; texts and action sets that repeat are stored once.

    Attributes:
        policies (`list[str]`), envs (`list[str]`), action_sets (`list[list[str]]`):
            What the episodes' numbers refer to.
        episodes (`list[dict[str, Any]]`):
            The episodes.
        not_replayed (`int`):
            Episodes on a grid that the installed version plays differently.
    """

    def __init__(self) -> None:
        self.policies: list[str] = []
        self.envs: list[str] = []
        self.action_sets: list[list[str]] = []
        self.episodes: list[dict[str, Any]] = []
        self.not_replayed = 0
        self._identities: list[tuple] = []
        self._worlds: dict[tuple[str, str], gym.Env] = {}

    def add_log(self, group: str, episodes: Sequence[LoggedEpisode]) -> None:
        """Add the chosen episodes of one log; `group` tells policies of the same name apart."""
        rows_of = read_rows(episodes)
        for episode in episodes:
            self.episodes.append(self._encode(group, episode, rows_of[episode]))

    def close(self) -> None:
        for world in self._worlds.values():
            world.close()

    def to_json(self, keep: int | None = None) -> dict[str, Any]:
        """What the page reads; with `keep`, only the episodes whose seed is one of every `keep`-th."""
        episodes = self.episodes if keep is None else [e for e in self.episodes if e["same"] % keep == 0]
        return {"policies": self.policies, "envs": self.envs, "sets": self.action_sets, "episodes": episodes}

    def _encode(self, group: str, episode: LoggedEpisode, rows: list[dict[str, Any]]) -> dict[str, Any]:
        first, last = rows[0], rows[-1]
        frames = self._frames(episode, rows)
        return {
            "policy": _index(self.policies, group),
            "by": first["policy"],
            "env": _index(self.envs, episode.identity[0]),
            "same": _index(self._identities, episode.identity),
            "seed": first["env_seed"],
            "kind": first["task_kind"],
            "mission": first["mission"],
            "outcome": "success" if last["success"] else "time limit" if last["truncated"] else "failure",
            "update": episode.update,
            "env_step": episode.env_step,
            "sets": [_index(self.action_sets, row["admissible_actions"]) for row in rows],
            "actions": [row["action_index"] for row in rows],
            "probs": [
                None if row["logprobs"] is None else [_probability(lp) for lp in row["logprobs"]] for row in rows
            ],
            "values": [None if row["value"] is None else round(row["value"], 4) for row in rows],
            "rewards": [float(f"{row['reward']:.5g}") for row in rows],
            "prompts": [row["prompt"] for row in rows],
            "said": [*(row["observation"] for row in rows), last["next_observation"] or []],
            "grid": frames,
        }

    def _frames(self, episode: LoggedEpisode, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
        env_id, env_kwargs, env_options, seed = episode.identity
        if not env_id.startswith(GRID_NAMESPACE):
            return None
        try:
            if (env_id, env_kwargs) not in self._worlds:
                self._worlds[env_id, env_kwargs] = make_env(env_id, json.loads(env_kwargs))
            world = self._worlds[env_id, env_kwargs]
            _, info = world.reset(seed=seed, options=None if env_options is None else json.loads(env_options))
            frames = GridFrames(world)
            for row in rows:
                if info["descriptions"] != row["observation"]:
                    self.not_replayed += 1
                    return None
                info = world.step(row["action_index"])[-1]
                frames.append()
        except InvalidInputError:
            # The level or an option of another version: the log's text is all there is.
            self.not_replayed += 1
            return None
        return frames.to_json()


class GridFrames:
    """
    The cells of a grid world over an episode: all of them once, then what changes.

    Args:
        env (`gym.Env`):
            A BabyAI-Text environment, just reset.
    """

    def __init__(self, env: gym.Env) -> None:
        unwrapped = env.unwrapped
        assert isinstance(unwrapped, BabyAITextEnv)
        self._world = unwrapped
        self._cells = cell_codes(unwrapped.level)
        self._first = self._cells
        self._frames: list[list[Any]] = []
        self.append()

    def append(self) -> None:
        """Take the present state."""
        level = self._world.level
        cells = cell_codes(level)
        changes = [number for i, code in enumerate(cells) if code != self._cells[i] for number in (i, code)]
        self._cells = cells
        carried = 0 if level.carrying is None else _code(level.carrying.encode())
        x, y = level.agent_pos
        self._frames.append([int(x), int(y), int(level.agent_dir), carried, _seen_cells(level), changes])

    def to_json(self) -> dict[str, Any]:
        """`width`, `height`, `cells` (codes by row) and `frames`: x, y, direction, carried, seen (hex), changes."""
        level = self._world.level
        return {"width": level.width, "height": level.height, "cells": self._first, "frames": self._frames}


def cell_codes(level: MiniGridEnv) -> list[int]:
    """Every cell as `100 * type + 10 * color + state` in Minigrid's numbers, row by row."""
    return [_EMPTY if cell is None else _code(cell.encode()) for cell in level.grid.grid]


def _code(cell: Sequence[int]) -> int:
    kind, color, state = cell
    return 100 * kind + 10 * color + state


_EMPTY = _code((OBJECT_TO_IDX["empty"], 0, 0))


def _seen_cells(level: MiniGridEnv) -> str:
    """The cells that the agent sees, row by row as bits, in hexadecimal digits of four cells each."""
    size = level.agent_view_size
    (ahead_x, ahead_y), (right_x, right_y) = level.dir_vec.tolist(), level.right_vec.tolist()
    x, y = map(int, level.agent_pos)
    seen = ["0"] * (-(-level.width * level.height // 4) * 4)
    # A cell of the image that is not seen has type 0.
    for column, row in np.argwhere(render_image(level)[:, :, 0]).tolist():
        right, ahead = column - size // 2, size - 1 - row
        cell_x, cell_y = x + ahead * ahead_x + right * right_x, y + ahead * ahead_y + right * right_y
        if 0 <= cell_x < level.width and 0 <= cell_y < level.height:
            seen[cell_y * level.width + cell_x] = "1"
    return f"{int(''.join(seen), 2):0{len(seen) // 4}x}"


def _probability(log_prob: float) -> float:
    return round(math.exp(log_prob), 4)


def _index(known: list, value: Any) -> int:
    if value not in known:
        known.append(value)
    return known.index(value)
