# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Text steps per second of BabyAI-Text against a plain Minigrid loop: `python benchmarks/env_speed.py`.

Both sides play the same episodes (same seeds, same random actions, resets included) and must say the same sentences.
The plain side is Minigrid's own environment and a describer that reads its 7x7x3 image. They take turns within one
run, and the median over the repeats counts. Left out: prompts, tokens and models. Runs on one core; `--output FILE`
writes the result as JSON.
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


LEVELS = ("GoToLocal", "GoToLocalS5N2", "PutNextLocal", "BossLevel")
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


def play_plainly(env: gym.Env, actions: list[int]) -> list[list[str]]:
    """Play on with Minigrid's environment; an ended episode is followed by that of the next seed."""
    said = []
    seed = 0
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


def play_text(env: gym.Env, actions: list[int]) -> list[list[str]]:
    """The same with BabyAI-Text."""
    seed = 0
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
        plain = gym.make(f"BabyAI-{name}-v0", disable_env_checker=True)
        text = gym.make(f"BabyAI-Text/{name}-v0", disable_env_checker=True)
        seconds: dict[str, list[float]] = {"plain": [], "text": []}
        for _ in range(num_repeats):
            plain_seconds, plain_said = _timed(lambda env=plain: play_plainly(env, actions))
            text_seconds, text_said = _timed(lambda env=text: play_text(env, actions))
            if plain_said != text_said:
                raise RuntimeError(f"{name}: the two sides do not say the same")
            seconds["plain"].append(plain_seconds)
            seconds["text"].append(text_seconds)
        rates = {side: num_steps / statistics.median(times) for side, times in seconds.items()}
        results[name] = {
            "minigrid_steps_per_second": round(rates["plain"]),
            "text_steps_per_second": round(rates["text"]),
            "ratio": round(rates["text"] / rates["plain"], 2),
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
    parser.add_argument("--levels", nargs="+", default=LEVELS, metavar="LEVEL", help="levels of Minigrid's")
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
