# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Every private name of TRL, transformers, huggingface_hub and torch that trl_glam leans on, and nothing else.

When an upgrade moves one of them, this file is the only one to change.
"""

import functools
import os

import torch
from huggingface_hub.utils._http import _DEFAULT_RETRY_ON_EXCEPTIONS as HUB_NETWORK_ERRORS
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.trainer.base_config import _BaseConfig
from trl.trainer.base_trainer import _BaseTrainer


__all__ = [
    "FAKE_TENSOR_FAULTS",
    "HUB_NETWORK_ERRORS",
    "FakeTensor",
    "FakeTensorMode",
    "_BaseConfig",
    "_BaseTrainer",
    "attention_implementation",
    "parameters_are_sharded",
    "reorder_weight",
    "reordered_linear",
    "reorders_weights",
    "untie_output_layer",
]


# What an operation raises that cannot be done on tensors without data.
FAKE_TENSOR_FAULTS = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)


def parameters_are_sharded() -> bool:
    """Whether a layer's parameters are whole only inside its own forward, which all processes must then call alike."""
    # transformers' own `is_fsdp_enabled` asks whether FSDP loads the model too.
    return is_deepspeed_zero3_enabled() or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def untie_output_layer(lm: PreTrainedModel) -> None:
    """
    Make a T5 output layer that differs from the embeddings stay apart.

    transformers 5 sets `tie_word_embeddings` of every T5 model. Loading leaves two different tensors apart, but the
    next call of `tie_weights` (FSDP and resizing make one) would overwrite the output layer by the embeddings.
    """
    kept = {key: value for key, value in lm._tied_weights_keys.items() if key != "lm_head.weight"}
    lm._tied_weights_keys, lm.all_tied_weights_keys = kept, dict(kept)


def attention_implementation(config: PreTrainedConfig) -> str:
    """The attention implementation a loaded model uses."""
    return config._attn_implementation


def set_attention_implementation(config: PreTrainedConfig, name: str) -> None:
    """Let a loaded model's layers use another one, without the checks and messages of `set_attn_implementation`."""
    config._attn_implementation = name


@functools.cache
def reorders_weights() -> bool:
    """
    Whether this processor multiplies bfloat16 matrices by oneDNN, and a weight in oneDNN's own layout gives what the
    weight gives: the operators are PyTorch's compiler's, so a few products are tried. Those of bfloat16 must be equal
    to the bit; float32 is otherwise another library's, which sums in another order.
    """
    operators = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")
    if not (torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in operators)):
        return False
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    numbers = torch.arange(96 * 64, dtype=torch.float32, device="cpu").sin()
    # The question may come up inside autocast, which would round float32.
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for dtype, tolerance in ((torch.bfloat16, 0.0), (torch.float32, 1e-4)):
            states, weight = numbers[: 32 * 64].view(32, 64).to(dtype), numbers[32 * 64 :].view(64, 64).to(dtype)
            reordered = reorder_weight(weight)
            for some, bias in ((states, None), (states[:1], weight[0])):
                product = torch.nn.functional.linear(some, weight, bias)
                if (reordered_linear(some, reordered, bias) - product).abs().max() > tolerance:
                    return False
    return True


def reorder_weight(weight: torch.Tensor) -> torch.Tensor:
    """A weight of shape `(out, in)`, bfloat16 or float32, in oneDNN's own layout, for [`reordered_linear`] alone."""
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def reordered_linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear` of tensors of one dtype, with a weight from [`reorder_weight`]."""
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
