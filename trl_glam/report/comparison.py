# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The table of `trl-glam bc-vs-rl`: RL, its clones and the references on the same episodes, as JSON, Markdown and PNG.

Numbers come from `results.json` files and logs; nothing is played here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.results import compare_results, comparison_table
from ..evaluation.scorer import MODES
from ..evaluation.statistics import PairedComparison, holm
from ..figures import rates_figure
from ..logs import InteractionLog


# Folder of every policy, in the order of the table, and its name there.
POLICIES = {
    "ppo": "PPO (GFlan-T5)",
    "bc/ppo": "BC of the trained policy (BC-GFlan-T5)",
    "bc/bot": "BC of the bot (BC-Bot)",
    "bc/training": "BC of PPO's training log",
    "untrained": "untrained",
    "random": "random",
    "bot": "bot",
}
CLONES = ("bc/ppo", "bc/bot", "bc/training")


def comparison_document(results: Mapping[str, dict[str, Any]], logs: Mapping[str, InteractionLog]) -> dict[str, Any]:
    """
    All numbers of the table.

    Args:
        results (`dict[str, dict]`):
            What `read_results` gives, for every name in `POLICIES`.
        logs (`dict[str, InteractionLog]`):
            What each of `CLONES` was cloned from.

    Returns:
        `dict[str, Any]`: JSON-serialisable; `ppo_against` holds the paired tests of PPO against every clone, Holm's
        adjustment over all of them.
    """
    compared = {
        (name, test): comparison
        for name in CLONES
        for test, comparison in compare_results(results["ppo"], results[name]).items()
    }
    adjusted = holm([comparison.p_value for comparison in compared.values()]).tolist()
    return {
        "logs": {name: _log_facts(log) for name, log in logs.items()},
        "policies": {name: _scores(result["suites"]) for name, result in results.items()},
        "ppo_against": [
            {"policy": name, "test": test, "p_holm": p, **asdict(comparison)}
            for ((name, test), comparison), p in zip(compared.items(), adjusted, strict=True)
        ],
    }


def _log_facts(log: InteractionLog) -> dict[str, Any]:
    success = log.episodes()["success"]
    return {"transitions": len(log), "episodes": len(success), "success_rate": float(np.mean(success))}


def _scores(suites: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("success_rate", "interval", "mean_return", "mean_length")
    return {
        f"{test} ({mode})": {key: entry[mode][key] for key in kept}
        for test, entry in suites.items()
        for mode in MODES
        if mode in entry
    }


def comparison_text(document: Mapping[str, Any]) -> str:
    """The table as Markdown, out of [`comparison_document`] with the study's `arguments` and `panel`."""
    arguments, panel, scores = document["arguments"], document["panel"], document["policies"]
    tests = list(scores["ppo"])
    header = ["policy", "cloned transitions", "success in them", *(word for test in tests for word in (test, "steps"))]
    rows = [header, ["---"] * len(header)]
    for name, label in POLICIES.items():
        log = document["logs"].get(name)
        row = [label, *(["", ""] if log is None else [str(log["transitions"]), f"{log['success_rate']:.3f}"])]
        for test in tests:
            row += _cells(scores[name][test]) if test in scores[name] else ["", ""]
        rows.append(row)
    fields = PairedComparison.__dataclass_fields__
    paired = {
        f"{entry['test']}, {POLICIES[entry['policy']]}": PairedComparison(**{name: entry[name] for name in fields})
        for entry in document["ppo_against"]
    }
    lines = [
        f"{arguments['model_name_or_path']} on {arguments['env_id']}, seed {arguments['seed']}: success on the "
        f"{panel['num_episodes']} episodes of panel {panel['name']}, with 95 % Wilson intervals.",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        comparison_table(paired, POLICIES["ppo"], "the clone that the row names", 0.95),
    ]
    return "\n".join(lines)


def _cells(score: Mapping[str, Any]) -> list[str]:
    low, high = score["interval"]
    return [f"{score['success_rate']:.3f} [{low:.3f}, {high:.3f}]", f"{score['mean_length']:.1f}"]


def draw_comparison(document: Mapping[str, Any], path: str | Path) -> None:
    """Success rates with their intervals as a PNG, one row a policy and one colour a test."""
    scores = document["policies"]
    rates = {
        test: {
            label: (scores[name][test]["success_rate"], *scores[name][test]["interval"])
            for name, label in POLICIES.items()
            if test in scores[name]
        }
        for test in scores["ppo"]
    }
    title = f"RL against cloning on {document['arguments']['env_id']}"
    # A PNG alone: the Hub takes no SVG, which may hold a script.
    rates_figure(rates, path, title=title, formats=("png",))
