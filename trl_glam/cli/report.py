# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam report RUN... --output report.html`: one static page with curves, tables and an episode viewer."""

from __future__ import annotations

import argparse
import sys

from ..report import write_report
from . import common


_DESCRIPTION = """\
Write one self-contained page about runs: learning curves with bands over seeds, success per task kind, tests, RL
against cloning, and an episode viewer. RUN is the output_dir of training (finished or not), the folder of an
interaction log, the folder of an evaluation, or a folder of such folders. Episodes come from interaction logs: train
with --log_interactions true, or write one with `trl-glam collect`.
"""
_EPILOG = """\
examples:
  trl-glam report outputs/quickstart --output report.html
  trl-glam report outputs/mixed outputs/mixed-lora outputs/eval --output report.html --figures figures
  trl-glam report logs/before logs/after --output compare.html      (two policies on the same seeds, side by side)
"""


def build_parser() -> argparse.ArgumentParser:
    parser = common.CommandParser(
        prog="trl-glam report",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder of a run, a log or an evaluation")
    parser.add_argument("--output", required=True, metavar="FILE", help="the page, for example report.html")
    parser.add_argument("--title", default="Training report", help="headline (default 'Training report')")
    parser.add_argument(
        "--episodes",
        type=common.positive_int,
        default=300,
        metavar="N",
        help="episodes to view, at most (default 300): those that several logs played, then evenly spread",
    )
    parser.add_argument("--figures", metavar="DIR", help="write every figure of the page as PNG and SVG too")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    report = write_report(args.runs, args.output, title=args.title, num_episodes=args.episodes, figures=args.figures)
    if report.not_replayed:
        print(
            f"{report.not_replayed} episodes are shown as text: the installed environment plays them differently, "
            "`trl-glam verify-log` says where.",
            file=sys.stderr,
        )
    size = report.path.stat().st_size
    print(f"{report.path}: {report.num_runs} runs, {report.num_episodes} episodes to view, {size / 1e6:.1f} MB")
    if report.figures:
        print(f"Figures: {', '.join(path.name for path in report.figures)} in {args.figures}")
    return 0
