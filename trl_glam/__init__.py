# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""trl_glam: online RL of language models that choose among given actions in interactive environments.

Importing it registers the `BabyAI-Text/*` environments. Everything else is imported on first use, so that the import
stays fast and the command line answers at once.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

from .envs.registration import register_environments


# Arrow's own allocator keeps the pages of the small tables that a log is made of, some MiB more with every 1,000 steps
# of a run. It reads this when it is first used, so whoever has used Arrow before keeps what there is.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

if TYPE_CHECKING:
    from .agents import Agent, BotAgent, MixtureAgent, RandomAgent, ScoringAgent
    from .policy import ScoringPolicy
    from .prompts import PromptTemplate
    from .trainer import BCConfig, BCTrainer, GLAMConfig, GLAMTrainer

__version__ = "0.1.0"

_HOME = {
    "Agent": "agents",
    "BCConfig": "trainer",
    "BCTrainer": "trainer",
    "BotAgent": "agents",
    "GLAMConfig": "trainer",
    "GLAMTrainer": "trainer",
    "MixtureAgent": "agents",
    "PromptTemplate": "prompts",
    "RandomAgent": "agents",
    "ScoringAgent": "agents",
    "ScoringPolicy": "policy",
}

__all__ = [
    "Agent",
    "BCConfig",
    "BCTrainer",
    "BotAgent",
    "GLAMConfig",
    "GLAMTrainer",
    "MixtureAgent",
    "PromptTemplate",
    "RandomAgent",
    "ScoringAgent",
    "ScoringPolicy",
    "__version__",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)


register_environments()
