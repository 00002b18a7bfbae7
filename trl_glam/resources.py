# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Files that ship with the package: recipes (`--config quickstart`) and the card templates.

They live at the top of the repository, in `recipes/` and `hub_cards/`, and inside `trl_glam/_data/` of the wheel. The
panels are not here: they lie beside the code that reads them.
"""

from __future__ import annotations

from pathlib import Path

from trl_glam.types import InvalidInputError


_PACKAGE = Path(__file__).parent
_DATA = _PACKAGE / "_data" if (_PACKAGE / "_data").is_dir() else _PACKAGE.parent


def shipped_recipes() -> list[str]:
    """Names that `recipe_path` knows: `quickstart`, `paper/gotolocal`, ..."""
    folder = _DATA / "recipes"
    files = [file for pattern in ("*.yaml", "paper/*.yaml", "gpu/*.yaml") for file in folder.glob(pattern)]
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in files)


def recipe_path(name: str) -> Path:
    """
    Finds a recipe.

    Args:
        name (`str`):
            A YAML file of one's own, which wins, or a shipped recipe: `quickstart`, `quickstart.yaml`,
            `gpu/gotolocal`, `paper/gotolocal` or `gotolocal`.

    Returns:
        `Path`: an existing file; an unknown name is an error that lists the shipped recipes.
    """
    if Path(name).is_file():
        return Path(name)
    stem = name.removesuffix(".yaml")
    for known in shipped_recipes():
        if stem in (known, known.removeprefix("paper/")):
            return _DATA / "recipes" / f"{known}.yaml"
    raise InvalidInputError(f"no recipe {name!r}: give a YAML file or one of {', '.join(shipped_recipes())}")


def card_template(name: str) -> str:
    """The text of a Jinja template from `hub_cards/`, by its file name, such as `model_card.md`."""
    folder = _DATA / "hub_cards"
    names = sorted(file.name for file in folder.iterdir())
    if name not in names:
        raise InvalidInputError(f"no card template {name!r}: the shipped ones are {', '.join(names)}")
    return (folder / name).read_text(encoding="utf-8")
