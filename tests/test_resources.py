# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Shipped recipes and card templates are found by name; a file of one's own wins."""

import pytest

from trl_glam import resources
from trl_glam.resources import card_template, recipe_path, shipped_recipes
from trl_glam.types import InvalidInputError


@pytest.fixture
def data(tmp_path, monkeypatch):
    for name in (
        "recipes/quickstart.yaml",
        "recipes/paper/mixed.yaml",
        "recipes/accelerate/ddp.yaml",
        "hub_cards/a.md",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# {name}")
    monkeypatch.setattr(resources, "_DATA", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml"])
def test_recipe_by_name(data, name):
    assert recipe_path(name) == data / "recipes" / "quickstart.yaml"


@pytest.mark.parametrize("name", ["mixed", "paper/mixed", "paper/mixed.yaml"])
def test_recipe_of_the_paper_by_name(data, name):
    assert recipe_path(name) == data / "recipes" / "paper" / "mixed.yaml"


def test_an_existing_file_wins(data, tmp_path, monkeypatch):
    (tmp_path / "quickstart.yaml").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert recipe_path("quickstart.yaml").read_text() == "mine"


def test_unknown_recipe_lists_the_shipped_ones(data):
    with pytest.raises(InvalidInputError, match=r"'quick'.*one of paper/mixed, quickstart$"):
        recipe_path("quick")


def test_accelerate_configs_are_not_recipes(data):
    assert shipped_recipes() == ["paper/mixed", "quickstart"]


def test_card_template_by_name(data):
    assert card_template("a.md") == "# hub_cards/a.md"
    with pytest.raises(InvalidInputError, match="'b.md'.*a.md"):
        card_template("b.md")
