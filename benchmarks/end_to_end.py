# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Where the time of a PPO iteration goes: `python benchmarks/end_to_end.py`.

Trains for a few updates with a clock around every part (a part's own time, without what it calls that has a clock of
its own), drops the first update, and prints the median update: milliseconds, tokens, the model's operations by formula
(`flops.py`), the share of what this machine reaches in plain matrix products of the same precision, and the bytes that
a part hands on: text of observations and prompts, tensors of a batch, decisions, gradients, shards on disk. Shares are
given once more by the operations that are really computed, as cross-attention of few positions takes a shorter way,
and by what the machine reached meanwhile: on a shared one plain products, too, are slower than at their best. Then one
micro-batch of the update is run again by itself, and beside it, by turns, the bare model on the same rows: Hugging
Face's encoder and decoder on groups of like length, padded, and the needed rows of the output layer. `--output FILE`
writes JSON. Left out: checkpoints, trackers.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import ceiling, device_type, take_turns, write_report
from flops import forward_flops
from transformers import PreTrainedModel
from update_speed import activation_bytes

from trl_glam import GLAMConfig, GLAMTrainer, ScoringPolicy
from trl_glam.envs.in_process import InProcessEnvironments
from trl_glam.logs import LogWriter
from trl_glam.logs.writer import shard_paths
from trl_glam.policy import PackedBatch, packed_pass
from trl_glam.policy.packing import Packer
from trl_glam.prompts import History


KINDS = ("acting", "update")
MODEL_PARTS = ("acting: forward", "update: forward", "update: backward")
EVALUATION_EPISODES = 4
# Tokens of a group of the bare model: rows of like length, so little is padding.
BARE_GROUP = 1024


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

    def around(
        self, owner: Any, method: str, name: str | Callable[..., str], size: Callable[[Any], int] | None = None
    ) -> None:
        """
        Put a clock around a method of a class or an object; the name may depend on the arguments, and the bytes handed
        on are counted from the result.
        """
        original = getattr(owner, method)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            part = name if isinstance(name, str) else name(*args, **kwargs)
            self.enter(part)
            try:
                result = original(*args, **kwargs)
            finally:
                self.leave()
            if size is not None:
                self.counts[f"{part}: bytes"] += size(result)
            return result

        setattr(owner, method, timed)

    def before(self, owner: Any, method: str, name: str, run: Callable[[], Any]) -> None:
        """Run something before every call of a method, on a clock of its own."""
        original = getattr(owner, method)

        @functools.wraps(original)
        def after(*args: Any, **kwargs: Any) -> Any:
            self.enter(name)
            run()
            self.leave()
            return original(*args, **kwargs)

        setattr(owner, method, after)

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        self._lap()
        taken = dict(self.seconds), dict(self.counts)
        self.seconds.clear()
        self.counts.clear()
        return taken


def tensor_bytes(value: Any) -> int:
    """Bytes of the tensors that an object holds as fields or items."""
    items = value if isinstance(value, tuple) else vars(value).values()
    return sum(item.nbytes for item in items if isinstance(item, torch.Tensor))


def run(args: argparse.Namespace, bf16: bool) -> dict[str, Any]:
    """The median update of a short run."""
    clocks, updates, top = Clocks(), [], ceiling(bf16)
    config = GLAMConfig(
        output_dir=tempfile.mkdtemp(),
        env_id=args.env_id,
        num_observations=args.num_observations,
        num_envs=args.num_envs,
        rollout_steps=args.rollout_steps,
        total_env_steps=args.num_envs * args.rollout_steps * (args.updates + 1),
        minibatch_size=args.num_envs * args.rollout_steps,
        bf16=bf16,
        log_interactions=True,
        eval_episodes=EVALUATION_EPISODES,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = GLAMTrainer(args.model, config)
    lm = trainer.policy.lm

    def forward_name(policy: ScoringPolicy, batch: PackedBatch, *rest: Any, **kwargs: Any) -> str:
        kind = "update" if torch.is_grad_enabled() else "acting"
        for of_model, note in ((False, ", computed"), (True, "")):
            parts = forward_flops(lm, batch, of_model)
            vocabulary = 0 if kwargs.get("value_only") else parts["vocabulary"]
            layers = sum(parts.values()) - parts["vocabulary"]
            clocks.counts[f"{kind}: forward{note}"] += layers + vocabulary
            if kind == "update":
                # The output layer is frozen: its backward is one product, not two.
                clocks.counts[f"update: backward{note}"] += 2 * layers + vocabulary
        clocks.counts[f"{kind}: useful tokens"] += batch.useful_tokens
        clocks.counts[f"{kind}: computed tokens"] += packed_pass.computed_tokens(lm, batch)
        clocks.counts[f"{kind}: rows"] += batch.num_rows
        clocks.counts[f"{kind}: decisions"] += len(batch)
        if kind == "update":
            clocks.last_batch = batch
        return f"{kind}: forward"

    def told(outcomes: Any) -> int:
        return len(str(outcomes).encode())

    clocks.around(ScoringPolicy, "forward", forward_name, tensor_bytes)
    clocks.around(InProcessEnvironments, "begin", "environment", told)
    clocks.around(InProcessEnvironments, "step", "environment", told)
    for method in ("reset", "append"):
        clocks.around(History, method, "prompt")
    clocks.around(History, "prompt", "prompt", lambda prompt: len(prompt.encode()))
    clocks.around(Packer, "pack", "tokenise and pack", tensor_bytes)
    for method in ("on_transition", "on_episode_end"):
        clocks.around(LogWriter, method, "log")
    clocks.around(trainer, "compute_loss", "update: loss")
    clocks.around(trainer.accelerator, "backward", "update: backward")
    clocks.around(trainer, "_clip_grad_norm", "update: optimizer")
    collect, create = trainer._collect_rollout, trainer.create_optimizer_and_scheduler

    def rollout() -> Any:
        updates.append(clocks.take())
        products.append([])
        return collect()

    def optimizer(*positional: Any, **keywords: Any) -> None:
        create(*positional, **keywords)
        clocks.around(trainer.optimizer, "step", "update: optimizer")

    trainer._collect_rollout, trainer.create_optimizer_and_scheduler = rollout, optimizer
    # Before every step of the rollout and every micro-batch.
    products: list[list[float]] = [[]]
    for method in ("_step", "_make_inputs"):
        clocks.before(trainer, method, "ceiling", lambda: products[-1].append(ceiling(bf16, repeats=1)))
    clocks.enter("everything else")
    trainer.train()
    updates.append(clocks.take())
    gradients = sum(p.nbytes for p in trainer.policy.parameters() if p.requires_grad)
    written = sum(path.stat().st_size for path in shard_paths(f"{config.output_dir}/interactions"))
    trainer.evaluate()
    evaluation, _ = clocks.take()
    clocks.leave()
    # The first piece is the set-up, the second the first update, which warms up.
    for seconds, _ in updates:
        seconds.pop("ceiling", None)
    middle = sorted(range(2, len(updates)), key=lambda i: sum(updates[i][0].values()))[(len(updates) - 2) // 2]
    # Products are counted from where an update begins, where its clocks are read.
    (seconds, counts), meanwhile = updates[middle], statistics.median(products[middle])
    whole, top = sum(seconds.values()), max(top, ceiling(bf16))
    passes = config.gradient_accumulation_steps * config.steps_per_update
    counts["update: backward: bytes"] = gradients * passes
    # Shards are closed when they are full or the run ends: an update's share of all.
    counts["log: bytes"] = written / (args.updates + 1)
    counts["tokenise and pack: tokens"] = sum(counts[f"{kind}: useful tokens"] for kind in KINDS)
    for kind in KINDS:
        counts[f"{kind}: forward: tokens"] = counts[f"{kind}: useful tokens"]
    counts["update: backward: tokens"] = counts["update: useful tokens"]

    def shares(note: str, top: float = top) -> dict[str, float]:
        parts = {"acting": ["acting: forward"], "update": ["update: forward", "update: backward"]}
        return {
            kind: round(sum(counts[name + note] for name in names) / sum(seconds[name] for name in names) / top, 3)
            for kind, names in parts.items()
        }

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
                "tokens": _count(counts, f"{name}: tokens"),
                "bytes": _count(counts, f"{name}: bytes"),
            }
            for name, value in sorted(seconds.items(), key=lambda item: -item[1])
        },
        "share_of_ceiling": shares(""),
        "share_of_ceiling_by_computed_operations": shares(", computed"),
        "ceiling_meanwhile_gflops": round(meanwhile / 1e9, 1),
        "share_of_ceiling_meanwhile": shares("", meanwhile),
        "optimizer": round(seconds["update: optimizer"] / whole, 4),
        "neither_model_nor_optimizer": round(
            1 - sum(seconds.get(part, 0.0) for part in (*MODEL_PARTS, "update: optimizer")) / whole, 4
        ),
        "useful_tokens": {k: round(counts[f"{k}: useful tokens"] / counts[f"{k}: computed tokens"], 3) for k in KINDS},
        "rows_computed_per_decision": {k: round(counts[f"{k}: rows"] / counts[f"{k}: decisions"], 3) for k in KINDS},
        "evaluation_milliseconds_per_episode": round(1000 * sum(evaluation.values()) / EVALUATION_EPISODES, 1),
        "micro_batch": micro_batch(trainer.policy, clocks.last_batch, bf16, top, args.repeats),
    }


def _count(counts: dict[str, float], name: str) -> int | None:
    return round(counts[name]) if name in counts else None


def micro_batch(policy: ScoringPolicy, batch: PackedBatch, bf16: bool, top: float, repeats: int) -> dict[str, Any]:
    """Forward and backward of one micro-batch, and of the bare model on the same rows, by turns."""
    operations = sum(forward_flops(policy.lm, batch, of_model=True).values())

    def packed() -> torch.Tensor:
        output = policy(batch)
        return output.logits.log_softmax(-1).masked_fill(~output.mask, 0).sum() + output.values.sum()

    def bare() -> torch.Tensor:
        return sum(_bare_group(policy.lm, group) for group in batch.split(BARE_GROUP))

    def act(way: Callable[[], torch.Tensor]) -> None:
        with torch.no_grad(), torch.autocast(device_type(), torch.bfloat16, enabled=bf16):
            way()

    def learn(way: Callable[[], torch.Tensor]) -> None:
        policy.zero_grad(set_to_none=True)
        with torch.autocast(device_type(), torch.bfloat16, enabled=bf16):
            loss = way()
        loss.backward()

    def kept() -> torch.Tensor:
        with torch.autocast(device_type(), torch.bfloat16, enabled=bf16):
            return packed()

    result: dict[str, Any] = {
        "rows": batch.num_rows,
        "megabytes_kept_for_backward": round(activation_bytes(kept, policy.parameters()) / 1e6, 1),
    }
    for name, run, factor in (("acting", act, 1), ("update", learn, 3)):
        ways = {"packed": functools.partial(run, packed), "bare": functools.partial(run, bare)}
        median, _ = take_turns(ways, repeats)
        result[name] = {
            **{f"{way}_seconds": round(value, 3) for way, value in median.items()},
            **{f"{way}_share_of_ceiling": round(factor * operations / v / top, 3) for way, v in median.items()},
            "packed_over_bare": round(median["bare"] / median["packed"], 3),
        }
    return result


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
        "| part | ms | time | tokens | GFLOP | of the ceiling | MB handed on |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, part in result["parts"].items():
        share = "" if part["share_of_ceiling"] is None else f"{100 * part['share_of_ceiling']:.0f} %"
        tokens, gflop = ("" if part[key] is None else f"{part[key]:.0f}" for key in ("tokens", "gflop"))
        size = "" if part["bytes"] is None else f"{part['bytes'] / 1e6:.2f}"
        lines.append(
            f"| {name} | {part['milliseconds']:.0f} | {100 * part['share_of_time']:.1f} % | {tokens} | {gflop} "
            f"| {share} | {size} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local:flan-t5-small-titles")
    parser.add_argument("--env_id", default="BabyAI-Text/GoToLocal-v0")
    parser.add_argument("--num_observations", type=int, default=3)
    parser.add_argument("--num_envs", type=int, default=16)
    parser.add_argument("--rollout_steps", type=int, default=8)
    parser.add_argument("--updates", type=int, default=3, help="timed updates; one more warms up")
    parser.add_argument("--repeats", type=int, default=5, help="rounds against the bare model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = run(args, args.precision == "bf16")
    print(table(result))
    print(json.dumps({key: value for key, value in result.items() if key != "parts"}, indent=1))
    write_report(args.output, result)


if __name__ == "__main__":
    main()
