# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""T5 family: encode every prompt once, read all its actions in one decoder row, project only the rows that are needed.

The stacks are called one by one, because the model's own forward projects every decoder position to the vocabulary.
On a CPU their layers are, in `t5_rows.py`, which needs no padding. What stands between decoder and vocabulary in the
model's own forward is repeated in `_scale`. Other encoder-decoders (BART and its kin)
have absolute positions or other heads and are refused when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from .._compat import parameters_are_sharded
from . import t5_rows
from .encoder_cache import EncoderCache
from .packing import PackedBatch


MODEL_TYPES = ("t5", "mt5", "umt5")


def forward(
    lm: PreTrainedModel, batch: PackedBatch, cache: EncoderCache | None = None
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """
    Args:
        lm ([`~transformers.PreTrainedModel`]):
            A T5, mT5 or umT5 model with its language modeling head.
        batch ([`PackedBatch`]):
            On the model's device.
        cache ([`EncoderCache`], *optional*):
            Encoder states of prompts, when the encoder is frozen.

    Returns:
        `tuple[torch.Tensor | None, torch.Tensor]`: vocabulary logits of shape `(R, K, V)`, `None` when nothing is to
        be scored, and the value state of shape `(R, d)`: the decoder's last hidden state at the start token.
    """
    branch_ids = batch.per_row(batch.branch_ids).expand(batch.num_rows, -1)
    allowed = batch.per_row(batch.branch_mask)
    if t5_rows.is_usable(lm, branch_ids.device):
        ids = batch.prompt_ids[batch.prompt_mask]
        if cache is None:
            encoded = t5_rows.encode(lm, ids, batch.lengths)
        else:
            encoded = torch.cat(cache.encode(ids, batch.lengths, partial(_encode_rows, lm)))
        decoded = t5_rows.decode(lm, branch_ids, allowed, encoded, batch.lengths)
    else:
        decoded = _forward_padded(lm, batch, branch_ids, allowed, cache)
    value_state = decoded[:, 0]
    if batch.read_positions.shape[1] == 0:
        return None, value_state
    positions = batch.per_row(batch.read_positions)
    if len(positions) == 1:
        read = decoded[:, positions[0]]
    else:
        read = decoded.gather(1, positions[:, :, None].expand(-1, -1, decoded.shape[-1]))
    # Few rows pass here, so full precision costs little, and rounding logits to bfloat16 would cost the ratio a
    # percent.
    with torch.autocast(read.device.type, enabled=False):
        logits = lm.lm_head(_scale(lm, read).to(lm.lm_head.weight.dtype))
    return logits, value_state


def _forward_padded(
    lm: PreTrainedModel,
    batch: PackedBatch,
    branch_ids: torch.Tensor,
    allowed: torch.Tensor,
    cache: EncoderCache | None,
) -> torch.Tensor:
    """The decoder's last hidden state, of shape `(R, D, d)`, by the stacks' own forwards."""
    prompt_mask = batch.prompt_mask if batch.is_padded else None
    if cache is None:
        encoded = _encode_padded(lm, batch.prompt_ids, prompt_mask)
    else:
        ids = batch.prompt_ids[batch.prompt_mask]
        states = cache.encode(ids, batch.lengths, partial(_encode_rows_padded, lm))
        encoded = pad_sequence(states, batch_first=True)
    # An additive mask: a bool mask is silently wrong under eager attention.
    mask = torch.zeros(allowed[:, None].shape, dtype=encoded.dtype, device=encoded.device)
    return lm.decoder(
        input_ids=branch_ids,
        attention_mask=mask.masked_fill(~allowed[:, None], torch.finfo(encoded.dtype).min),
        encoder_hidden_states=encoded,
        encoder_attention_mask=prompt_mask,
        use_cache=False,
    ).last_hidden_state


def _encode_rows(lm: PreTrainedModel, rows: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Encoder states of prompts, each of shape `(length, d)`."""
    lengths = [len(row) for row in rows]
    return t5_rows.encode(lm, torch.cat(list(rows)), lengths).split(lengths)


def _encode_rows_padded(lm: PreTrainedModel, rows: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """The same by the stack's own forward."""
    mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True)
    states = _encode_padded(lm, pad_sequence(list(rows), batch_first=True), None if mask.all() else mask)
    return [state[: len(row)] for state, row in zip(states, rows, strict=True)]


def _encode_padded(lm: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """
    The encoder's last hidden state.

    The stack's own forward adds the mask to the position bias, `(R, heads, P, P)` numbers, again in every layer, and
    autocast rounds the sum again in every layer. Here both happen once.
    """
    encoder = lm.encoder
    # umT5 has a bias of its own in every layer; sharded parameters are whole only inside their layer's forward.
    if lm.config.model_type == "umt5" or parameters_are_sharded():
        return encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    hidden = encoder.embed_tokens(ids)
    device, dtype = ids.device.type, hidden.dtype
    bias = encoder.block[0].layer[0].SelfAttention.compute_bias(ids.shape[1], ids.shape[1])
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    bias = bias.to(dtype)
    if mask is not None:
        bias = torch.where(mask[:, None, None], bias, torch.finfo(dtype).min)
    # Every layer asks for a contiguous sum, and would make its own copy of another one.
    bias = bias.contiguous()
    for block in encoder.block:
        hidden = block(hidden, None, bias)[0]
    return encoder.final_layer_norm(hidden)


def _scale(lm: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """What each model of the family does to the decoder's output before its language modeling head."""
    config = lm.config
    if (config.model_type == "t5" and config.scale_decoder_outputs) or (
        config.model_type == "umt5" and config.tie_word_embeddings
    ):
        return hidden * config.d_model**-0.5
    return hidden
