# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What an interaction log costs: seconds beside a model's rollout, bytes per transition, and the speed of a replay.

    python benchmarks/log_cost.py --output log_cost.json

One run measures both ways: the same episodes are rolled out in turn with and without the writer (the model forgets
what it computed in between), and the time spent inside the writer is summed as well, because on a busy machine the
difference of two rollouts is mostly noise. Episodes last 8 steps at most there, so that a short rollout writes
them all to disk. Bytes are those of the shards on disk, prompts included.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import trl_glam  # noqa: F401  registers BabyAI-Text
from trl_glam.agents import Agent, BotAgent, MixtureAgent, RandomAgent, ScoringAgent
from trl_glam.envs.contract import make_env
from trl_glam.local_models import resolve_model
from trl_glam.logs import LogWriter, collect_log, verify_log
from trl_glam.logs.writer import shard_paths
from trl_glam.policy import ScoringPolicy
from trl_glam.prompts import PromptTemplate
from trl_glam.rollout import Runner, SeededEpisodes, Sink


class Timed(Sink):
    """A sink whose own time is summed."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.seconds = 0.0

    def on_transition(self, transition) -> None:
        started = time.perf_counter()
        self.sink.on_transition(transition)
        self.seconds += time.perf_counter() - started

    def on_episode_end(self, record) -> None:
        started = time.perf_counter()
        self.sink.on_episode_end(record)
        self.seconds += time.perf_counter() - started

    def close(self) -> None:
        started = time.perf_counter()
        self.sink.close()
        self.seconds += time.perf_counter() - started


def roll_out(agent: Agent, env_id: str, num_envs: int, num_steps: int, directory: str | None) -> dict[str, float]:
    """Seconds of a rollout of `num_steps` steps a environment, and those inside the writer if there is a directory."""
    if isinstance(agent, ScoringAgent):
        agent.forget()
    sinks = [] if directory is None else [Timed(LogWriter(directory, run_id="benchmark", policy=agent.name))]
    episodes = SeededEpisodes(env_id, seed=0)
    runner = Runner(
        lambda key: make_env(key.env_id, {"max_steps": 8}),
        episodes,
        num_envs,
        agent,
        PromptTemplate(),
        seed=0,
        sinks=sinks,
    )
    started = time.perf_counter()
    for _ in range(num_steps):
        runner.step()
    runner.close()
    return {"seconds": time.perf_counter() - started, "writer_seconds": sum(sink.seconds for sink in sinks)}


def writing_cost(agent: Agent, env_id: str, num_envs: int, num_steps: int, repeats: int) -> dict[str, float]:
    """Both ways in turn; medians over the repeats."""
    without, with_log = [], []
    for _ in range(repeats):
        without.append(roll_out(agent, env_id, num_envs, num_steps, None))
        with tempfile.TemporaryDirectory() as directory:
            with_log.append(roll_out(agent, env_id, num_envs, num_steps, directory))
    seconds_without = statistics.median(run["seconds"] for run in without)
    seconds_with = statistics.median(run["seconds"] for run in with_log)
    return {
        "transitions": num_envs * num_steps,
        "transitions_per_second_without_log": num_envs * num_steps / seconds_without,
        "transitions_per_second_with_log": num_envs * num_steps / seconds_with,
        "writer_microseconds_per_transition": 1e6
        * statistics.median(run["writer_seconds"] for run in with_log)
        / (num_envs * num_steps),
        "share_inside_writer": statistics.median(run["writer_seconds"] / run["seconds"] for run in with_log),
    }


def replay_speed(agent: Agent, name: str, env_id: str, num_steps: int) -> dict[str, float]:
    """Collect a log, weigh it and replay it."""
    with tempfile.TemporaryDirectory() as directory:
        collected = collect_log(agent, directory, env_id=env_id, seed=0, policy=name, num_steps=num_steps)
        size = sum(path.stat().st_size for path in shard_paths(directory))
        started = time.perf_counter()
        report = verify_log(directory)
        seconds = time.perf_counter() - started
    return {
        "episodes": report.episodes,
        "transitions": report.transitions,
        "all_agree": report.ok,
        "bytes_per_transition": size / collected.transitions,
        "replayed_transitions_per_second": report.transitions / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="local:flan-t5-small-titles")
    parser.add_argument("--env_id", default="BabyAI-Text/GoToLocal-v0")
    parser.add_argument("--num_envs", type=int, default=8)
    parser.add_argument("--num_steps", type=int, default=16, help="steps of every environment in a model's rollout")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--log_steps", type=int, default=20_000, help="steps of the random and the bot log")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    model = ScoringAgent(ScoringPolicy.from_pretrained(resolve_model(args.model)))
    bot = MixtureAgent(BotAgent(), RandomAgent(), 0.2)
    result = {
        "env_id": args.env_id,
        "model": args.model,
        "machine": f"{platform.processor() or platform.machine()}, {platform.system()}",
        "writing_beside_the_model": writing_cost(model, args.env_id, args.num_envs, args.num_steps, args.repeats),
        "writing_beside_the_random_policy": writing_cost(RandomAgent(), args.env_id, 32, 300, args.repeats),
        "random_log": replay_speed(RandomAgent(), "random", args.env_id, args.log_steps),
        "bot_log": replay_speed(bot, bot.name, args.env_id, args.log_steps),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.output is not None:
        args.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
