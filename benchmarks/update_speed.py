# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Forward and backward of an update: packed against one row per (prompt, action): `python benchmarks/update_speed.py`.

Both sides compute the same loss on the same weights, by turns: a policy gradient on the softmax over the scores of six
actions, and a squared value error. Compared are samples per second (medians), the gradient of every tensor (norm of
the difference over the norm; in fp32 also how far each side is from the gradient in float64), and the activations kept
for the backward pass: bytes of the distinct tensors that autograd saves, parameters not counted. `--precisions
float64` compares the gradients alone, with norms that do not round to float32. The embeddings and the output layer are
frozen, as in training. Left out: the optimizer.
"""

from __future__ import annotations

import argparse
import json
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from common import ACTIONS, CLOCKS, Plain, plain_model, sample_prompts, take_turns, write_report
from torch import nn

from trl_glam.policy import ScoringPolicy


def norm_in_own_precision(self: Any, hidden: torch.Tensor) -> torch.Tensor:
    """T5's and Llama's norm without their rounding to float32."""
    epsilon = vars(self).get("variance_epsilon", vars(self).get("eps"))
    return self.weight * (hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + epsilon))


def use_float64(model: nn.Module) -> None:
    """Float64 weights, and norms that keep it."""
    model.double()
    for module in model.modules():
        if type(module).__name__.endswith(("RMSNorm", "T5LayerNorm")):
            module.forward = types.MethodType(norm_in_own_precision, module)


def loss_of(logits: torch.Tensor, values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """A policy gradient with fixed advantages and a squared value error, means over the samples."""
    return (weights * logits.log_softmax(-1)).sum(-1).mean() + 0.5 * (values - 1).square().mean()


def activation_bytes(run: Callable[[], torch.Tensor], parameters: Iterable[nn.Parameter]) -> int:
    """Bytes of the distinct storages that autograd saves in a forward."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # The graph keeps what it saves alive until here, so no address is used twice.
        loss = run()
    total = sum(sizes.values())
    del loss
    return total


def measure(
    name: str, count: int, tokens: int, repeats: int, precision: str, seed: int, chunk: int, clock: str = "wall"
) -> dict[str, Any]:
    """Both sides of one model in one precision."""
    policy = ScoringPolicy.from_pretrained(name)
    lm = plain_model(name, policy)
    if precision == "float64":
        use_float64(policy)
        use_float64(lm)
    for model in (policy.lm, lm):
        model.get_input_embeddings().requires_grad_(False)
        model.get_output_embeddings().requires_grad_(False)
    prompts = sample_prompts(policy, count, tokens, seed)
    plain = Plain(lm, policy, prompts, ACTIONS, chunk)
    batch = policy.pack(prompts, [ACTIONS] * count)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(count, len(ACTIONS), generator=generator)

    def packed() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = policy(batch)
        return loss_of(output.logits, output.values, weights)

    def flat(way: str) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            scores, states = plain.scores(way)
        return loss_of(scores, policy.value_head(states.detach()), weights)

    sides = {"packed": (policy.lm, packed), "flat": (lm, lambda: flat("flat"))}
    if not policy.is_encoder_decoder:
        sides["flat_needed"] = (lm, lambda: flat("flat_needed"))

    def backward(model: nn.Module, run: Callable[[], torch.Tensor]) -> None:
        model.zero_grad(set_to_none=True)
        run().backward()

    memory = {side: activation_bytes(run, model.parameters()) for side, (model, run) in sides.items()}
    differences, rounding = {}, {}
    exact = _exact_gradients(name, prompts, weights) if precision == "fp32" else None
    for side, both in sides.items():
        backward(*both)
        if side != "packed":
            differences[side] = _largest_difference(_gradients(policy.lm), _gradients(lm))
        if exact is not None:
            rounding[side] = _largest_difference(_gradients(both[0]), exact)
    result = {
        "model": name,
        "precision": precision,
        "samples": count,
        "plain_prompts_at_once": chunk,
        "largest_gradient_difference": differences,
        "largest_difference_from_float64": rounding,
        "activation_megabytes": {side: round(value / 1e6, 1) for side, value in memory.items()},
        "activations_of_plain": {side: round(memory["packed"] / memory[side], 3) for side in differences},
    }
    if precision == "float64":
        return result
    ways = {side: lambda both=both: backward(*both) for side, both in sides.items()}
    median, _ = take_turns(ways, repeats, clock)
    result["samples_per_second"] = {side: round(count / value, 3) for side, value in median.items()}
    result["packed_is_faster_by"] = {side: round(median[side] / median["packed"], 2) for side in differences}
    return result


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def _exact_gradients(name: str, prompts: list[str], weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradient in float64, by which the rounding of each side shows."""
    policy = ScoringPolicy.from_pretrained(name)
    use_float64(policy)
    policy.lm.get_input_embeddings().requires_grad_(False)
    policy.lm.get_output_embeddings().requires_grad_(False)
    output = policy(policy.pack(prompts, [ACTIONS] * len(prompts)))
    loss_of(output.logits, output.values, weights).backward()
    return _gradients(policy.lm)


def _largest_difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The tensor whose gradients differ most, by the norm of the difference over the norm."""
    if expected.keys() != found.keys():
        raise RuntimeError(f"Not the same tensors have gradients: {sorted(expected.keys() ^ found.keys())}")
    relative = {n: ((found[n] - g).norm() / g.norm()).item() for n, g in expected.items() if g.norm() > 0}
    worst = max(relative, key=relative.__getitem__)
    return {"tensor": worst, "relative": float(f"{relative[worst]:.2g}"), "tensors": len(relative)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["local:flan-t5-small-titles", "local:smollm2-135m-instruct"])
    parser.add_argument("--samples", type=int, default=4, help="prompts of a forward and backward")
    parser.add_argument("--tokens", type=int, default=220, help="mean prompt length")
    parser.add_argument("--chunk", type=int, default=8, help="prompts that the plain side reads at once")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds; the median counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu with --threads 1 on a busy machine")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16", "float64"], default=["fp32", "bf16"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    for name in args.models:
        for precision in args.precisions:
            sizes = (args.samples, args.tokens, args.repeats)
            result = measure(name, *sizes, precision, args.seed, args.chunk, args.clock)
            results.append(result)
            print(json.dumps(result, indent=1), flush=True)
            write_report(args.output, {"repeats": args.repeats, "clock": args.clock, "results": results})


if __name__ == "__main__":
    main()
