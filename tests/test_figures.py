# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Figures: files that open, hold what was given, and come out the same twice."""

import gymnasium as gym
import minigrid  # noqa: F401  (registers Minigrid's environments)
import numpy as np
import pytest
from PIL import Image

from tests.toy_envs import LampEnv
from trl_glam.figures import across_seeds, episode_gif, grid_frame, learning_curve, rates_figure
from trl_glam.types import InvalidInputError


ROWS = [{"env_steps": 1000 * i, "success_rate": i / 10, "low": i / 12, "high": i / 9} for i in range(1, 8)]


def test_learning_curve_writes_png_and_svg(tmp_path):
    runs = {"GFlan-T5": ROWS, "DRRN": [{"env_steps": 500, "success_rate": 0.1}, {"env_steps": 900, "loss": 1.0}]}
    png, svg = learning_curve(runs, tmp_path / "new" / "curve.png", references={"random": 0.36, "bot": 1.0})
    assert Image.open(png).size == (1050, 630)
    text = svg.read_text()
    for words in ("environment steps", "success rate", "GFlan-T5", "DRRN", "random 36%", "bot 100%"):
        assert words in text


def test_the_interval_of_a_single_point_is_drawn(tmp_path):
    row = {"env_steps": 256, "success_rate": 0.12}
    with_band, without = (
        np.asarray(Image.open(learning_curve([rows], tmp_path / "curve")[0]).convert("L"))
        for rows in (row | {"low": 0.03, "high": 0.36}, row)
    )
    changed = (with_band != without).nonzero()
    # A vertical bar of a third of the axes.
    assert 130 < np.ptp(changed[0]) < 200 and np.ptp(changed[1]) < 8


def test_svg_is_the_same_twice(tmp_path):
    texts = [learning_curve(ROWS, tmp_path / name)[1].read_text() for name in ("a", "b")]
    assert texts[0] == texts[1]


def test_learning_curve_needs_the_metric(tmp_path):
    with pytest.raises(InvalidInputError, match="success_rate"):
        learning_curve([{"env_steps": 1, "loss": 0.1}], tmp_path / "curve")
    assert not list(tmp_path.iterdir())


def test_rates_figure_names_every_row_and_series_and_spans_the_intervals(tmp_path):
    rates = {
        "sampled": {"goto": (0.5, 0.1, 0.9), "open": (1.0, 0.8, 1.0 - 1e-12)},
        "greedy": {"putnext": (0.0, 0.0, 0.2)},
    }
    png, svg = rates_figure(rates, tmp_path / "kinds.png", title="Kinds")
    text = svg.read_text()
    for words in ("goto", "open", "putnext", "sampled", "greedy", "Kinds", "success rate"):
        assert words in text
    # "goto" reaches over 0.8 of the axes, alone in the picture's upper third.
    ink = np.asarray(Image.open(png).convert("RGB")).astype(int)
    blue = (ink[..., 2] - ink[..., 0] > 100).nonzero()[1]
    assert np.ptp(blue) > 0.5 * ink.shape[1]
    assert [path.name for path in rates_figure(rates, tmp_path / "b" / "k", title="K", formats=("png",))] == ["k.png"]
    with pytest.raises(InvalidInputError, match="at least one rate"):
        rates_figure({}, tmp_path / "none", title="None")


def test_across_seeds_interpolates_up_to_the_shortest_run():
    first = [{"env_steps": steps, "success_rate": steps / 400} for steps in (100, 200, 300, 400)]
    second = [{"env_steps": steps, "success_rate": 0.5} for steps in (150, 300)]
    rows = across_seeds([first, second])
    assert [row["env_steps"] for row in rows] == [100, 200, 300]
    assert rows[1]["success_rate"] == pytest.approx(0.5) and rows[0]["success_rate"] == pytest.approx(0.375)
    assert (rows[0]["low"], rows[0]["high"]) == pytest.approx((0.25, 0.5))


def test_grid_frame_is_minigrids_own():
    env = gym.make("BabyAI-GoToObj-v0")
    env.reset(seed=0)
    frame = grid_frame(env, tile_size=16)
    assert frame.size == (env.unwrapped.width * 16, env.unwrapped.height * 16)
    assert np.array_equal(np.asarray(frame), env.unwrapped.get_frame(tile_size=16))
    with pytest.raises(InvalidInputError, match="LampEnv is no grid world"):
        grid_frame(LampEnv())


def test_episode_gif_keeps_every_frame_and_shows_captions(tmp_path):
    frames = [Image.new("RGB", (120, 80), color) for color in ("red", "green", "blue")]
    path = episode_gif(frames, tmp_path / "episode.gif", ["one", "a caption that is longer than one line takes", ""])
    with Image.open(path) as gif:
        assert gif.n_frames == 3 and gif.info["loop"] == 0
        assert gif.width == 120 and gif.height > 80 + 3 * 14
        durations = []
        for index in range(3):
            gif.seek(index)
            durations.append(gif.info["duration"])
            caption = np.asarray(gif.convert("RGB"))[80:]
            assert (caption < 128).any() == (index < 2)
        assert durations == [600, 600, 1800]


def test_episode_gif_needs_a_caption_a_frame(tmp_path):
    with pytest.raises(InvalidInputError, match="one caption a frame"):
        episode_gif([Image.new("RGB", (4, 4))], tmp_path / "x.gif", ["a", "b"])
