# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam push MODEL|LOG REPO`: put a policy or an interaction log on the Hub (`trl_glam/hub/push.py`)."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import cast

from huggingface_hub import CommitInfo

from ..hub import prepare_log, prepare_policy, push_log, push_policy
from ..policy.config import POLICY_CONFIG_NAME
from . import common


_DESCRIPTION = """\
Put a saved policy or an interaction log on the Hub, with its card. The repository is private unless --public is given.
What is pushed is searched for tokens, paths of this machine and pickles first. An interrupted push goes on where it
stopped when the same command is run again; nothing is visible before all of it is there.

A policy's card shows results.json (trl-glam eval MODEL --output_dir MODEL) and the learning curve, if the folder has
them. A log is replayed first; a folder of several logs becomes a dataset with one split each.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = common.CommandParser(
        prog="trl-glam push", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="MODEL|LOG", help="folder of a saved policy, or of an interaction log")
    parser.add_argument("repo_id", metavar="REPO", help="owner/name on the Hub; made if it does not exist")
    parser.add_argument("--public", action="store_true", help="let everyone see it")
    parser.add_argument(
        "--dry_run",
        nargs="?",
        const="",
        metavar="DIR",
        help="write the folder that would go (to DIR, else a temporary one), show its card, and send nothing",
    )
    parser.add_argument(
        "--license", metavar="ID", help="licence, such as apache-2.0; the base model's where it is known"
    )
    parser.add_argument("--revision", metavar="R", help="branch to commit to (default main)")
    parser.add_argument("--no_episode", action="store_true", help="policy: play no episode for the card")
    parser.add_argument("--split", metavar="NAME", help="log: name of its split (default bot, random, ppo or policy)")
    parser.add_argument("--no_verify", action="store_true", help="log: do not replay it first; the card will say so")
    parser.add_argument(
        "--env_module", metavar="M", help="log: module to import first, which registers its environments"
    )
    parser.add_argument(
        "--success_threshold",
        type=float,
        default=0.0,
        metavar="R",
        help="log: as in the run, where the environment gives no info['success'] (default 0)",
    )
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    is_policy = Path(args.folder, POLICY_CONFIG_NAME).exists()
    if is_policy:
        options = {"license": args.license, "episode": not args.no_episode}
        prepare, push = prepare_policy, push_policy
    else:
        options = {"license": args.license, "split": args.split, "verify": not args.no_verify}
        options |= {"env_module": args.env_module, "success_threshold": args.success_threshold}
        prepare, push = prepare_log, push_log
    if args.dry_run is not None:
        target = args.dry_run or tempfile.mkdtemp(prefix="trl_glam_dry_run_")
        card = prepare(args.folder, target, args.repo_id, **options)
        print(card.read_text(encoding="utf-8"))
        files = sorted(path for path in Path(target).rglob("*") if path.is_file())
        for path in files:
            print(f"{path.stat().st_size:>12,}  {path.relative_to(target)}")
        print(f"Dry run: {len(files)} files in {target}, nothing was sent to {args.repo_id}.")
        return 0
    commit = push(args.folder, args.repo_id, private=not args.public, revision=args.revision, **options)
    # Only a push that does not block gives a Future.
    commit = cast(CommitInfo, commit)
    print(f"Pushed to {commit.repo_url}, revision {commit.oid}")
    print(f"trl-glam {'eval' if is_policy else 'verify-log'} {args.repo_id}" + (" --suite ..." if is_policy else ""))
    return 0
