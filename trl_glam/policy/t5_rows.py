# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""T5's stacks over prompts of different lengths without padding, for processors.

All prompts' tokens stand in one row behind each other, `(T, d)`: projections, norms, feed-forward layers do not know
where a prompt ends and compute no padding. Only attention is taken prompt by prompt, which then needs no mask, and
as plain products: PyTorch's fused kernel for processors takes twice their time in bfloat16 and gives the position bias
no gradient. Parameters are read through their own modules, so adapters work, but for the shorter way through
cross-attention, which wants plain matrices. Left out: accelerators, where many small products cost more than padding;
umT5, whose layers have a bias each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.t5.modeling_t5 import T5Attention

from .._compat import FakeTensor, parameters_are_sharded


def is_usable(lm: PreTrainedModel, device: torch.device) -> bool:
    """Whether the stacks may be called layer by layer, and it pays."""
    # Sharded parameters are whole only inside their block's forward, which also recomputes activations if asked to.
    recomputes = lm.encoder.gradient_checkpointing and lm.training
    return device.type == "cpu" and lm.config.model_type != "umt5" and not (recomputes or parameters_are_sharded())


def encode(lm: PreTrainedModel, ids: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """
    The encoder's last hidden state.

    Args:
        lm ([`~transformers.PreTrainedModel`]):
            A T5 or mT5 model.
        ids (`torch.Tensor` of shape `(T,)`):
            Token ids of the prompts, one behind the other.
        lengths (`list[int]`):
            Tokens of each prompt; T in all.

    Returns:
        `torch.Tensor` of shape `(T, d)`.
    """
    encoder = lm.encoder
    hidden = encoder.embed_tokens(ids)
    biases: list[torch.Tensor] = []
    for block in encoder.block:
        layer = block.layer[0]
        attention = layer.SelfAttention
        normed = _rounded(layer.layer_norm(hidden))
        query, key, value = attention.q(normed), attention.k(normed), attention.v(normed)
        if not biases:
            # The bias is one of distances, so a shorter prompt's is the corner of the longest one's.
            longest = attention.compute_bias(max(lengths), max(lengths))[0].to(query.dtype)
            corners = {n: longest[:, :n, :n].contiguous() for n in dict.fromkeys(lengths)}
            biases = [corners[n] for n in lengths]
        rows = zip(*(_heads(x, attention.n_heads).split(lengths, 1) for x in (query, key, value)), strict=True)
        attended = [_attend(q, k, v, bias) for (q, k, v), bias in zip(rows, biases, strict=True)]
        hidden = _add(hidden, attention.o(torch.cat([x.transpose(0, 1) for x in attended]).flatten(1)))
        hidden = _feed_forward(block.layer[-1], hidden, lm.config.is_gated_act)
    return encoder.final_layer_norm(hidden)


def decode(
    lm: PreTrainedModel, ids: torch.Tensor, allowed: torch.Tensor, encoded: torch.Tensor, lengths: Sequence[int]
) -> torch.Tensor:
    """
    The decoder's last hidden state.

    Args:
        lm ([`~transformers.PreTrainedModel`]):
            A T5 or mT5 model.
        ids (`torch.Tensor` of shape `(R, D)`):
            Decoder token ids, as many for every prompt.
        allowed (`torch.Tensor` of shape `(R, D, D)` or `(1, D, D)`):
            bool, which decoder positions attend to which.
        encoded (`torch.Tensor` of shape `(T, d)`):
            Output of [`encode`].
        lengths (`list[int]`):
            Tokens of each of the R prompts.

    Returns:
        `torch.Tensor` of shape `(R, D, d)`.
    """
    decoder = lm.decoder
    hidden = decoder.embed_tokens(ids)
    bias = decoder.block[0].layer[0].SelfAttention.compute_bias(ids.shape[1], ids.shape[1])
    # An additive mask: a bool mask is silently wrong under eager attention. Autocast would round it in every layer.
    if torch.is_autocast_enabled("cpu"):
        bias = bias.to(torch.get_autocast_dtype("cpu"))
    bias = torch.where(allowed[:, None], bias, torch.finfo(bias.dtype).min)
    encoded = _rounded(encoded)
    for block in decoder.block:
        layer = block.layer[0]
        attention = layer.SelfAttention
        normed = _rounded(layer.layer_norm(hidden))
        # Not the layer's own forward: PyTorch takes another kernel without gradients than with them, and what is
        # acted and what is learned first would differ by a percent in bfloat16.
        queries, keys, values = (_split_heads(x(normed), attention) for x in (attention.q, attention.k, attention.v))
        attended = torch.matmul((torch.matmul(queries, keys.transpose(2, 3)) + bias).softmax(-1), values)
        hidden = _add(hidden, attention.o(attended.transpose(1, 2).flatten(2)))
        layer = block.layer[1]
        attention = layer.EncDecAttention
        queries = _split_heads(attention.q(layer.layer_norm(hidden)), attention)
        if projects_queries(attention, ids.shape[1], sum(lengths) / len(lengths)):
            attended = _attend_to_states(attention, queries, encoded, lengths)
        else:
            keys, values = (
                _heads(x(encoded), attention.n_heads).split(lengths, 1) for x in (attention.k, attention.v)
            )
            attended = torch.stack([_attend(q, k, v) for q, k, v in zip(queries, keys, values, strict=True)])
        hidden = hidden + attention.o(attended.transpose(1, 2).flatten(2))
        hidden = _feed_forward(block.layer[-1], hidden, lm.config.is_gated_act)
    return decoder.final_layer_norm(hidden)


def projects_queries(attention: T5Attention, num_queries: int, num_keys: float) -> bool:
    """
    Whether cross-attention takes fewer operations when queries are projected to the encoder's states, instead of the
    states to keys and values.

    Args:
        attention ([`~transformers.models.t5.modeling_t5.T5Attention`]):
            Of one layer. Its projections must be matrices at hand: no adapter, nothing quantised or offloaded.
        num_queries (`int`), num_keys (`float`):
            Decoder positions and tokens of a prompt; of several prompts, their mean.
    """
    for projection in (attention.k, attention.v):
        weight = projection.weight
        if type(projection) is not nn.Linear or projection.bias is not None or hasattr(projection, "_hf_hook"):
            return False
        if type(weight) not in (nn.Parameter, FakeTensor) or weight.device.type != "cpu":
            return False
    d, width = attention.d_model, attention.key_value_proj_dim
    # Both ways' operations, divided by four and by the heads: what keys take more than queries, and the reverse.
    return num_keys * (d * width + num_queries * (width - d)) > num_queries * d * width


def _attend_to_states(
    attention: T5Attention, queries: torch.Tensor, encoded: torch.Tensor, lengths: Sequence[int]
) -> torch.Tensor:
    """
    Cross-attention of few positions: q (K e) = (q K) e, and the sum over V e is V times the sum over e. A prompt's
    tokens are many, so that saves nearly all of the projections, and every copy of keys and values.

    Args:
        queries (`torch.Tensor` of shape `(R, heads, D, width)`), encoded (`torch.Tensor` of shape `(T, d)`):
            Decoder positions, and the states of all prompts behind each other.

    Returns:
        `torch.Tensor` of shape `(R, heads, D, width)`.
    """
    shape = queries.shape[:3]
    key, value = (x.weight.unflatten(0, (attention.n_heads, -1)) for x in (attention.k, attention.v))
    # By head for the projections, by row for the states.
    projected = torch.bmm(queries.transpose(0, 1).flatten(1, 2), key).unflatten(1, (shape[0], -1)).transpose(0, 1)
    mixed = [
        torch.mm(torch.mm(some, states.t()).softmax(-1), states)
        for some, states in zip(projected.flatten(1, 2), encoded.split(lengths), strict=True)
    ]
    by_head = torch.stack(mixed).unflatten(1, shape[1:]).transpose(0, 1).flatten(1, 2)
    return torch.bmm(by_head, value.transpose(1, 2)).unflatten(1, (shape[0], -1)).transpose(0, 1)


def _rounded(states: torch.Tensor) -> torch.Tensor:
    """What autocast makes of the input of every projection, made once for all that read it."""
    return states.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else states


def _feed_forward(layer: nn.Module, hidden: torch.Tensor, is_gated: bool) -> torch.Tensor:
    """The feed-forward layer; under autocast without its own way to float32 and back before the last projection."""
    if not torch.is_autocast_enabled("cpu"):
        return layer(hidden)
    dense, normed = layer.DenseReluDense, _rounded(layer.layer_norm(hidden))
    inner = _multiply(dense.act(dense.wi_0(normed)), dense.wi_1(normed)) if is_gated else dense.act(dense.wi(normed))
    return _add(hidden, dense.wo(inner))


def _add(states: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
    return states.add_(more) if _may_be_overwritten(states, more) else states + more


def _multiply(states: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return states.mul_(factor) if _may_be_overwritten(states, factor) else states * factor


def _may_be_overwritten(states: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether a result may take the place of its first operand, one of ours: no gradient needs what was there."""
    return not torch.is_grad_enabled() and states.dtype == torch.promote_types(states.dtype, other.dtype)


def _split_heads(states: torch.Tensor, attention: T5Attention) -> torch.Tensor:
    """`(R, D, heads * width)` -> `(R, heads, D, width)`, a view."""
    return states.unflatten(-1, (attention.n_heads, -1)).transpose(1, 2)


def _heads(states: torch.Tensor, num_heads: int) -> torch.Tensor:
    """`(T, heads * width)` -> `(heads, T, width)`, a view."""
    return states.unflatten(-1, (num_heads, -1)).transpose(0, 1)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None = None):
    """Attention of one prompt, `(heads, queries, width)`; T5 does not scale the products."""
    keys = key.transpose(1, 2)
    scores = torch.bmm(query, keys) if bias is None else torch.baddbmm(bias, query, keys)
    return torch.bmm(scores.softmax(-1), value)
