# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""One folder per tiny model and session, and policies made from them."""

from collections.abc import Callable

import pytest

from tests.tiny_models import tiny_gpt2, tiny_llama, tiny_qwen, tiny_t5
from trl_glam.policy import ScoringPolicy


MODELS: dict[str, Callable[[str], str]] = {
    "flan-t5": lambda folder: tiny_t5(folder),
    "t5": lambda folder: tiny_t5(folder, gated=False, scaled=True, tied=True),
    "t5-scaled-untied": lambda folder: tiny_t5(folder, scaled=True, tied=False),
    "mt5": lambda folder: tiny_t5(folder, model_type="mt5"),
    "umt5": lambda folder: tiny_t5(folder, model_type="umt5"),
    "llama": lambda folder: tiny_llama(folder),
    "gpt2": lambda folder: tiny_gpt2(folder),
    "qwen2": lambda folder: tiny_qwen(folder, version=2),
    "qwen3": lambda folder: tiny_qwen(folder, version=3),
}


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory) -> Callable[[str], str]:
    """`folder_of("flan-t5")`: the folder of a tiny model, written once."""
    made: dict[str, str] = {}

    def get(name: str) -> str:
        if name not in made:
            made[name] = MODELS[name](str(tmp_path_factory.mktemp(name)))
        return made[name]

    return get


@pytest.fixture
def make_policy(folder_of) -> Callable[..., ScoringPolicy]:
    """`make_policy("gpt2", scoring="token")`: a fresh policy on a tiny model."""
    return lambda name, **choices: ScoringPolicy.from_pretrained(folder_of(name), **choices)
