# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The report's numbers: learning curves with bands over seeds, success per task kind, tests, RL against BC.

Curves come from Trainer's log, and where there is none yet from the interaction log. Everything is returned as plain
JSON values, ready for the page; drawing is the page's business and, for PNG and SVG, `figures.py`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.results import compare_results
from ..evaluation.statistics import holm, mean, stratified_bootstrap, wilson_interval
from ..figures import across_seeds
from ..training_summary import TrainingSummary
from ..types import InvalidInputError
from .log_table import LoggedEpisode
from .runs import Run


# Curve of the report -> names in Trainer's log, the first that is there counts; title, unit on the axis.
CURVES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "success": (("rollout/success_rate", "rollout/success_rate_by_return"), "Success rate", "rate"),
    "return": (("rollout/return",), "Return", "raw reward"),
    "length": (("rollout/length",), "Episode length", "steps"),
    "entropy": (("ppo/entropy",), "Policy entropy", "nats"),
    "kl": (("ppo/approx_kl",), "KL(old ‖ new) per update", "nats"),
}
_EVALUATION = ("eval_success_rate", "eval_success_rate_by_return")
_MAX_POINTS = 200
_RECENT_EPISODES = 100

Rows = list[dict[str, float]]


def curves(runs: Sequence[Run], episodes: Mapping[Path, Sequence[LoggedEpisode]]) -> dict[str, list[dict[str, Any]]]:
    """
    Learning curves of every group.

    Args:
        runs (`list[Run]`):
            All runs.
        episodes (`dict[Path, list[LoggedEpisode]]`):
            Episodes of every log.

    Returns:
        `dict[str, list[dict]]`: for each name in `CURVES`, and for `f"kind:{kind}"`, series of
        `{"group", "evaluation": bool, "seeds": int, "rows": [[env_steps, mean, low, high], ...]}`.
    """
    per_run: dict[str, dict[str, list[Rows]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        rows = run.rows or (_rows_of_log(_of_whole_updates(run, episodes)) if run.is_training else [])
        for name, found in _run_curves(rows).items():
            per_run[run.group][name].append(found)
    drawn: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for group, named in per_run.items():
        for name, of_seeds in named.items():
            curve, _, evaluation = name.partition("@")
            rows = of_seeds[0] if len(of_seeds) == 1 else across_seeds(of_seeds, "value")
            drawn[curve].append(
                {
                    "group": group,
                    "evaluation": bool(evaluation),
                    "seeds": len(of_seeds),
                    "rows": [
                        [row["env_steps"], *(_short(row.get(key)) for key in ("value", "low", "high"))] for row in rows
                    ],
                }
            )
    return dict(drawn)


def _run_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, Rows]:
    found: dict[str, Rows] = defaultdict(list)
    for row in rows:
        steps = row["env_steps"]
        for curve, (names, _, _) in CURVES.items():
            for name in names:
                if name in row:
                    found[curve].append({"env_steps": steps, "value": row[name]})
        for name in CURVES["success"][0]:
            for key in (key for key in row if key.startswith(f"{name}/")):
                kind = f"kind:{key.removeprefix(f'{name}/')}"
                found[kind].append({"env_steps": steps, "value": row[key]})
        for name in _EVALUATION:
            if name in row:
                band = {side: row[f"{name}_{side}"] for side in ("low", "high") if f"{name}_{side}" in row}
                found["success@evaluation"].append({"env_steps": steps, "value": row[name], **band})
    return {name: _thinned(curve) for name, curve in found.items()}


def _thinned(rows: Rows) -> Rows:
    """At most `_MAX_POINTS` rows, the last among them: more cannot be told apart on a screen."""
    if len(rows) <= _MAX_POINTS:
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, _MAX_POINTS).round().astype(int)]


def _of_whole_updates(run: Run, episodes: Mapping[Path, Sequence[LoggedEpisode]]) -> list[LoggedEpisode]:
    """A run's episodes in order, without the update that a running one is at: the short episodes end first there,
    most of which are successes, so its rate would be too high."""
    if run.log not in episodes:
        return []
    ordered = sorted(episodes[run.log], key=lambda episode: (episode.update, episode.env_step))
    if run.finished:
        return ordered
    return [episode for episode in ordered if episode.update < ordered[-1].update]


def _rows_of_log(ordered: Sequence[LoggedEpisode]) -> list[dict[str, Any]]:
    """What Trainer would have logged after each update, as far as episodes tell."""
    rows, start = [], 0
    for stop in range(1, len(ordered) + 1):
        if stop < len(ordered) and ordered[stop].update == ordered[start].update:
            continue
        ended = ordered[start:stop]
        recent = ordered[max(stop - _RECENT_EPISODES, 0) : stop]
        row = {
            "env_steps": max(episode.env_step for episode in ended),
            "rollout/success_rate": float(np.mean([episode.success for episode in recent])),
            "rollout/return": float(np.mean([episode.episode_return for episode in ended])),
            "rollout/length": float(np.mean([episode.length for episode in ended])),
        }
        entropies = [episode.entropy for episode in ended if episode.entropy is not None]
        if entropies:
            row["ppo/entropy"] = float(np.mean(entropies))
        for kind in sorted({episode.task_kind for episode in ended if episode.task_kind is not None}):
            row[f"rollout/success_rate/{kind}"] = float(np.mean([e.success for e in ended if e.task_kind == kind]))
        rows.append(row)
        start = stop
    return rows


def overview(
    runs: Sequence[Run],
    episodes: Mapping[Path, Sequence[LoggedEpisode]],
    drawn: Mapping[str, Sequence[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """One entry a group: what it is, how far it is, and its newest success rate with an interval."""
    entries = []
    for group in dict.fromkeys(run.group for run in runs):
        members = [run for run in runs if run.group == group]
        summary = next((run.summary for run in members if run.summary is not None), None)
        logged = [episode for run in members if run.log in episodes for episode in episodes[run.log]]
        training = any(run.is_training for run in members)
        series = [one for one in drawn.get("success", []) if one["group"] == group]
        # An evaluation says more than the episodes of training, which were drawn while the policy changed, unless it
        # is of an earlier policy.
        best = max(series, key=lambda one: (one["rows"][-1][0], one["evaluation"]), default=None)
        entry: dict[str, Any] = {
            "group": group,
            "trainer": summary.trainer if summary else None,
            "env": summary.env_id if summary else next((episode.identity[0] for episode in logged), None),
            "settings": summary.settings if summary else {},
            "folders": [str(run.folder) for run in members],
            "training": training,
            "running": not all(run.finished for run in members),
            "policies": sorted({episode.policy for episode in logged}),
            "episodes": len(logged),
            "env_steps": max((one["rows"][-1][0] for one in series), default=None),
            "success": None,
        }
        if best is not None:
            what = "last evaluation in training" if best["evaluation"] else "last 100 training episodes"
            newest = best["rows"][-1]
            entry["success"] = {"what": what, "value": newest[1], "interval": _interval(newest)}
        elif logged:
            successes = sum(episode.success for episode in logged)
            entry["success"] = {"what": "episodes of the log", "value": _short(successes / len(logged)),
                                "interval": _rounded(wilson_interval(successes, len(logged)))}  # fmt: skip
        entries.append(entry)
    return entries


def kinds(runs: Sequence[Run], episodes: Mapping[Path, Sequence[LoggedEpisode]]) -> list[dict[str, Any]]:
    """Success per task kind of each group's log: of a training run its last tenth, of other logs all episodes."""
    entries = []
    for group in dict.fromkeys(run.group for run in runs):
        counted: dict[str, list[bool]] = defaultdict(list)
        for run in runs:
            if run.group != group or run.log not in episodes:
                continue
            ordered = sorted(_of_whole_updates(run, episodes), key=lambda episode: episode.env_step)
            for episode in ordered[-max(len(ordered) // 10, 50) :] if run.is_training else ordered:
                counted[episode.task_kind or ""].append(episode.success)
        if len(counted) < 2:
            continue
        rates = [
            {"kind": kind or "other", "value": _short(np.mean(successes)), "episodes": len(successes),
             "interval": _rounded(wilson_interval(sum(successes), len(successes)))}
            for kind, successes in sorted(counted.items())
        ]  # fmt: skip
        training = any(run.is_training for run in runs if run.group == group)
        entries.append(
            {"group": group, "what": "last tenth of training" if training else "all episodes", "rates": rates}
        )
    return entries


def _evaluations(runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
    """Contents of `results.json` by the group of the evaluated policy, or by its name."""
    by_folder = {run.folder.resolve(): run.group for run in runs}
    named: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        for content in run.results:
            policy = Path(content["policy"])
            inside = run.group if run.is_training else content["policy"]
            named[by_folder.get(policy.resolve(), inside)].append(content)
    return named


def tests(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The suite table: a row a test, a column a group, with intervals, floors, ceilings and published numbers."""
    named = _evaluations(runs)
    if not named:
        return None
    rows: dict[str, dict[str, Any]] = {}
    for group, contents in named.items():
        for name in dict.fromkeys(test for content in contents for test in content["suites"]):
            entries = [content["suites"][name] for content in contents if name in content["suites"]]
            row = rows.setdefault(name, {"test": name, "cells": {}, "references": {}, "published": {}, "episodes": 0})
            row["cells"][group] = {mode: cell for mode in ("sampled", "greedy") if (cell := _cell(entries, mode))}
            row["episodes"] = max(row["episodes"], entries[0]["panel"]["num_episodes"])
            row["published"] |= entries[0]["published"]
            for reference, score in entries[0]["references"].items():
                row["references"][reference] = {
                    "value": _short(score["success_rate"]),
                    "interval": _rounded(score["interval"]),
                }
    return {"groups": list(named), "rows": list(rows.values())}


def _cell(entries: Sequence[Mapping[str, Any]], mode: str) -> dict[str, Any] | None:
    """A success rate: Wilson's interval of one evaluation, a bootstrap over several seeds."""
    scores = [entry[mode] for entry in entries if mode in entry]
    if not scores:
        return None
    rates = [score["success_rate"] for score in scores]
    interval = scores[0]["interval"] if len(scores) == 1 else stratified_bootstrap(rates, statistic=mean)
    return {"value": _short(np.mean(rates)), "interval": _rounded(interval), "seeds": len(scores)}


def rl_against_bc(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Paired comparisons of every PPO policy with every cloned one that played the same episodes."""
    named = _evaluations(runs)
    trainers = {run.group: run.summary.trainer for run in runs if run.summary is not None}
    for contents in named.values():
        for content in contents:
            summary = TrainingSummary.load(content["policy"]) if Path(content["policy"]).is_dir() else None
            if summary is not None:
                trainers.setdefault(content["policy"], summary.trainer)
    learned = [group for group in named if trainers.get(group) == "GLAM"]
    cloned = [group for group in named if trainers.get(group) == "BC"]
    rows = []
    for first in learned:
        for second in cloned:
            for name, c in _compared(named[first][0], named[second][0]).items():
                rows.append(
                    {
                        "test": name,
                        "rl": first,
                        "bc": second,
                        "episodes": c.num_episodes,
                        "rl_rate": _short(c.first_rate),
                        "bc_rate": _short(c.second_rate),
                        "difference": _short(c.difference),
                        "interval": _rounded(c.interval),
                        "p": _short(c.p_value),
                    }
                )
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]) if rows else [], strict=True):
        row["p_holm"] = _short(adjusted)
    return {"rows": rows} if rows else None


def _compared(first: Mapping[str, Any], second: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return compare_results(first, second)
    except InvalidInputError:
        return {}  # not the same episodes: nothing to pair, and the table of tests shows both


def _interval(row: Sequence[float | None]) -> list[float] | None:
    return None if row[2] is None else [row[2], row[3]]


def _rounded(values: Sequence[float]) -> list[float]:
    return [_short(value) for value in values]


def _short(value: float | np.floating | None) -> float | None:
    """Four significant digits: what a reader can see, in a quarter of the bytes."""
    return None if value is None else float(f"{value:.4g}")
