# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Panels: frozen lists of test episodes, so that a success rate means the same thing tomorrow and elsewhere.

A panel is a list of (environment, reset options, seed) with a content hash. It is stored compactly, as groups that
share everything but the seed, and played interleaved, so that every prefix holds the task kinds equally often. The
files in `panels/` are written by `shipped_panels.py`. Rewording is not part of a panel: all policies meet the same
episodes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ..rollout.runner import TRAINING_SEEDS
from ..types import EpisodeKey, InvalidInputError


PANELS_DIRECTORY = Path(__file__).parent / "panels"


@dataclass(frozen=True)
class EpisodeGroup:
    """
    Episodes of one environment that differ in their seed only.

    Args:
        env_id (`str`):
            Gymnasium id of the environment.
        seeds (`tuple[int, ...]`):
            One reset seed an episode.
        env_kwargs (`dict[str, Any]`, *optional*):
            Keyword arguments the environment is made with.
        options (`dict[str, Any]` or `None`, *optional*):
            Reset options.
    """

    env_id: str
    seeds: tuple[int, ...]
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable form; consecutive seeds are written as `{"first", "count"}`."""
        first, count = self.seeds[0], len(self.seeds)
        consecutive = self.seeds == tuple(range(first, first + count))
        seeds = {"first": first, "count": count} if consecutive else list(self.seeds)
        return {"env_id": self.env_id, "env_kwargs": self.env_kwargs, "options": self.options, "seeds": seeds}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EpisodeGroup:
        seeds = data["seeds"]
        if isinstance(seeds, dict):
            seeds = range(seeds["first"], seeds["first"] + seeds["count"])
        return cls(env_id=data["env_id"], seeds=tuple(seeds), env_kwargs=data["env_kwargs"], options=data["options"])


@dataclass(frozen=True)
class Panel:
    """
    A frozen list of test episodes.

    Args:
        name (`str`):
            Name of the panel in tables and results.
        groups (`tuple[EpisodeGroup, ...]`):
            The episodes; they are played interleaved, one of each group in turn.
        description (`str`, *optional*):
            One line on what it tests.

    Example:

    ```python
    >>> from trl_glam.evaluation import Panel

    >>> panel = Panel.from_env("BabyAI-Text/GoToLocal-v0", num_episodes=3)
    >>> [key.seed for key in panel.episodes()]
    [1000000000, 1000000001, 1000000002]
    ```
    """

    name: str
    groups: tuple[EpisodeGroup, ...]
    description: str = ""

    def __post_init__(self) -> None:
        if not self.groups or not all(group.seeds for group in self.groups):
            raise InvalidInputError(f"Panel {self.name!r} holds no episodes; a panel needs at least one seed a group.")

    def __len__(self) -> int:
        return sum(len(group.seeds) for group in self.groups)

    def episodes(self) -> list[EpisodeKey]:
        """
        The episodes in order.

        Returns:
            `list[EpisodeKey]`: `slot` is the position in the panel, which seeds the episode's action draws.
        """
        return [
            EpisodeKey(group.env_id, seed, options=group.options, env_kwargs=group.env_kwargs, slot=position)
            for position, (group, seed) in enumerate(self._interleaved())
        ]

    def head(self, num_episodes: int) -> Panel:
        """
        The first episodes only, with the task kinds still equally often (up to one).

        Args:
            num_episodes (`int`):
                From 1 to `len(self)`.
        """
        if not 1 <= num_episodes <= len(self):
            raise InvalidInputError(f"Panel {self.name!r} has {len(self)} episodes, {num_episodes} are asked for.")
        if num_episodes == len(self):
            return self
        kept = [group for group, _ in self._interleaved()[:num_episodes]]
        counts = [sum(group is other for other in kept) for group in self.groups]
        groups = (replace(g, seeds=g.seeds[:count]) for g, count in zip(self.groups, counts, strict=True) if count)
        return replace(self, name=f"{self.name}[:{num_episodes}]", groups=tuple(groups))

    @property
    def hash(self) -> str:
        """sha256 of the canonical JSON of every episode in order; names and descriptions do not count."""
        content = [[group.env_id, group.env_kwargs, group.options, seed] for group, seed in self._interleaved()]
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @classmethod
    def from_env(
        cls,
        env_id: str,
        num_episodes: int = 100,
        first_seed: int = TRAINING_SEEDS,
        env_kwargs: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> Panel:
        """
        A panel of consecutive seeds of one environment.

        Args:
            env_id (`str`):
                Gymnasium id.
            num_episodes (`int`, *optional*, defaults to `100`):
                Number of episodes.
            first_seed (`int`, *optional*, defaults to `1_000_000_000`):
                First reset seed. Training seeds stay below the default, so the two never meet.
            env_kwargs (`dict[str, Any]`, *optional*):
                Keyword arguments of the environment.
            name (`str`, *optional*):
                Name in tables; the environment's id if not given.
        """
        if num_episodes < 1 or first_seed < 0:
            raise InvalidInputError(
                f"A panel needs num_episodes >= 1 and first_seed >= 0, got {num_episodes} and {first_seed}."
            )
        seeds = tuple(range(first_seed, first_seed + num_episodes))
        return cls(name or env_id, (EpisodeGroup(env_id, seeds, env_kwargs=dict(env_kwargs or {})),))

    @classmethod
    def load(cls, name_or_path: str | Path) -> Panel:
        """
        Read a shipped panel by name, or a panel file by path, and check its hash.

        Args:
            name_or_path (`str` or `Path`):
                `"mixed_train"`, `"mixed_train_quick"`, ... or the path of a `.json` file.

        Raises:
            [`InvalidInputError`]: for an unknown name, an unreadable file, or contents that do not match their hash.
        """
        path = Path(name_or_path)
        if path.suffix != ".json":
            path = PANELS_DIRECTORY / f"{name_or_path}.json"
            if not path.is_file():
                raise InvalidInputError(
                    f"Unknown panel {str(name_or_path)!r}; shipped are {', '.join(shipped_names())}, or give the path "
                    "of a .json panel file."
                )
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            groups = tuple(map(EpisodeGroup.from_dict, data["groups"]))
            panel, stored_hash = cls(data["name"], groups, data["description"]), data["sha256"]
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise InvalidInputError(f"{path} is no panel file: {type(error).__name__}: {error}.") from None
        if panel.hash != stored_hash:
            raise InvalidInputError(
                f"Panel {path} does not match its hash: the file says {stored_hash}, its episodes give {panel.hash}. "
                "A frozen panel must not be edited; save a new one under another name with Panel.save."
            )
        return panel

    def save(self, path: str | Path) -> None:
        """Write the panel and its hash as JSON."""
        data = {
            "name": self.name,
            "description": self.description,
            "sha256": self.hash,
            "groups": [group.to_dict() for group in self.groups],
        }
        Path(path).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    def _interleaved(self) -> list[tuple[EpisodeGroup, int]]:
        turns = zip_longest(*([(group, seed) for seed in group.seeds] for group in self.groups))
        return [pair for turn in turns for pair in turn if pair is not None]


def shipped_names() -> list[str]:
    """Names of the panels inside the package."""
    return sorted(path.stem for path in PANELS_DIRECTORY.glob("*.json"))
