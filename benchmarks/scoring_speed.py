# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Decisions per second: packed scoring against what people would use instead: `python benchmarks/scoring_speed.py`.

Several ways to score the same six actions on the same prompts, in turns within one run; the median over the repeats
counts, and the ratios are what to read:

- `flat`: Hugging Face's default call on the plain model, one row per (prompt, action) pair, logits of every position;
- `repeat` (encoder-decoder): encode each prompt once, repeat its states for every action;
- `flat_needed` (causal): as flat, but only the logits that are read (`logits_to_keep`);
- `packed`: `ScoringPolicy.forward`, values included.

All must give the same scores. Prompts are rendered from the recorded reference episodes (about 220 tokens). Left out:
environments, tokenization, sampling. `--threads 2 --output FILE` writes the result as JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from trl_glam.local_models import resolve_model
from trl_glam.policy import ScoringPolicy


ACTIONS = ["turn left", "turn right", "go forward", "pick up", "drop", "toggle"]
EPISODES = Path(__file__).parent.parent / "tests" / "data" / "babyai_text_reference.jsonl.gz"


def sample_prompts(policy: ScoringPolicy, count: int, tokens: int, seed: int) -> list[str]:
    """English prompts of the reference episodes whose mean length is near `tokens`, in random order."""
    with gzip.open(EPISODES, "rt") as lines:
        episodes = [json.loads(line) for line in lines]
    prompts = sorted({p for e in episodes if e["language"] == "english" for p in e["prompts"]})
    lengths = dict(zip(prompts, map(len, policy.tokenizer(prompts, verbose=False)["input_ids"]), strict=True))
    random.Random(seed).shuffle(prompts)
    chosen: list[str] = []
    for prompt in prompts:
        # Keep the running mean on target: a longer prompt when it is below, a shorter one when above.
        mean = statistics.mean(lengths[p] for p in chosen) if chosen else tokens
        if (lengths[prompt] >= tokens) == (mean <= tokens):
            chosen.append(prompt)
        if len(chosen) == count:
            return chosen
    raise SystemExit(f"Only {len(chosen)} of {count} prompts of {tokens} tokens on average; ask for fewer.")


class Plain:
    """The plain model, and the ids of every (prompt, action) pair."""

    def __init__(self, lm: PreTrainedModel, policy: ScoringPolicy, prompts: list[str]) -> None:
        self.lm = lm
        self.num_prompts = len(prompts)
        self.prompt_ids = [torch.tensor(policy.packer.prompt_ids(prompt)) for prompt in prompts]
        after_space = not policy.is_encoder_decoder
        self.action_ids = [torch.tensor(policy.packer.candidates.token_ids(a, after_space)) for a in ACTIONS]
        self.targets = pad_sequence(self.action_ids, batch_first=True, padding_value=-100).repeat(len(prompts), 1)

    def _sum(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        log_probs = logits.float().log_softmax(-1).gather(2, targets.clamp(min=0)[..., None])[..., 0]
        return log_probs.masked_fill(targets < 0, 0).sum(-1).view(self.num_prompts, len(ACTIONS))

    def _prompts(self) -> tuple[torch.Tensor, torch.Tensor]:
        ids = pad_sequence(self.prompt_ids, batch_first=True)
        return ids, pad_sequence([torch.ones_like(row) for row in self.prompt_ids], batch_first=True)

    def t5_flat(self) -> torch.Tensor:
        ids, mask = (x.repeat_interleave(len(ACTIONS), 0) for x in self._prompts())
        logits = self.lm(input_ids=ids, attention_mask=mask, labels=self.targets).logits
        return self._sum(logits, self.targets)

    def t5_repeat(self) -> torch.Tensor:
        ids, mask = self._prompts()
        states = self.lm.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        logits = self.lm(
            encoder_outputs=(states.repeat_interleave(len(ACTIONS), 0),),
            attention_mask=mask.repeat_interleave(len(ACTIONS), 0),
            labels=self.targets,
        ).logits
        return self._sum(logits, self.targets)

    def causal_flat(self, needed_only: bool = False) -> torch.Tensor:
        rows = [torch.cat([prompt, action]) for prompt in self.prompt_ids for action in self.action_ids]
        ids = pad_sequence(rows, batch_first=True, padding_side="left")
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left")
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        keep = max(map(len, self.action_ids)) + 1
        options: dict[str, Any] = {"logits_to_keep": keep} if needed_only else {}
        logits = self.lm(input_ids=ids, attention_mask=mask, position_ids=positions, **options).logits[:, -keep:-1]
        last = [
            torch.nn.functional.pad(row[-len(a) :], (keep - 1 - len(a), 0), value=-100) for row, a in self._ends(rows)
        ]
        return self._sum(logits, torch.stack(last))

    def _ends(self, rows: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(zip(rows, self.action_ids * self.num_prompts, strict=True))


def measure(name: str, count: int, tokens: int, repeats: int, bf16: bool, seed: int) -> dict[str, Any]:
    """Median decisions per second of every way, and the ratios to packed."""
    policy = ScoringPolicy.from_pretrained(name)
    prompts = sample_prompts(policy, count, tokens, seed)
    auto = AutoModelForSeq2SeqLM if policy.is_encoder_decoder else AutoModelForCausalLM
    # Its own copy, as anyone would load it: nothing that the policy changes in its model may help the others.
    plain = Plain(auto.from_pretrained(resolve_model(name), dtype=torch.float32).eval(), policy, prompts)
    batch = policy.pack(prompts, [ACTIONS] * count)
    ways: dict[str, Callable[[], torch.Tensor]] = {"packed": lambda: policy(batch).logits}
    if policy.is_encoder_decoder:
        ways |= {"flat": plain.t5_flat, "repeat": plain.t5_repeat}
    else:
        ways |= {"flat": plain.causal_flat, "flat_needed": lambda: plain.causal_flat(needed_only=True)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    scores: dict[str, torch.Tensor] = {}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for repeat in range(repeats + 1):
            for way, run in ways.items():
                started = time.perf_counter()
                scores[way] = run()
                if repeat > 0:  # the first round warms up
                    seconds[way].append(time.perf_counter() - started)
    median = {way: statistics.median(times) for way, times in seconds.items()}
    return {
        "model": name,
        "precision": "bf16 autocast" if bf16 else "fp32",
        "prompts": count,
        "mean_prompt_tokens": round(statistics.mean(batch.lengths), 1),
        "decisions_per_second": {way: round(count / median[way], 3) for way in ways},
        "packed_is_faster_by": {way: round(median[way] / median["packed"], 2) for way in ways if way != "packed"},
        "largest_score_difference": {
            way: (scores[way] - scores["packed"]).abs().max().item() for way in ways if way != "packed"
        },
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["local:flan-t5-small-titles", "local:smollm2-135m-instruct"])
    parser.add_argument("--prompts", type=int, default=32, help="prompts a batch")
    parser.add_argument("--tokens", type=int, default=220, help="mean prompt length")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds; the median counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    for name in args.models:
        for precision in args.precisions:
            result = measure(name, args.prompts, args.tokens, args.repeats, precision == "bf16", args.seed)
            results.append(result)
            shown = {key: value for key, value in result.items() if key != "seconds"}
            print(json.dumps(shown, indent=2), flush=True)
    if args.output is not None:
        machine = {"processor": platform.processor() or platform.machine(), "threads": args.threads}
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        report = {"machine": machine, "versions": versions, "repeats": args.repeats, "results": results}
        args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
