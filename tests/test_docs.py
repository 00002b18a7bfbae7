# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The guides are true: their Python runs, their commands and flags exist, their links lead somewhere.

Python blocks of a page run in order in one namespace, with tiny models for the named ones and few steps for many.
Commands are run by `test_docs_commands.py`; here every command, flag, recipe and make target that a page names, in a
sentence too, must exist.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import gymnasium as gym
import pytest

from tests.tiny_models import tiny_t5
from trl_glam.cli.main import COMMANDS, main
from trl_glam.resources import recipe_path


ROOT = Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]}
PAGES["recipes/README.md"] = ROOT / "recipes" / "README.md"
# Pages whose Python is run by a test of their own, which says more than "it runs".
TESTED_ELSEWHERE = {"docs/environments.md", "docs/hub.md"}
# Packages with an `__all__`.
PACKAGES = ("envs", "policy", "rollout", "logs", "evaluation", "trainer", "hub", "report")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page].read_text(encoding="utf-8"), flags=re.S)


WITH_PYTHON = [page for page in PAGES if page not in TESTED_ELSEWHERE and blocks(page, "python")]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder with the log that the guides speak of."""
    monkeypatch.chdir(tmp_path)
    bot = ["collect", "--policy", "bot", "--env_id", "BabyAI-Text/GoToLocalS5N2-v0", "--episodes", "8"]
    assert main([*bot, "--seed", "0", "--output_dir", "logs/bot"]) == 0
    return tmp_path


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_runs(page, workplace):
    model = tiny_t5(workplace / "model")
    names: dict = {}
    registered = set(gym.registry)
    for code in blocks(page, "python"):
        code = re.sub(r'"(google/flan-t5-small|local:[a-z0-9-]+)"', repr(model), code)
        code = re.sub(r"total_env_steps=[\d_]+, rollout_steps=8", "total_env_steps=256, rollout_steps=8", code)
        # The tiny log's columns and a policy's scores are what they are for any model.
        exec(compile(code, page, "exec"), names)
    for name in set(gym.registry) - registered:
        del gym.registry[name]


def commands(page: str) -> list[list[str]]:
    """Every `trl-glam` line of the page's shell blocks and inline code, as arguments."""
    text = PAGES[page].read_text(encoding="utf-8")
    shell = "\n".join(re.findall(r"```(?:bash|sh|shell)\n(.*?)```", text, flags=re.S)).replace("\\\n", " ")
    # Inside a sentence a command ends at the first placeholder or comment.
    lines = [line for line in shell.splitlines() if line.startswith("trl-glam ")]
    lines += re.findall(r"`(trl-glam [^`]*)`", text)
    return [shlex.split(line.replace("[", " ").replace("]", " "), comments=True)[1:] for line in lines]


@cache
def help_of(command: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    return out.getvalue()


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_exist(page):
    for command, *rest in commands(page):
        if command.startswith("--") or command == "COMMAND":
            continue
        assert command.rstrip(",") in COMMANDS, (page, command)
        sub = command
        if command in ("models", "baseline") and rest and not rest[0].startswith("-"):
            sub = f"{command} {rest[0]}"
        for flag in (word for word in rest if word.startswith("--")):
            assert re.search(rf"{re.escape(flag)}\b", help_of(sub)), f"{page}: trl-glam {sub} has no {flag}"
        for flag, value in zip(rest, rest[1:], strict=False):
            if flag == "--config" and "." not in value.removesuffix(".cpu").removesuffix(".one_gpu"):
                assert value.isupper() or recipe_path(value).is_file(), (page, value)


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_and_links_exist(page):
    text = PAGES[page].read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shell = "\n".join(re.findall(r"```(?:bash|sh|shell)\n(.*?)```", text, flags=re.S)) + "\n"
    for target in re.findall(r"^make ([a-z-]+)", shell, flags=re.M) + re.findall(r"`make ([a-z-]+)`", text):
        assert re.search(rf"^{target}:|^\.PHONY:.*\b{target}\b", makefile, flags=re.M), (page, target)
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not link.startswith("http"):
            assert (PAGES[page].parent / link).exists(), (page, link)


def test_the_site_shows_every_page():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in ROOT.glob("docs/**/*.md"):
        assert f": {path.relative_to(ROOT / 'docs').as_posix()}\n" in nav, path


@pytest.mark.parametrize("package", ["trl_glam", *(f"trl_glam.{name}" for name in PACKAGES)])
def test_the_reference_holds_everything_public(package):
    reference = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/api/*.md"))
    shown = set(re.findall(r"^::: \S+\.(\w+)$", reference, flags=re.M))
    public = [name for name in importlib.import_module(package).__all__ if not name.isupper() and name[0] != "_"]
    assert public and set(public) <= shown, sorted(set(public) - shown)
