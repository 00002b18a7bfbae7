# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""FSDP 2 on two CPU processes, with the settings of its recipe: really split, equal to DDP, saved as one folder.

accelerate offers FSDP on GPUs alone; `tests/distributed/job.py` opens it for CPUs, and what runs then is PyTorch's.
"""

from __future__ import annotations

import pytest

from tests.distributed.test_zero import assert_same_history, check_folder, ddp, run, t5  # noqa: F401 (fixtures)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_fsdp_trains_what_ddp_trains(t5, ddp, tmp_path):  # noqa: F811
    theirs, their_folder = ddp
    facts = run("fsdp2", t5, tmp_path / "run")
    for own in facts:
        assert own["distributed_type"] == "DistributedType.FSDP" and own["wrapper"] == "FSDPScoringPolicy"
        assert own["held"] <= 0.6 * own["trainable"]
        assert own["played"] == theirs[0]["played"]
    assert_same_history(theirs[0]["history"], facts[0]["history"])
    check_folder(tmp_path / "run" / "final", their_folder / "final", t5)
