# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Worlds that speak text: the contract they keep, and BabyAI-Text. Importing this imports neither Minigrid nor
torch."""

from .contract import PlainText, StringActions, TextObservation, check_text_env, make_env, read_reset, read_step
from .registration import register_environments


__all__ = [
    "PlainText",
    "StringActions",
    "TextObservation",
    "check_text_env",
    "make_env",
    "read_reset",
    "read_step",
    "register_environments",
]
