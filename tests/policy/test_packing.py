# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Prompts as tensors: special tokens, padding, identical rows, lengths, bad input."""

import logging

import pytest
import torch

from tests.tiny_models import ACTIONS, PROMPTS, tiny_gpt2, tiny_llama
from trl_glam.policy import ScoringPolicy
from trl_glam.types import InvalidInputError


def test_t5_prompts_end_with_one_end_token_and_are_padded_right(make_policy):
    policy = make_policy("flan-t5")
    batch = policy.pack(PROMPTS, [ACTIONS] * 4)
    end = policy.tokenizer.eos_token_id
    for ids, mask in zip(batch.prompt_ids, batch.prompt_mask, strict=True):
        length = int(mask.sum())
        assert mask[:length].all() and ids[length - 1] == end and (ids[: length - 1] != end).all()
    assert batch.lengths == tuple(sorted(batch.prompt_mask.sum(1).tolist()))


def test_causal_prompts_begin_with_the_tokenizers_own_bos_and_have_no_end_token(make_policy):
    for name, first in (("llama", 1), ("gpt2", None)):
        policy = make_policy(name)
        batch = policy.pack(PROMPTS, [ACTIONS] * 4)
        assert batch.prompt_mask[:, -1].all()
        for prompt, row in zip(PROMPTS, batch.row_of, strict=True):
            ids = batch.prompt_ids[row][batch.prompt_mask[row]].tolist()
            assert ids == policy.tokenizer(prompt.removesuffix(" "))["input_ids"]
            assert ids[-1] != policy.tokenizer.eos_token_id
            assert first is None or ids[0] == first


@pytest.mark.parametrize("name", ["flan-t5", "gpt2"])
def test_an_end_token_that_the_tokenizer_adds_is_counted_once(make_policy, name):
    policy = make_policy(name)
    end = policy.tokenizer.eos_token_id
    assert policy.packer._finish([5, 6, end]).tolist() == ([5, 6, end] if name == "flan-t5" else [5, 6])
    assert policy.packer._finish([5, 6]).tolist() == ([5, 6, end] if name == "flan-t5" else [5, 6])
    assert policy.packer._finish([]).tolist() == [end]


def test_identical_rows_are_stored_once(make_policy):
    policy = make_policy("flan-t5")
    batch = policy.pack([PROMPTS[0]] * 3 + [PROMPTS[1]], [ACTIONS, ACTIONS, ACTIONS[:2], ACTIONS])
    assert (batch.num_rows, len(batch)) == (3, 4)
    assert batch.row_of[0] == batch.row_of[1] != batch.row_of[2]
    layout = policy.packer.candidates.layout(tuple(ACTIONS), False)
    row = len(policy.packer.prompt_ids(PROMPTS[0])) + len(layout.branch_ids)
    assert batch.repeated_tokens == row
    assert batch.useful_tokens <= batch.total_tokens
    assert batch.branch_mask.shape[0] == 2  # one table entry per distinct action set, not per row


def test_groups_hold_all_rows_in_order_with_less_padding(make_policy):
    for name in ("flan-t5", "gpt2"):
        batch = make_policy(name).pack(PROMPTS, [ACTIONS] * 4)
        groups = batch.split(1)
        assert sum(group.total_tokens for group in groups) == batch.useful_tokens < batch.total_tokens
        for r, group in enumerate(groups):
            assert group.prompt_mask.all()
            assert torch.equal(group.prompt_ids[0], batch.prompt_ids[r][batch.prompt_mask[r]])


def test_a_batch_moves_whole(make_policy):
    batch = make_policy("flan-t5").pack(PROMPTS, [ACTIONS] * 4).to("meta")
    assert batch.prompt_ids.device.type == batch.offsets.device.type == batch.row_of.device.type == "meta"


def test_prompts_are_tokenized_once_until_cleared(make_policy, monkeypatch):
    policy = make_policy("flan-t5")
    seen = []
    tokenizer = policy.packer.tokenizer

    class Counting:
        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, texts, **options):
            seen.extend(texts)
            return tokenizer(texts, **options)

    policy.packer.tokenizer = Counting()
    policy.pack(PROMPTS, [ACTIONS] * 4)
    policy.pack(PROMPTS, [ACTIONS[:2]] * 4)
    assert seen == PROMPTS
    policy.packer.clear()
    policy.pack(PROMPTS[:1], [ACTIONS])
    assert seen == [*PROMPTS, PROMPTS[0]]
    policy.packer.max_prompts = 2
    assert policy.pack(PROMPTS[:3], [ACTIONS] * 3).num_rows == 3
    assert len(policy.packer._prompt_ids) == 3


def test_a_prompt_longer_than_the_model_is_an_error_not_a_cut(tmp_path):
    length = 80
    for make in (tiny_gpt2, tiny_llama):
        folder = make(tmp_path / make.__name__, max_positions=length)
        policy = ScoringPolicy.from_pretrained(folder)
        count = len(policy.packer.prompt_ids(PROMPTS[3]))
        longest = policy.packer.candidates.layout(tuple(ACTIONS), True).branch_depth.max() + 1
        prompt = PROMPTS[3][:-1] + " a" * (length - count - longest)
        words = len(policy.packer.prompt_ids(prompt))
        assert words + longest == length
        policy.score([prompt + " "], [ACTIONS])
        with pytest.raises(InvalidInputError, match=f"needs {length + 1} token positions, the model takes {length}"):
            policy.score([prompt + " a "], [ACTIONS])


def test_t5_reads_prompts_of_any_length_and_says_so_once(make_policy, caplog):
    policy = make_policy("flan-t5")
    caplog.clear()
    long = "You see a red ball. " * 200
    with caplog.at_level(logging.WARNING, logger="trl_glam.policy.packing"):
        batch = policy.pack([long], [ACTIONS])
        policy.pack([long + "!"], [ACTIONS])
    assert batch.lengths[0] > 512
    assert [record.name for record in caplog.records] == ["trl_glam.policy.packing"]
    assert torch.isfinite(policy.score([long], [ACTIONS]).logits).all()


@pytest.mark.parametrize("prompts, actions", [([], []), (PROMPTS[:2], [ACTIONS]), ("go", [ACTIONS, ACTIONS])])
def test_prompts_and_actions_must_match(make_policy, prompts, actions):
    with pytest.raises(InvalidInputError, match="prompts"):
        make_policy("flan-t5").pack(prompts, actions)


def test_an_empty_prompt_is_read(make_policy):
    for name in ("flan-t5", "gpt2", "llama"):
        assert torch.isfinite(make_policy(name).score([""], [ACTIONS]).logits).all()
