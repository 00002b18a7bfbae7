# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""GLAM's generalisation tests (huggingface.co/papers/2302.02662, section 4) by name: a panel and a rewording each.

The environment rewords nouns, adjectives, actions and language slot by slot; the goal's phrase is a piece of the
prompt template. Tests that share a panel meet the same episodes, so that their scores can be compared in pairs.
Published numbers stand beside for reading only. How to play a test is `evaluate.py`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..prompts import PromptTemplate
from ..types import InvalidInputError
from .panels import Panel


@dataclass(frozen=True)
class SuiteTest:
    """
    One test: a panel, and what is reworded on it.

    Args:
        name (`str`):
            Name in tables and results.
        panel (`str`):
            Name of a shipped panel; the panel of 100 episodes is `f"{panel}_quick"`.
        env_kwargs (`dict[str, Any]`, *optional*):
            Added to the environment's keyword arguments.
        language (`str`, *optional*):
            Language of the prompt's fixed words; the policy's own if not given.
        goal (`str`, *optional*):
            The prompt template's goal piece; the policy's own if not given.
        published (`dict[str, str]`, *optional*):
            Success rates of the paper, as printed there.
    """

    name: str
    panel: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    language: str | None = None
    goal: str | None = None
    published: dict[str, str] = field(default_factory=dict)

    def load_panel(self, quick: bool = False) -> Panel:
        """The shipped panel of 1,000 episodes, or the quick one of 100."""
        return Panel.load(f"{self.panel}_quick" if quick else self.panel)

    def reword(self, template: PromptTemplate) -> PromptTemplate:
        """The policy's template with this test's language or goal phrase; the window stays."""
        if self.language is not None and self.language != template.language:
            template = replace(template, language=self.language, header=None, goal=None, new_actions=None)
        return template if self.goal is None else replace(template, goal=self.goal)


def _published(random: str, drrn: str, npae: str, flan: str, gflan: str) -> dict[str, str]:
    names = ("Random", "DRRN", "NPAE-Flan-T5", "Flan-T5", "GFlan-T5")
    return dict(zip(names, (random, drrn, npae, flan, gflan), strict=True))


SUITES: dict[str, tuple[SuiteTest, ...]] = {
    "no_change": (
        SuiteTest(
            "no_change", "mixed_train", published=_published(".15±.05", ".14±.02", ".17±.04", ".11±.03", ".89±.05")
        ),
    ),
    "oov_nouns": (
        SuiteTest(
            "oov_nouns",
            "mixed_train",
            {"lexicon": "oov_nouns"},
            published=_published(".15", ".15", ".16±.05", ".09±.02", ".87±.05"),
        ),
    ),
    "adjective_synonyms": (SuiteTest("adjective_synonyms", "mixed_train", {"lexicon": "adjective_synonyms"}),),
    "invented_nouns": (SuiteTest("invented_nouns", "mixed_train", {"lexicon": "invented_nouns"}),),
    "invented_adjectives": (SuiteTest("invented_adjectives", "mixed_train", {"lexicon": "invented_adjectives"}),),
    "invented_words": (
        SuiteTest(
            "invented_words",
            "mixed_train",
            {"lexicon": "invented_words"},
            published=_published(".15", ".16", ".16±.03", ".11±.03", ".77±.08"),
        ),
    ),
    "composition": (
        SuiteTest("composition", "composition", published=_published(".05±.05", ".06±.03", ".06", ".02", ".12±.06")),
    ),
    "then": (SuiteTest("then", "then", published={"GFlan-T5": ".22"}),),
    "after": (SuiteTest("after", "after", published={"GFlan-T5": ".17"}),),
    "synonym_actions": (
        SuiteTest(
            "synonym_actions",
            "mixed_train",
            {"actions": "synonyms"},
            published=_published(".15", ".17±.04", ".16±.04", ".01", ".12±.06"),
        ),
    ),
    "french": (
        SuiteTest(
            "french",
            "french",
            language="french",
            published=_published(".30±.05", ".31±.02", ".30±.02", ".03", ".01±.01"),
        ),
    ),
    "goal_phrase": (
        SuiteTest("goal_phrase_i_would_like", "mixed_train", goal=" \n I would like the agent to: {mission}"),
        SuiteTest("goal_phrase_you_have_to", "mixed_train", goal=" \n You have to: {mission}"),
    ),
    "action_space": (
        SuiteTest("action_space_3", "goto", {"actions": "restricted"}),
        SuiteTest("action_space_6", "goto", {"actions": "canonical"}),
        SuiteTest("action_space_9", "goto", {"actions": "augmented"}),
    ),
    "distractors": (
        SuiteTest("distractors_4", "goto_4"),
        SuiteTest("distractors_8", "goto"),
        SuiteTest("distractors_16", "goto_16"),
    ),
    "heldout_pairs": (SuiteTest("heldout_pairs", "mixed_test"),),
}
SUITES["paper"] = tuple(test for tests in SUITES.values() for test in tests)


def select_tests(names: Sequence[str]) -> list[SuiteTest]:
    """
    The tests of several suites, each once.

    Args:
        names (`list[str]`):
            Names of suites.

    Raises:
        [`InvalidInputError`]: for an unknown suite.
    """
    for name in names:
        if name not in SUITES:
            raise InvalidInputError(f"Unknown suite {name!r}; choose among {', '.join(SUITES)}.")
    return list({test.name: test for name in names for test in SUITES[name]}.values())
