# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Action strings -> token ids -> a `CandidateLayout`: what is fed once per prompt so that every action can be scored.

Scoring an action of n tokens by teacher forcing needs the model's output after the prompt, and after each of the
action's first n-1 tokens. Actions share most of that, and all of them fit into one row behind the prompt, as long as
no token sees another action's tokens:

- encoder-decoder: the decoder row holds blocks `[start, c1, ..., c(n-1)]` with a block-diagonal causal mask. T5's
relative
  position bias depends on the distance of two positions in the row, which is right inside a block and would be wrong
  in a tree; so only blocks that are prefixes of another block are dropped.
- causal: the row holds a trie of the actions' first n-1 tokens, each with its depth as position. The first token is
  scored by the last position of the prompt itself.

Mode `paper` also scores the end token, so there all n tokens of an action are fed. Left out: the prompt (`packing.py`)
and everything that touches a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..types import InvalidInputError


# Tokenized before a causal action and cut off again: tokenizers of the SentencePiece kind treat the beginning of a
# text differently from its middle, and an action always stands in the middle, behind "Action 2:".
_ANCHOR = ":"
# For other text inside a prompt; some tokenizers merge a colon, some a letter, with a line break or a letter after it.
_ANCHORS = (_ANCHOR, "a")


@dataclass(frozen=True)
class CandidateLayout:
    """
    What one set of actions adds to a prompt, and where its scores are read. A = actions, D = fed tokens ("branch"),
    K = output rows that are read, C = scored tokens of the longest action.

    Args:
        branch_ids (`np.ndarray` of shape `(D,)`):
            int64 token ids fed behind the prompt (causal) or as decoder row (encoder-decoder).
        branch_mask (`np.ndarray` of shape `(D, D)`):
            bool, whether a position (first axis) attends to another.
        branch_depth (`np.ndarray` of shape `(D,)`):
            int64 distance of each token from the end of the prompt, from 0.
        read_positions (`np.ndarray` of shape `(K,)`):
            int64 positions whose logits are read. Causal: 0 is the last prompt position, `j + 1` is branch position
            `j`. Encoder-decoder: branch positions.
        token_ids (`np.ndarray` of shape `(A, C)`):
            int64 scored tokens of each action, zero where `token_mask` is false.
        token_rows (`np.ndarray` of shape `(A, C)`):
            int64 index into `read_positions` of the row that predicts the token.
        token_mask (`np.ndarray` of shape `(A, C)`):
            bool, which entries are tokens.
        num_words (`np.ndarray` of shape `(A,)`):
            int64 words of each action.
    """

    branch_ids: np.ndarray
    branch_mask: np.ndarray
    branch_depth: np.ndarray
    read_positions: np.ndarray
    token_ids: np.ndarray
    token_rows: np.ndarray
    token_mask: np.ndarray
    num_words: np.ndarray

    @property
    def num_actions(self) -> int:
        return len(self.token_ids)


class CandidateEncoder:
    """
    Builds and remembers the layout of every action set.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the language model.
        encoder_decoder (`bool`):
            Whether the model is an encoder-decoder.
        start_id (`int` or `None`):
            The decoder's start token; encoder-decoder only.
        end_id (`int` or `None`):
            The end token, which mode `paper` scores too; `None` in the other modes.
        max_sets (`int`, *optional*, defaults to `4096`):
            Action sets (and as many action strings) to remember.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        encoder_decoder: bool,
        start_id: int | None,
        end_id: int | None,
        max_sets: int = 4096,
    ) -> None:
        self.tokenizer = tokenizer
        self.encoder_decoder = encoder_decoder
        self.start_id = start_id
        self.end_id = end_id
        self.layout = lru_cache(max_sets)(self._build_layout)
        self.token_ids = lru_cache(max_sets)(self._encode)

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

    def _encode(self, action: str, after_space: bool) -> tuple[int, ...]:
        """Token ids of an action; `after_space`: the (causal) prompt gave its trailing space to the action."""
        if self.encoder_decoder:
            ids = self._tokenize(action)
        else:
            ids = self._inner(" " * after_space + action, _ANCHOR)
            if ids is None:
                raise InvalidInputError(
                    f"The tokenizer merges the beginning of the action {action!r} with the prompt before it, so it "
                    "has no score of its own. Let the prompt end in a space, or reword the action."
                )
        if not ids:
            raise InvalidInputError(f"The action {action!r} has no tokens for this model; reword it.")
        return tuple(ids)

    def _inner(self, text: str, anchor: str) -> list[int] | None:
        """Token ids of a text behind another; `None` if the tokenizer merges the two."""
        ids, before = self._tokenize(anchor + text), self._tokenize(anchor)
        return ids[len(before) :] if ids[: len(before)] == before else None

    def segment_ids(self, text: str, is_action: bool) -> Sequence[int]:
        """
        Token ids of a segment inside a causal model's append-only prompt.

        Args:
            text (`str`):
                The segment, with the space before it.
            is_action (`bool`):
                Whether it is an action taken, which is then tokenized as it was when it was scored.

        Raises:
            [`InvalidInputError`]: if the tokenizer merges it with the text before it.
        """
        if is_action and text.strip():
            return self.token_ids(text.removeprefix(" "), text.startswith(" "))
        for anchor in _ANCHORS:
            if (ids := self._inner(text, anchor)) is not None:
                return ids
        raise InvalidInputError(
            f"The tokenizer merges the beginning of {text!r} with the text before it; begin the pieces `observation` "
            "and `new_actions` of an append-only prompt template with a space or a line break."
        )

    def _build_layout(self, actions: tuple[str, ...], after_space: bool) -> CandidateLayout:
        """The layout of an action set, in the given order; called through the cache `layout`."""
        check_actions(actions)
        scored = [self.token_ids(action, after_space) for action in actions]
        if self.end_id is not None:
            scored = [(*ids, self.end_id) for ids in scored]
        # What the model must have read before it predicts a token: the tokens before it.
        if self.encoder_decoder:
            branch, row_of_prefix = _blocks({ids[:-1] for ids in scored}, self.start_id)
        else:
            branch, row_of_prefix = _trie({ids[:-1] for ids in scored})
        # Each row is projected to the vocabulary once. The empty prefix is read even when there is no action:
        # processes that share the parameters of a model must call the same layers.
        prefixes = list(dict.fromkeys([(), *(ids[:i] for ids in scored for i in range(len(ids)))]))
        if not self.encoder_decoder:
            # `logits_to_keep` returns every position from the last one of the prompt on.
            prefixes = sorted({(), *row_of_prefix}, key=row_of_prefix.__getitem__)
        index = {prefix: k for k, prefix in enumerate(prefixes)}

        shape = (len(scored), max(map(len, scored), default=0))
        token_ids, token_rows, token_mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, bool)
        for a, ids in enumerate(scored):
            token_ids[a, : len(ids)] = ids
            token_rows[a, : len(ids)] = [index[ids[:i]] for i in range(len(ids))]
            token_mask[a, : len(ids)] = True
        return CandidateLayout(
            *branch,
            read_positions=np.array([row_of_prefix[prefix] for prefix in prefixes], np.int64),
            token_ids=token_ids,
            token_rows=token_rows,
            token_mask=token_mask,
            num_words=np.array([len(action.split()) for action in actions], np.int64),
        )


def check_actions(actions: Sequence[str]) -> None:
    """Raise [`InvalidInputError`] for action strings that are no strings, are blank, or occur twice."""
    for action in actions:
        if not isinstance(action, str) or not action.strip():
            raise InvalidInputError(f"{action!r} is not an action; an action is a non-empty string.")
    if len(set(actions)) != len(actions):
        twice = sorted({action for action in actions if list(actions).count(action) > 1})
        raise InvalidInputError(f"The actions {twice} occur more than once in {list(actions)}; each must occur once.")


def _blocks(prefixes: set[tuple[int, ...]], start_id: int):
    """Lay the longest prefixes side by side. The empty prefix is always there: its row also gives the value."""
    longest: list[tuple[int, ...]] = []
    # In reverse lexicographic order a sequence stands right behind those it begins.
    for prefix in sorted(prefixes | {()}, reverse=True):
        if not longest or longest[-1][: len(prefix)] != prefix:
            longest.append(prefix)
    longest.reverse()
    ids, depth, block, row_of_prefix = [], [], [], {}
    for number, prefix in enumerate(longest):
        for i, token in enumerate((start_id, *prefix)):
            row_of_prefix.setdefault(prefix[:i], len(ids))
            ids.append(token)
            depth.append(i)
            block.append(number)
    block, depth = np.array(block, np.int64), np.array(depth, np.int64)
    mask = (block[:, None] == block[None, :]) & (depth[:, None] >= depth[None, :])
    return (np.array(ids, np.int64), mask, depth), row_of_prefix


def _trie(prefixes: set[tuple[int, ...]]):
    """One position per distinct non-empty prefix; it attends to itself and to its ancestors."""
    nodes = sorted({prefix[: i + 1] for prefix in prefixes for i in range(len(prefix))})
    position = {prefix: j for j, prefix in enumerate(nodes)}
    mask = np.zeros((len(nodes), len(nodes)), bool)
    for j, prefix in enumerate(nodes):
        mask[j, [position[prefix[: i + 1]] for i in range(len(prefix))]] = True
    ids = np.array([prefix[-1] for prefix in nodes], np.int64)
    depth = np.array([len(prefix) - 1 for prefix in nodes], np.int64)
    return (ids, mask, depth), {(): 0, **{prefix: j + 1 for prefix, j in position.items()}}
