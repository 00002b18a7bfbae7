# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Floating-point operations of a packed forward, by formula over useful tokens (padding does not count).

A multiplication and an addition are two operations. Counted are matrix products: projections, attention over whole
rows (as they are computed, the masked half included), feed-forward layers, and the rows of the vocabulary projection
that are read. Norms, softmaxes, the heads and the value MLP are left out: below a percent. The backward pass of a
trained layer is two forwards.
"""

from __future__ import annotations

from transformers import PretrainedConfig, PreTrainedModel

from trl_glam.policy import PackedBatch, t5_rows
from trl_glam.policy.t5_rows import projects_queries


def _attention(queries: int, keys: int, width: int) -> int:
    """Scores and weighted sum of `queries` positions over `keys` positions, all heads together of `width` features."""
    return 4 * queries * keys * width


def t5_row(
    config: PretrainedConfig, prompt: int, branch: int, read: int, projects_queries: bool = False
) -> dict[str, int]:
    """
    One row of a T5-like model.

    Args:
        config ([`~transformers.PretrainedConfig`]):
            The model's.
        prompt, branch, read (`int`):
            Prompt tokens, decoder positions, and decoder positions whose logits are read.
        projects_queries (`bool`, *optional*, defaults to `False`):
            Whether cross-attention projects its queries to the encoder's states, instead of those to keys and values.

    Returns:
        `dict[str, int]`: operations of `encoder`, `decoder` and `vocabulary`.
    """
    d, width = config.d_model, config.num_heads * config.d_kv
    feed_forward = (3 if config.is_gated_act else 2) * d * config.d_ff
    encoder = 2 * prompt * (4 * d * width + feed_forward) + _attention(prompt, prompt, width)
    own = 2 * branch * 4 * d * width + _attention(branch, branch, width)
    cross = 2 * branch * 2 * d * width
    if projects_queries:
        cross += 2 * branch * 2 * d * width + _attention(branch * config.num_heads, prompt, d)
    else:
        cross += 2 * prompt * 2 * d * width + _attention(branch, prompt, width)
    return {
        "encoder": config.num_layers * encoder,
        "decoder": config.num_decoder_layers * (own + cross + 2 * branch * feed_forward),
        "vocabulary": 2 * read * d * config.vocab_size,
    }


def causal_row(config: PretrainedConfig, prompt: int, branch: int) -> dict[str, int]:
    """
    One row of a Llama-like model (gated feed-forward, grouped key and value heads).

    Args:
        config ([`~transformers.PretrainedConfig`]):
            The model's.
        prompt, branch (`int`):
            Prompt tokens, and tokens of the candidates behind them.

    Returns:
        `dict[str, int]`: operations of `layers` and `vocabulary`.
    """
    d, tokens = config.hidden_size, prompt + branch
    head = config.head_dim if config.to_dict().get("head_dim") else d // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    projections = 2 * d * queries + 2 * d * keys
    layer = 2 * tokens * (projections + 3 * d * config.intermediate_size) + _attention(tokens, tokens, queries)
    return {"layers": config.num_hidden_layers * layer, "vocabulary": 2 * (branch + 1) * d * config.vocab_size}


def forward_flops(lm: PreTrainedModel, batch: PackedBatch, of_model: bool = False) -> dict[str, int]:
    """
    A packed forward of all rows of a batch.

    Args:
        lm ([`~transformers.PreTrainedModel`]):
            T5-like or Llama-like.
        batch ([`PackedBatch`]):
            Its rows.
        of_model (`bool`, *optional*, defaults to `False`):
            Count what the model's own layers take for these tokens, instead of what is computed in their place.

    Returns:
        `dict[str, int]`: operations by part.
    """
    total: dict[str, int] = {}
    few = False
    if not of_model and lm.config.is_encoder_decoder and t5_rows.is_usable(lm, batch.prompt_ids.device):
        attention = lm.decoder.block[0].layer[1].EncDecAttention
        few = projects_queries(attention, batch.branch_ids.shape[1], sum(batch.lengths) / len(batch.lengths))
    for length, row_tokens, layout in zip(batch.lengths, batch.row_tokens, batch.layout_of.tolist(), strict=True):
        branch = row_tokens - length
        if lm.config.is_encoder_decoder:
            read = len(set(batch.read_positions[layout].tolist())) if batch.read_positions.shape[1] else 0
            parts = t5_row(lm.config, length, branch, read, few)
        else:
            parts = causal_row(lm.config, length, branch)
        for name, count in parts.items():
            total[name] = total.get(name, 0) + count
    return total
