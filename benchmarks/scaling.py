# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Does the cost grow linearly over a decade, and memory not at all? `python benchmarks/scaling.py`

Measured are: the time of a rollout over the number of environments and over its steps; the time of acting and of an
update (forward and backward) over the length of the prompt, eight prompts cut to the same number of tokens; and the
resident memory of a process over the steps that it plays, with a tiny model and new seeds all the way. The exponent
is the slope of a straight line through the logarithms: 1 is linear. Rounds go through all sizes by turns and the
median counts. `--plot FILE` draws the curves. Left out: other models, accelerators.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib


matplotlib.use("Agg")

import numpy as np
import torch
from common import ACTIONS, reference_prompts, take_turns, write_report
from matplotlib import pyplot as plt

import trl_glam  # noqa: F401  (registers BabyAI-Text)
from trl_glam import PromptTemplate, ScoringPolicy
from trl_glam.agents import ScoringAgent
from trl_glam.envs.contract import make_env
from trl_glam.rollout import Runner, SeededEpisodes


sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.tiny_models import tiny_t5  # noqa: E402


ENV_ID = "BabyAI-Text/GoToLocal-v0"


def make_runner(policy: ScoringPolicy, num_envs: int) -> tuple[Runner, ScoringAgent]:
    agent = ScoringAgent(policy)
    episodes = SeededEpisodes(ENV_ID, seed=0)
    return Runner(lambda key: make_env(key.env_id), episodes, num_envs, agent, PromptTemplate(), seed=0), agent


def roll_out(policy: ScoringPolicy, num_envs: int, num_steps: int, bf16: bool) -> None:
    """Play from the beginning; nothing is remembered from the last time."""
    runner, _ = make_runner(policy, num_envs)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for _ in range(num_steps):
            runner.step()
    runner.close()


def cut_prompts(policy: ScoringPolicy, count: int, tokens: int) -> list[str]:
    """Texts of just so many tokens, each from another place of the reference prompts."""
    ids = policy.tokenizer(" ".join(reference_prompts()), verbose=False, add_special_tokens=False)["input_ids"]
    starts = range(0, count * 1000, 1000)
    return [policy.tokenizer.decode(ids[start : start + tokens]) for start in starts]


def score(policy: ScoringPolicy, prompts: list[str], bf16: bool, learn: bool) -> None:
    batch = policy.pack(prompts, [ACTIONS] * len(prompts))
    with torch.set_grad_enabled(learn), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = policy(batch)
    if learn:
        policy.zero_grad(set_to_none=True)
        (output.logits.log_softmax(-1)[:, 0].sum() + output.values.sum()).backward()


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log time over log size."""
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3)


def measure(sizes: list[int], run: Callable[[int], Any], repeats: int) -> dict[str, Any]:
    median, _ = take_turns({str(size): partial(run, size) for size in sizes}, repeats)
    seconds = [round(median[str(size)], 4) for size in sizes]
    return {"sizes": sizes, "seconds": seconds, "exponent": exponent(sizes, seconds)}


def resident_megabytes() -> float:
    """Resident memory of this process; Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status names no VmRSS")


def memory_over_steps(num_steps: int, points: int = 10, num_envs: int = 32) -> dict[str, Any]:
    """Resident memory at equal distances; weights change between them, as in training."""
    with tempfile.TemporaryDirectory() as folder:
        policy = ScoringPolicy.from_pretrained(tiny_t5(folder))
    runner, agent = make_runner(policy, num_envs)
    rounds = num_steps // num_envs // points
    megabytes = []
    # The first stretch fills caches of the libraries.
    for _ in range(points + 1):
        for _ in range(rounds):
            runner.step()
        agent.forget()
        megabytes.append(round(resident_megabytes(), 1))
    runner.close()
    return {"steps": [rounds * num_envs * i for i in range(1, points + 2)], "megabytes": megabytes}


def plot(result: dict[str, Any], path: Path) -> None:
    """Time over size in logarithms with the line of slope 1, and memory over steps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name, curve in result["time"].items():
        sizes, seconds = np.array(curve["sizes"]), np.array(curve["seconds"])
        (line,) = left.loglog(sizes / sizes[0], seconds / seconds[0], "o-", label=f"{name}: {curve['exponent']:.2f}")
    whole = np.array([1.0, 10.0])
    left.loglog(whole, whole, "k:", label="linear: 1")
    left.set(xlabel="size over the smallest", ylabel="time over the smallest", title="time, with its exponent")
    left.legend(fontsize=8)
    memory = result["memory"]
    right.plot(memory["steps"], memory["megabytes"], "o-")
    right.set(xlabel="environment steps", ylabel="resident memory (MB)", title="memory of a process", ylim=(0, None))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local:flan-t5-small-titles")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 8, 16, 40], help="environments, steps")
    parser.add_argument("--lengths", type=int, nargs="+", default=[60, 120, 240, 600], help="tokens of a prompt")
    parser.add_argument("--fixed", type=int, default=4, help="steps while environments grow, and the other way round")
    parser.add_argument("--memory_steps", type=int, default=40_000, help="steps that memory is watched over")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--plot", type=Path, help="PNG file to draw")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bf16, started = args.precision == "bf16", time.perf_counter()
    memory = memory_over_steps(args.memory_steps)
    # Hot enough to move about: who stands still sees the same prompt again, which costs nothing.
    policy = ScoringPolicy.from_pretrained(args.model, temperature=16.0)
    policy.get_input_embeddings().requires_grad_(False)
    policy.get_output_embeddings().requires_grad_(False)
    texts = {length: cut_prompts(policy, 8, length) for length in args.lengths}
    times = {
        "environments": measure(args.sizes, lambda n: roll_out(policy, n, args.fixed, bf16), args.repeats),
        "steps": measure(args.sizes, lambda n: roll_out(policy, args.fixed, n, bf16), args.repeats),
        "prompt length, acting": measure(args.lengths, lambda n: score(policy, texts[n], bf16, False), args.repeats),
        "prompt length, update": measure(args.lengths, lambda n: score(policy, texts[n], bf16, True), args.repeats),
    }
    result = {"model": args.model, "precision": args.precision, "time": times, "memory": memory}
    print(json.dumps(result, indent=1), f"\n{time.perf_counter() - started:.0f} s")
    write_report(args.output, {"repeats": args.repeats, **result})
    if args.plot is not None:
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        plot(result, args.plot)


if __name__ == "__main__":
    main()
