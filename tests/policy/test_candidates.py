# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What is fed for a set of actions, and where an action begins."""

import pytest
from transformers import AutoTokenizer

from tests.tiny_models import ACTIONS
from trl_glam.policy.candidates import CandidateEncoder
from trl_glam.types import InvalidInputError


class WordTokenizer:
    """One token a word, so that layouts can be read off; `:` is the anchor of causal actions."""

    def __init__(self):
        self.ids: dict[str, int] = {}

    def __call__(self, text, **_):
        return {"input_ids": [self.ids.setdefault(word, len(self.ids) + 10) for word in text.split()]}


def blocks_of(layout):
    """The decoder row as lists of tokens, one per block, read off the mask."""
    blocks = []
    for i, token in enumerate(layout.branch_ids.tolist()):
        if layout.branch_mask[i, : i + 1].sum() == 1:
            blocks.append([])
        blocks[-1].append(token)
    return blocks


def test_t5_feeds_only_the_longest_distinct_prefixes():
    tokenizer = WordTokenizer()
    encoder = CandidateEncoder(tokenizer, encoder_decoder=True, start_id=0, end_id=None)
    layout = encoder.layout(tuple(ACTIONS), False)
    turn, go, pick = (tokenizer.ids[word] for word in ("turn", "go", "pick"))
    # PLATFORM: six BabyAI actions need 6 decoder positions and 4 rows of logits.
    assert sorted(blocks_of(layout)) == sorted([[0, turn], [0, go], [0, pick]])
    assert len(layout.branch_ids) == 6
    assert len(layout.read_positions) == 4
    assert layout.read_positions[0] == 0
    assert layout.num_words.tolist() == [2, 2, 2, 2, 1, 1]
    assert layout.token_mask.sum(1).tolist() == [2, 2, 2, 2, 1, 1]
    # The mask is causal inside a block and empty between blocks.
    assert not layout.branch_mask[0, 1] and layout.branch_mask[1, 0] and not layout.branch_mask[2, :2].any()


def test_t5_feeds_whole_actions_when_the_end_token_is_scored():
    tokenizer = WordTokenizer()
    encoder = CandidateEncoder(tokenizer, encoder_decoder=True, start_id=0, end_id=1)
    layout = encoder.layout(("go", "go forward", "drop"), False)
    go, forward, drop = (tokenizer.ids[word] for word in ("go", "forward", "drop"))
    # "go" is the beginning of "go forward": its block would be a repetition.
    assert sorted(blocks_of(layout)) == sorted([[0, go, forward], [0, drop]])
    assert layout.token_ids[:, :3].tolist() == [[go, 1, 0], [go, forward, 1], [drop, 1, 0]]


def test_causal_feeds_a_trie_of_all_but_the_last_tokens():
    tokenizer = WordTokenizer()
    encoder = CandidateEncoder(tokenizer, encoder_decoder=False, start_id=None, end_id=None)
    layout = encoder.layout(("pick up the key", "pick up the ball", "pick", "go"), True)
    pick, up, the = (tokenizer.ids[word] for word in ("pick", "up", "the"))
    assert layout.branch_ids.tolist() == [pick, up, the]
    assert layout.branch_depth.tolist() == [0, 1, 2]
    assert layout.branch_mask.tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert layout.token_rows.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_no_actions_leave_one_row_for_the_value():
    t5 = CandidateEncoder(WordTokenizer(), encoder_decoder=True, start_id=0, end_id=None).layout((), False)
    assert (t5.branch_ids.tolist(), t5.num_actions) == ([0], 0)
    causal = CandidateEncoder(WordTokenizer(), encoder_decoder=False, start_id=None, end_id=None).layout((), False)
    assert (causal.branch_ids.tolist(), causal.num_actions) == ([], 0)


def test_the_trailing_space_of_a_causal_prompt_moves_to_the_action(folder_of):
    tokenizer = AutoTokenizer.from_pretrained(folder_of("gpt2"))
    encoder = CandidateEncoder(tokenizer, encoder_decoder=False, start_id=None, end_id=None)
    assert tokenizer.decode(encoder.token_ids("turn left", True)) == " turn left"
    assert tokenizer.decode(encoder.token_ids("turn left", False)) == "turn left"


def test_layouts_are_built_once(folder_of):
    tokenizer = AutoTokenizer.from_pretrained(folder_of("flan-t5"))
    encoder = CandidateEncoder(tokenizer, encoder_decoder=True, start_id=0, end_id=None)
    assert encoder.layout(tuple(ACTIONS), False) is encoder.layout(tuple(ACTIONS), False)


@pytest.mark.parametrize("actions", [("drop", "drop"), ("drop", ""), ("drop", "  "), ("drop", 3)])
def test_bad_actions_are_named(actions):
    encoder = CandidateEncoder(WordTokenizer(), encoder_decoder=True, start_id=0, end_id=None)
    with pytest.raises(InvalidInputError, match="drop.*more than once|is not an action"):
        encoder.layout(actions, False)
