# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A language model -> a distribution over given actions, and a value.

Read in order: `config`, `candidates`, `decision_tables`, `packing`, `encoder_decoder` and `t5_rows`, `decoder_only`,
`needed_rows` and `plain_pass`, `prefix_cache`, `episode_batch`, `episode_columns`, `grouped_attention` and
`episode_pass`, `scoring`, `packed_pass`, `prepared_weights`, `heads`, `loading`, `calibration`, `self_check`,
`saving`, `output`, `scoring_policy`.
"""

from .config import Calibration, PolicyConfig
from .episode_batch import EpisodeBatch
from .output import PolicyOutput, choose
from .packing import PackedBatch
from .scoring_policy import ScoringPolicy


__all__ = ["Calibration", "EpisodeBatch", "PackedBatch", "PolicyConfig", "PolicyOutput", "ScoringPolicy", "choose"]
