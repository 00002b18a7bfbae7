# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""T5 family: encode every prompt once, read all its actions in one decoder row, project only the rows that are needed.

The stacks are called one by one, because the model's own forward projects every decoder position to the vocabulary.
What stands between decoder and vocabulary there is repeated in `_scale`. Other encoder-decoders (BART and its kin)
have absolute positions or other heads and are refused when a model is loaded.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from .._compat import parameters_are_sharded
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
    prompt_mask = batch.prompt_mask if batch.is_padded else None
    if cache is None:
        encoded = _encode(lm, batch.prompt_ids, prompt_mask)
    else:
        encoded = cache.encode(batch, lambda ids, mask: _encode(lm, ids, mask))
    # An additive mask: a bool mask is silently wrong under eager attention.
    allowed = batch.per_row(batch.branch_mask)[:, None]
    decoder_mask = torch.zeros(allowed.shape, dtype=encoded.dtype, device=encoded.device)
    decoder_mask = decoder_mask.masked_fill(~allowed, torch.finfo(encoded.dtype).min)
    decoded = lm.decoder(
        input_ids=batch.per_row(batch.branch_ids).expand(batch.num_rows, -1),
        attention_mask=decoder_mask,
        encoder_hidden_states=encoded,
        encoder_attention_mask=prompt_mask,
        use_cache=False,
    ).last_hidden_state
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


def _encode(lm: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """
    The encoder's last hidden state.

    The stack's own forward adds the mask to the position bias, `(R, heads, P, P)` numbers, again in every layer, and
    autocast rounds the sum again in every layer. Here both happen once, which is a good part of the time on a CPU.
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
