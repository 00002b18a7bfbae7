# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Fails when a speed ratio has lost more than 15 %: `python benchmarks/bench_check.py` (`make bench-check`).

Small settings of the other benchmarks, some minutes of one core. Ratios of two ways in one run are compared with those
in `results/bench_check.json`, as absolute numbers belong to a machine; models run with one thread and the clock of
the process, which other work on the machine hardly moves. `--write` measures that file anew; a ratio that has risen
is no failure. Left out: everything that needs long runs or an accelerator.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import env_speed
import scoring_speed
import torch
import update_speed
from common import write_report


BASELINE = Path(__file__).parent / "results" / "bench_check.json"
TOLERANCE = 0.15


def measure_ratios(repeats: int) -> dict[str, float]:
    """How many times faster packed scoring, packed updates and text environments are, by name."""
    t5, causal = "local:flan-t5-small-titles", "local:smollm2-135m-instruct"
    ratios = {}
    for name, prompts, bf16 in ((t5, 4, False), (t5, 4, True), (causal, 1, True)):
        ratios |= acting_ratios(scoring_speed.measure(name, prompts, 220, repeats, bf16, 0, 8, clock="cpu"))
    ratios |= update_ratios(update_speed.measure(t5, 2, 220, repeats, "fp32", 0, 8, clock="cpu"))
    levels = ("GoToLocal", "MixedTestLocal:putnext")
    return ratios | environment_ratios(env_speed.run(levels, num_steps=1000, num_repeats=repeats))


def acting_ratios(result: dict[str, Any]) -> dict[str, float]:
    """The ratios of a result of `scoring_speed.py`, by name."""
    what = f"{result['model']}, {result['precision']}"
    return {f"acting, {what}, over {way}": ratio for way, ratio in result["packed_is_faster_by"].items()}


def update_ratios(result: dict[str, Any]) -> dict[str, float]:
    """The same of `update_speed.py`; memory counts too."""
    what = f"{result['model']}, {result['precision']}"
    faster = {f"update, {what}, over {way}": ratio for way, ratio in result["packed_is_faster_by"].items()}
    shares = result["activations_of_plain"]
    return faster | {f"activations, {what}, {way} over packed": round(1 / share, 2) for way, share in shares.items()}


def environment_ratios(result: dict[str, Any]) -> dict[str, float]:
    """The same of `env_speed.py`."""
    return {f"environment, {name}, over plain Minigrid": level["ratio"] for name, level in result["levels"].items()}


def losses(baseline: dict[str, float], ratios: dict[str, float], tolerance: float = TOLERANCE) -> list[str]:
    """
    What has become slower.

    Args:
        baseline (`dict[str, float]`):
            Committed ratios, by name.
        ratios (`dict[str, float]`):
            The same, measured now.
        tolerance (`float`, *optional*, defaults to `0.15`):
            Share of a ratio that may be lost.

    Returns:
        `list[str]`: one line for each ratio that is gone or has lost more.
    """
    lines = []
    for name, committed in baseline.items():
        if name not in ratios:
            lines.append(f"{name}: {committed:.2f} before, not measured now")
        elif ratios[name] < committed * (1 - tolerance):
            lost = 1 - ratios[name] / committed
            lines.append(f"{name}: {committed:.2f} before, {ratios[name]:.2f} now, {100 * lost:.0f} % lost")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds; the median counts")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="JSON file of the committed ratios")
    parser.add_argument("--write", action="store_true", help="write the baseline instead of comparing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ratios = measure_ratios(args.repeats)
    if args.write:
        write_report(args.baseline, {"repeats": args.repeats, "ratios": ratios})
        print(json.dumps(ratios, indent=1))
        return 0
    baseline = json.loads(args.baseline.read_text(encoding="utf-8"))["ratios"]
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}, committed {baseline.get(name, float('nan')):.2f}")
    lost = losses(baseline, ratios)
    print("\n".join(["Slower than the committed table:", *lost]) if lost else "No ratio has lost more than 15 %.")
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
