# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Panels: what they hold, that they stay as they are, and that a changed one is refused."""

import json
from collections import Counter

import pytest

from trl_glam.evaluation.panels import EpisodeGroup, Panel, shipped_names
from trl_glam.evaluation.shipped_panels import TASK_KINDS, shipped_panels, write
from trl_glam.evaluation.suites import SUITES, select_tests
from trl_glam.prompts import PromptTemplate
from trl_glam.rollout.runner import TRAINING_SEEDS, SeededEpisodes
from trl_glam.types import InvalidInputError


def test_shipped_files_are_what_their_script_writes(tmp_path):
    write(tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == shipped_names()
    for panel in shipped_panels():
        loaded = Panel.load(panel.name)
        assert loaded == panel
        assert loaded.episodes() == panel.episodes()


def test_hashes_never_change():
    # A published score names these: a change of contents needs a new name.
    assert Panel.load("demo").hash == "45eacd14258d447f8e14da89b682792d4668c1cd87d6b04de0055160c0e44acf"
    assert Panel.load("mixed_train").hash == "cc406f1adfb914d3e0cce33a6a2d7d5f05c9c9efea824cefb6afe72a7eb2fafe"


@pytest.mark.parametrize("name", [panel.name for panel in shipped_panels()])
def test_shipped_sizes_and_seeds(name):
    panel = Panel.load(name)
    keys = panel.episodes()
    assert len(keys) == len(panel) == (100 if name == "demo" or name.endswith("_quick") else 1000)
    assert [key.slot for key in keys] == list(range(len(keys)))
    assert len({key.seed for key in keys}) == len(keys)
    assert all(TRAINING_SEEDS <= key.seed < 2**32 for key in keys)


def test_training_seeds_stay_below_those_of_panels():
    episodes = SeededEpisodes("any", seed=3)
    assert all(episodes.next(slot).seed < TRAINING_SEEDS for slot in range(8) for _ in range(50))


def test_no_seed_is_in_two_panels_of_one_size():
    full = [panel for panel in shipped_panels() if not panel.name.endswith("_quick")]
    seeds = [key.seed for panel in full for key in panel.episodes()]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("num_episodes", [5, 50, 100, 1000])
def test_every_prefix_holds_the_kinds_equally_often(num_episodes):
    keys = Panel.load("mixed_train").head(num_episodes).episodes()
    assert Counter(key.options["task"] for key in keys) == dict.fromkeys(TASK_KINDS, num_episodes // 5)


def test_quick_panel_is_the_prefix_of_the_full_one():
    assert Panel.load("mixed_test_quick").episodes() == Panel.load("mixed_test").episodes()[:100]


def test_head_keeps_order_with_groups_of_unequal_length():
    groups = (EpisodeGroup("a", (1, 2, 3, 4)), EpisodeGroup("b", (9,)), EpisodeGroup("c", (5, 6)))
    panel = Panel("mixture", groups)
    assert [key.seed for key in panel.episodes()] == [1, 9, 5, 2, 6, 3, 4]
    for n in range(1, 8):
        assert panel.head(n).episodes() == panel.episodes()[:n]
    with pytest.raises(InvalidInputError, match="has 7 episodes, 8 are asked for"):
        panel.head(8)


def test_hash_depends_on_contents_alone():
    panel = Panel.from_env("E-v0", 3, env_kwargs={"a": 1, "b": 2})
    same = Panel("other name", (EpisodeGroup("E-v0", tuple(range(10**9, 10**9 + 3)), {"b": 2, "a": 1}),), "words")
    assert panel.hash == same.hash
    others = [
        Panel.from_env("E-v1", 3, env_kwargs={"a": 1, "b": 2}),
        Panel.from_env("E-v0", 4, env_kwargs={"a": 1, "b": 2}),
        Panel.from_env("E-v0", 3, env_kwargs={"a": 1, "b": 3}),
        Panel.from_env("E-v0", 3, first_seed=0, env_kwargs={"a": 1, "b": 2}),
    ]
    assert len({panel.hash, *(other.hash for other in others)}) == 5


def test_save_and_load(tmp_path):
    panel = Panel("mine", (EpisodeGroup("E-v0", (5, 3, 8), {"x": [1]}, options={"y": 2}),), "by hand")
    panel.save(tmp_path / "mine.json")
    assert Panel.load(tmp_path / "mine.json") == panel


def test_an_edited_panel_is_refused(tmp_path):
    path = tmp_path / "edited.json"
    Panel.from_env("E-v0", 10).save(path)
    data = json.loads(path.read_text())
    data["groups"][0]["seeds"]["first"] += 1
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidInputError, match="does not match its hash"):
        Panel.load(path)


@pytest.mark.parametrize("content", ["", "[]", '{"name": "x"}', '{"name": "x", "groups": [{}], "description": ""}'])
def test_what_is_no_panel_is_refused(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match="no panel file"):
        Panel.load(path)


def test_unknown_panel_names_the_shipped_ones(tmp_path):
    with pytest.raises(InvalidInputError, match="mixed_train"):
        Panel.load("mixed_trian")
    with pytest.raises(InvalidInputError, match="no panel file"):
        Panel.load(tmp_path / "missing.json")
    with pytest.raises(InvalidInputError, match="no episodes"):
        Panel("empty", ())


def test_every_suite_has_its_panels_and_paper_is_all():
    for tests in SUITES.values():
        for test in tests:
            assert len(test.load_panel()) == 1000 and len(test.load_panel(quick=True)) == 100
    names = [test.name for test in SUITES["paper"]]
    assert len(set(names)) == len(names)
    assert {test.name for tests in SUITES.values() for test in tests} == set(names)


def test_select_tests():
    assert [test.name for test in select_tests(["then", "action_space", "then"])] == [
        "then",
        "action_space_3",
        "action_space_6",
        "action_space_9",
    ]
    with pytest.raises(InvalidInputError, match="Unknown suite 'no_chnage'.*no_change"):
        select_tests(["no_chnage"])


def test_rewording_keeps_the_window():
    template = PromptTemplate(num_observations=5)
    (french,) = SUITES["french"]
    assert french.reword(template) == PromptTemplate(num_observations=5, language="french")
    first, second = SUITES["goal_phrase"]
    prompt = second.reword(template).render("go to the red ball", [["You see a wall"]], [], ["turn left"])
    assert "\n You have to: go to the red ball \n" in prompt and "Goal of the agent" not in prompt
    assert first.reword(template).num_observations == 5
    (plain,) = SUITES["no_change"]
    assert plain.reword(template) == template
