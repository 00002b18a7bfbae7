# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""From what is seen and what is asked to words, as in "Grounding Large Language Models in Interactive Environments
with Online Reinforcement Learning" (huggingface.co/papers/2302.02662): English and French, the original grammar or a
corrected one, and the rewordings of its generalisation tests.

A [`Phrasebook`] fills the slots noun, color and door state of each sentence and mission from a lexicon, so that a
rewording can never touch a word it does not mean. Prompts are put together in `trl_glam/prompts.py`; candidates in
`babyai_text.py`.
"""

from __future__ import annotations

import functools

from minigrid.envs.babyai.core.verifier import (
    AfterInstr,
    AndInstr,
    BeforeInstr,
    GoToInstr,
    Instr,
    ObjDesc,
    OpenInstr,
    PickupInstr,
    PutNextInstr,
)

from ..types import InvalidInputError
from .view import View


LANGUAGES = ("english", "french")
GRAMMARS = ("glam", "fixed")

_OOV_NOUNS = {"key": "chair", "ball": "table", "box": "car"}
_INVENTED_NOUNS = {"key": "dax", "ball": "xolo", "box": "afze"}
_INVENTED_ADJECTIVES = {
    "red": "faze",
    "green": "jatu",
    "blue": "croh",
    "purple": "vurst",
    "yellow": "gakul",
    "grey": "sil",
}
_ADJECTIVE_SYNONYMS = {
    "red": "vermilion",
    "green": "jade",
    "blue": "cyan",
    "purple": "violet",
    "yellow": "golden",
    "grey": "silver",
}
# Word for word, by slot value; `synonym_actions` rewords the candidates, in `babyai_text.py`.
LEXICONS: dict[str, dict[str, str]] = {
    "oov_nouns": _OOV_NOUNS,
    "adjective_synonyms": _ADJECTIVE_SYNONYMS,
    "invented_nouns": _INVENTED_NOUNS,
    "invented_adjectives": _INVENTED_ADJECTIVES,
    "invented_words": _INVENTED_NOUNS | _INVENTED_ADJECTIVES,
    "synonym_actions": {},
}

_FRENCH_NOUNS = {"key": "clef", "ball": "balle", "box": "boîte", "door": "porte"}
_FRENCH_FEMININE = {
    "red": "rouge",
    "green": "verte",
    "blue": "bleue",
    "purple": "violette",
    "yellow": "jaune",
    "grey": "grise",
}
_FRENCH_MASCULINE = _FRENCH_FEMININE | {"green": "vert", "blue": "bleu", "purple": "violet", "grey": "gris"}
_FRENCH_STATES = {"open": "ouverte", "closed": "fermée", "locked": "fermée à clef"}
_ENGLISH_PLACES = {
    "left": " on your left",
    "right": " on your right",
    "front": " in front of you",
    "behind": " behind you",
}
_FRENCH_PLACES = {"left": " à ta gauche", "right": " à ta droite", "front": " devant toi", "behind": " derrière toi"}


def _steps(number: int) -> str:
    return f"{number} step" if number == 1 else f"{number} steps"


class Phrasebook:
    """
    The words of one (language, grammar, lexicon); get it from [`phrasebook`].

    Args:
        language (`str`):
            `"english"` or `"french"`.
        grammar (`str`):
            `"glam"` writes "a" before every word as the original does; `"fixed"` writes "an" before a vowel. French is
            the same in both.
        lexicon (`str` or `None`):
            A key of `LEXICONS`, English only, or `None` for the original words.
    """

    def __init__(self, language: str, grammar: str, lexicon: str | None) -> None:
        self._french = language == "french"
        self._an = grammar == "fixed"
        self._words = LEXICONS[lexicon] if lexicon else {}
        self._sentences: dict[tuple, str] = {}
        self._wall_places = ("devant", "à gauche", "à droite") if self._french else ("forward", "left", "right")

    def sentences(self, view: View, carrying: tuple[str, str] | None) -> list[str]:
        """
        Describe a view.

        Args:
            view ([`~trl_glam.envs.view.View`]):
                What is seen.
            carrying (`tuple[str, str]` or `None`):
                (type, color) of what the agent carries.

        Returns:
            `list[str]`: what is carried, walls ahead, left and right, then the objects in the view's order.
        """
        known = self._sentences
        sentences = []
        if carrying is not None:
            sentences.append(self._carried(*carrying))
        for steps, place in zip(view.walls, self._wall_places, strict=True):
            if steps:
                sentences.append(self._wall(steps, place))
        for seen in view.objects:
            sentence = known.get(seen)
            if sentence is None:
                sentence = known[seen] = self._seen(*seen)
            sentences.append(sentence)
        return sentences

    def mission(self, instruction: Instr) -> str:
        """
        Word an instruction.

        Args:
            instruction (`Instr`):
                A verifier of Minigrid's whose objects were matched by `reset`.

        Returns:
            `str`: in English without a lexicon and with `grammar="glam"`, Minigrid's own mission.
        """
        return self._french_mission(instruction) if self._french else self._english_mission(instruction)

    # ---- sentences -----------------------------------------------------------------------------------------------

    def _word(self, word: str) -> str:
        return self._words.get(word, word)

    def _article(self, phrase: str) -> str:
        return "an" if self._an and phrase[0] in "aeiou" else "a"

    def _wall(self, steps: int, place: str) -> str:
        return f"Tu vois un mur à {steps} pas {place}" if self._french else f"You see a wall {_steps(steps)} {place}"

    def _carried(self, kind: str, color: str) -> str:
        if self._french:
            return f"Tu portes une {_FRENCH_NOUNS[kind]} {_FRENCH_FEMININE[color]}"
        phrase = f"{self._word(color)} {self._word(kind)}"
        return f"You carry {self._article(phrase)} {phrase}"

    def _seen(self, kind: str, color: str, state: str | None, right: int, ahead: int) -> str:
        if self._french:
            phrase = f"{_FRENCH_NOUNS[kind]} {_FRENCH_FEMININE[color]}"
            if state is not None:
                phrase = f"{phrase} {_FRENCH_STATES[state]}"
            side = f"{abs(right)} pas {'à gauche' if right < 0 else 'à droite'}"
            front = f"{ahead} pas devant"
            both = f"{side} et {front}"
        else:
            phrase = f"{self._word(color)} {self._word(kind)}"
            if state is not None:
                phrase = f"{state} {phrase}"
            side = f"{_steps(abs(right))} {'left' if right < 0 else 'right'}"
            front = f"{_steps(ahead)} forward"
            both = f"{side} and {front}"
        where = front if right == 0 else side if ahead == 0 else both
        if self._french:
            return f"Tu vois une {phrase} {where}"
        return f"You see {self._article(phrase)} {phrase} {where}"

    # ---- missions ------------------------------------------------------------------------------------------------

    def _english_object(self, description: ObjDesc) -> str:
        phrase = self._word(description.type or "object")
        if description.color:
            phrase = f"{self._word(description.color)} {phrase}"
        phrase += _ENGLISH_PLACES.get(description.loc, "")
        return f"{self._article(phrase) if len(description.obj_set) > 1 else 'the'} {phrase}"

    def _english_mission(self, instruction: Instr) -> str:
        match instruction:
            case GoToInstr():
                return f"go to {self._english_object(instruction.desc)}"
            case PickupInstr():
                return f"pick up {self._english_object(instruction.desc)}"
            case OpenInstr():
                return f"open {self._english_object(instruction.desc)}"
            case PutNextInstr():
                moved, fixed = (
                    self._english_object(instruction.desc_move),
                    self._english_object(instruction.desc_fixed),
                )
                return f"put {moved} next to {fixed}"
        first, second = self._english_mission(instruction.instr_a), self._english_mission(instruction.instr_b)
        return f"{first}{_joint(instruction, ', then ', ' after you ', ' and ')}{second}"

    def _french_object(self, description: ObjDesc) -> str:
        several = len(description.obj_set) > 1
        colors = _FRENCH_FEMININE if description.type else _FRENCH_MASCULINE
        phrase = _FRENCH_NOUNS[description.type] if description.type else "objet"
        if description.color:
            phrase = f"{phrase} {colors[description.color]}"
        phrase += _FRENCH_PLACES.get(description.loc, "")
        if description.type:
            return f"{'une' if several else 'la'} {phrase}"
        return f"un {phrase}" if several else f"l'{phrase}"

    def _french_mission(self, instruction: Instr, past: bool = False) -> str:
        match instruction:
            case GoToInstr():
                return f"{'être allé à' if past else 'aller à'} {self._french_object(instruction.desc)}"
            case PickupInstr():
                return f"{'avoir attrapé' if past else 'attraper'} {self._french_object(instruction.desc)}"
            case OpenInstr():
                return f"{'avoir ouvert' if past else 'ouvrir'} {self._french_object(instruction.desc)}"
            case PutNextInstr():
                moved, fixed = self._french_object(instruction.desc_move), self._french_object(instruction.desc_fixed)
                return f"{'avoir mis' if past else 'mettre'} {moved} à côté de {fixed}"
        after = isinstance(instruction, AfterInstr)
        first = self._french_mission(instruction.instr_a, past)
        second = self._french_mission(instruction.instr_b, past or after)
        return f"{first}{_joint(instruction, ', puis ', ' après ', ' et ')}{second}"


def _joint(instruction: Instr, before: str, after: str, both: str) -> str:
    return {BeforeInstr: before, AfterInstr: after, AndInstr: both}[type(instruction)]


@functools.cache
def phrasebook(language: str = "english", grammar: str = "glam", lexicon: str | None = None) -> Phrasebook:
    """
    The phrasebook of a choice of words; one object per choice, which remembers the sentences it made.

    Args:
        language (`str`, *optional*, defaults to `"english"`):
            One of `LANGUAGES`.
        grammar (`str`, *optional*, defaults to `"glam"`):
            One of `GRAMMARS`.
        lexicon (`str`, *optional*):
            One of the keys of `LEXICONS`.

    Returns:
        [`Phrasebook`]: the words.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: for an unknown name, or a lexicon with French.
    """
    for name, given, allowed in (("language", language, LANGUAGES), ("grammar", grammar, GRAMMARS)):
        if given not in allowed:
            raise InvalidInputError(f"{name}={given!r} is not known: choose one of {', '.join(allowed)}.")
    if lexicon is not None and lexicon not in LEXICONS:
        raise InvalidInputError(f"lexicon={lexicon!r} is not known: choose one of {', '.join(LEXICONS)}, or None.")
    if lexicon is not None and language == "french":
        raise InvalidInputError(f"lexicon={lexicon!r} rewords English: use it with language='english'.")
    return Phrasebook(language, grammar, lexicon)
