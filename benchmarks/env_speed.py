# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Text steps per second of BabyAI-Text against a plain Minigrid loop: `python benchmarks/env_speed.py`.

Both sides play the same episodes (same seeds, same random actions, resets included) and must say the same sentences.
The plain side is Minigrid's own environment and a describer that reads its 7x7x3 image; for a level that Minigrid
lacks (`MixedTestLocal:putnext`, the level and its kind of task) it is our level's class as Minigrid would run it. They
take turns within one run, every repeat plays new seeds, and the median over the repeats counts. The text side plays
each repeat's episodes once more: where an accepted try began is remembered, as a resume and an evaluation need it.
Left out: prompts, tokens and models. Runs on one core; `--output FILE` writes the result as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import minigrid  # noqa: F401  (registers Minigrid's levels)
import numpy as np
from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT

import trl_glam  # noqa: F401  (registers BabyAI-Text)
from trl_glam.envs.levels import MIXED_LEVELS


LEVELS = (
    "GoToLocal",
    "GoToLocalS5N2",
    "PutNextLocal",
    "BossLevel",
    "MixedTestLocal:goto",
    "MixedTestLocal:putnext",
    "MixedTestLocal:pick up seq go to",
    "MixedTestLocal:open",
)
STATES = ("open", "closed", "locked")


def _count(number: int) -> str:
    return f"{number} step" if number == 1 else f"{number} steps"


def describe_plainly(image: np.ndarray, carrying: Any) -> list[str]:
    """GLAM's sentences, written straight from Minigrid's image as one would at first."""
    sentences = []
    if carrying is not None:
        sentences.append(f"You carry a {carrying.color} {carrying.type}")
    size = len(image)
    middle, near = size // 2, size - 1
    rays = {
        "forward": [(middle, row) for row in range(near - 1, -1, -1)],
        "left": [(column, near) for column in range(middle - 1, -1, -1)],
        "right": [(column, near) for column in range(middle + 1, size)],
    }
    for side, ray in rays.items():
        for steps, (column, row) in enumerate(ray, 1):
            kind = IDX_TO_OBJECT[image[column, row, 0]]
            if kind not in ("unseen", "empty"):
                if kind == "wall":
                    sentences.append(f"You see a wall {_count(steps)} {side}")
                break
    for column in range(size):
        for row in range(size):
            kind = IDX_TO_OBJECT[image[column, row, 0]]
            if kind in ("unseen", "empty", "wall") or (column, row) == (middle, near):
                continue
            name = f"{IDX_TO_COLOR[image[column, row, 1]]} {kind}"
            if kind == "door":
                name = f"{STATES[image[column, row, 2]]} {name}"
            across, ahead = column - middle, near - row
            where = []
            if across:
                where.append(f"{_count(abs(across))} {'left' if across < 0 else 'right'}")
            if ahead:
                where.append(f"{_count(ahead)} forward")
            sentences.append(f"You see a {name} {' and '.join(where)}")
    return sentences


def make_plain(level: str, task: str) -> gym.Env:
    """Minigrid's environment, or our level's class without what makes it fast."""
    if not task:
        return gym.make(f"BabyAI-{level}-v0", disable_env_checker=True)
    level_class, options = MIXED_LEVELS[level][task]
    return gym.wrappers.OrderEnforcing(level_class(**options))


def play_plainly(env: gym.Env, actions: list[int], seed: int) -> list[list[str]]:
    """Play on with Minigrid's environment; an ended episode is followed by that of the next seed."""
    said = []
    level = env.unwrapped
    obs, _ = env.reset(seed=seed)
    said.append(describe_plainly(obs["image"], level.carrying))
    for action in actions:
        obs, _, terminated, truncated, _ = env.step(action)
        said.append(describe_plainly(obs["image"], level.carrying))
        if terminated or truncated:
            seed += 1
            obs, _ = env.reset(seed=seed)
            said.append(describe_plainly(obs["image"], level.carrying))
    return said


def play_text(env: gym.Env, actions: list[int], seed: int) -> list[list[str]]:
    """The same with BabyAI-Text."""
    _, info = env.reset(seed=seed)
    said = [info["descriptions"]]
    for action in actions:
        _, _, terminated, truncated, info = env.step(action)
        said.append(info["descriptions"])
        if terminated or truncated:
            seed += 1
            _, info = env.reset(seed=seed)
            said.append(info["descriptions"])
    return said


def _timed(play: Callable[[], list[list[str]]]) -> tuple[float, list[list[str]]]:
    # Minigrid prints its rejected tries; writing them to a terminal would count against it.
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        said = play()
        return time.perf_counter() - start, said


def run(levels: tuple[str, ...] = LEVELS, num_steps: int = 4000, num_repeats: int = 5) -> dict[str, Any]:
    """
    Measure both sides.

    Args:
        levels (`tuple[str, ...]`, *optional*):
            Level names.
        num_steps (`int`, *optional*, defaults to `4000`):
            Steps a repeat, resets beside them.
        num_repeats (`int`, *optional*, defaults to `5`):
            Repeats of each side, by turns.

    Returns:
        `dict[str, Any]`: per level the medians in steps per second and their ratio, and the machine.
    """
    actions = np.random.default_rng(0).integers(0, 6, num_steps).tolist()
    results = {}
    for name in levels:
        level, _, task = name.partition(":")
        plain = make_plain(level, task)
        options = {"task": task} if task else {}
        text = gym.make(f"BabyAI-Text/{level}-v0", disable_env_checker=True, **options)
        seconds: dict[str, list[float]] = {"plain": [], "text": [], "known": []}
        for repeat in range(num_repeats):
            seed = 1_000_000 * repeat
            plain_seconds, plain_said = _timed(lambda env=plain, seed=seed: play_plainly(env, actions, seed))
            for side in ("text", "known"):
                text_seconds, text_said = _timed(lambda env=text, seed=seed: play_text(env, actions, seed))
                if plain_said != text_said:
                    raise RuntimeError(f"{name}: the two sides do not say the same")
                seconds[side].append(text_seconds)
            seconds["plain"].append(plain_seconds)
        rates = {side: num_steps / statistics.median(times) for side, times in seconds.items()}
        results[name] = {
            "minigrid_steps_per_second": round(rates["plain"]),
            "text_steps_per_second": round(rates["text"]),
            "ratio": round(rates["text"] / rates["plain"], 2),
            "ratio_on_known_seeds": round(rates["known"] / rates["plain"], 2),
        }
    return {
        "benchmark": "env_speed",
        "num_steps": num_steps,
        "num_repeats": num_repeats,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "levels": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", nargs="+", default=LEVELS, metavar="LEVEL", help="levels; Mixed ones with a task")
    parser.add_argument("--steps", type=int, default=4000, help="steps a repeat (default 4000)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of each side, by turns (default 5)")
    parser.add_argument("--output", metavar="FILE", help="also write the result as JSON")
    args = parser.parse_args()
    result = run(tuple(args.levels), args.steps, args.repeats)
    print(json.dumps(result, indent=2))
    if args.output:
        Path(args.output).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
