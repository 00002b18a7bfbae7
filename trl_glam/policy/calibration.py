# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Calibration offsets, and the reference model that they and a KL penalty come from.

An offset is the mean score of an action string over some prompts under the model as it was before training, so that
the string's surface prior does not decide ("Calibrate Before Use", https://huggingface.co/papers/2102.09690; "Surface
Form Competition", https://huggingface.co/papers/2104.08315). Offsets are frozen: a string met after training began (a
synonym, another world) is scored by the reference model, never by the trained one, and never taken as 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from .._compat import attention_implementation
from ..types import InvalidInputError
from .candidates import check_actions
from .loading import load_language_model


if TYPE_CHECKING:
    from .scoring_policy import ScoringPolicy


def calibrate(
    policy: ScoringPolicy, prompts: Sequence[str], actions: Sequence[str], batch_size: int
) -> dict[str, float]:
    """Implements [`ScoringPolicy.calibrate`]."""
    calibration = policy.policy_config.calibration
    if calibration.mode == "none":
        raise InvalidInputError("calibration='none' has no offsets to compute; use 'prompts' or 'content_free'.")
    if isinstance(prompts, str) or isinstance(actions, str) or not prompts or not actions:
        raise InvalidInputError("calibrate needs a list of prompts and a list of action strings, neither empty.")
    check_actions(actions)
    calibration.prompts = list(prompts)
    calibration.offsets = _mean_scores(policy, policy.lm, list(actions), batch_size)
    return calibration.offsets


def complete_offsets(policy: ScoringPolicy, actions: Collection[str]) -> None:
    """Make sure that every string has an offset; a new one takes it from the reference model."""
    calibration = policy.policy_config.calibration
    if not (new := sorted(set(actions) - calibration.offsets.keys())):
        return
    check_actions(new)
    if not calibration.prompts:
        raise InvalidInputError(
            f"The actions {new} have no calibration offset, and no calibration prompts are stored. Call "
            "policy.calibrate(prompts, actions) first, or use calibration='none'."
        )
    try:
        with reference_model(policy) as lm:
            calibration.offsets.update(_mean_scores(policy, lm, new, batch_size=64))
    except InvalidInputError as error:
        raise InvalidInputError(f"The actions {new} have no calibration offset. {error}") from error


@contextmanager
def reference_model(policy: ScoringPolicy) -> Iterator[PreTrainedModel | PeftModel]:
    """
    The language model as it was before training: the adapter switched off, or the recorded base model, loaded once.

    Raises:
        [`InvalidInputError`]: the base model is not recorded, started from random weights, or cannot be loaded.
    """
    if isinstance(policy.lm, PeftModel):
        with policy.lm.disable_adapter():
            yield policy.lm
        return
    if policy.reference_lm is None:
        config = policy.policy_config
        if config.base_model is None or config.init != "pretrained":
            raise InvalidInputError(
                f"The policy's weights before training are not at hand (base_model={config.base_model!r}, "
                f"init={config.init!r}): only a policy made by ScoringPolicy.from_pretrained with init='pretrained', "
                "or one with an adapter, can go back to them."
            )
        attention = attention_implementation(policy.config)
        lm, _ = load_language_model(
            config.base_model, revision=config.base_revision, dtype=policy.lm.dtype, attn_implementation=attention
        )
        policy.__dict__["reference_lm"] = lm.requires_grad_(False)
    yield policy.reference_lm.to(policy.device)


@torch.no_grad()
def _mean_scores(
    policy: ScoringPolicy, lm: PreTrainedModel | PeftModel, actions: list[str], batch_size: int
) -> dict[str, float]:
    prompts = sorted(policy.policy_config.calibration.prompts, key=len)
    total = torch.zeros(len(actions), dtype=torch.float64)
    with policy.eval_mode():
        for start in range(0, len(prompts), batch_size):
            chunk = prompts[start : start + batch_size]
            batch = policy.packer.pack(chunk, [actions] * len(chunk)).to(policy.device)
            scores, _ = policy.score_rows(batch, lm=lm)
            total += scores[batch.row_of].double().sum(0).cpu()
    return dict(zip(actions, (total / len(prompts)).tolist(), strict=True))
