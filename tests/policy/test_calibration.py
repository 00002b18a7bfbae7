# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Offsets: what they are, that they stay as they were, and where a new string gets its own."""

import pytest
import torch
from peft import LoraConfig

from tests.policy.plain import plain_scores
from tests.tiny_models import ACTIONS, PROMPTS
from trl_glam.policy import ScoringPolicy
from trl_glam.types import InvalidInputError


def plain_offsets(policy, actions, prompts=PROMPTS):
    with torch.no_grad():
        rows = [
            plain_scores(policy.lm, policy.tokenizer, p, actions, policy.policy_config.scoring)[0] for p in prompts
        ]
    return torch.stack(rows).mean(0)


def train_a_little(policy):
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))


@pytest.mark.parametrize("scoring", ["sum", "token", "word"])
@pytest.mark.parametrize("name", ["flan-t5", "llama"])
def test_offsets_are_mean_scores_and_are_subtracted(make_policy, name, scoring):
    policy = make_policy(name, scoring=scoring, calibration="prompts", temperature=4.0)
    # A prompt given twice counts twice.
    prompts = [*PROMPTS, PROMPTS[0]]
    offsets = policy.calibrate(prompts, ACTIONS)
    expected = plain_offsets(policy, ACTIONS, prompts)
    assert list(offsets) == ACTIONS
    assert torch.allclose(torch.tensor(list(offsets.values())), expected, atol=1e-4)
    with torch.no_grad():
        scores, _ = plain_scores(policy.lm, policy.tokenizer, PROMPTS[1], ACTIONS, scoring)
    out = policy.score(PROMPTS[1:2], [ACTIONS])
    assert torch.allclose(out.logits[0], (scores - expected) / 4, atol=1e-4)


def test_offsets_are_frozen_while_the_model_learns(make_policy):
    policy = make_policy("flan-t5", calibration="prompts")
    before = dict(policy.calibrate(PROMPTS, ACTIONS))
    train_a_little(policy)
    policy.score(PROMPTS, [ACTIONS] * 4)
    assert policy.policy_config.calibration.offsets == before


@pytest.mark.parametrize("peft", [False, True])
def test_a_new_string_takes_its_offset_from_the_base_model(make_policy, peft, tmp_path):
    config = LoraConfig(r=4, target_modules=["q", "v"]) if peft else None
    policy = make_policy("flan-t5", calibration="content_free", peft_config=config)
    policy.calibrate(PROMPTS[:2], ACTIONS)
    expected = plain_offsets(make_policy("flan-t5"), ["rotate left"], PROMPTS[:2]).item()
    train_a_little(policy)
    assert abs(plain_offsets(policy, ["rotate left"], PROMPTS[:2]).item() - expected) > 1e-2
    policy.score(PROMPTS[:1], [["rotate left", "drop"]])
    assert policy.policy_config.calibration.offsets["rotate left"] == pytest.approx(expected, abs=1e-4)

    # The same after saving and loading: the prompts and the base model are recorded.
    policy.save_pretrained(tmp_path)
    loaded = ScoringPolicy.from_pretrained(tmp_path)
    loaded.score(PROMPTS[:1], [["move ahead"]])
    expected = plain_offsets(make_policy("flan-t5"), ["move ahead"], PROMPTS[:2]).item()
    assert loaded.policy_config.calibration.offsets["move ahead"] == pytest.approx(expected, abs=1e-4)
    # The base model is no part of the policy.
    assert not [key for key, _ in loaded.named_parameters() if "reference" in key]


def test_strings_without_an_offset_are_named_when_the_base_is_not_at_hand(make_policy, tmp_path):
    policy = make_policy("flan-t5", calibration="prompts")
    with pytest.raises(InvalidInputError, match=r"'drop'.*Call policy.calibrate"):
        policy.score(PROMPTS[:1], [["drop"]])
    policy = make_policy("flan-t5", calibration="prompts", init="random")
    policy.calibrate(PROMPTS, ACTIONS)
    with pytest.raises(InvalidInputError, match=r"'rotate left'.*init='random'"):
        policy.score(PROMPTS[:1], [["rotate left"]])
    policy = make_policy("flan-t5", calibration="prompts")
    policy.calibrate(PROMPTS, ACTIONS)
    policy.policy_config.base_model = str(tmp_path / "gone")
    with pytest.raises(InvalidInputError, match=r"'rotate left'.*gone"):
        policy.score(PROMPTS[:1], [["rotate left"]])
    assert set(policy.policy_config.calibration.offsets) == set(ACTIONS)


def test_another_scoring_drops_the_offsets_and_takes_them_anew(make_policy, tmp_path):
    policy = make_policy("flan-t5", calibration="prompts")
    policy.calibrate(PROMPTS, ACTIONS)
    policy.save_pretrained(tmp_path)
    other = ScoringPolicy.from_pretrained(tmp_path, scoring="token")
    assert other.policy_config.calibration.offsets == {}
    other.score(PROMPTS[:1], [ACTIONS])
    assert other.policy_config.calibration.offsets["drop"] == pytest.approx(
        plain_offsets(other, ["drop"]).item(), abs=1e-4
    )
    assert ScoringPolicy.from_pretrained(tmp_path, calibration="none").policy_config.calibration.offsets == {}


def test_bad_calls_are_refused(make_policy):
    with pytest.raises(InvalidInputError, match="calibration='none'"):
        make_policy("flan-t5").calibrate(PROMPTS, ACTIONS)
    policy = make_policy("flan-t5", calibration="prompts")
    for prompts, actions in (([], ACTIONS), (PROMPTS, []), (PROMPTS[0], ACTIONS), (PROMPTS, ["drop", "drop"])):
        with pytest.raises(InvalidInputError):
            policy.calibrate(prompts, actions)
    assert policy.policy_config.calibration.prompts == []
