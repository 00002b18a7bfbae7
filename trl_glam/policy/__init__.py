# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A language model -> a distribution over given actions, and a value.

Read in order: `config`, `candidates`, `packing`, `encoder_decoder` and `decoder_only`, `scoring`, `heads`, `loading`,
`calibration`, `self_check`, `saving`, `output`, `scoring_policy`.
"""

from .config import Calibration, PolicyConfig
from .output import PolicyOutput, choose
from .packing import PackedBatch
from .scoring_policy import ScoringPolicy


__all__ = ["Calibration", "PackedBatch", "PolicyConfig", "PolicyOutput", "ScoringPolicy", "choose"]
