# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`results.json` -> the `trl-glam eval` that plays the same episodes again, for the card that shows the results.

A command is given only if its panels have the very hashes of the results: suites, shipped panels and the episodes of
one environment do; a panel file of the author's own is not a stranger's to play.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .panels import Panel, shipped_names
from .suites import SUITES


def eval_command(
    policy: str, results: Mapping[str, Any], env_kwargs: Mapping[str, Any], env_module: str | None = None
) -> str | None:
    """
    The command that plays these results again; `None` if no plain one does.

    Args:
        policy (`str`):
            What is evaluated.
        results (`dict[str, Any]`):
            What [`~trl_glam.evaluation.results.read_results`] gives.
        env_kwargs (`dict[str, Any]`):
            Keyword arguments of the environment in training, which its evaluation may have used too.
        env_module (`str`, *optional*):
            Module that registers the environment.
    """
    entries = results["suites"]
    what = _suites(entries)
    if what is None and len(entries) == 1:
        name, entry = next(iter(entries.items()))
        what = _panel(name, entry) or _environment(entry, env_kwargs, env_module)
    if what is None:
        return None
    headline = next(iter(entries.values()))
    modes = [mode for mode in ("sampled", "greedy") if mode in headline]
    mode = f" --mode {modes[0]}" if len(modes) == 1 else ""
    confidence = "" if results["confidence"] == 0.95 else f" --confidence {results['confidence']:g}"
    return f"trl-glam eval {policy} {what} --seed {results['seed']}{mode}{confidence} --output_dir results"


def environments(entry: Mapping[str, Any]) -> list[str]:
    """Gymnasium ids of the environments that an entry of `results.json` was played in."""
    return list(dict.fromkeys(episode["env_id"] for episode in entry[entry["mode"]]["episodes"]))


def _suites(entries: Mapping[str, Any]) -> str | None:
    chosen = [name for name, tests in SUITES.items() if all(test.name in entries for test in tests)]
    if "paper" in chosen:
        chosen = ["paper"]
    tests = {test.name: test for name in chosen for test in SUITES[name]}
    if tests.keys() != entries.keys():
        return None
    # A quick panel is the head of the whole one.
    for quick in (True, False):
        panels = {name: test.load_panel(quick) for name, test in tests.items()}
        if all(_is_head(panels[name], entries[name]) for name in entries):
            name, entry = next(iter(entries.items()))
            return f"--suite {','.join(chosen)}{' --quick' * quick}{_first(panels[name], entry)}"
    return None


def _panel(name: str, entry: Mapping[str, Any]) -> str | None:
    if name not in shipped_names() or not _is_head(panel := Panel.load(name), entry):
        return None
    return f"--panel {name}{_kwargs(entry['env_kwargs'])}{_language(entry)}{_first(panel, entry)}"


def _environment(entry: Mapping[str, Any], env_kwargs: Mapping[str, Any], env_module: str | None) -> str | None:
    env_id, *others = environments(entry)
    episodes = entry["panel"]["num_episodes"]
    for kwargs in ({}, dict(env_kwargs)):
        if not others and _is_head(Panel.from_env(env_id, episodes, env_kwargs=kwargs), entry):
            module = f" --env_module {env_module}" if env_module else ""
            return f"--env_id {env_id}{module}{_kwargs(kwargs)}{_language(entry)} --episodes {episodes}"
    return None


def _kwargs(kwargs: Mapping[str, Any]) -> str:
    return f" --env_kwargs '{json.dumps(kwargs)}'" if kwargs else ""


def _language(entry: Mapping[str, Any]) -> str:
    # Results of earlier versions say nothing of it.
    return f" --language {entry['language']}" if entry.get("language") else ""


def _first(panel: Panel, entry: Mapping[str, Any]) -> str:
    episodes = entry["panel"]["num_episodes"]
    return "" if episodes == len(panel) else f" --episodes {episodes}"


def _is_head(panel: Panel, entry: Mapping[str, Any]) -> bool:
    """Whether an entry was played on the first episodes of a panel."""
    episodes = entry["panel"]["num_episodes"]
    return episodes <= len(panel) and panel.head(episodes).hash == entry["panel"]["sha256"]
