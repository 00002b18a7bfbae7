# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What identical prompts save, and how much of what is computed is padding: `python benchmarks/token_shares.py`.

A rollout of a random agent is packed as the trainer packs it: when acting, all environments' prompts that were not
seen since the last change of weights; when learning, micro-batches of stratified minibatches. Counted are `saved`, the
share of the tokens that identical prompts save, and `useful`, the share of the tokens passing through the model which
are no padding. Nothing is computed with the model, only its tokenizer and its grouping of rows are used.
`--output FILE` writes the result as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from common import write_report

from trl_glam import PromptTemplate, ScoringPolicy
from trl_glam.agents import RandomAgent
from trl_glam.rollout import Rollout, Runner, SeededEpisodes, micro_batches, minibatches
from trl_glam.types import Decision


LEVELS = ("GoToObjS4", "GoToLocalS5N2", "GoToRedBallNoDists", "GoToLocal", "MixedTrainLocal")
# A prompt and its admissible actions.
Row = tuple[str, tuple[str, ...]]


class Valuing(RandomAgent):
    """A random agent with a value of 0, which a rollout must have."""

    def act(self, *args: Any, **kwargs: Any) -> list[Decision]:
        return [replace(decision, value=0.0) for decision in super().act(*args, **kwargs)]


def play(level: str, window: int, num_envs: int, num_steps: int) -> Rollout:
    """One rollout of the random agent."""
    env_id = f"BabyAI-Text/{level}-v0"
    template = PromptTemplate(window)
    runner = Runner(lambda key: gym.make(env_id), SeededEpisodes(env_id, 0), num_envs, Valuing(), template, 0)
    steps = [runner.step() for _ in range(num_steps)]
    runner.close()
    return Rollout.from_transitions(steps)


def shares(policy: ScoringPolicy, batches: Iterable[tuple[Sequence[Row], int]]) -> dict[str, float]:
    """What identical rows save and what is no padding; a batch is what is computed, and the tokens that were asked."""
    useful = computed = asked = 0
    for rows, wanted in batches:
        asked += wanted
        if rows:
            packed = policy.pack([prompt for prompt, _ in rows], [list(actions) for _, actions in rows])
            useful += packed.useful_tokens
            computed += policy.computed_tokens(packed)
    return {"saved": round(1 - useful / asked, 3), "useful": round(useful / computed, 3)}


def measure(policy: ScoringPolicy, level: str, window: int, args: argparse.Namespace) -> dict[str, Any]:
    """Acting and learning on one level."""
    rollout = play(level, window, args.num_envs, args.rollout_steps)
    sizes: dict[Row, int] = {}

    def row_of(index: int) -> Row:
        flat = rollout.prompt_ids.reshape(-1)[index], rollout.action_set_ids.reshape(-1)[index]
        return rollout.prompts[flat[0]], rollout.action_sets[flat[1]]

    def size(row: Row) -> int:
        if row not in sizes:
            sizes[row] = policy.pack([row[0]], [list(row[1])]).useful_tokens
        return sizes[row]

    known: set[Row] = set()
    acting = []
    for step in np.arange(rollout.actions.size).reshape(rollout.shape):
        rows = [row_of(index) for index in step]
        new = list(dict.fromkeys(row for row in rows if row not in known))
        known.update(new)
        acting.append((new, sum(map(size, rows))))
    learning = []
    for minibatch in minibatches(args.rollout_steps, args.num_envs, args.minibatch_size, seed=0, update=1, epoch=0):
        for part in micro_batches(rollout, minibatch, args.minibatch_size // args.micro_batch_size, by_episode=False):
            rows = [row_of(index) for index in part]
            learning.append((rows, sum(map(size, rows))))
    return {
        "level": level,
        "window": window,
        "mean_tokens": round(float(np.mean([size(row_of(i)) for i in range(rollout.actions.size)])), 1),
        "acting": shares(policy, acting),
        "learning": shares(policy, learning),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["local:flan-t5-small-titles", "local:smollm2-135m-instruct"])
    parser.add_argument("--levels", nargs="+", default=list(LEVELS))
    parser.add_argument("--windows", nargs="+", type=int, default=[1, 3])
    parser.add_argument("--num_envs", type=int, default=32)
    parser.add_argument("--rollout_steps", type=int, default=64)
    parser.add_argument("--minibatch_size", type=int, default=256)
    parser.add_argument("--micro_batch_size", type=int, default=64, help="per_device_train_batch_size")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    for name in args.models:
        policy = ScoringPolicy.from_pretrained(name)
        results[name] = []
        for level in args.levels:
            for window in args.windows:
                results[name].append(measure(policy, level, window, args))
                print(name, json.dumps(results[name][-1]), flush=True)
    write_report(args.output, {"results": results})


if __name__ == "__main__":
    main()
