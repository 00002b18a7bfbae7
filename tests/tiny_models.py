# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Tiny random language models with tokenizers, made offline in milliseconds: the shapes of T5, Llama, GPT-2 and Qwen.

Each `tiny_x(folder)` writes a complete model folder and returns its path as a string. Nothing is downloaded. The
weights are larger than usual, so that scores differ visibly between prompts and actions.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)


ACTIONS = ["turn left", "turn right", "go forward", "pick up", "drop", "toggle"]
PROMPTS = [
    "Possible action of the agent: turn left, turn right, go forward, pick up, drop, toggle \n Goal of the agent: go "
    "to the "
    "red ball \n Observation 0: You see a wall 3 steps forward, You see a red ball 1 step left, \n Action 0: ",
    "Possible action of the agent: turn left, turn right, go forward, pick up, drop, toggle \n Goal of the agent: "
    "pick up the "
    "grey key \n Observation 0: You carry a blue box, You see a grey key 2 steps right and 1 step forward, \n Action "
    "0: ",
    "Possible action of the agent: turn left, turn right, go forward \n Goal of the agent: open the door \n "
    "Observation 0: You "
    "see a closed yellow door 4 steps forward, \n Action 0: go forward \n Observation 1: You see a closed yellow "
    "door 3 steps "
    "forward, You see a wall 1 step right, \n Action 1: ",
    "Goal of the agent: go to a purple box \n Observation 0: You see a purple box 1 step forward, \n Action 0: ",
]
_EXTRA_WORDS = [
    "turn left turn right go forward pick up drop toggle rotate move ahead take release switch sleep do nothing"
]


# A Unigram vocabulary of 77 pieces, trained on the texts above. Training it anew gives another one in every process,
# and tiny models that learn would learn differently each time.
_UNIGRAM = Path(__file__).parent / "data" / "unigram.json"


@cache
def sentencepiece_tokenizer() -> Tokenizer:
    """Unigram with `▁`, `<pad>` 0, `</s>` 1, `<unk>` 2, and `</s>` at the end: T5's scheme."""
    pieces = [(piece, score) for piece, score in json.loads(_UNIGRAM.read_text(encoding="utf-8"))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.normalizer = normalizers.Replace("\n", " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


@cache
def bpe_tokenizer(bos: bool) -> Tokenizer:
    """Byte-level BPE with `<|endoftext|>` 0; with `bos`, `<s>` 1 is put at the beginning (Llama 3's scheme)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<|endoftext|>", "<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PROMPTS + _EXTRA_WORDS, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def _save(folder: str | Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> str:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _fast(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    # `PreTrainedTokenizerFast` keeps the object it is given; the cached one must stay as it is.
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer.to_str()), **special)


_T5_SHAPE = {"vocab_size": 128, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_T5_TYPES = {
    "t5": (T5Config, T5ForConditionalGeneration),
    "mt5": (MT5Config, MT5ForConditionalGeneration),
    "umt5": (UMT5Config, UMT5ForConditionalGeneration),
}


def tiny_t5(
    folder: str | Path,
    *,
    model_type: str = "t5",
    gated: bool = True,
    scaled: bool = False,
    tied: bool = False,
    dropout: float = 0.1,
    d_ff: int = 64,
    seed: int = 0,
) -> str:
    """Flan-T5's shape by default: gated, decoder outputs not scaled, output layer not tied to the embeddings."""
    torch.manual_seed(seed)
    config_class, model_class = _T5_TYPES[model_type]
    config = config_class(
        **_T5_SHAPE | {"d_ff": d_ff},
        feed_forward_proj="gated-gelu" if gated else "relu",
        dropout_rate=dropout,
        decoder_start_token_id=0,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
    )
    if model_type == "t5":
        config.scale_decoder_outputs = scaled
    model = model_class(config)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.2)
    tokenizer = _fast(sentencepiece_tokenizer(), pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    return _save(folder, model, tokenizer)


def _enlarge(model: PreTrainedModel) -> PreTrainedModel:
    """Scale the usual 0.02 up: attention and logits of a tiny model would otherwise be all but uniform."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8.0)
    return model


def tiny_llama(
    folder: str | Path, *, tied: bool = False, max_positions: int = 512, hidden_size: int = 32, seed: int = 0
) -> str:
    """Rotary positions, grouped keys and values, a BOS, a padding token."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=340,
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_positions,
        tie_word_embeddings=tied,
        attention_dropout=0.1,
        bos_token_id=1,
        eos_token_id=0,
    )
    tokenizer = _fast(bpe_tokenizer(bos=True), bos_token="<s>", eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    return _save(folder, _enlarge(LlamaForCausalLM(config)), tokenizer)


def tiny_gpt2(folder: str | Path, *, max_positions: int = 512, seed: int = 0) -> str:
    """Learned positions, no padding token, no BOS at the beginning, dropout everywhere."""
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=340, n_embd=32, n_layer=2, n_head=4, n_positions=max_positions, eos_token_id=0)
    tokenizer = _fast(bpe_tokenizer(bos=False), bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    return _save(folder, _enlarge(GPT2LMHeadModel(config)), tokenizer)


def tiny_qwen(folder: str | Path, *, version: int = 2, seed: int = 0) -> str:
    """Qwen 2 (biases in attention) or 3 (normalized queries and keys); tied, no BOS."""
    torch.manual_seed(seed)
    config_class, model_class = {2: (Qwen2Config, Qwen2ForCausalLM), 3: (Qwen3Config, Qwen3ForCausalLM)}[version]
    config = config_class(
        vocab_size=340,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=None,
    )
    tokenizer = _fast(bpe_tokenizer(bos=False), eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    return _save(folder, _enlarge(model_class(config)), tokenizer)


def tiny_causal(folder: str | Path, config: PreTrainedConfig, *, seed: int = 0) -> str:
    """Any causal model, by its config; no BOS."""
    torch.manual_seed(seed)
    config.vocab_size, config.eos_token_id, config.bos_token_id = 340, 0, None
    tokenizer = _fast(bpe_tokenizer(bos=False), eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    return _save(folder, _enlarge(AutoModelForCausalLM.from_config(config)), tokenizer)
