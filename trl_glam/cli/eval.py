# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam eval POLICY --suite NAME | --env_id ID`: success rates on fixed episodes, `results.json` and a table.

Several processes share the episodes, each with the whole policy; the first one writes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from ..agents import ScoringAgent
from ..envs.language import LANGUAGES
from ..evaluation.panels import Panel
from ..evaluation.results import read_results, results_table, write_results
from ..evaluation.scorer import MODES, Scorer
from ..evaluation.suites import SUITES, SuiteTest, select_tests
from ..trainer.sharding import check_started, started_processes
from ..types import InvalidInputError
from . import common


_DESCRIPTION = """\
Evaluate a policy on a fixed list of episodes, each played to its end. The same command gives the same numbers,
whatever --num_envs. DIR/results.json keeps every episode's outcome, DIR/results.md the table that is printed.
`trl-glam compare` tests two results.json against each other.
"""
_EPILOG = """\
examples:
  trl-glam eval outputs/quickstart --suite no_change,invented_words --quick --output_dir outputs/eval
  trl-glam eval local:flan-t5-small-titles --env_id BabyAI-Text/GoToLocal-v0 --output_dir outputs/untrained
  trl-glam eval bot --suite paper --output_dir outputs/bot
"""


def build_parser() -> argparse.ArgumentParser:
    parser = common.CommandParser(
        prog="trl-glam eval",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("policy", metavar="POLICY", help=common.POLICY_HELP)
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit of a policy on the Hub (default main)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--suite", metavar="NAME[,NAME]", help=f"generalisation tests: {', '.join(SUITES)} (all of them)"
    )
    what.add_argument("--panel", metavar="NAME|FILE", help="a shipped panel of episodes, or one of your own (.json)")
    common.add_environment_arguments(parser, env_id=what)
    parser.add_argument(
        "--language",
        choices=LANGUAGES,
        help="of the prompt's fixed words, with --env_id or --panel (default the policy's own)",
    )
    parser.add_argument("--quick", action="store_true", help="with --suite: 100 episodes a test instead of 1,000")
    parser.add_argument(
        "--episodes",
        type=common.positive_int,
        metavar="N",
        help="number of episodes: of --env_id (default 100), or the first N of a panel (default all)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the action draws (default 0), not of the episodes"
    )
    parser.add_argument(
        "--mode",
        choices=[*MODES, "both"],
        help="actions drawn from the policy as in the paper, or the most probable one (default both for models, "
        "sampled for other policies)",
    )
    parser.add_argument(
        "--no_references", action="store_true", help="leave out the random floor and the bot's ceiling"
    )
    parser.add_argument(
        "--num_envs", type=common.positive_int, default=32, help="environments side by side: speed only (default 32)"
    )
    parser.add_argument(
        "--batch_size", type=common.positive_int, default=64, help="prompts per forward of a model (default 64)"
    )
    parser.add_argument(
        "--num_processes",
        type=common.positive_int,
        metavar="N",
        help="processes that the command is meant for (recipes/eval.py): another number ends it at once",
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="of the Wilson intervals (default 0.95)")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="where results.json and results.md go")
    return parser


def plan(args: argparse.Namespace) -> list[tuple[SuiteTest, Panel]]:
    """The tests that the arguments ask for, with their episodes."""
    if args.quick and args.suite is None:
        raise InvalidInputError("--quick belongs to --suite; use --episodes N.")
    if args.env_id is not None:
        panel = Panel.from_env(args.env_id, args.episodes or 100, env_kwargs=args.env_kwargs)
        return [(SuiteTest(args.env_id, panel.name, language=args.language), panel)]
    if args.panel is not None:
        panel = Panel.load(args.panel)
        tests = [(SuiteTest(panel.name, panel.name, args.env_kwargs, args.language), panel)]
    else:
        for flag, value in (("--env_kwargs", args.env_kwargs), ("--language", args.language)):
            if value:
                raise InvalidInputError(f"{flag} belongs to --env_id or --panel; a suite says what it changes.")
        tests = [(test, test.load_panel(args.quick)) for test in select_tests(args.suite.split(","))]
    return [(test, panel if args.episodes is None else panel.head(args.episodes)) for test, panel in tests]


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    check_started(args.num_processes)
    processes = PartialState(cpu=not torch.cuda.is_available()) if started_processes() > 1 else None
    is_first = processes is None or processes.is_main_process
    tests = plan(args)
    agent = common.agent_from_spec(args.policy, args.batch_size, args.revision)
    commit = common.hub_commit(args.policy, args.revision) if isinstance(agent, ScoringAgent) else None
    # Without a distribution there is no most probable action.
    default_modes = MODES if isinstance(agent, ScoringAgent) else MODES[:1]
    modes = default_modes if args.mode is None else MODES if args.mode == "both" else (args.mode,)
    is_babyai = all(group.env_id.startswith("BabyAI-Text/") for _, panel in tests for group in panel.groups)
    references = [] if args.no_references else ["random", "bot"] if is_babyai else ["random"]
    scorer = Scorer(
        agent,
        seed=args.seed,
        modes=modes,
        references=references,
        num_envs=args.num_envs,
        confidence=args.confidence,
        make_env=common.env_maker(args.env_module),
        make_sinks=lambda description, number: [common.EpisodeProgress(description, number)] if is_first else [],
        processes=processes,
    )
    for test, panel in tests:
        scorer.check(test, panel)
    entries = {}
    for test, panel in tests:
        entries[test.name] = scorer.score(test, panel)
        if not is_first:
            continue
        print(f"{test.name}: {entries[test.name]['success_rate']:.3f} ({modes[0]})", file=sys.stderr)
        # After every test: hours of evaluation survive an interruption.
        path = write_results(args.output_dir, args.policy, args.seed, entries, args.confidence, commit)
    if not is_first:
        return 0
    table = results_table(read_results(path))
    Path(args.output_dir, "results.md").write_text(table + "\n", encoding="utf-8")
    print(table)
    print(f"\nWritten to {path}")
    return 0
