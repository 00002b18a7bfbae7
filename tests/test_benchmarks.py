# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The counting behind the benchmarks is right."""

import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny_models import ACTIONS, PROMPTS, tiny_llama, tiny_qwen, tiny_t5
from trl_glam.policy import ScoringPolicy, packed_pass


sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from flops import forward_flops  # noqa: E402


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama, tiny_qwen])
def test_operations_by_formula_are_those_that_torch_counts(make, tmp_path):
    # The counter sees attention in its eager form only.
    policy = ScoringPolicy.from_pretrained(make(tmp_path), attn_implementation="eager")
    rows = {prompt: policy.pack([prompt], [ACTIONS]) for prompt in PROMPTS[:3]}
    counted = []
    for batch in rows.values():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            packed_pass.run(policy.lm, batch, "sum")
        counted.append(counter.get_total_flops())
        assert sum(forward_flops(policy.lm, batch).values()) == counted[-1]
    # Padding is not counted: a batch of all rows has the rows' sum.
    together = policy.pack(list(rows), [ACTIONS] * len(rows))
    assert sum(forward_flops(policy.lm, together).values()) == sum(counted)
