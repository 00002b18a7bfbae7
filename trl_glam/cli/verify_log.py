# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam verify-log DIR|REPO`: replay an interaction log and compare (`trl_glam/logs/replay.py`)."""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from ..logs import verify_log
from ..rollout import Sink
from ..types import EpisodeRecord
from . import common


_DESCRIPTION = """\
Replay every episode of an interaction log from its seed and actions, and compare missions, sentences, admissible
actions, prompts, rewards, endings and success with the log. Exit code 0 if all agree, 1 at the first difference.
"""


class VerifyProgress(Sink):
    """Counts the episodes that agree; silent where stderr is no terminal."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.completed} episodes agree"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task("", total=None)
        self._bar.start()

    def on_episode_end(self, record: EpisodeRecord) -> None:
        self._bar.advance(self._task)

    def close(self) -> None:
        self._bar.stop()


def build_parser() -> argparse.ArgumentParser:
    parser = common.CommandParser(
        prog="trl-glam verify-log",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("log", metavar="DIR|REPO", help="folder of a log, a Parquet file, or a dataset on the Hub")
    parser.add_argument("--env_module", metavar="M", help="module to import first, which registers your environment")
    parser.add_argument(
        "--success_threshold",
        type=float,
        default=0.0,
        metavar="R",
        help="as in the run, where the environment gives no info['success'] (default 0)",
    )
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    started = time.perf_counter()
    report = verify_log(
        args.log, env_module=args.env_module, success_threshold=args.success_threshold, sinks=[VerifyProgress()]
    )
    seconds = time.perf_counter() - started
    prompts = "prompts included" if report.prompts_checked else "prompts not compared: the log names no template"
    print(
        f"{args.log}: {report.episodes} episodes, {report.transitions} transitions agree ({prompts}; "
        f"{report.transitions / seconds:.0f} transitions/s)"
    )
    if report.difference is not None:
        print(f"{args.log}: first difference in {report.difference}", file=sys.stderr)
        return 1
    return 0
