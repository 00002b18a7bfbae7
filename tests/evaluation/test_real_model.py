# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A real model plays each episode of a panel in the same way whatever is played beside it, and on two processes.

Sums of floats depend on what they are computed beside. Where two runs part, the two best actions must have been nearer
than that, and every decision that near is printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.ranks import ROOT, torchrun
from trl_glam import ScoringPolicy
from trl_glam.evaluation import EvaluationResult, Panel, evaluate_policy
from trl_glam.rollout import Sink
from trl_glam.types import Transition


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MODEL = "local:flan-t5-small-titles"
LEVEL = "BabyAI-Text/GoToLocalS5N2-v0"
NEAR = 1e-4  # of two log-probabilities


class Gaps(Sink):
    """(episode, step) -> how far the most probable action is ahead of the next."""

    def __init__(self) -> None:
        self.gaps: dict[tuple[int, int], float] = {}

    def on_transition(self, transition: Transition) -> None:
        observation, best = transition.observation, np.sort(transition.decision.log_probs)[-2:]
        self.gaps[observation.episode.slot, observation.step] = float(best[1] - best[0])


def play(policy: ScoringPolicy, panel: Panel, num_envs: int, greedy: bool) -> tuple[EvaluationResult, Gaps]:
    gaps = Gaps()
    return evaluate_policy(policy, panel, num_envs=num_envs, greedy=greedy, sinks=[gaps]), gaps


@pytest.mark.parametrize("greedy", [False, True], ids=["sampled", "greedy"])
def test_outcomes_do_not_depend_on_the_number_of_environments(greedy):
    policy = ScoringPolicy.from_pretrained(MODEL, temperature=4.0)
    panel = Panel.load("demo").head(12)
    alone, gaps = play(policy, panel, 1, greedy)
    near = {place: gap for place, gap in gaps.gaps.items() if gap < NEAR}
    print(f"{len(gaps.gaps)} decisions, smallest gap {min(gaps.gaps.values()):.1e}; nearer than {NEAR}: {near}")
    assert len(gaps.gaps) > 100
    for num_envs in (7, 32):
        beside, _ = play(policy, panel, num_envs, greedy)
        for one, other in zip(alone.records, beside.records, strict=True):
            if one.actions == other.actions:
                assert one == other
                continue
            step = next(n for n, (a, b) in enumerate(zip(one.actions, other.actions, strict=False)) if a != b)
            print(f"{num_envs} environments: episode {one.key.slot} parts at step {step}")
            assert (one.key.slot, step) in near


def test_two_processes_play_what_one_plays(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found = []
    for name, launcher, processes in (("one", [sys.executable], 1), ("two", torchrun(2), 2)):
        command = [*launcher, "recipes/eval.py", MODEL, "--env_id", LEVEL, "--episodes", "12"]
        command += ["--num_processes", str(processes), "--output_dir", str(tmp_path / name)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        found.append(json.loads(Path(tmp_path, name, "results.json").read_text(encoding="utf-8"))["suites"])
    assert found[0] == found[1]
