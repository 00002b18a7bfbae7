# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Puts the report together: one HTML file with its style, its script and its data inside, which asks for nothing else.

The data are JSON, compressed and in base64: prompts repeat themselves a lot. The page unpacks them in the browser. Its
parts are `page.html`, `page.css`, `charts.js`, `viewer.js` and `main.js` beside this file, without any framework.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..figures import learning_curve, rates_figure
from ..types import InvalidInputError
from . import numbers
from .episodes import EpisodeBook, choose
from .log_table import LoggedEpisode, read_episodes
from .runs import Run, find_runs


_FOLDER = Path(__file__).parent
_SCRIPTS = ("charts.js", "viewer.js", "main.js")
MAX_BYTES = 9_500_000


@dataclass(frozen=True)
class Report:
    """
    What was written.

    Args:
        path (`Path`):
            The page.
        num_runs (`int`), num_episodes (`int`):
            Runs read, and episodes that can be viewed.
        not_replayed (`int`):
            Episodes shown as text because this version of the environment plays them differently.
        figures (`list[Path]`):
            PNG and SVG files.
    """

    path: Path
    num_runs: int
    num_episodes: int
    not_replayed: int
    figures: list[Path]


def write_report(
    paths: Iterable[str | Path],
    output: str | Path,
    *,
    title: str = "Training report",
    num_episodes: int = 300,
    figures: str | Path | None = None,
    max_bytes: int = MAX_BYTES,
) -> Report:
    """
    Write one self-contained page about runs, logs and evaluations.

    Args:
        paths (`list[str]`):
            Folders of runs (finished or not), interaction logs or evaluations; see
            [`~trl_glam.report.runs.find_runs`].
        output (`str` or `Path`):
            The HTML file.
        title (`str`, *optional*, defaults to `"Training report"`):
            Its headline.
        num_episodes (`int`, *optional*, defaults to `300`):
            Episodes that can be viewed, at most, over all logs.
        figures (`str` or `Path`, *optional*):
            Folder for every figure as PNG and SVG too.
        max_bytes (`int`, *optional*):
            Size of the page at most; episodes are left out, evenly, to keep it.

    Returns:
        [`Report`]

    Raises:
        [`InvalidInputError`]: when there is nothing to report or the output cannot be written.
    """
    runs = find_runs(paths)
    episodes = _logged(runs)
    drawn = numbers.curves(runs, episodes)
    book = EpisodeBook()
    for log, chosen in choose(episodes, num_episodes).items() if num_episodes else ():
        book.add_log(next(run.group for run in runs if run.log == log), chosen)
    book.close()
    content: dict[str, Any] = {
        "title": title,
        "version": __version__,
        "overview": numbers.overview(runs, episodes, drawn),
        "curves": drawn,
        "axes": {name: {"title": heading, "unit": unit} for name, (_, heading, unit) in numbers.CURVES.items()},
        "kinds": numbers.kinds(runs, episodes),
        "tests": numbers.tests(runs),
        "rl_bc": numbers.rl_against_bc(runs),
    }
    page, shown = _fitting_page(title, content, book, max_bytes)
    path = Path(output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"The report cannot be written to {path}: {error.strerror}.") from None
    written = [] if figures is None else _write_figures(content, Path(figures))
    return Report(path, len(runs), shown, book.not_replayed, written)


def _logged(runs: Iterable[Run]) -> dict[Path, list[LoggedEpisode]]:
    """Episodes of every log; a run that has just begun may have none yet."""
    episodes = {}
    for run in runs:
        if run.log is not None:
            try:
                episodes[run.log] = read_episodes(run.log)
            except InvalidInputError:
                if run.finished:
                    raise
    return episodes


def _fitting_page(title: str, content: dict[str, Any], book: EpisodeBook, max_bytes: int) -> tuple[str, int]:
    keep = 1
    while True:
        book_content = book.to_json(keep)
        page = _render(title, {**content, **book_content})
        if len(page.encode()) <= max_bytes or not book_content["episodes"]:
            return page, len(book_content["episodes"])
        keep *= 2


def _render(title: str, data: dict[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # mtime=0: the same runs give the same page, byte for byte.
    packed = base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()
    parts = {
        "title": html.escape(title),
        "style": (_FOLDER / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        "data": packed,
    }
    page = (_FOLDER / "page.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        page = page.replace(f"<!--{name}-->", part, 1)
    return page


def _write_figures(content: dict[str, Any], folder: Path) -> list[Path]:
    drawn, written = content["curves"], []
    for name, (_, heading, unit) in numbers.CURVES.items():
        runs = {
            f"{one['group']} (evaluation)" if one["evaluation"] else one["group"]: _curve_rows(one)
            for one in drawn.get(name, [])
        }
        if runs:
            rate = unit == "rate"
            written += learning_curve(runs, folder / name, title=heading, metric="value", ylabel=unit, rate=rate)
    kinds = {name.removeprefix("kind:"): drawn[name] for name in drawn if name.startswith("kind:")}
    for group in dict.fromkeys(one["group"] for series in kinds.values() for one in series):
        # Single kinds are noisy: no bands.
        runs = {
            kind: [{"env_steps": row["env_steps"], "value": row["value"]} for row in _curve_rows(one)]
            for kind, series in kinds.items()
            for one in series
            if one["group"] == group
        }
        if len(runs) > 1:
            title = f"Success per task kind, {group}"
            written += learning_curve(runs, folder / f"kinds-{_slug(group)}", title=title, metric="value")
    if content["kinds"]:
        rates = {
            f"{entry['group']}, {entry['what']}": {
                rate["kind"]: (rate["value"], *rate["interval"]) for rate in entry["rates"]
            }
            for entry in content["kinds"]
        }
        written += rates_figure(rates, folder / "kinds", title="Success per task kind")
    if content["tests"]:
        rates = {}
        for row in content["tests"]["rows"]:
            for group, modes in row["cells"].items():
                for mode, cell in modes.items():
                    rates.setdefault(f"{group}, {mode}", {})[row["test"]] = (cell["value"], *cell["interval"])
        written += rates_figure(rates, folder / "tests", title="Success on frozen panels")
    return written


def _curve_rows(series: dict[str, Any]) -> list[dict[str, float]]:
    return [
        {"env_steps": steps, "value": value} | ({} if low is None else {"low": low, "high": high})
        for steps, value, low, high in series["rows"]
    ]


def _slug(group: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", group)
