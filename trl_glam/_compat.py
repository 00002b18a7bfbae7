# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Every private name of TRL and transformers that trl_glam leans on, and nothing else.

When an upgrade moves one of them, this file is the only one to change.
"""

from trl.trainer.base_config import _BaseConfig
from trl.trainer.base_trainer import _BaseTrainer


__all__ = ["_BaseConfig", "_BaseTrainer"]
