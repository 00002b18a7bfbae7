# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam new-env NAME`: a folder with a small environment that works, its test and its recipe, to be filled in."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from ..envs import contract
from ..types import InvalidInputError
from . import common


TEMPLATE = Path(contract.__file__).parent / "template"
_FILES = ("cafe.py", "test_cafe.py", "recipe.yaml", "README.md")


def write_template(name: str, parent: Path) -> Path:
    """
    Write the folder.

    Args:
        name (`str`):
            Name of the world in small letters, digits and underscores: of the folder, the module and the output.
        parent (`Path`):
            Where the folder goes.

    Returns:
        `Path`: the new folder.

    Raises:
        [`InvalidInputError`]: for a name that is no Python module's, or a folder that exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise InvalidInputError(
            f"{name!r} cannot name a Python module; use small letters, digits and underscores, such as my_world."
        )
    folder = parent / name
    if folder.exists():
        raise InvalidInputError(f"{folder} exists already; choose another name or remove it.")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    folder.mkdir(parents=True)
    for file in _FILES:
        text = (TEMPLATE / file).read_text(encoding="utf-8")
        # The cafe that is part of the story stays; module, class, id and folder are renamed.
        text = re.sub(r"\bCafe\b", class_name, text)
        text = re.sub(r"\bcafe(?=\.py| import)|(?<=outputs/)cafe", name, text)
        (folder / file.replace("cafe", name)).write_text(text, encoding="utf-8")
    return folder


def main(argv: list[str]) -> int:
    parser = common.CommandParser(
        prog="trl-glam new-env",
        description="Write a folder NAME with a text environment that works, its test, its recipe and a README.",
    )
    parser.add_argument("name", metavar="NAME", help="small letters, digits and underscores, for example my_world")
    parser.add_argument("--output_dir", default=".", metavar="DIR", help="where the folder goes (default here)")
    args = parser.parse_args(argv)
    folder = write_template(args.name, Path(args.output_dir))
    print(f"Wrote {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    print(f"Next: cd {folder}, read README.md, run pytest, then trl-glam train --config recipe.yaml")
    return 0
