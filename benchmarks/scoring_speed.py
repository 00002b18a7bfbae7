# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Decisions per second: packed scoring against what people would use instead: `python benchmarks/scoring_speed.py`.

Several ways to score the same six actions on the same prompts, by turns within one run; the median over the repeats
counts, and the ratios are what to read:

- `flat`: Hugging Face's default call on the plain model, one row per (prompt, action) pair, logits of every position;
- `repeat` (encoder-decoder): encode each prompt once, repeat its states for every action;
- `flat_needed` (causal): as flat, but only the logits that are read (`logits_to_keep`);
- `packed`: `ScoringPolicy.forward`, values included.

All must give the same scores. Prompts are rendered from the recorded reference episodes (about 220 tokens). The plain
ways read them sorted by length, `--chunk` prompts at once. `--actions` times packed scoring with 2 and with 42
actions instead, against the operations that they take. Left out: environments, tokenization, sampling.
"""

from __future__ import annotations

import argparse
import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import ACTIONS, CLOCKS, Plain, device_type, plain_model, sample_prompts, take_turns, write_report
from flops import forward_flops

from trl_glam.policy import ScoringPolicy


COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
TYPES = ("ball", "box", "key")
MANY_ACTIONS = [*ACTIONS, *(f"{verb} the {c} {t}" for verb in ("go to", "pick up") for c in COLOURS for t in TYPES)]


def measure(
    name: str,
    count: int,
    tokens: int,
    repeats: int,
    bf16: bool,
    seed: int,
    chunk: int,
    device: str = "cpu",
    clock: str = "wall",
) -> dict[str, Any]:
    """Median decisions per second of every way, and the ratios to packed."""
    policy = ScoringPolicy.from_pretrained(name).to(device)
    prompts = sample_prompts(policy, count, tokens, seed)
    plain = Plain(plain_model(name, policy), policy, prompts, ACTIONS, chunk)
    batch = policy.pack(prompts, [ACTIONS] * count).to(device)
    names = ("flat", "repeat") if policy.is_encoder_decoder else ("flat", "flat_needed")
    ways = {"packed": lambda: policy(batch).logits, **{way: partial(_scores, plain, way) for way in names}}
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=bf16):
        median, scores = take_turns(ways, repeats, clock)
    return {
        "model": name,
        "precision": "bf16 autocast" if bf16 else "fp32",
        "prompts": count,
        "plain_prompts_at_once": chunk,
        "mean_prompt_tokens": round(statistics.mean(batch.lengths), 1),
        "longest_prompt_tokens": batch.lengths[-1],
        "decisions_per_second": {way: round(count / median[way], 3) for way in ways},
        "packed_is_faster_by": {way: round(median[way] / median["packed"], 2) for way in names},
        "largest_score_difference": {
            way: float(f"{(scores[way] - scores['packed']).abs().max().item():.2g}") for way in names
        },
    }


def _scores(plain: Plain, way: str) -> torch.Tensor:
    return plain.scores(way)[0]


def measure_actions(
    name: str, count: int, tokens: int, repeats: int, bf16: bool, seed: int, clock: str = "wall"
) -> dict[str, Any]:
    """How the time grows from 2 to 42 actions, and how the operations do."""
    policy = ScoringPolicy.from_pretrained(name).to(device_type())
    prompts = sample_prompts(policy, count, tokens, seed)
    batches = {n: policy.pack(prompts, [MANY_ACTIONS[:n]] * count).to(device_type()) for n in (2, 42)}
    with torch.no_grad(), torch.autocast(device_type(), torch.bfloat16, enabled=bf16):
        median, _ = take_turns({str(n): partial(policy, batch) for n, batch in batches.items()}, repeats, clock)
    flops = {n: sum(forward_flops(policy.lm, batch).values()) for n, batch in batches.items()}
    time_ratio, flop_ratio = median["42"] / median["2"], flops[42] / flops[2]
    return {
        "model": name,
        "precision": "bf16 autocast" if bf16 else "fp32",
        "prompts": count,
        "seconds": {n: round(value, 4) for n, value in median.items()},
        "gflop": {str(n): round(value / 1e9, 1) for n, value in flops.items()},
        "time_ratio": round(time_ratio, 3),
        "flop_ratio": round(flop_ratio, 3),
        "time_over_flop_ratio": round(time_ratio / flop_ratio, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["local:flan-t5-small-titles", "local:smollm2-135m-instruct"])
    parser.add_argument("--prompts", type=int, default=32, help="prompts a batch")
    parser.add_argument("--tokens", type=int, nargs="+", default=[220], help="mean prompt lengths")
    parser.add_argument("--chunk", type=int, default=8, help="prompts that the plain ways read at once")
    parser.add_argument("--actions", action="store_true", help="2 against 42 actions instead of the plain ways")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds; the median counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu with --threads 1 on a busy machine")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    for name in args.models:
        for tokens in args.tokens:
            for precision in args.precisions:
                rest = (name, args.prompts, tokens, args.repeats, precision == "bf16", args.seed)
                if args.actions:
                    result = measure_actions(*rest, args.clock)
                else:
                    result = measure(*rest, args.chunk, device_type(), args.clock)
                results.append(result)
                print(json.dumps(result, indent=1), flush=True)
                write_report(args.output, {"repeats": args.repeats, "clock": args.clock, "results": results})


if __name__ == "__main__":
    main()
