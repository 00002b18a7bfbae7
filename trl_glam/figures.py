# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Pictures: learning curves (PNG and SVG), one frame of a grid world with Minigrid's look, an episode as a GIF.

Matplotlib's object interface only, so that no window system and no global state is touched, and SVG files come out
byte for byte the same for the same data. Frames are Minigrid's own renderer; nothing is drawn twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter
from minigrid.minigrid_env import MiniGridEnv
from PIL import Image, ImageDraw, ImageFont

from .envs.babyai_text import BabyAITextEnv
from .evaluation import statistics
from .types import InvalidInputError


# Okabe and Ito's palette: told apart by colour-blind readers too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

Row = Mapping[str, Any]


def learning_curve(
    runs: Mapping[str, Sequence[Row]] | Sequence[Row],
    path: str | Path,
    *,
    title: str = "Success rate while learning",
    metric: str = "success_rate",
    ylabel: str = "success rate",
    rate: bool = True,
    references: Mapping[str, float] | None = None,
) -> list[Path]:
    """
    Draw success against environment steps, as a PNG and an SVG.

    Args:
        runs (`dict[str, list[dict]]` or `list[dict]`):
            Rows of each labelled curve, or of the only one. A row holds `env_steps` and `metric`, and for a band also
            `low` and `high` in the same units; rows without the metric are skipped.
        path (`str` or `Path`):
            Where to write: the suffix is replaced by `.png` and `.svg`.
        title (`str`, *optional*, defaults to `"Success rate while learning"`):
            Title of the figure.
        metric (`str`, *optional*, defaults to `"success_rate"`):
            Name of the value in the rows.
        ylabel (`str`, *optional*, defaults to `"success rate"`):
            Name of the value on the axis.
        rate (`bool`, *optional*, defaults to `True`):
            The value is a rate in [0, 1], drawn in percent; otherwise the axis fits the values.
        references (`dict[str, float]`, *optional*):
            Horizontal lines with their names, for example `{"random": 0.36, "bot": 1.0}`.

    Returns:
        `list[Path]`: the files written.

    Raises:
        [`InvalidInputError`]: when no row holds the metric.
    """
    curves = {"": runs} if isinstance(runs, Sequence) else dict(runs)
    curves = {label: [row for row in rows if metric in row] for label, rows in curves.items()}
    if not any(curves.values()):
        raise InvalidInputError(f"A learning curve needs rows with 'env_steps' and {metric!r}; none were given.")

    figure = Figure(figsize=(7.0, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for (label, rows), color in zip(curves.items(), COLORS * (1 + len(curves) // len(COLORS)), strict=False):
        steps = [row["env_steps"] for row in rows]
        # A handful of evaluations is a set of points; a long training log is a line.
        marker = "o" if len(rows) <= 30 else None
        axes.plot(steps, [row[metric] for row in rows], color=color, label=label, lw=2, marker=marker, ms=4)
        banded = [row for row in rows if "low" in row]
        at, low, high = ([row[key] for row in banded] for key in ("env_steps", "low", "high"))
        if len(banded) == 1:
            # One point spans no area.
            axes.vlines(at, low, high, color=color, lw=2, alpha=0.5)
        else:
            axes.fill_between(at, low, high, color=color, alpha=0.18, lw=0)
    for name, value in (references or {}).items():
        axes.axhline(value, color="0.45", lw=1.2, ls=(0, (4, 3)), zorder=0)
        axes.annotate(
            f"{name} {value:.0%}",
            xy=(1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="0.35",
        )
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel("environment steps")
    axes.set_ylabel(ylabel)
    axes.set_xlim(left=0)
    if rate:
        axes.set_ylim(-0.02, 1.04)
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9)

    return _save(figure, path)


def rates_figure(
    rates: Mapping[str, Mapping[str, tuple[float, float, float]]],
    path: str | Path,
    *,
    title: str,
    formats: Sequence[str] = ("png", "svg"),
) -> list[Path]:
    """
    Draw success rates with their intervals, as a PNG and an SVG if not told otherwise.

    Args:
        rates (`dict[str, dict[str, tuple[float, float, float]]]`):
            For each series (a colour), for each row of the figure: rate, low and high end of its interval.
        path (`str` or `Path`):
            Where to write: the suffix is replaced by `.png` and `.svg`.
        title (`str`):
            Title of the figure.
        formats (`Sequence[str]`, *optional*, defaults to `("png", "svg")`):
            What to write.

    Returns:
        `list[Path]`: the files written.

    Raises:
        [`InvalidInputError`]: when there is nothing to draw.
    """
    rows = list(dict.fromkeys(row for series in rates.values() for row in series))
    if not rows:
        raise InvalidInputError("A figure of rates needs at least one rate; none was given.")
    figure = Figure(figsize=(7.5, 1.2 + 0.36 * max(len(rows), 2) + 0.12 * len(rates)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for number, (label, series) in enumerate(rates.items()):
        # Beside one another, so that intervals do not hide each other.
        shift = 0.6 * ((number + 0.5) / len(rates) - 0.5)
        places = [rows.index(row) + shift for row in series]
        rate, low, high = np.array(list(series.values())).reshape(-1, 3).T
        # At 0 and 1 an end of the interval may lie a rounding error on the wrong side of the rate.
        errors = np.maximum([rate - low, high - rate], 0.0)
        color = COLORS[number % len(COLORS)]
        axes.errorbar(rate, places, xerr=errors, fmt="o", color=color, label=label, ms=5, capsize=3)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_xlabel("success rate")
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="x", color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(rates) > 1:
        # Outside: an interval may be anywhere inside.
        figure.legend(loc="outside lower left", frameon=False, fontsize=9, ncols=2)
    return _save(figure, path, formats)


def _save(figure: Figure, path: str | Path, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    paths = [Path(path).with_suffix(f".{name}") for name in formats]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "trl_glam", "svg.fonttype": "none"}):
        for one in paths:
            figure.savefig(one, metadata={"Date": None} if one.suffix == ".svg" else None)
    return paths


def across_seeds(runs: Sequence[Sequence[Row]], metric: str = "success_rate", confidence: float = 0.95) -> list[Row]:
    """
    One curve with a band out of the curves of several seeds.

    Args:
        runs (`list[list[dict]]`):
            Rows of every seed, each with `env_steps` and `metric`.
        metric (`str`, *optional*, defaults to `"success_rate"`):
            Name of the value.
        confidence (`float`, *optional*, defaults to `0.95`):
            Nominal coverage of the band.

    Returns:
        `list[dict]`: rows of `env_steps`, the mean over seeds, `low` and `high` (bootstrap over seeds), at the first
        run's steps as far as every run goes; the other runs are interpolated there.
    """
    curves = [[(row["env_steps"], row[metric]) for row in rows if metric in row] for rows in runs]
    if not curves or not all(curves):
        raise InvalidInputError(f"A curve over seeds needs rows with 'env_steps' and {metric!r} of every run.")
    last = min(curve[-1][0] for curve in curves)
    rows: list[Row] = []
    for steps in (steps for steps, _ in curves[0] if steps <= last):
        values = [np.interp(steps, *zip(*curve, strict=True)) for curve in curves]
        low, high = statistics.stratified_bootstrap(values, statistic=statistics.mean, confidence=confidence)
        rows.append({"env_steps": steps, metric: float(np.mean(values)), "low": low, "high": high})
    return rows


def grid_frame(env: gym.Env, tile_size: int = 32) -> Image.Image:
    """
    The whole grid as Minigrid draws it, with the agent's field of view highlighted.

    Args:
        env (`gym.Env`):
            A BabyAI-Text or Minigrid environment that has been reset.
        tile_size (`int`, *optional*, defaults to `32`):
            Side of a cell in pixels.

    Raises:
        [`InvalidInputError`]: when the environment is no grid world.
    """
    world = grid_world(env)
    if world is None:
        name = type(env.unwrapped).__name__
        raise InvalidInputError(f"{name} is no grid world: only Minigrid environments can be drawn.")
    return Image.fromarray(world.get_frame(highlight=True, tile_size=tile_size))


def grid_world(env: gym.Env) -> MiniGridEnv | None:
    """The Minigrid environment in an environment, `None` if there is none."""
    world = env.unwrapped
    world = world.level if isinstance(world, BabyAITextEnv) else world
    return world if isinstance(world, MiniGridEnv) else None


def episode_gif(
    frames: Sequence[Image.Image],
    path: str | Path,
    captions: Sequence[str] | None = None,
    seconds_per_frame: float = 0.6,
    font_size: int = 14,
) -> Path:
    """
    Write an episode as an endless GIF; the last frame stays three times as long.

    Args:
        frames (`list[PIL.Image.Image]`):
            One frame a step, all of the same size.
        path (`str` or `Path`):
            File to write.
        captions (`list[str]`, *optional*):
            Text under each frame, wrapped to its width; one per frame.
        seconds_per_frame (`float`, *optional*, defaults to `0.6`):
            Time a frame is shown.
        font_size (`int`, *optional*, defaults to `14`):
            Size of the captions in pixels.

    Returns:
        `Path`: the file written.
    """
    captions = [""] * len(frames) if captions is None else captions
    if not frames or len(captions) != len(frames):
        raise InvalidInputError(
            f"A GIF needs one caption a frame, got {len(frames)} frames, {len(captions)} captions."
        )
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), font_size)
    wrapped = [_wrap(caption, font, frames[0].width - 2 * font_size) for caption in captions]
    # All frames are as high as the longest caption needs, or the picture would jump.
    num_lines = max(len(lines) for lines in wrapped)
    strip = round(num_lines * font_size * 1.35) + (font_size if num_lines else 0)
    pages = []
    for frame, lines in zip(frames, wrapped, strict=True):
        page = Image.new("RGB", (frame.width, frame.height + strip), "white")
        page.paste(frame, (0, 0))
        text = (font_size, frame.height + font_size // 2)
        ImageDraw.Draw(page).multiline_text(text, "\n".join(lines), fill="black", font=font, spacing=font_size * 0.2)
        pages.append(page)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    milliseconds = round(1000 * seconds_per_frame)
    durations = [milliseconds] * (len(pages) - 1) + [3 * milliseconds]
    pages[0].save(path, format="GIF", save_all=True, append_images=pages[1:], duration=durations, loop=0)
    return path


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines
