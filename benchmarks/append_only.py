# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Append-only prompts against windows, on a causal model: `python benchmarks/append_only.py`.

An append-only prompt holds the whole episode, and what was read is not read again; a window of 1, 3, 6 or 9
observations is read whole at every step. Episodes are played once, by the bot (short) or at random (long), and give
each template its prompts. Counted are the tokens per decision, identical prompts once, of acting and of learning.
Timed are acting (`ScoringAgent`, step by step, all environments side by side) and learning (packing, forward and
backward of all decisions in micro-batches of equal text, embeddings frozen as the trainer does), the window and
append-only in turns; the median over the repeats counts, and the ratios are what to read, beside those of the tokens
of the same steps. Left out: environments, the optimizer. `--threads 2 --output FILE` writes the result as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from common import device_type, take_turns, write_report

from trl_glam import PromptTemplate, ScoringPolicy
from trl_glam.agents import Agent, BotAgent, RandomAgent, ScoringAgent
from trl_glam.policy import EpisodeBatch, PackedBatch
from trl_glam.rollout import ListedEpisodes, Runner, Sink
from trl_glam.types import EpisodeKey, Transition


AGENTS: dict[str, Callable[[], Agent]] = {"bot": BotAgent, "random": RandomAgent}
WINDOWS = (1, 3, 6, 9)
# A prompt and its admissible actions.
Row = tuple[str, tuple[str, ...]]


class Keeper(Sink):
    """Keeps the rows of every episode, in order."""

    def __init__(self) -> None:
        self.episodes: dict[int, list[Row]] = {}

    def on_transition(self, transition: Transition) -> None:
        observation = transition.observation
        row = observation.prompt, observation.admissible_actions
        self.episodes.setdefault(observation.slot, []).append(row)


def play(agent: str, window: int | None, env_id: str, count: int, steps: int | None = None) -> list[list[Row]]:
    """The prompts of some episodes, of their first steps if so asked; the same episodes for every window."""
    keeper, template = Keeper(), PromptTemplate(window)
    keys = [EpisodeKey(env_id, seed, slot=seed) for seed in range(count)]
    Runner(
        lambda key: gym.make(env_id), ListedEpisodes(keys), count, AGENTS[agent](), template, 0, sinks=[keeper]
    ).run()
    return [keeper.episodes[slot][:steps] for slot in range(count)]


def pack(policy: ScoringPolicy, rows: Sequence[Row]) -> PackedBatch | EpisodeBatch:
    return policy.pack([prompt for prompt, _ in rows], [list(actions) for _, actions in rows])


def tokens_per_decision(policy: ScoringPolicy, agent: str, env_id: str, count: int) -> dict[str, Any]:
    """Tokens that are read for a decision, by window; of append-only prompts when acting and when learning."""
    found: dict[str, Any] = {}
    for window in (*WINDOWS, None):
        episodes = play(agent, window, env_id, count)
        policy.prompt_template = PromptTemplate(window)
        decisions = sum(map(len, episodes))
        # Identical rows once: over all of them, which is more than a rollout can.
        whole = pack(policy, [row for rows in episodes for row in rows])
        if window is not None:
            found[f"window {window}"] = round(whole.useful_tokens / decisions, 1)
            continue
        found["append-only, learning"] = round(whole.useful_tokens / decisions, 1)
        if not isinstance(whole, EpisodeBatch):
            raise SystemExit(f"{policy.config.model_type} reads every prompt whole; there is nothing to compare.")
        # When acting, each text is read once, and each decision adds its own positions.
        texts = sum(len(policy.packer.prompt_ids(rows[-1][0])) for rows in episodes)
        found["append-only, acting"] = round((texts + sum(whole.widths)) / decisions, 1)
        found["steps per episode"] = round(decisions / count, 1)
    worse = max(found["append-only, learning"], found["append-only, acting"])
    return found | {"fewer by": {f"window {w}": round(found[f"window {w}"] / worse, 2) for w in WINDOWS}}


def act(agent: ScoringAgent, episodes: Sequence[Sequence[Row]]) -> None:
    """Score every step of all episodes, those side by side that are as old, with weights that are new."""
    agent.forget()
    for step in zip_longest(*episodes):
        slots = [slot for slot, row in enumerate(step) if row is not None]
        agent.evaluate([step[slot] for slot in slots], slots=slots)


def micro_batches(policy: ScoringPolicy, units: Iterable[Sequence[Row]], tokens: int) -> list[list[Row]]:
    """Whole units (episodes, or single prompts in order of their length) of about so many tokens together."""
    batches: list[list[Row]] = [[]]
    used = 0
    for unit in units:
        size = pack(policy, unit).useful_tokens
        if batches[-1] and used + size > tokens:
            batches.append([])
            used = 0
        batches[-1] += unit
        used += size
    return batches


def learn(policy: ScoringPolicy, batches: Sequence[Sequence[Row]]) -> None:
    """The gradient of a loss over all decisions."""
    policy.zero_grad(set_to_none=True)
    count = sum(map(len, batches))
    for rows in batches:
        output = policy(pack(policy, rows).to(policy.device))
        log_probs = output.logits.log_softmax(-1).masked_fill(~output.mask, 0.0)
        ((log_probs[:, 0].sum() + output.values.sum()) / count).backward()


def measure(args: argparse.Namespace, bf16: bool) -> dict[str, Any]:
    """Median seconds of acting and of learning, and the ratios."""
    loaded = ScoringPolicy.from_pretrained(args.model).to(device_type())
    loaded.get_input_embeddings().requires_grad_(False)
    loaded.get_output_embeddings().requires_grad_(False)
    against = f"window {args.window}"
    acting: dict[str, Callable[[], None]] = {}
    learning: dict[str, Callable[[], None]] = {}
    agents: dict[str, ScoringAgent] = {}
    learned: dict[str, int] = {}
    for side, window in {against: args.window, "append-only": None}.items():
        config = replace(loaded.policy_config, prompt_template=PromptTemplate(window).to_dict())
        policy = ScoringPolicy(loaded.lm, loaded.tokenizer, config)
        _ = policy.shares_prefixes  # the check of the first time is not timed
        episodes = play(args.agent, window, args.env_id, args.num_envs, args.steps)
        decisions = sum(map(len, episodes))
        rows = sorted((row for some in episodes for row in some), key=lambda row: len(row[0]))
        batches = micro_batches(
            policy, episodes if window is None else [[row] for row in rows], args.micro_batch_tokens
        )
        agents[side] = ScoringAgent(policy)
        acting[side] = partial(act, agents[side], episodes)
        learning[side] = partial(learn, policy, batches)
        learned[side] = sum(pack(policy, some).useful_tokens for some in batches)
    result: dict[str, Any] = {"precision": "bf16 autocast" if bf16 else "fp32", "decisions": decisions}
    for part, ways in {"acting": acting, "learning": learning}.items():
        if part in args.parts:
            with torch.autocast(device_type(), torch.bfloat16, enabled=bf16):
                seconds, _ = take_turns(ways, args.repeats)
            rates = {side: round(decisions / value, 3) for side, value in seconds.items()}
            faster = round(seconds[against] / seconds["append-only"], 2)
            # The agents have counted in every round, the one that warms up too.
            read = {side: agent.num_tokens / (args.repeats + 1) for side, agent in agents.items()}
            tokens = {side: round((read if part == "acting" else learned)[side] / decisions, 1) for side in ways}
            result[part] = {
                "decisions_per_second": rates,
                "append_only_is_faster_by": faster,
                "tokens_per_decision": tokens,
                "fewer_tokens_by": round(tokens[against] / tokens["append-only"], 2),
            }
            print(json.dumps(result, indent=1), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local:smollm2-135m-instruct", help="a causal model")
    parser.add_argument("--env_id", default="BabyAI-Text/GoToLocal-v0")
    parser.add_argument("--episodes", type=int, default=32, help="episodes whose tokens are counted")
    parser.add_argument("--agent", choices=AGENTS, default="random", help="who plays the episodes that are timed")
    parser.add_argument("--num_envs", type=int, default=4, help="episodes that are timed, side by side")
    parser.add_argument("--steps", type=int, default=12, help="of each, at most")
    parser.add_argument("--window", type=int, default=3, help="window that append-only prompts are timed against")
    parser.add_argument("--parts", nargs="+", choices=["acting", "learning"], default=["acting", "learning"])
    parser.add_argument("--micro_batch_tokens", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds; the median counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["bf16"])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    policy = ScoringPolicy.from_pretrained(args.model)
    tokens = {agent: tokens_per_decision(policy, agent, args.env_id, args.episodes) for agent in AGENTS}
    print(json.dumps(tokens, indent=1), flush=True)
    times = []
    for precision in args.precisions if args.repeats else []:
        times.append(measure(args, precision == "bf16"))
    settings = {name: value for name, value in vars(args).items() if name != "output"}
    write_report(args.output, {"settings": settings, "tokens_per_decision": tokens, "times": times})


if __name__ == "__main__":
    main()
