# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Every private name of TRL, transformers, huggingface_hub and torch that trl_glam leans on, and nothing else.

When an upgrade moves one of them, this file is the only one to change.
"""

import os

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
