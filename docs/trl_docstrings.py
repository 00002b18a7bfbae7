# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Lets mkdocstrings read docstrings in TRL's format: a griffe extension, used by `make docs` alone.

Types stand in backticks with "*optional*, defaults to ..." behind them, which the signature says anyway, and other
objects are named [`Like this`]. Both are rewritten into what griffe's Google parser and Markdown understand.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


_ITEM = re.compile(r"^(?P<indent> +)(?P<names>[\w, ]+) \((?P<type>.*)\):$", flags=re.M)


def _item(match: re.Match) -> str:
    kind = re.split(r", \*optional\*", match["type"])[0]
    kind = re.sub(r"\[`~?([^`]+)`\]", r"\1", kind).replace("`", "")
    # griffe wants the text to begin on the item's own line, or indented below it.
    return f"{match['indent']}{match['names']} ({kind}):"


class TRLDocstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is None:
            return
        text = _ITEM.sub(_item, obj.docstring.value)
        text = re.sub(r"\[`~?([^`]+)`\](?!\()", r"`\1`", text)
        text = re.sub(r"^Parameters:$", "Args:", text, flags=re.M)
        obj.docstring.value = text
