# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What the benchmarks share: the machine, its matrix-multiply ceiling, prompts, the plain ways, and turns.

The plain ways are what people would use instead of packed scoring, written on the plain model with public calls. They
get every help that costs a user nothing: prompts are sorted by length and read in chunks, each padded to its own
longest.
"""

from __future__ import annotations

import gzip
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from trl_glam.local_models import resolve_model
from trl_glam.policy import ScoringPolicy


# `cpu` counts what the process itself computed: ratios that hold on a machine full of other work, with one thread.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
ACTIONS = ["turn left", "turn right", "go forward", "pick up", "drop", "toggle"]
EPISODES = Path(__file__).parent.parent / "tests" / "data" / "babyai_text_reference.jsonl.gz"


def device_type() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def synchronize() -> None:
    """Wait for the accelerator, so that a clock sees what was computed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> dict[str, Any]:
    """Processor, accelerator and versions, for the JSON of a result."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def ceiling(bf16: bool, size: int = 2048, repeats: int = 8) -> float:
    """Operations per second of a plain matrix product, the best of a few."""
    if not torch.cuda.is_available():
        size, repeats = min(size, 2048), min(repeats, 8)
    a = torch.randn(size, size, device=device_type(), dtype=torch.bfloat16 if bf16 else torch.float32)
    times = []
    for _ in range(repeats + 1):
        synchronize()
        started = time.perf_counter()
        a @ a
        synchronize()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times[1:])


def take_turns(
    ways: Mapping[str, Callable[[], Any]], repeats: int, clock: str = "wall"
) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds of each way and its last result; they run by turns, and the first round warms up."""
    now = CLOCKS[clock]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    results = {}
    for repeat in range(repeats + 1):
        for way, run in ways.items():
            synchronize()
            started = now()
            results[way] = run()
            synchronize()
            if repeat > 0:
                seconds[way].append(now() - started)
    return {way: statistics.median(times) for way, times in seconds.items()}, results


def write_report(path: Path | None, report: dict[str, Any]) -> None:
    """Write a result with its machine as JSON, if a file is asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine(), **report}, indent=1) + "\n", encoding="utf-8")


def reference_prompts() -> list[str]:
    """English prompts of the recorded reference episodes, sorted."""
    with gzip.open(EPISODES, "rt") as lines:
        episodes = [json.loads(line) for line in lines]
    return sorted({p for e in episodes if e["language"] == "english" for p in e["prompts"]})


def sample_prompts(policy: ScoringPolicy, count: int, tokens: int, seed: int) -> list[str]:
    """Prompts of the reference episodes whose mean length is near `tokens`, in random order."""
    prompts = reference_prompts()
    lengths = dict(zip(prompts, map(len, policy.tokenizer(prompts, verbose=False)["input_ids"]), strict=True))
    random.Random(seed).shuffle(prompts)
    chosen: list[str] = []
    total = 0
    for prompt in prompts:
        # Keep the running mean on target: a longer prompt when it is below, a shorter one when above.
        mean = total / len(chosen) if chosen else tokens
        if (lengths[prompt] >= tokens) == (mean <= tokens):
            chosen.append(prompt)
            total += lengths[prompt]
        if len(chosen) == count:
            return chosen
    raise SystemExit(f"Only {len(chosen)} of {count} prompts of {tokens} tokens on average; ask for fewer.")


def plain_model(name: str, policy: ScoringPolicy) -> PreTrainedModel:
    """The language model as anyone would load it: nothing that the policy changes in its own may help the others."""
    auto = AutoModelForSeq2SeqLM if policy.is_encoder_decoder else AutoModelForCausalLM
    return auto.from_pretrained(resolve_model(name), dtype=torch.float32).eval().to(policy.device)


class Plain:
    """
    The plain ways to score the same actions on every prompt, with the hidden state that a value head reads.

    Args:
        lm ([`~transformers.PreTrainedModel`]):
            The plain model.
        policy ([`ScoringPolicy`]):
            Gives token ids alone.
        prompts (`list[str]`), actions (`list[str]`):
            What is scored.
        chunk (`int`):
            Prompts at once; all their actions beside them.
    """

    def __init__(
        self, lm: PreTrainedModel, policy: ScoringPolicy, prompts: Sequence[str], actions: Sequence[str], chunk: int
    ) -> None:
        self.lm = lm
        ids = [torch.tensor(policy.packer.prompt_ids(prompt), device=lm.device) for prompt in prompts]
        self.order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        self.chunks = [[ids[i] for i in self.order[s : s + chunk]] for s in range(0, len(ids), chunk)]
        after_space = not policy.is_encoder_decoder
        self.action_ids = [
            torch.tensor(policy.packer.candidates.token_ids(a, after_space), device=lm.device) for a in actions
        ]
        self.targets = pad_sequence(self.action_ids, batch_first=True, padding_value=-100)

    def scores(self, way: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums of log-probabilities `(B, A)` and states `(B, d)`, by `flat`, `repeat` or `flat_needed`."""
        parts = [getattr(self, f"_{way}")(chunk) for chunk in self.chunks]
        place = torch.tensor(self.order, device=self.lm.device).argsort()
        scores, states = (torch.cat(column)[place] for column in zip(*parts, strict=True))
        return scores, states

    def _sum(self, logits: torch.Tensor, targets: torch.Tensor, num_prompts: int) -> torch.Tensor:
        log_probs = logits.float() if logits.dtype == torch.bfloat16 else logits
        log_probs = log_probs.log_softmax(-1).gather(2, targets.clamp(min=0)[..., None])[..., 0]
        return log_probs.masked_fill(targets < 0, 0).sum(-1).view(num_prompts, len(self.action_ids))

    def _flat(self, prompts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Hugging Face's default call: one row per (prompt, action), logits of every position."""
        if not self.lm.config.is_encoder_decoder:
            return self._causal(prompts, needed_only=False)
        ids, mask = (x.repeat_interleave(len(self.action_ids), 0) for x in _pad(prompts))
        return self._t5(prompts, {"input_ids": ids, "attention_mask": mask})

    def _repeat(self, prompts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode each prompt once, repeat its states for every action."""
        ids, mask = _pad(prompts)
        states = self.lm.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        repeated = (states.repeat_interleave(len(self.action_ids), 0),)
        mask = mask.repeat_interleave(len(self.action_ids), 0)
        return self._t5(prompts, {"encoder_outputs": repeated, "attention_mask": mask})

    def _t5(self, prompts: list[torch.Tensor], inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        targets = self.targets.repeat(len(prompts), 1)
        decoder_ids = self.lm._shift_right(targets)
        states: list[torch.Tensor] = []
        hook = self.lm.decoder.register_forward_hook(lambda module, args, out: states.append(out.last_hidden_state))
        logits = self.lm(**inputs, decoder_input_ids=decoder_ids, use_cache=False).logits
        hook.remove()
        return self._sum(logits, targets, len(prompts)), states[0][:: len(self.action_ids), 0]

    def _flat_needed(self, prompts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """As flat, but a causal model's logits of the last positions alone (`logits_to_keep`)."""
        return self._causal(prompts, needed_only=True)

    def _causal(self, prompts: list[torch.Tensor], needed_only: bool) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [torch.cat([prompt, action]) for prompt in prompts for action in self.action_ids]
        ids = pad_sequence(rows, batch_first=True, padding_side="left")
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left")
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        keep = self.targets.shape[1] + 1
        options: dict[str, Any] = {"logits_to_keep": keep} if needed_only else {}
        states: list[torch.Tensor] = []
        hook = self.lm.get_output_embeddings().register_forward_pre_hook(lambda module, args: states.append(args[0]))
        logits = self.lm(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, **options
        ).logits[:, -keep:-1]
        hook.remove()
        # Actions end where the rows end.
        targets = pad_sequence(self.action_ids, batch_first=True, padding_value=-100, padding_side="left")
        last_prompt = states[0][:: len(self.action_ids), -1 - len(self.action_ids[0])]
        return self._sum(logits, targets.repeat(len(prompts), 1), len(prompts)), last_prompt


def _pad(prompts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = pad_sequence(prompts, batch_first=True)
    return ids, pad_sequence([torch.ones_like(row) for row in prompts], batch_first=True)
