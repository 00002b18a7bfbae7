# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The prompt byte for byte, the window, and templates of one's own. Recorded prompts: tests/envs/test_reference.py."""

import pytest

from trl_glam.prompts import History, PromptTemplate
from trl_glam.types import InvalidInputError


ACTIONS = ["turn left", "turn right", "go forward", "pick up", "drop", "toggle"]


def test_prompt_of_the_paper_byte_for_byte():
    prompt = PromptTemplate().render(
        "go to the red ball", [["You see a wall 3 steps forward", "You see a red ball 1 step left"]], [], ACTIONS
    )
    assert prompt == (
        "Possible action of the agent: turn left, turn right, go forward, pick up, drop, toggle \n Goal of the agent: "
        "go to the red ball \n Observation 0: You see a wall 3 steps forward, You see a red ball 1 step left, \n "
        "Action 0: "
    )


def test_french_head():
    prompt = PromptTemplate(language="french").render("aller à la clef", [["Tu vois un mur"]], [], ["basculer"])
    assert prompt.startswith("Actions possibles pour l'agent: basculer \n But de l'agent: aller à la clef \n ")


@pytest.mark.parametrize("window", [1, 3, 6, 9])
def test_window_keeps_the_last_observations_and_the_actions_between_them(window):
    history = History(PromptTemplate(num_observations=window))
    history.reset("go", ["start"])
    for step in range(12):
        history.append(f"act {step}", [f"seen {step}"])
    prompt = history.prompt(["a"])
    assert prompt.count("Observation") == window and prompt.count("act ") == window - 1
    assert prompt.endswith(f" \n Observation {window - 1}: seen 11, \n Action {window - 1}: ")
    history.reset("come", ["anew"])
    assert history.prompt(["a"]).count("Observation") == 1 and "come" in history.prompt(["a"])


def test_own_pieces_and_braces_in_the_world():
    template = PromptTemplate(1, header="Choose:", goal=" Goal {mission}.", observation=" See ", action=" Do ")
    assert template.render("{mission}", [["{a}"]], [], ["{b}"]) == "Choose: {b} Goal {mission}. See {a},  Do "
    assert PromptTemplate.from_dict(template.to_dict()) == template


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_observations": 0}, "at least 1"),
        ({"num_observations": "3"}, "integer"),
        ({"language": "german"}, r"\['english', 'french'\]"),
        ({"goal": "Goal:"}, r"takes \{mission\}"),
        ({"goal": "{mission.__class__}"}, "placeholders"),
        ({"header": "{x}"}, "no placeholder"),
        ({"sentence": "{sentence"}, "no format string"),
    ],
)
def test_bad_template_is_one_clear_error(kwargs, message):
    with pytest.raises(InvalidInputError, match=message):
        PromptTemplate(**kwargs)


def test_wrong_numbers_of_observations_and_actions():
    with pytest.raises(InvalidInputError, match="2 observations and 0 actions"):
        PromptTemplate().render("go", [["a"], ["b"]], [], ["x"])
    with pytest.raises(InvalidInputError, match="the window holds 1"):
        PromptTemplate(1).render("go", [["a"], ["b"]], ["x"], ["x"])
    with pytest.raises(InvalidInputError, match="unknown keys"):
        PromptTemplate.from_dict({"windows": 3})
