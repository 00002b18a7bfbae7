# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`results.json` and the tables drawn from it: one test's scores, two policies compared, one policy over seeds.

The file holds every episode's outcome and nothing that changes between two runs of the same evaluation on the same
versions: no date, no folder. Reading checks it, because comparisons are made from files of other days and machines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..types import InvalidInputError
from .evaluate import EvaluationResult, SuccessRate
from .statistics import PairedComparison, holm, paired_comparison


SCHEMA_VERSION = 1
RESULTS_NAME = "results.json"

_PACKAGES = ("trl", "transformers", "torch", "minigrid", "gymnasium", "numpy", "scipy")


def score_entry(
    modes: Mapping[str, EvaluationResult],
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    references: Mapping[str, SuccessRate] | None = None,
    published: Mapping[str, str] | None = None,
    calibration: str | None = None,
    language: str | None = None,
) -> dict[str, Any]:
    """
    One test's part of `results.json`.

    Args:
        modes (`dict[str, EvaluationResult]`):
            `"sampled"` and/or `"greedy"`; the first is the headline.
        env_kwargs (`dict[str, Any]`, *optional*):
            What was added to the environments' keyword arguments.
        references (`dict[str, SuccessRate]`, *optional*):
            `"random"` and `"bot"` on the same episodes.
        published (`dict[str, str]`, *optional*):
            The paper's success rates.
        calibration (`str`, *optional*):
            Which rule served the actions that the policy had not seen.
        language (`str`, *optional*):
            Language of the prompt's fixed words, if it is not the policy's own.
    """
    headline = next(iter(modes.values()))
    return {
        "panel": {"name": headline.panel.name, "sha256": headline.panel.hash, "num_episodes": len(headline.records)},
        "env_kwargs": dict(env_kwargs or {}),
        "success_rate": headline.success_rate,
        "interval": list(headline.interval),
        "mode": next(iter(modes)),
        **{mode: result.to_dict() for mode, result in modes.items()},
        "references": {name: success.to_dict() for name, success in (references or {}).items()},
        "published": dict(published or {}),
        "calibration": calibration,
        "language": language,
    }


def write_results(
    directory: str | Path,
    policy: str,
    seed: int,
    suites: Mapping[str, Mapping[str, Any]],
    confidence: float = 0.95,
    policy_revision: str | None = None,
) -> Path:
    """
    Write `results.json`.

    Args:
        directory (`str` or `Path`):
            Folder, made if missing.
        policy (`str`):
            What was evaluated, as the user named it.
        seed (`int`):
            Seed of the action draws.
        suites (`dict[str, dict]`):
            One [`score_entry`] a test.
        confidence (`float`, *optional*, defaults to `0.95`):
            Nominal coverage of the intervals.
        policy_revision (`str`, *optional*):
            Commit of a policy on the Hub.

    Returns:
        `Path`: the file.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "policy": policy,
        "policy_revision": policy_revision,
        "seed": seed,
        "confidence": confidence,
        "versions": {"trl-glam": __version__, **{package: version(package) for package in _PACKAGES}},
        "suites": suites,
    }
    path = Path(directory, RESULTS_NAME)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and moved: a reader never meets half a file.
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def read_results(path: str | Path) -> dict[str, Any]:
    """
    Read `results.json`, or the one in a folder.

    Raises:
        [`InvalidInputError`]: when there is none, or it is of another kind or schema version.
    """
    path = Path(path)
    path = path / RESULTS_NAME if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read as {RESULTS_NAME}: {error}.") from None
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION or "suites" not in content:
        raise InvalidInputError(
            f"{path} is no {RESULTS_NAME} of schema version {SCHEMA_VERSION}; `trl-glam eval ... --output_dir DIR` "
            "writes one."
        )
    return content


def results_table(content: Mapping[str, Any]) -> str:
    """
    Markdown table of one policy's scores, the random floor and the bot's ceiling beside each.

    Args:
        content (`dict`):
            What [`read_results`] gives.
    """
    entries = content["suites"]
    modes = [mode for mode in ("sampled", "greedy") if any(mode in entry for entry in entries.values())]
    references = [name for name in ("random", "bot") if any(name in entry["references"] for entry in entries.values())]
    published = any(entry["published"] for entry in entries.values())
    header = ["test", "episodes", *modes, *references] + ["published GFlan-T5", "published random"] * published
    rows = []
    for name, entry in entries.items():
        row = [name, str(entry["panel"]["num_episodes"])]
        row += [_cell(entry.get(mode)) for mode in modes]
        row += [_cell(entry["references"].get(reference)) for reference in references]
        if published:
            row += [entry["published"].get(column, "") for column in ("GFlan-T5", "Random")]
        rows.append(row)
    lines = [markdown_table(header, rows), "", f"{100 * content['confidence']:g} % Wilson intervals."]
    if published:
        lines.append(
            "Published (huggingface.co/papers/2302.02662): Flan-T5-large, sampled, 99 % intervals over two seeds; the "
            "first 1,000 finished episodes, which favours short ones, with task kinds left to chance. Here every "
            "episode runs to its end and kinds are equally often: the same random policy scores lower."
        )
    kinds = _kinds_table(entries)
    rules = [f"- {name}: {entry['calibration']}" for name, entry in entries.items() if entry["calibration"]]
    if kinds:
        lines += ["", "Success per task kind:", "", kinds]
    if rules:
        lines += ["", "Calibration of actions:", "", *rules]
    return "\n".join(lines)


def _kinds_table(entries: Mapping[str, Any]) -> str:
    per_kind = {name: entry[entry["mode"]]["per_kind"] for name, entry in entries.items()}
    kinds = list(dict.fromkeys(kind for scores in per_kind.values() for kind in scores))
    rows = [[name, *(_cell(scores.get(kind)) for kind in kinds)] for name, scores in per_kind.items() if scores]
    return markdown_table(["test", *kinds], rows) if len(kinds) > 1 else ""


def compare_results(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, PairedComparison]:
    """
    Paired comparisons of two `results.json`, test by test and mode by mode.

    Args:
        first, second (`dict`):
            What [`read_results`] gives.

    Returns:
        `dict[str, PairedComparison]`: under `"test (mode)"`, for all that both have played.

    Raises:
        [`InvalidInputError`]: when they share no test, or a shared test was played on other episodes.
    """
    comparisons = {}
    for name in first["suites"]:
        if name not in second["suites"]:
            continue
        one, other = first["suites"][name], second["suites"][name]
        for what in ("sha256", "num_episodes"):
            if one["panel"][what] != other["panel"][what]:
                raise InvalidInputError(
                    f"Test {name!r} was not played on the same episodes: panel {one['panel']['name']} has {what} "
                    f"{one['panel'][what]}, panel {other['panel']['name']} {other['panel'][what]}. A paired test "
                    "needs the same panel: evaluate both with the same --suite, --episodes and trl_glam version."
                )
        for mode in ("sampled", "greedy"):
            if mode in one and mode in other:
                left, right = ([episode["success"] for episode in entry[mode]["episodes"]] for entry in (one, other))
                comparisons[f"{name} ({mode})"] = paired_comparison(left, right, confidence=first["confidence"])
    if not comparisons:
        raise InvalidInputError(
            f"No common test: the first has {', '.join(first['suites'])}, the second {', '.join(second['suites'])}."
        )
    return comparisons


def comparison_table(comparisons: Mapping[str, PairedComparison], first: str, second: str, confidence: float) -> str:
    """
    Markdown table of [`compare_results`], with Holm's adjustment over its rows.

    Args:
        comparisons (`dict[str, PairedComparison]`):
            The rows.
        first, second (`str`):
            Names of the two policies.
        confidence (`float`):
            Nominal coverage of the intervals.
    """
    adjusted = holm([comparison.p_value for comparison in comparisons.values()])
    rows = [
        [
            name,
            str(c.num_episodes),
            f"{c.first_rate:.3f}",
            f"{c.second_rate:.3f}",
            f"{c.difference:+.3f} [{c.interval[0]:+.3f}, {c.interval[1]:+.3f}]",
            f"{c.first_only} / {c.second_only}",
            f"{c.p_value:.2g}",
            f"{p:.2g}",
        ]
        for (name, c), p in zip(comparisons.items(), adjusted, strict=True)
    ]
    header = ["test", "episodes", "A", "B", "A - B", "only A / only B", "p (McNemar)", "p (Holm)"]
    return "\n".join(
        [
            f"A: {first}",
            f"B: {second}",
            "",
            markdown_table(header, rows),
            "",
            f"{100 * confidence:g} % bootstrap intervals of the paired difference; exact McNemar tests, and their "
            "p-values adjusted over the rows.",
        ]
    )


def _cell(score: Mapping[str, Any] | None) -> str:
    return "" if score is None else _rate(score["success_rate"], score["interval"])


def _rate(value: float, interval: Sequence[float]) -> str:
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of strings."""
    table = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)
