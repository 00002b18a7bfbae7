# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The page as a person meets it, in headless Chromium: quiet, alone, driven by keys, true to the log."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import shutil

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from tests.report.sample_runs import ENV_ID, ENV_KWARGS, LeaningAgent, make_evaluation, make_log, make_training_run
from tests.toy_envs import CorridorEnv
from trl_glam.agents import RandomAgent
from trl_glam.cli.main import main
from trl_glam.envs.contract import make_env
from trl_glam.figures import grid_frame
from trl_glam.logs import load_log
from trl_glam.report import episodes as episodes_module
from trl_glam.report import write_report


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    make_training_run(root / "ppo", 0, updates=3, episodes=3)
    make_evaluation(root / "ppo" / "eval", str(root / "ppo"), 5.0, episodes=10)
    make_log(root / "trained", LeaningAgent(5.0), policy="outputs/ppo")
    make_log(root / "untrained", RandomAgent(), policy="random")
    return root


@pytest.fixture(scope="module")
def report(root):
    paths = [root / name for name in ("ppo", "trained", "untrained")]
    return write_report(paths, root / "report.html", title="Sample <runs>", num_episodes=30)


def data_of(path):
    packed = re.search(r'id="data">([^<]*)<', path.read_text(encoding="utf-8")).group(1)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_page_holds_what_the_log_holds(root, report):
    data = data_of(report.path)
    log = load_log(root / "trained")
    shown = [episode for episode in data["episodes"] if data["policies"][episode["policy"]] == "trained"]
    assert len(shown) == 6 and report.not_replayed == 0
    rows = log.to_list()
    for episode in shown:
        steps = [row for row in rows if row["env_seed"] == episode["seed"]]
        assert episode["actions"] == [row["action_index"] for row in steps]
        assert episode["prompts"] == [row["prompt"] for row in steps]
        assert [data["sets"][s] for s in episode["sets"]] == [row["admissible_actions"] for row in steps]
        for probabilities, row in zip(episode["probs"], steps, strict=True):
            np.testing.assert_allclose(probabilities, np.exp(row["logprobs"]), atol=6e-5)
        assert len(episode["grid"]["frames"]) == len(steps) + 1


def test_same_seed_of_two_policies_is_paired(report):
    data = data_of(report.path)
    by_policy = {
        name: {e["same"] for e in data["episodes"] if data["policies"][e["policy"]] == name}
        for name in ("trained", "untrained")
    }
    assert by_policy["trained"] == by_policy["untrained"] and len(by_policy["trained"]) == 6


def test_page_is_the_same_byte_for_byte(root, report, tmp_path):
    paths = [root / name for name in ("ppo", "trained", "untrained")]
    again = write_report(paths, tmp_path / "again.html", title="Sample <runs>", num_episodes=30)
    assert again.path.read_bytes() == report.path.read_bytes()


def test_size_limit_leaves_episodes_out_evenly(root, tmp_path):
    paths = [root / "trained", root / "untrained"]
    whole = write_report(paths, tmp_path / "whole.html")
    small = write_report(paths, tmp_path / "small.html", max_bytes=whole.path.stat().st_size - 2000)
    assert 0 < small.num_episodes < whole.num_episodes == 12
    assert small.path.stat().st_size <= whole.path.stat().st_size - 2000


def test_replay_that_differs_is_shown_as_text(root, tmp_path, monkeypatch):
    def other_world(env_id, env_kwargs):
        return make_env("BabyAI-Text/GoToLocalS8N4-v0", env_kwargs)

    monkeypatch.setattr(episodes_module, "make_env", other_world)
    report = write_report([root / "trained"], tmp_path / "report.html")
    assert report.not_replayed == 6 and all(e["grid"] is None for e in data_of(report.path)["episodes"])


def test_figures_are_written_as_png_and_svg(root, tmp_path):
    report = write_report([root / "ppo"], tmp_path / "report.html", figures=tmp_path / "figures")
    names = {path.name for path in report.figures}
    figures = ["success", "return", "length", "entropy", "kl", "kinds", "kinds-ppo", "tests"]
    assert names == {f"{figure}.{kind}" for figure in figures for kind in ("png", "svg")}
    assert all(path.stat().st_size > 1000 for path in report.figures)


def test_command_writes_and_refuses(root, tmp_path, capsys):
    assert main(["report", str(root / "trained"), "--output", str(tmp_path / "r.html"), "--episodes", "3"]) == 0
    assert "1 runs, 3 episodes to view" in capsys.readouterr().out
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "x" / "r.html")]) == 2
    error = capsys.readouterr().err
    assert "holds no run to report" in error and "log_interactions" in error and error.count("\n") == 1


# ---- in the browser ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def open_page(browser, path, width=1360, height=900, **kwargs):
    """The page, ready, with everything it complains of or asks for in two lists."""
    page = browser.new_page(viewport={"width": width, "height": height}, **kwargs)
    page.set_default_timeout(120_000)
    page.complaints, page.requests = [], []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")
    return page


@pytest.fixture
def page(browser, report):
    page = open_page(browser, report.path)
    yield page
    page.close()


def test_nothing_is_asked_for_and_nothing_complains(page, report):
    assert page.requests == [report.path.as_uri()] and page.complaints == []
    sections = page.eval_on_selector_all("section", "nodes => nodes.map((node) => node.id)")
    assert sections == ["runs", "learning", "kinds", "tests", "episodes"]
    assert page.inner_text("#title") == "Sample <runs>"
    assert page.eval_on_selector_all(".chart[data-curve]", "n => n.map((x) => x.dataset.curve)") == [
        "success", "return", "length", "entropy", "kl"]  # fmt: skip


def test_keys_move_the_steps_and_bars_are_the_probabilities(page, report):
    data = data_of(report.path)
    page.select_option("#f-policy", str(data["policies"].index("trained")))
    page.evaluate("document.getElementById('viewer').scrollIntoView()")
    episode = next(e for e in data["episodes"] if data["policies"][e["policy"]] == "trained")
    page.evaluate("document.activeElement.blur()")
    for step in range(len(episode["actions"])):
        assert page.inner_text(".at") == f"{step} / {len(episode['actions'])}"
        bars = page.eval_on_selector_all(".pane .bar", "n => n.map((x) => Number(x.dataset.p))")
        assert bars == episode["probs"][step]
        widths = page.eval_on_selector_all(".pane .bar i", "n => n.map((x) => parseFloat(x.style.width) / 100)")
        np.testing.assert_allclose(widths, episode["probs"][step], atol=1e-6)
        taken = page.eval_on_selector_all(".pane .bar", "n => n.findIndex((x) => x.classList.contains('taken'))")
        assert taken == episode["actions"][step]
        assert page.text_content(".prompt pre") == episode["prompts"][step]
        page.keyboard.press("ArrowRight")
    assert episode["outcome"] in page.inner_text(".pane .bars")
    page.keyboard.press("Home")
    assert page.inner_text(".at").startswith("0 /")
    page.keyboard.press("ArrowDown")
    assert page.get_attribute(".list li:nth-child(2)", "aria-selected") == "true"
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_filters_filter(page, report):
    data = data_of(report.path)
    for outcome in ("success", "time limit"):
        page.select_option("#f-outcome", outcome)
        expected = sum(episode["outcome"] == outcome for episode in data["episodes"])
        assert page.locator(".list li").count() == expected
        assert page.inner_text(".count").startswith(f"{expected} of {len(data['episodes'])} episodes")
    page.select_option("#f-outcome", "")
    kind = data["episodes"][0]["kind"]
    page.select_option("#f-kind", kind)
    assert page.locator(".list li").count() == sum(episode["kind"] == kind for episode in data["episodes"])
    page.select_option("#f-kind", "")
    page.check("#f-paired")
    assert page.locator(".list li").count() == 12
    page.fill("#f-search", "no mission says this")
    assert page.locator(".list li").count() == 0


def test_two_policies_side_by_side_on_the_same_seed(page, report):
    page.check("#f-paired")
    page.evaluate("document.activeElement.blur(); document.getElementById('viewer').scrollIntoView()")
    page.keyboard.press("c")
    assert page.locator(".pane").count() == 2
    missions = page.eval_on_selector_all(".pane .mission", "nodes => nodes.map((node) => node.textContent)")
    facts = page.eval_on_selector_all(".pane .facts", "nodes => nodes.map((node) => node.textContent)")
    assert missions[0] == missions[1] and facts[0] != facts[1]
    assert len({re.search(r"seed (\d+)", fact).group(1) for fact in facts}) == 1
    page.keyboard.press("ArrowRight")
    steps = page.eval_on_selector_all(".pane [data-tile=step]", "nodes => nodes.map((node) => node.textContent)")
    assert [step.split(" /")[0] for step in steps] == ["1", "1"]


def test_play_runs_to_the_end_and_stops(page):
    page.evaluate("document.activeElement.blur(); document.getElementById('viewer').scrollIntoView()")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    # Not `wait_for_function`: it evaluates a string, which the page's policy forbids.
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(page.locator(".at")).to_have_text(re.compile(r"^(\d+) / \1$"), timeout=20_000)
    expect(page.locator(".controls .main")).to_have_text("Play")


def test_grid_looks_like_minigrid(page, report):
    data = data_of(report.path)
    episode = data["episodes"][0]
    page.evaluate("document.activeElement.blur(); document.getElementById('viewer').scrollIntoView()")
    page.keyboard.press("ArrowRight")
    picture = page.evaluate("document.querySelector('.world canvas').toDataURL('image/png')")
    ours = Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))).convert("RGB")
    env = gym.make(ENV_ID, **ENV_KWARGS)
    env.reset(seed=episode["seed"])
    env.step(episode["actions"][0])
    theirs = grid_frame(env, tile_size=32)
    ours = ours.resize(theirs.size, Image.Resampling.BOX)
    difference = np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)).mean(axis=-1)
    # Edges are smoothed differently; the cells are the same.
    assert difference.mean() < 6 and np.mean(difference > 60) < 0.02


def test_readable_on_a_phone(browser, report):
    page = open_page(browser, report.path, width=390, height=844, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    heights = page.eval_on_selector_all(
        "button, select, input[type=search]",
        "nodes => nodes.map((node) => node.offsetHeight).filter((height) => height)",
    )
    assert min(heights) >= 26
    assert page.complaints == []
    page.close()


def test_text_only_world_shows_what_was_said(browser, tmp_path):
    gym.register("ReportCorridor-v0", CorridorEnv)
    log = make_log(tmp_path / "log", RandomAgent(), policy="random", env_id="ReportCorridor-v0", episodes=3)
    report = write_report([log], tmp_path / "report.html")
    page = open_page(browser, report.path)
    assert page.locator(".world canvas").count() == 0
    assert "You are in cell" in page.inner_text(".talk")
    page.evaluate("document.activeElement.blur(); document.getElementById('viewer').scrollIntoView()")
    page.keyboard.press("ArrowRight")
    assert re.search(r"> (walk|wait|sing a song)", page.inner_text(".talk"))
    assert page.complaints == []
    page.close()
