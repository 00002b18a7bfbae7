# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Every private name of TRL, transformers and huggingface_hub that trl_glam leans on, and nothing else.

When an upgrade moves one of them, this file is the only one to change.
"""

from huggingface_hub.utils._http import _DEFAULT_RETRY_ON_EXCEPTIONS as HUB_NETWORK_ERRORS
from transformers.distributed.fsdp import is_fsdp_enabled
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.trainer.base_config import _BaseConfig
from trl.trainer.base_trainer import _BaseTrainer


__all__ = ["HUB_NETWORK_ERRORS", "_BaseConfig", "_BaseTrainer", "parameters_are_sharded"]


def parameters_are_sharded() -> bool:
    """Whether a layer's parameters are whole only inside its own forward, which all processes must then call alike."""
    return is_deepspeed_zero3_enabled() or is_fsdp_enabled()
