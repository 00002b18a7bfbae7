# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What could make an update cheaper, each against what the trainer does: `python benchmarks/update_options.py`.

- `optimizer`: AdamW's fused, foreach and plain steps over the trained parameters (Trainer's default is fused);
- `casts`: forward and backward under bf16 autocast, against a model whose weights are bf16 already, which is the most
  that casting them once per update could save (autocast casts a trained weight once per forward, a frozen one at every
  use);
- `compile`: forward and backward of the model compiled by inductor for any shape, and the seconds compiling took (a
  T5 on a CPU has layers of our own, which it leaves alone).

The ways take turns within one run, medians count. `--output FILE` writes the result as JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import ACTIONS, device_type, sample_prompts, take_turns, write_report

from trl_glam import ScoringPolicy


PARTS = ("optimizer", "casts", "compile")


def optimizer(policy: ScoringPolicy, repeats: int) -> dict[str, float]:
    ways = {}
    for name, options in {"fused": {"fused": True}, "foreach": {"foreach": True}, "plain": {"foreach": False}}.items():
        parameters = [p.detach().clone().requires_grad_() for p in policy.parameters() if p.requires_grad]
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 1e-3)
        ways[name] = torch.optim.AdamW(parameters, lr=1e-6, **options).step
    return take_turns(ways, repeats)[0]


def step_of(policy: ScoringPolicy, batch: Any) -> Callable[[], None]:
    def run() -> None:
        policy.zero_grad(set_to_none=True)
        with torch.autocast(policy.device.type, torch.bfloat16):
            output = policy(batch)
        output.logits.log_softmax(-1)[:, 0].sum().backward()

    return run


def casts(policy: ScoringPolicy, batch: Any, repeats: int) -> dict[str, float]:
    cast = copy.deepcopy(policy)
    cast.lm.to(torch.bfloat16)
    return take_turns({"autocast": step_of(policy, batch), "bf16 weights": step_of(cast, batch)}, repeats)[0]


def compiled(policy: ScoringPolicy, batch: Any, repeats: int) -> dict[str, float]:
    other = copy.deepcopy(policy)
    # The layers of a T5 are called one by one.
    t5 = policy.is_encoder_decoder
    for module in (*other.lm.encoder.block, *other.lm.decoder.block) if t5 else (other.lm,):
        module.compile(dynamic=True)
    started = time.perf_counter()
    step_of(other, batch)()
    first = time.perf_counter() - started
    found, _ = take_turns({"eager": step_of(policy, batch), "compiled": step_of(other, batch)}, repeats)
    return found | {"first step, compiling": round(first, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local:flan-t5-small-titles")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=220, help="mean prompt length")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    policy = ScoringPolicy.from_pretrained(args.model).to(device_type()).train()
    policy.get_input_embeddings().requires_grad_(False)
    policy.get_output_embeddings().requires_grad_(False)
    prompts = sample_prompts(policy, args.prompts, args.tokens, seed=0)
    batch = policy.pack(prompts, [ACTIONS] * args.prompts).to(policy.device)
    report: dict[str, Any] = {
        "model": args.model,
        "trained_parameters": sum(p.numel() for p in policy.parameters() if p.requires_grad),
        "tokens": batch.useful_tokens,
    }
    runs = {
        "optimizer": lambda: optimizer(policy, args.repeats),
        "casts": lambda: casts(policy, batch, args.repeats),
        "compile": lambda: compiled(policy, batch, args.repeats),
    }
    for part in args.parts:
        report[f"{part}: seconds"] = runs[part]()
        print(part, json.dumps(report[f"{part}: seconds"]), flush=True)
    write_report(args.output, report)


if __name__ == "__main__":
    main()
