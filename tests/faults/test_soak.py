# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A long run neither grows nor leaves anything behind: memory, files, threads, processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import tiny_t5


ROOT = Path(__file__).parents[2]
MIB = 2**20


def soak(tmp_path: Path, env_steps: int) -> tuple[list[dict], dict]:
    """What a run held after each update, and in the end."""
    model = tiny_t5(tmp_path / "t5")
    command = [sys.executable, "-m", "tests.faults.soak", model, str(tmp_path / "run"), str(env_steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    notes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    return notes[:-1], notes[-1]


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_twenty_thousand_steps_grow_by_at_most_1_mib_per_1000(tmp_path):
    notes, last = soak(tmp_path, 20_480)
    settled = [note for note in notes if note["env_steps"] > 2_000]
    assert notes[-1]["env_steps"] == 20_480 and len(settled) > 30
    steps, sizes = (np.array([note[name] for note in settled], dtype=float) for name in ("env_steps", "rss"))
    slope = np.polyfit(steps, sizes, 1)[0] * 1000 / MIB
    first, final = settled[0], settled[-1]
    print(f"{slope:.3f} MiB per 1,000 steps after the first 2,000 (least squares over {len(settled)} updates)")
    print(f"from {first} to {final}, in the end {last['end']}")
    assert slope <= 1.0
    for name in ("files", "threads", "children"):
        assert max(note[name] for note in settled) <= settled[0][name], name
    # The environments' processes are gone; multiprocessing's server and resource tracker stay for the next run.
    assert last["end"]["files"] <= settled[0]["files"]
    checkpoints = [name for name in last["folder"] if name.startswith("checkpoint-")]
    assert len(checkpoints) == 2
    assert not list((tmp_path / "run").rglob("*.tmp"))
