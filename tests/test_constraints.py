# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""constraints.txt is one exact version for everything that an extra names or brings, and these versions agree.

What a package brings is read from its installed metadata, so packages that are not installed here are checked by name
alone; `pip install --dry-run -e ".[...]" -c constraints.txt` is the whole check.
"""

from __future__ import annotations

import importlib.metadata
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    "local", "deepspeed", "textworld", "baselines", "quantization", "tracking", "report", "docs", "test", "dev"
}  # fmt: skip


def read_pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert len({canonicalize_name(name) for name, _ in pins}) == len(pins)
    return {canonicalize_name(name): version for name, version in pins}


PINS = read_pins()


def named() -> Iterator[tuple[str, Requirement]]:
    """What pyproject.toml asks for, extras included, and everything that installed packages of these ask for."""
    lists = {"the package": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    waiting = [(name, Requirement(text)) for name, texts in lists.items() for text in texts]
    seen = set()
    while waiting:
        asked_by, requirement = waiting.pop()
        yield asked_by, requirement
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            installed = importlib.metadata.distribution(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed.version.split("+")[0] != PINS.get(key[0]):
            continue  # another version: what it asks for says nothing about the pinned one
        for text in installed.requires or []:
            further = Requirement(text)
            extras = sorted(requirement.extras) or [""]
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append((requirement.name, further))


def test_every_extra_is_there():
    assert set(PROJECT["optional-dependencies"]) == EXTRAS


def test_everything_has_an_exact_version_that_suits_whoever_asks_for_it():
    wrong = [f"{by} wants {wanted}" for by, wanted in named() if canonicalize_name(wanted.name) not in PINS]
    assert not wrong
    wrong = [
        f"{by} wants {wanted}, pinned is {PINS[canonicalize_name(wanted.name)]}"
        for by, wanted in named()
        if not wanted.specifier.contains(PINS[canonicalize_name(wanted.name)], prereleases=True)
    ]
    assert not wrong
