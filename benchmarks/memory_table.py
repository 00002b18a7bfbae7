# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Memory per model size and strategy, computed without any weights: the table of docs/scaling.md.

    python benchmarks/memory_table.py                   # all models, minutes
    python benchmarks/memory_table.py --models flan-t5-small flan-t5-large

Each model is built from its shape on the meta device and put through the estimate that `trl-glam train` prints, along
the code path of a GPU, for prompts of about 216 tokens (GoToLocal's mean) with BabyAI's six actions. Nothing is
measured here.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import torch
from peft import LoraConfig
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedConfig,
    T5Config,
)

from trl_glam.local_models import resolve_model
from trl_glam.policy import PolicyConfig, ScoringPolicy, packed_pass, t5_rows
from trl_glam.policy.loading import add_adapter, fuse_activations, zero_dropout_of_modules
from trl_glam.trainer.memory import GIB, MemoryEstimate, MemorySettings, estimate_memory


ACTIONS = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")
PROMPT = f"Possible action of the agent: {', '.join(ACTIONS)} \n Goal of the agent: go to the red ball \n " + "".join(
    f"Observation {index}: You see a wall 3 steps forward, You see a red ball 1 step left, You see a grey key 2 "
    f"steps right and 1 step forward, You see a green box 3 steps right, \n Action {index}: go forward \n "
    for index in range(3)
)
UPDATE_ROWS, ACTING_ROWS = 16, 64
# NF4: half a byte a number, and a float32 scale for 64 of them.
FOUR_BITS = 0.5 + 4 / 64


def t5(width: int, inner: int, layers: int, heads: int) -> T5Config:
    return T5Config(
        vocab_size=32128, d_model=width, d_ff=inner, num_layers=layers, num_heads=heads, d_kv=64,
        feed_forward_proj="gated-gelu", decoder_start_token_id=0,
    )  # fmt: skip


def llama(vocabulary: int, width: int, inner: int, layers: int, heads: int, key_heads: int, tied: bool) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_heads, tie_word_embeddings=tied,
        max_position_embeddings=4096,
    )  # fmt: skip


MODELS: dict[str, PreTrainedConfig] = {
    "flan-t5-small": t5(512, 1024, 8, 6),
    "flan-t5-base": t5(768, 2048, 12, 12),
    "flan-t5-large": t5(1024, 2816, 24, 16),
    "flan-t5-xl": t5(2048, 5120, 24, 32),
    "SmolLM2-135M": llama(49152, 576, 1536, 30, 9, 3, tied=True),
    "SmolLM2-1.7B": llama(49152, 2048, 8192, 24, 32, 32, tied=True),
    "Llama-3.1-8B": llama(128256, 4096, 14336, 32, 32, 8, tied=False),
}


def policy_of(config: PreTrainedConfig, dtype: torch.dtype, lora: bool) -> ScoringPolicy:
    """A policy without weights."""
    encoder_decoder = config.is_encoder_decoder
    name = "local:flan-t5-small-titles" if encoder_decoder else "local:smollm2-135m-instruct"
    auto = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        lm: Any = auto.from_config(config, dtype=dtype)
        if encoder_decoder:
            # Flan-T5's output layer is one of its own, its three embeddings are one.
            lm.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False, dtype=dtype)
        if lora:
            modules = ["q", "v"] if encoder_decoder else ["q_proj", "v_proj"]
            lm = add_adapter(lm, LoraConfig(r=16, target_modules=modules), "model")
        zero_dropout_of_modules(lm)
        fuse_activations(lm)
        architecture = "encoder_decoder" if encoder_decoder else "decoder_only"
        policy = ScoringPolicy(lm, AutoTokenizer.from_pretrained(resolve_model(name)), PolicyConfig(architecture))
    policy.get_input_embeddings().requires_grad_(False)
    policy.get_output_embeddings().requires_grad_(False)
    return policy


def in_four_bits(policy: ScoringPolicy, estimate: MemoryEstimate) -> MemoryEstimate:
    """The same with the layers' matrices, but not the vocabulary's, in 4 bits."""
    head = policy.get_output_embeddings()
    layers = [m for name, m in policy.lm.named_modules() if isinstance(m, nn.Linear) and m is not head]
    numbers = sum(m.weight.numel() for m in layers if m.weight.numel() > 10**5 and not m.weight.requires_grad)
    saved = numbers * (layers[0].weight.element_size() - FOUR_BITS)
    return dataclasses.replace(estimate, weights=int(estimate.weights - saved))


def row(name: str) -> str:
    """One line of the table, GiB of one process."""
    config = MODELS[name]
    settings = MemorySettings(UPDATE_ROWS, ACTING_ROWS, bf16=True)
    rows = [(PROMPT, ACTIONS)]
    whole = policy_of(config, torch.float32, lora=False)
    parameters = sum(parameter.numel() for parameter in whole.lm.parameters())
    plain = estimate_memory(whole, rows, settings)
    checkpointed = estimate_memory(whole, rows, dataclasses.replace(settings, gradient_checkpointing=True))

    def sharded(strategy: str) -> int:
        split = dataclasses.replace(settings, strategy=strategy, world_size=8, gradient_checkpointing=True)
        size = {part: split.split(part) for part in ("weights", "gradients", "optimizer")}
        return dataclasses.replace(
            checkpointed, **{part: int(getattr(checkpointed, part) * factor) for part, factor in size.items()}
        ).peak

    adapted = policy_of(config, torch.bfloat16, lora=True)
    lora = estimate_memory(adapted, rows, dataclasses.replace(settings, gradient_checkpointing=True))
    sizes = [
        plain.peak, checkpointed.peak, sharded("zero2"), sharded("zero3"), lora.peak, in_four_bits(adapted, lora).peak
    ]  # fmt: skip
    return f"| {name} | {parameters / 1e6:,.0f}M | " + " | ".join(f"{size / GIB:.1f}" for size in sizes) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory per model size and strategy, computed.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    # A GPU pads, and takes more tokens at once.
    t5_rows.is_usable = lambda lm, device: False
    packed_pass.TOKENS_PER_GROUP["cpu"] = packed_pass.TOKENS_PER_GROUP["cuda"]
    print("| model | parameters | full | checkpointing | ZeRO-2, 8 GPUs | ZeRO-3, 8 GPUs | LoRA | QLoRA |")
    print("|---|---|---|---|---|---|---|---|")
    for name in parser.parse_args().models:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
