# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam collect`: play episodes with any policy into an interaction log (`trl_glam/logs/collect.py`)."""

from __future__ import annotations

import argparse
import hashlib
import json

import pyarrow.parquet as pq

from ..agents import MixtureAgent, RandomAgent, ScoringAgent
from ..logs import collect_log
from ..logs.writer import shard_paths
from ..policy import ScoringPolicy
from ..types import EpisodeRecord, InvalidInputError
from . import common


_DESCRIPTION = """\
Play episodes with any policy and write every step into an interaction log: Parquet shards in DIR. Episode i has a
seed that depends on --seed and i alone, and the log holds episodes 0, 1, 2, ... in this order, whatever --num_envs.
The same command goes on where an interrupted one ended; a larger --episodes or --steps extends the log.
"""
_EPILOG = """\
examples:
  trl-glam collect --policy bot --epsilon 0.2 --env_id BabyAI-Text/GoToLocal-v0 --episodes 500 \\
      --seed 0 --output_dir logs/bot
  trl-glam collect --policy outputs/quickstart --env_id BabyAI-Text/GoToLocal-v0 --steps 400000 \\
      --seed 1 --output_dir logs/rl
"""


class CollectProgress(common.EpisodeProgress):
    """
    A progress bar over the episodes or steps of a log; silent where stderr is no terminal.

    Args:
        num_episodes (`int` or `None`), num_steps (`int` or `None`):
            The goal; one of the two.
        steps_before (`int`):
            Steps in the log already.
    """

    def __init__(self, num_episodes: int | None, num_steps: int | None, steps_before: int) -> None:
        super().__init__("steps" if num_episodes is None else "episodes", num_episodes or num_steps)
        self._count_episodes = num_episodes is not None
        self._steps = steps_before

    def _completed(self, record: EpisodeRecord) -> int:
        self._steps += record.length
        return record.key.slot + 1 if self._count_episodes else self._steps


def build_parser() -> argparse.ArgumentParser:
    parser = common.CommandParser(
        prog="trl-glam collect",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--policy", required=True, metavar="POLICY", help=common.POLICY_HELP)
    common.add_environment_arguments(parser, env_id=parser)
    stop = parser.add_mutually_exclusive_group(required=True)
    stop.add_argument("--episodes", type=common.positive_int, metavar="N", help="collect this many episodes")
    stop.add_argument(
        "--steps",
        type=common.positive_int,
        metavar="N",
        help="collect the first episodes whose steps reach this",
    )
    parser.add_argument("--seed", type=int, required=True, help="seed of the episodes and of the action draws")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="folder of the log")
    parser.add_argument(
        "--num_envs", type=common.positive_int, default=32, help="environments side by side: speed only (default 32)"
    )
    parser.add_argument("--greedy", action="store_true", help="most probable action instead of a draw")
    parser.add_argument(
        "--epsilon",
        type=float,
        default=0.0,
        metavar="P",
        help="act at random with this probability (default 0)",
    )
    parser.add_argument(
        "--batch_size", type=common.positive_int, default=64, help="prompts per forward of a model (default 64)"
    )
    parser.add_argument("--no_prompts", action="store_true", help="store no prompts; they can be rendered again")
    parser.add_argument(
        "--success_threshold",
        type=float,
        default=0.0,
        metavar="R",
        help="success is return > R where the environment gives no info['success'] (default 0)",
    )
    parser.add_argument(
        "--env_workers",
        type=int,
        default=0,
        metavar="N",
        help="subprocesses that slow environments live in (default 0: none)",
    )
    parser.add_argument(
        "--env_timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="seconds that one reset or step of an environment may take (default 600)",
    )
    return parser


def weights_revision(policy: ScoringPolicy) -> str:
    """A hash of a policy's weights and settings: a log never mixes two models that stood in the same folder."""
    digest = hashlib.sha256(json.dumps(policy.policy_config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(policy.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return f"sha256:{digest.hexdigest()[:16]}"


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    if args.env_id is None:
        raise InvalidInputError("--env_id is missing; give the Gymnasium id of an environment.")
    if not 0 <= args.epsilon <= 1:
        raise InvalidInputError(f"--epsilon {args.epsilon} is not a probability; give a number from 0 to 1.")
    if args.env_workers < 0 or not args.env_timeout > 0:
        raise InvalidInputError(
            f"--env_workers {args.env_workers} and --env_timeout {args.env_timeout} are given; at least 0 processes "
            "and more than 0 seconds make sense."
        )
    agent, policy, template, revision = common.agent_from_spec(args.policy, args.batch_size), args.policy, None, None
    if isinstance(agent, ScoringAgent):
        template, revision = agent.template, weights_revision(agent.policy)
    if args.epsilon > 0:
        agent, policy = MixtureAgent(agent, RandomAgent(), args.epsilon), f"{policy}+{args.epsilon:g}*random"
    steps_before = sum(pq.read_metadata(path).num_rows for path in shard_paths(args.output_dir))
    collected = collect_log(
        agent,
        args.output_dir,
        env_id=args.env_id,
        env_kwargs=args.env_kwargs,
        env_module=args.env_module,
        seed=args.seed,
        policy=policy,
        policy_revision=revision,
        num_episodes=args.episodes,
        num_steps=args.steps,
        template=template,
        greedy=args.greedy,
        num_envs=args.num_envs,
        success_threshold=args.success_threshold,
        store_prompts=not args.no_prompts,
        workers=args.env_workers,
        timeout=args.env_timeout,
        sinks=[CollectProgress(args.episodes, args.steps, steps_before)],
    )
    size = sum(path.stat().st_size for path in shard_paths(args.output_dir))
    print(
        f"{args.output_dir}: {collected.episodes} episodes, {collected.transitions} transitions, success rate "
        f"{collected.success_rate:.3f}, {size / collected.transitions:.0f} bytes per transition"
    )
    return 0
