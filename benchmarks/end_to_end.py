# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Where the time of a PPO iteration goes: `python benchmarks/end_to_end.py`.

Trains for a few updates with a clock around every part (a part's own time, without what it calls that has a clock of
its own), drops the first update, and prints the median update: milliseconds, tokens, operations by formula
(`flops.py`), and the share of what this machine reaches in plain matrix products of the same precision. Then one
micro-batch of the update is run again by itself, and the bare encoder and decoder on tensors of the same shapes beside
it, in turns. `--output FILE` writes JSON. Left out: checkpoints, trackers.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from flops import forward_flops
from transformers import PreTrainedModel

from trl_glam import GLAMConfig, GLAMTrainer, ScoringPolicy
from trl_glam.envs.in_process import InProcessEnvironments
from trl_glam.logs import LogWriter
from trl_glam.policy import PackedBatch
from trl_glam.policy.packing import Packer
from trl_glam.prompts import History


KINDS = ("acting", "update")
MODEL_PARTS = ("acting: forward", "update: forward", "update: backward")


class Clocks:
    """A stack of clocks: only the innermost runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts: dict[str, float] = defaultdict(float)
        self.last_batch: PackedBatch | None = None
        self._running: list[str] = []
        self._since = time.perf_counter()

    def enter(self, name: str) -> None:
        self._lap()
        self._running.append(name)

    def leave(self) -> None:
        self._lap()
        self._running.pop()

    def _lap(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def around(self, owner: Any, method: str, name: str | Callable[..., str]) -> None:
        """Put a clock around a method of a class or an object; the name may depend on the arguments."""
        original = getattr(owner, method)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.enter(name if isinstance(name, str) else name(*args, **kwargs))
            try:
                return original(*args, **kwargs)
            finally:
                self.leave()

        setattr(owner, method, timed)

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        self._lap()
        taken = dict(self.seconds), dict(self.counts)
        self.seconds.clear()
        self.counts.clear()
        return taken


def ceiling(bf16: bool, size: int = 2048, repeats: int = 8) -> float:
    """Operations per second of a matrix product, the best of a few."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times[1:])


def run(args: argparse.Namespace, bf16: bool) -> dict[str, Any]:
    """The median update of a short run."""
    clocks, updates = Clocks(), []
    config = GLAMConfig(
        output_dir=tempfile.mkdtemp(),
        env_id=args.env_id,
        num_observations=args.num_observations,
        num_envs=args.num_envs,
        rollout_steps=args.rollout_steps,
        total_env_steps=args.num_envs * args.rollout_steps * (args.updates + 1),
        minibatch_size=args.num_envs * args.rollout_steps // 4,
        per_device_train_batch_size=args.num_envs * args.rollout_steps // 4,
        bf16=bf16,
        log_interactions=True,
        eval_episodes=16,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = GLAMTrainer(args.model, config)
    lm = trainer.policy.lm

    def forward_name(policy: ScoringPolicy, batch: PackedBatch, *rest: Any, **kwargs: Any) -> str:
        kind = "update" if torch.is_grad_enabled() else "acting"
        parts = forward_flops(lm, batch)
        vocabulary = 0 if kwargs.get("value_only") else parts["vocabulary"]
        layers = sum(parts.values()) - parts["vocabulary"]
        clocks.counts[f"{kind}: forward"] += layers + vocabulary
        clocks.counts[f"{kind}: useful tokens"] += batch.useful_tokens
        clocks.counts[f"{kind}: computed tokens"] += sum(g.total_tokens for g in batch.split(1024))
        clocks.counts[f"{kind}: rows"] += batch.num_rows
        clocks.counts[f"{kind}: decisions"] += len(batch)
        if kind == "update":
            # The output layer is frozen: its backward is one product, not two.
            clocks.counts["update: backward"] += 2 * layers + vocabulary
            clocks.last_batch = batch
        return f"{kind}: forward"

    clocks.around(ScoringPolicy, "forward", forward_name)
    clocks.around(InProcessEnvironments, "begin", "environment")
    clocks.around(InProcessEnvironments, "step", "environment")
    for method in ("reset", "append", "prompt"):
        clocks.around(History, method, "prompt")
    clocks.around(Packer, "pack", "tokenise and pack")
    for method in ("on_transition", "on_episode_end"):
        clocks.around(LogWriter, method, "log")
    clocks.around(trainer, "compute_loss", "update: loss")
    clocks.around(trainer.accelerator, "backward", "update: backward")
    clocks.around(trainer, "_clip_grad_norm", "update: optimizer")
    collect, create = trainer._collect_rollout, trainer.create_optimizer_and_scheduler

    def rollout() -> Any:
        updates.append(clocks.take())
        return collect()

    def optimizer(*positional: Any, **keywords: Any) -> None:
        create(*positional, **keywords)
        clocks.around(trainer.optimizer, "step", "update: optimizer")

    trainer._collect_rollout, trainer.create_optimizer_and_scheduler = rollout, optimizer
    clocks.enter("everything else")
    trainer.train()
    updates.append(clocks.take())
    trainer.evaluate()
    evaluation, _ = clocks.take()
    clocks.leave()
    # The first piece is the set-up, the second the first update, which warms up.
    chosen = sorted(updates[2:], key=lambda update: sum(update[0].values()))[len(updates[2:]) // 2]
    seconds, counts = chosen
    whole, top = sum(seconds.values()), ceiling(bf16)
    return {
        "model": args.model,
        "env_id": args.env_id,
        "precision": "bf16 autocast" if bf16 else "fp32",
        "steps_per_update": args.num_envs * args.rollout_steps,
        "seconds_per_update": round(whole, 2),
        "ceiling_gflops": round(top / 1e9, 1),
        "parts": {
            name: {
                "milliseconds": round(1000 * value, 1),
                "share_of_time": round(value / whole, 4),
                "gflop": round(counts[name] / 1e9, 1) if name in counts else None,
                "share_of_ceiling": round(counts[name] / value / top, 3) if name in counts else None,
            }
            for name, value in sorted(seconds.items(), key=lambda item: -item[1])
        },
        "not_the_model": round(1 - sum(seconds.get(part, 0.0) for part in MODEL_PARTS) / whole, 4),
        "useful_tokens": {k: round(counts[f"{k}: useful tokens"] / counts[f"{k}: computed tokens"], 3) for k in KINDS},
        "rows_computed_per_decision": {k: round(counts[f"{k}: rows"] / counts[f"{k}: decisions"], 3) for k in KINDS},
        "evaluation_milliseconds_per_episode": round(1000 * sum(evaluation.values()) / 16, 1),
        "bare": bare(trainer.policy, clocks.last_batch, bf16, args.repeats),
    }


def bare(policy: ScoringPolicy, batch: PackedBatch, bf16: bool, repeats: int) -> dict[str, float]:
    """Forward and backward of one micro-batch, and of the bare model on tensors of the same shapes, in turns."""
    device = policy.device.type
    seconds: dict[str, list[float]] = {"packed": [], "bare": []}
    for repeat in range(repeats + 1):
        for name in seconds:
            policy.zero_grad(set_to_none=True)
            started = time.perf_counter()
            with torch.autocast(device, torch.bfloat16, enabled=bf16):
                if name == "packed":
                    output = policy(batch)
                    loss = output.logits.log_softmax(-1).masked_fill(~output.mask, 0).sum() + output.values.sum()
                else:
                    loss = sum(_bare_group(policy.lm, group) for group in batch.split(1024))
            loss.backward()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat > 0:
                seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    shown = {f"{name}_seconds": round(value, 3) for name, value in median.items()}
    return {**shown, "share": round(median["bare"] / median["packed"], 3)}


def _bare_group(lm: PreTrainedModel, group: PackedBatch) -> torch.Tensor:
    """What any implementation must compute: the layers over these tokens and the needed rows of the output layer."""
    rows, branch = group.num_rows, group.branch_ids.shape[1]
    read = group.read_positions.shape[1]
    if lm.config.is_encoder_decoder:
        mask = group.prompt_mask if group.is_padded else None
        encoded = lm.encoder(input_ids=group.prompt_ids, attention_mask=mask).last_hidden_state
        decoded = lm.decoder(
            input_ids=group.branch_ids[:1].expand(rows, branch),
            encoder_hidden_states=encoded,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        return lm.lm_head(decoded[:, :read]).float().log_softmax(-1)[..., 0].sum()
    ids = torch.cat([group.prompt_ids, group.branch_ids[:1].expand(rows, branch)], 1)
    return lm(input_ids=ids, use_cache=False, logits_to_keep=branch + 1).logits.float().log_softmax(-1)[..., 0].sum()


def table(result: dict[str, Any]) -> str:
    """The parts as a small Markdown table."""
    lines = [
        f"{result['model']}, {result['env_id']}, {result['precision']}: {result['seconds_per_update']} s for "
        f"{result['steps_per_update']} steps; ceiling {result['ceiling_gflops']} GFLOP/s",
        "",
        "| part | ms | time | of the ceiling |",
        "|---|---|---|---|",
    ]
    for name, part in result["parts"].items():
        share = "" if part["share_of_ceiling"] is None else f"{100 * part['share_of_ceiling']:.0f} %"
        lines.append(f"| {name} | {part['milliseconds']:.0f} | {100 * part['share_of_time']:.1f} % | {share} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local:flan-t5-small-titles")
    parser.add_argument("--env_id", default="BabyAI-Text/GoToLocal-v0")
    parser.add_argument("--num_observations", type=int, default=3)
    parser.add_argument("--num_envs", type=int, default=16)
    parser.add_argument("--rollout_steps", type=int, default=8)
    parser.add_argument("--updates", type=int, default=3, help="timed updates; one more warms up")
    parser.add_argument("--repeats", type=int, default=3, help="rounds against the bare model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = run(args, args.precision == "bf16")
    print(table(result))
    print(json.dumps({key: value for key, value in result.items() if key != "parts"}, indent=1))
    if args.output is not None:
        machine = {"processor": platform.processor() or platform.machine(), "threads": args.threads}
        report = {"machine": machine, "torch": torch.__version__, **result}
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
