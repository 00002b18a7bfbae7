# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A language model -> a distribution over given actions, and a value.

Read in order: `config`, `candidates`, `packing`, `encoder_decoder` and `decoder_only`, `scoring`, `heads`, `loading`,
`calibration`, `saving`, `scoring_policy`.
"""

from .config import Calibration, PolicyConfig
from .packing import PackedBatch
from .scoring_policy import PolicyOutput, ScoringPolicy, choose


__all__ = ["Calibration", "PackedBatch", "PolicyConfig", "PolicyOutput", "ScoringPolicy", "choose"]
