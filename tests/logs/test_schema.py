# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The guide shows the columns that the code has."""

from pathlib import Path

from trl_glam.logs.schema import COLUMNS, columns_markdown


def test_the_guide_holds_the_table_of_columns():
    guide = Path(__file__).parents[2] / "docs" / "logs.md"
    assert columns_markdown() in guide.read_text(encoding="utf-8")


def test_every_column_says_what_it_means():
    assert all(column.meaning for column in COLUMNS)
    assert columns_markdown().count("\n") == len(COLUMNS) + 2
