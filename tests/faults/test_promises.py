# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""docs/reliability.md names a test for every promise; each of them exists, and at least 15 kinds of fault have one."""

from __future__ import annotations

import re
from pathlib import Path


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE))
    assert len(named) > 20
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"


def test_every_fault_has_an_outcome_and_a_test():
    section = PAGE.split("## Faults and what becomes of them")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    for fault, outcome, proof in rows:
        assert fault.strip() and outcome.strip()
        assert "tests/" in proof or proof.strip() == "the same", fault
