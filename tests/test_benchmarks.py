# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The counting behind the benchmarks is right, both sides of a comparison compute the same, and losses are found."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny_models import ACTIONS, PROMPTS, tiny_llama, tiny_qwen, tiny_t5
from trl_glam.policy import ScoringPolicy, packed_pass, t5_rows


ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import bench_check  # noqa: E402
import env_speed  # noqa: E402
import gpu  # noqa: E402
import scaling  # noqa: E402
import scoring_speed  # noqa: E402
import update_speed  # noqa: E402
from common import Plain, plain_model  # noqa: E402
from flops import forward_flops  # noqa: E402


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama, tiny_qwen])
def test_operations_by_formula_are_those_that_torch_counts(make, tmp_path):
    # The counter sees attention in its eager form only.
    policy = ScoringPolicy.from_pretrained(make(tmp_path), attn_implementation="eager")
    rows = {prompt: policy.pack([prompt], [ACTIONS]) for prompt in PROMPTS[:3]}
    counted = []
    for batch in rows.values():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            packed_pass.run(policy.lm, batch, "sum")
        counted.append(counter.get_total_flops())
        assert sum(forward_flops(policy.lm, batch).values()) == counted[-1]
    # Padding is not counted: a batch of all rows has the rows' sum.
    together = policy.pack(list(rows), [ACTIONS] * len(rows))
    assert sum(forward_flops(policy.lm, together).values()) == sum(counted)


def test_operations_of_the_model_are_those_of_its_own_cross_attention(tmp_path, monkeypatch):
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path), attn_implementation="eager")
    batch = policy.pack(PROMPTS[:1], [["go", "stop"]])
    computed, of_model = (sum(forward_flops(policy.lm, batch, own).values()) for own in (False, True))
    assert computed < of_model
    monkeypatch.setattr(t5_rows, "projects_queries", lambda *_: False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        packed_pass.run(policy.lm, batch, "sum")
    assert counter.get_total_flops() == of_model


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama])
def test_plain_ways_score_as_packed_does(make, tmp_path):
    policy = ScoringPolicy.from_pretrained(make(tmp_path))
    prompts = PROMPTS[::-1]
    plain = Plain(plain_model(str(tmp_path), policy), policy, prompts, ACTIONS, chunk=3)
    with torch.no_grad():
        packed = policy(policy.pack(prompts, [ACTIONS] * len(prompts)))
        states = policy.score_rows(policy.pack(prompts, [ACTIONS] * len(prompts)))[1]
        for way in ("flat", "repeat" if policy.is_encoder_decoder else "flat_needed"):
            scores, found = plain.scores(way)
            torch.testing.assert_close(scores, packed.logits, atol=1e-4, rtol=1e-4)
            # The packed rows stand in order of length.
            order = policy.pack(prompts, [ACTIONS] * len(prompts)).row_of
            torch.testing.assert_close(found, states[order], atol=1e-4, rtol=1e-4)


@pytest.fixture
def few_prompts(monkeypatch):
    """The reference prompts are longer than a tiny model's."""
    for module in (update_speed, scoring_speed):
        monkeypatch.setattr(module, "sample_prompts", lambda policy, count, tokens, seed: PROMPTS[:count])


def test_update_is_compared_at_equal_gradients(tmp_path, few_prompts):
    result = update_speed.measure(tiny_t5(tmp_path), 3, 110, 1, "fp32", 0, 2)
    assert result["largest_gradient_difference"]["flat"]["relative"] <= 1e-5
    assert result["activations_of_plain"]["flat"] < 1 / 3
    exact = update_speed.measure(str(tmp_path), 3, 110, 1, "float64", 0, 2)
    assert exact["largest_gradient_difference"]["flat"]["relative"] <= 1e-9


def test_saved_activations_are_counted_once_and_without_parameters():
    weight = torch.nn.Parameter(torch.ones(8, 8))
    x = torch.ones(16, 8)
    # `x` is saved for the weight's gradient, the sigmoid's result for its own, twice.
    counted = update_speed.activation_bytes(lambda: ((y := (x @ weight).sigmoid()) * y).sum(), [weight])
    assert counted == x.nbytes + x.nbytes


def test_actions_from_2_to_42_are_timed_against_their_operations(tmp_path, few_prompts):
    result = scoring_speed.measure_actions(tiny_t5(tmp_path), 2, 110, 1, False, 0)
    assert result["flop_ratio"] > 1 and result["gflop"].keys() == {"2", "42"}


def test_exponent_of_a_line_is_one_and_of_a_parabola_two():
    sizes = [2, 4, 8, 20]
    assert scaling.exponent(sizes, [3.0 * n for n in sizes]) == 1.0
    assert scaling.exponent(sizes, [0.1 * n * n for n in sizes]) == 2.0


def test_a_lost_ratio_is_found_and_noise_is_not():
    baseline = {"acting": 6.0, "update": 4.0, "environment": 3.0}
    assert bench_check.losses(baseline, {"acting": 5.2, "update": 9.0, "environment": 3.0, "new": 1.0}) == []
    lost = bench_check.losses(baseline, {"acting": 5.0, "update": 4.0})
    assert lost == [
        "acting: 6.00 before, 5.00 now, 17 % lost",
        "environment: 3.00 before, not measured now",
    ]


def test_bench_check_fails_when_a_ratio_is_lost(tmp_path, monkeypatch, capsys):
    path = tmp_path / "baseline.json"
    monkeypatch.setattr(bench_check, "measure_ratios", lambda repeats: {"acting": 6.0})
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setattr(sys, "argv", ["bench_check.py", "--baseline", str(path), "--write"])
    assert bench_check.main() == 0
    monkeypatch.setattr(sys, "argv", ["bench_check.py", "--baseline", str(path)])
    assert bench_check.main() == 0
    monkeypatch.setattr(bench_check, "measure_ratios", lambda repeats: {"acting": 5.0})
    assert bench_check.main() == 1
    assert "acting: 6.00 before, 5.00 now, 17 % lost" in capsys.readouterr().out


def test_committed_ratios_name_what_is_measured(monkeypatch):
    speed = {"precision": "fp32", "packed_is_faster_by": {"flat": 6.0}}
    monkeypatch.setattr(
        scoring_speed,
        "measure",
        lambda name, count, tokens, repeats, bf16, *rest, **clock: {
            "model": name,
            "precision": "bf16 autocast" if bf16 else "fp32",
            "packed_is_faster_by": dict.fromkeys(("flat", "repeat" if "t5" in name else "flat_needed"), 6.0),
        },
    )
    monkeypatch.setattr(
        update_speed,
        "measure",
        lambda name, *rest, **clock: {**speed, "model": name, "activations_of_plain": {"flat": 0.25}},
    )
    monkeypatch.setattr(
        env_speed, "run", lambda levels, **sizes: {"levels": {name: {"ratio": 5.0} for name in levels}}
    )
    measured = bench_check.measure_ratios(1)
    assert measured["activations, local:flan-t5-small-titles, fp32, flat over packed"] == 4.0
    committed = json.loads(bench_check.BASELINE.read_text())["ratios"]
    assert committed and committed.keys() <= measured.keys() and min(committed.values()) > 1


def test_training_that_its_time_budget_cut_off_goes_on_at_the_next_call(tmp_path, capsys):
    model = tiny_t5(tmp_path / "tiny")
    assert gpu.train(model, tmp_path, deadline=0.0, tiny=True) is None
    assert "The time is over at 16 of 64 steps" in capsys.readouterr().out
    first = json.loads((tmp_path / "training_seconds.json").read_text())
    result = gpu.train(model, tmp_path, deadline=math.inf, tiny=True)
    assert result["env_steps"] == 64 and result["seconds_with_set_up"] > first
    # The evaluations are those of one run, not of two.
    steps = [row["env_steps"] for row in result["curves"]["evaluation"]]
    assert steps == sorted(steps) and steps[-1] == 64
    assert (tmp_path / "curve.png").exists() and (tmp_path / "adapter" / "adapter_config.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_gpu_script_walks_its_way_on_a_cpu_and_goes_on_where_it_stopped(tmp_path):
    def call(minutes: str) -> str:
        command = ["bash", "benchmarks/gpu.sh", minutes, "--tiny", "--output", str(tmp_path / "gpu")]
        environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout

    assert "The time is over before correctness" in call("0")
    # Long enough for the first two pieces; the time is over while training, or before it.
    written = call("10")
    assert "training:" in written
    folder = tmp_path / "gpu"
    correct = json.loads((folder / "correctness.json").read_text())
    assert correct["relative_score_difference_fp32"] <= 1e-5
    training = json.loads((folder / "training.json").read_text())
    assert training["env_steps"] == 64 and training["adapter_megabytes"] < 10
    assert (folder / "curve.png").exists() and (folder / "adapter" / "adapter_config.json").exists()
    assert "training: done before" in call("1")
