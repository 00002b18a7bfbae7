# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""policy_config.json: what is written is read back, and what is wrong is named."""

import json

import pytest

from trl_glam.policy.config import Calibration, PolicyConfig
from trl_glam.types import InvalidInputError


def test_round_trip(tmp_path):
    config = PolicyConfig(
        "decoder_only",
        scoring="token",
        temperature=4.0,
        calibration=Calibration("prompts", {"tourner à gauche": -3.5}, ["Où ?"]),
        prompt_template={"num_observations": 1},
        base_model="local:smollm2-135m-instruct",
    )
    config.save(tmp_path)
    assert PolicyConfig.load(tmp_path) == config
    assert config.boundary == "space" and PolicyConfig("encoder_decoder").boundary == "text"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scorring": "sum"}, "unknown keys.*scorring"),
        ({"schema_version": 99}, "schema_version=99"),
        ({"scoring": "mean"}, "scoring='mean'.*'token'"),
        ({"head": "policy"}, "head='policy'"),
        ({"temperature": 0}, "temperature=0"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"calibration": {"mode": "magic"}}, "calibration='magic'"),
        ({"calibration": {"offset": {}}}, "unknown keys.*offset"),
        ({"calibration": 3}, "must be a JSON object"),
        ({"num_actions": 6}, "belong to head='action'"),
        ({"head": "action"}, "needs num_actions"),
        ({"head": "action", "num_actions": 2, "actions": ["a"]}, "exactly that many"),
        ({"head": "action", "num_actions": 2, "calibration": {"mode": "prompts"}}, "scores no strings"),
        ({"scoring": "paper", "calibration": {"mode": "prompts"}}, "scoring='paper'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    data = PolicyConfig("encoder_decoder").to_dict() | change
    (tmp_path / "policy_config.json").write_text(json.dumps(data))
    with pytest.raises(InvalidInputError, match=message):
        PolicyConfig.load(tmp_path)


def test_corrupt_or_missing_files_are_named(tmp_path):
    with pytest.raises(InvalidInputError, match="policy_config.json"):
        PolicyConfig.load(tmp_path)
    (tmp_path / "policy_config.json").write_text("{")
    with pytest.raises(InvalidInputError, match="policy_config.json"):
        PolicyConfig.load(tmp_path)
    (tmp_path / "policy_config.json").write_text("{}")
    with pytest.raises(InvalidInputError, match="lacks the keys.*architecture"):
        PolicyConfig.load(tmp_path)
