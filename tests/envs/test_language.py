# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Words: slots, grammar, French and the rewordings of the generalisation tests."""

import pytest

from trl_glam.envs.language import LEXICONS, phrasebook
from trl_glam.envs.levels import make_level
from trl_glam.envs.view import View
from trl_glam.types import InvalidInputError


VIEW = View(
    [
        ("key", "red", None, -2, 0),
        ("door", "red", "open", 0, 1),
        ("box", "grey", None, 1, 3),
        ("door", "blue", "locked", 2, 1),
    ],
    (3, 0, 1),
)


def _mission(name, seed, task=None, **words):
    level = make_level(name, task)
    level.reset(seed=seed)
    return phrasebook(**words).mission(level.instrs)


def test_glam_grammar():
    assert phrasebook().sentences(VIEW, ("ball", "green")) == [
        "You carry a green ball",
        "You see a wall 3 steps forward",
        "You see a wall 1 step right",
        "You see a red key 2 steps left",
        "You see a open red door 1 step forward",
        "You see a grey box 1 step right and 3 steps forward",
        "You see a locked blue door 2 steps right and 1 step forward",
    ]


def test_fixed_grammar_writes_an_before_a_vowel():
    sentences = phrasebook(grammar="fixed").sentences(VIEW, None)
    assert sentences[3] == "You see an open red door 1 step forward"
    assert sentences[2] == "You see a red key 2 steps left"


def test_french_sentences():
    assert phrasebook("french").sentences(VIEW, ("ball", "green")) == [
        "Tu portes une balle verte",
        "Tu vois un mur à 3 pas devant",
        "Tu vois un mur à 1 pas à droite",
        "Tu vois une clef rouge 2 pas à gauche",
        "Tu vois une porte rouge ouverte 1 pas devant",
        "Tu vois une boîte grise 1 pas à droite et 3 pas devant",
        "Tu vois une porte bleue fermée à clef 2 pas à droite et 1 pas devant",
    ]


@pytest.mark.parametrize(
    "name, task, seed, english, french",
    [
        ("GoToLocal", None, 0, "go to the green ball", "aller à la balle verte"),
        ("PickupLocal", None, 1, "pick up a yellow ball", "attraper une balle jaune"),
        ("UnlockLocal", None, 0, "open the door", "ouvrir la porte"),
        ("OpenDoor", None, 2, "open the door on your right", "ouvrir la porte à ta droite"),
        (
            "PutNextLocal",
            None,
            0,
            "put the green ball next to the green key",
            "mettre la balle verte à côté de la clef verte",
        ),
        (
            "PickUpSeqGoToLocal",
            None,
            1,
            "pick up the grey box, then go to a purple box",
            "attraper la boîte grise, puis aller à une boîte violette",
        ),
        (
            "PickUpSeqGoToLocal",
            None,
            3,
            "go to the purple box after you pick up the grey box",
            "aller à la boîte violette après avoir attrapé la boîte grise",
        ),
    ],
)
def test_missions_in_both_languages(name, task, seed, english, french):
    assert _mission(name, seed, task) == english
    assert _mission(name, seed, task, language="french") == french


@pytest.mark.parametrize(
    "lexicon, key, grey_box, carried",
    [
        ("oov_nouns", "red chair", "grey car", "green table"),
        ("adjective_synonyms", "vermilion key", "silver box", "jade ball"),
        ("invented_nouns", "red dax", "grey afze", "green xolo"),
        ("invented_adjectives", "faze key", "sil box", "jatu ball"),
        ("invented_words", "faze dax", "sil afze", "jatu xolo"),
        ("synonym_actions", "red key", "grey box", "green ball"),
    ],
)
def test_lexicons_reword_sentences(lexicon, key, grey_box, carried):
    sentences = phrasebook(lexicon=lexicon).sentences(VIEW, ("ball", "green"))
    assert sentences[0] == f"You carry a {carried}"
    assert sentences[3] == f"You see a {key} 2 steps left"
    assert sentences[5] == f"You see a {grey_box} 1 step right and 3 steps forward"
    # Walls, doors and places keep their words.
    assert sentences[1:3] == phrasebook().sentences(VIEW, ("ball", "green"))[1:3]
    assert " door 1 step forward" in sentences[4]


def test_lexicons_reword_missions_by_slot():
    assert _mission("PutNextLocal", 0, lexicon="oov_nouns") == "put the green table next to the green chair"
    assert _mission("PutNextLocal", 0, lexicon="invented_words") == "put the jatu xolo next to the jatu dax"
    assert _mission("OpenDoor", 2, lexicon="invented_words") == "open the door on your right"


def test_choices_are_checked():
    for wrong, named in (
        ({"language": "german"}, "english, french"),
        ({"grammar": "good"}, "glam, fixed"),
        ({"lexicon": "nouns"}, ", ".join(LEXICONS)),
        ({"language": "french", "lexicon": "oov_nouns"}, "language='english'"),
    ):
        with pytest.raises(InvalidInputError, match=named):
            phrasebook(**wrong)
