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
        history.append(f"act {step}", [f"seen {step}"], ["a"])
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
        ({"num_observations": None, "action": " "}, "action=' ' is blank"),
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


def grown(template, sets):
    """The prompts of an episode whose step i may take the actions `sets[i]` and takes the first."""
    history = History(template)
    history.reset("open the door", ["You see a door", "You carry a key"])
    prompts = [history.prompt(sets[0])]
    for i, (before, now) in enumerate(zip(sets, sets[1:], strict=False)):
        history.append(before[0], [f"You are at {i}"], before)
        prompts.append(history.prompt(now))
    return prompts


def test_append_only_prompt_is_glams_without_a_window():
    sets = [ACTIONS] * 5
    windowed = PromptTemplate(num_observations=5).render(
        "go", [[f"seen {i}"] for i in range(5)], ["drop"] * 4, sets[-1]
    )
    whole = PromptTemplate(num_observations=None)
    assert whole.append_only and not PromptTemplate().append_only
    assert whole.render("go", [[f"seen {i}"] for i in range(5)], ["drop"] * 4, sets[-1]) == windowed
    assert PromptTemplate.from_dict(whole.to_dict()) == whole


@pytest.mark.parametrize("language", ["english", "french"])
def test_append_only_prompts_extend_each_other_and_show_actions_when_they_change(language):
    sets = [["open", "wait"], ["open", "wait"], ["go in", "wait"], ["go in", "wait"], ["open", "wait"]]
    template = PromptTemplate(num_observations=None, language=language)
    prompts = grown(template, sets)
    for before, after in zip(prompts, prompts[1:], strict=False):
        assert after.startswith(before)
    heads = [template.header, template.new_actions]
    assert [prompt.count(heads[0] + " open, wait") for prompt in prompts] == [1, 1, 1, 1, 2]
    assert [prompt.count(heads[1] + " go in, wait") for prompt in prompts] == [0, 0, 1, 1, 1]
    if language == "english":
        assert prompts[2].endswith(
            "\n Action 1: open \n Possible action of the agent: go in, wait"
            " \n Observation 2: You are at 1, \n Action 2: "
        )


@pytest.mark.parametrize(
    "template",
    [
        PromptTemplate(num_observations=None),
        PromptTemplate(num_observations=None, observation=" | Saw ", action=" Did  ", new_actions=" | Now"),
    ],
    ids=["glam", "own pieces"],
)
def test_segments_of_a_step_are_the_first_segments_of_the_next(template):
    sets = [["open", "wait"], ["go in", "wait"], ["go in", "wait"], ["open"]]
    prompts = [prompt.removesuffix(" ") for prompt in grown(template, sets)]
    cut = [template.segments(prompt) for prompt in prompts]
    for prompt, segments in zip(prompts, cut, strict=True):
        assert "".join(text for text, _ in segments) == prompt
    for before, after in zip(cut, cut[1:], strict=False):
        assert after[: len(before)] == before
    assert [text.strip() for text, is_action in cut[-1] if is_action] == ["open", "go in", "go in"]


def test_prompt_with_a_window_is_one_segment():
    assert PromptTemplate().segments("a \n Observation 0: b") == [("a \n Observation 0: b", False)]


def test_history_comes_back_with_the_actions_that_were_offered():
    template = PromptTemplate(num_observations=None)
    history = History(template)
    history.reset("go", ["start"])
    history.append("a", ["next"], ["a", "b"])
    other = History(template)
    other.load_dict(history.to_dict())
    assert other.prompt(["c"]) == history.prompt(["c"])
    assert "agent: a, b" in other.prompt(["c"]) and "agent: c" in other.prompt(["c"])


def test_wrong_numbers_of_observations_and_actions():
    with pytest.raises(InvalidInputError, match="2 observations and 0 actions"):
        PromptTemplate().render("go", [["a"], ["b"]], [], ["x"])
    with pytest.raises(InvalidInputError, match="the window holds 1"):
        PromptTemplate(1).render("go", [["a"], ["b"]], ["x"], ["x"])
    with pytest.raises(InvalidInputError, match="1 actions and 2 sets"):
        PromptTemplate(None).render("go", [["a"], ["b"]], ["x"], ["x"], [["x"], ["x"]])
    with pytest.raises(InvalidInputError, match="unknown keys"):
        PromptTemplate.from_dict({"windows": 3})
