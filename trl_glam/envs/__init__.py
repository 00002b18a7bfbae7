# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Worlds that speak text: the contract they keep, and BabyAI-Text. Importing this imports neither Minigrid nor
torch."""

from .contract import RestorableEnv, TextObservation, check_text_env, make_env, read_reset, read_step
from .registration import register_environments
from .wrappers import PlainText, StringActions


__all__ = [
    "PlainText",
    "RestorableEnv",
    "StringActions",
    "TextObservation",
    "check_text_env",
    "make_env",
    "read_reset",
    "read_step",
    "register_environments",
]
