# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What `gpu.sh` runs: correctness on the card, the speed table, and a training run with a time budget.

Each piece writes its JSON into `--output` when it is done and is skipped on the next call. The training run is that of
`recipes/gpu/gotolocal.yaml`: when the budget is used up it saves a checkpoint and ends, and the next call goes on from
there. At its end the adapter is saved by itself. `--tiny` takes a tiny model and few steps and runs on a CPU as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import scoring_speed
import torch
from common import ACTIONS, Plain, ceiling, device_type, plain_model, sample_prompts, take_turns, write_report
from transformers import TrainerCallback
from trl import ModelConfig

import trl_glam  # noqa: F401  (registers the environments)
from trl_glam import GLAMConfig, ScoringPolicy
from trl_glam.agents import ScoringAgent
from trl_glam.cli.recipe import parse_recipe
from trl_glam.cli.train import make_trainer
from trl_glam.figures import learning_curve
from trl_glam.training_summary import curves_of


sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.tiny_models import tiny_t5  # noqa: E402


MODEL = "local:flan-t5-small-titles"
# Largest difference of a float32 score over its size; largest mean |ratio - 1| of a first pass.
SCORE_TOLERANCE = 1e-4
RATIO_TOLERANCE = 1e-2


def check(model: str, count: int) -> dict[str, Any]:
    """Packed scores against one plain forward per prompt and action, and the ratio of a first pass over a rollout."""
    policy = ScoringPolicy.from_pretrained(model, temperature=4.0).to(device_type())
    prompts = sample_prompts(policy, count, 220, seed=0)
    plain = Plain(plain_model(model, policy), policy, prompts, ACTIONS, chunk=8)
    with torch.no_grad():
        expected = plain.scores("flat")[0]
        scores = policy(policy.pack(prompts, [ACTIONS] * count).to(policy.device), scoring="sum").logits
    difference = ((scores - expected).abs().max() / expected.abs().max()).item()
    bf16 = torch.autocast(device_type(), torch.bfloat16)
    # As it is in training: the rollout in other batches, without gradients.
    with torch.no_grad(), bf16:
        old = policy.score(prompts, [ACTIONS] * count, batch_size=7).logits.log_softmax(-1)
    with bf16:
        new = policy(policy.pack(prompts, [ACTIONS] * count).to(policy.device)).logits.log_softmax(-1)
    away = ((new - old).exp() - 1).abs().detach().flatten().float()
    result = {
        "model": model,
        "prompts": count,
        "relative_score_difference_fp32": float(f"{difference:.2g}"),
        "first_pass_ratio_bf16": {
            "mean_away_from_1": float(f"{away.mean().item():.2g}"),
            "p99_away_from_1": float(f"{away.quantile(0.99).item():.2g}"),
        },
    }
    if difference > SCORE_TOLERANCE or away.mean() > RATIO_TOLERANCE:
        raise SystemExit(f"Not correct on this device, nothing is measured: {json.dumps(result)}")
    return result


def speed(model: str, batch_sizes: list[int], repeats: int) -> dict[str, Any]:
    """Packed against the plain ways, and decisions and updates per second by batch size, in bf16 autocast."""
    policy = ScoringPolicy.from_pretrained(model).to(device_type())
    policy.get_input_embeddings().requires_grad_(False)
    policy.get_output_embeddings().requires_grad_(False)
    agent = ScoringAgent(policy, batch_size=max(batch_sizes))
    rates = {}
    for size in batch_sizes:
        prompts = sample_prompts(policy, size, 220, seed=0)
        rows = [(prompt, tuple(ACTIONS)) for prompt in prompts]
        batch = policy.pack(prompts, [ACTIONS] * size).to(policy.device)

        def act(rows=rows) -> None:
            # Text in, decisions out: nothing is remembered from the last time.
            agent.forget()
            policy.packer.clear()
            with torch.autocast(device_type(), torch.bfloat16):
                agent.evaluate(rows)

        def learn(batch=batch) -> None:
            policy.zero_grad(set_to_none=True)
            with torch.autocast(device_type(), torch.bfloat16):
                output = policy(batch)
            (output.logits.log_softmax(-1)[:, 0].sum() + output.values.sum()).backward()

        median, _ = take_turns({"acting": act, "update": learn}, repeats)
        rates[str(size)] = {f"{name}_per_second": round(size / value, 1) for name, value in median.items()}
    compared = min(32, max(batch_sizes))
    return {
        "ceiling_tflops": {name: round(ceiling(name == "bf16", 8192, 20) / 1e12, 2) for name in ("fp32", "bf16")},
        "by_batch_size": rates,
        "against_plain": [
            scoring_speed.measure(model, compared, 220, repeats, bf16, 0, 8, device_type()) for bf16 in (False, True)
        ],
    }


class TimeBudget(TrainerCallback):
    """Saves and stops when the time is over."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def on_step_end(self, args, state, control, **kwargs):
        if time.monotonic() >= self.deadline:
            control.should_save = control.should_training_stop = True


def train(model: str, folder: Path, deadline: float, tiny: bool) -> dict[str, Any] | None:
    """Train the recipe, or go on with it; `None` if the time was over before it was done."""
    started = time.monotonic()
    overrides = ["--config", "gpu/gotolocal", "--output_dir", str(folder / "run"), "--model_name_or_path", model]
    if tiny:
        overrides += ["--env_id", "BabyAI-Text/GoToLocalS5N2-v0", "--num_envs", "4", "--rollout_steps", "4"]
        overrides += ["--total_env_steps", "64", "--minibatch_size", "8", "--eval_episodes", "2"]
        overrides += ["--calibration_prompts", "4"]
    args, model_args = parse_recipe("train", (GLAMConfig, ModelConfig), overrides, "")
    trainer = make_trainer(args, model_args, callbacks=[TimeBudget(deadline)])
    trainer.train("auto")
    clock = folder / "training_seconds.json"
    seconds = time.monotonic() - started + (json.loads(clock.read_text()) if clock.exists() else 0.0)
    clock.write_text(json.dumps(seconds))
    if not trainer.is_finished:
        print(f"The time is over at {trainer.env_steps} of {args.total_env_steps} steps; call again to go on.")
        return None
    metrics = trainer.evaluate()
    trainer.policy.save_pretrained(folder / "adapter")
    curves = curves_of(trainer.state.log_history)
    learning_curve(curves, folder / "curve.png", title="GoToLocal on one GPU")
    return {
        "recipe": "gpu/gotolocal",
        "overrides": overrides[2:],
        "env_steps": trainer.env_steps,
        "seconds_with_set_up": round(seconds, 1),
        "evaluation": metrics,
        "adapter_megabytes": round(sum(f.stat().st_size for f in (folder / "adapter").rglob("*.*")) / 1e6, 2),
        "curves": curves,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="time budget of this call")
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu"), help="folder of results")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and few steps, also without a GPU")
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.minutes
    if not (torch.cuda.is_available() or args.tiny):
        raise SystemExit("No CUDA device is here: nothing is measured. `--tiny` walks the way on a CPU.")
    args.output.mkdir(parents=True, exist_ok=True)
    model = tiny_t5(args.output / "tiny") if args.tiny else MODEL
    pieces = {
        "correctness": lambda: check(model, 8 if args.tiny else 64),
        "speed": lambda: speed(model, [4] if args.tiny else [32, 128, 256], 1 if args.tiny else 5),
        "training": lambda: train(model, args.output, deadline, args.tiny),
    }
    for name, run in pieces.items():
        path = args.output / f"{name}.json"
        if path.exists():
            print(f"{name}: done before, in {path}")
        elif time.monotonic() >= deadline:
            print(f"The time is over before {name}; call again to go on.")
            return
        elif (result := run()) is not None:
            write_report(path, {"command": f"bash benchmarks/gpu.sh {args.minutes:g}", **result})
            print(f"{name}: {path}", flush=True)


if __name__ == "__main__":
    main()
