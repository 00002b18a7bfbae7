# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The speed benchmark runs, compares equal sentences, and shows at least three times Minigrid's speed."""

import importlib.util
import json
import sys
from pathlib import Path


BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "env_speed.py"


def _benchmark():
    spec = importlib.util.spec_from_file_location("env_speed", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_text_steps_are_three_times_as_fast_as_a_plain_loop(tmp_path, monkeypatch, capsys):
    output = tmp_path / "speed.json"
    arguments = ["--levels", "GoToLocal", "BossLevel", "--steps", "600", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["env_speed.py", *arguments])
    _benchmark().main()
    result = json.loads(output.read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert all(level["ratio"] >= 3 for level in result["levels"].values()), result
