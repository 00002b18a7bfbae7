# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The agent's egocentric view, identical to Minigrid's and an order of magnitude faster.

Minigrid slices the grid, rotates it up to four times and walks it cell by cell in NumPy; that is nine tenths of a
step. Here the cells of a view are picked by one `itemgetter` remembered per pose, and visibility spreads row by row on
small integers with remembered results. [`look`] gives what the sentences need, [`render_image`] the 7x7x3 image, and
[`view_from_image`] reads an image back into the same [`View`]. Words are made in `language.py`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.core.world_object import WorldObj
from minigrid.minigrid_env import MiniGridEnv


_EMPTY = (OBJECT_TO_IDX["empty"], 0, 0)
_UNSEEN = (OBJECT_TO_IDX["unseen"], 0, 0)
# Unit steps ahead and to the right of the agent, by its direction (0 right, 1 down, 2 left, 3 up).
_AHEAD = ((1, 0), (0, 1), (-1, 0), (0, -1))
_RIGHTWARD = ((0, 1), (-1, 0), (0, -1), (1, 0))

SeenObject = tuple[str, str, "str | None", int, int]
Cells = tuple["WorldObj | None", ...]


class View(NamedTuple):
    """
    What the agent sees, in its own coordinates.

    Args:
        objects (`list[tuple[str, str, str | None, int, int]]`):
            (type, color, door state, cells to the right, cells ahead) of every visible thing but walls, by column from
            left to right and inside a column from far to near; the agent's own cell is left out.
        walls (`tuple[int, int, int]`):
            Steps to the wall straight ahead, to the left and to the right; 0 where that ray ends elsewhere.
    """

    objects: list[SeenObject]
    walls: tuple[int, int, int]


@functools.lru_cache(maxsize=65536)
def _pick_cells(
    width: int, height: int, size: int, x: int, y: int, direction: int
) -> Callable[[Sequence[WorldObj | None]], Cells]:
    """The picker of a pose's cells out of a flat grid, column by column from left to right, far to near."""
    (ahead_x, ahead_y), (right_x, right_y) = _AHEAD[direction], _RIGHTWARD[direction]
    indices = []
    for column in range(size):
        for row in range(size):
            right, ahead = column - size // 2, size - 1 - row
            cell_x, cell_y = x + right * right_x + ahead * ahead_x, y + right * right_y + ahead * ahead_y
            # Minigrid shows a grey wall beyond the grid; a room grid's last cell is always one.
            inside = 0 <= cell_x < width and 0 <= cell_y < height
            indices.append(cell_y * width + cell_x if inside else -1)
    return operator.itemgetter(*indices)


@functools.cache
def _spread(seen: int, opaque: int, size: int) -> tuple[int, int]:
    """
    Spread visibility along one row, then onto the row behind it.

    Args:
        seen (`int`):
            Bit i is set where column i is seen so far.
        opaque (`int`):
            Bit i is set where column i blocks the sight.
        size (`int`):
            Number of columns.

    Returns:
        `tuple[int, int]`: the columns seen in this row, and in the row behind it.
    """
    behind = 0
    for columns, side in ((range(size - 1), 1), (range(size - 1, 0, -1), -1)):
        for column in columns:
            if seen >> column & 1 and not opaque >> column & 1:
                seen |= 1 << column + side
                behind |= 1 << column | 1 << column + side
    return seen, behind


@functools.cache
def _places(size: int) -> list[tuple[int, int, int, int]]:
    """(row, column's bit, cells to the right, cells ahead) of each cell of a view, in the order of `_pick_cells`."""
    return [(row, 1 << column, column - size // 2, size - 1 - row) for column in range(size) for row in range(size)]


@functools.cache
def _rays(size: int) -> list[list[tuple[int, int, int]]]:
    """(place in the view, row, column's bit) along the straight rays ahead, to the left and to the right."""
    middle, near = size // 2, size - 1
    ahead = [(middle, row) for row in range(near - 1, -1, -1)]
    left = [(column, near) for column in range(middle - 1, -1, -1)]
    right = [(column, near) for column in range(middle + 1, size)]
    return [[(column * size + row, row, 1 << column) for column, row in ray] for ray in (ahead, left, right)]


def _cells_of(level: MiniGridEnv) -> Cells:
    grid = level.grid
    x, y = level.agent_pos
    size = level.agent_view_size
    return _pick_cells(grid.width, grid.height, size, int(x), int(y), int(level.agent_dir))(grid.grid)


def _sight(cells: Cells, size: int, see_through_walls: bool) -> list[int]:
    """Per row, from far to near, the bits of the columns that are seen."""
    if see_through_walls:
        return [(1 << size) - 1] * size
    opaque = [0] * size
    for cell, (row, bit, _, _) in zip(cells, _places(size), strict=True):
        if cell is not None and (cell.type == "wall" or not cell.see_behind()):
            opaque[row] |= bit
    rows = [0] * size
    seen = 1 << size // 2
    for row in range(size - 1, -1, -1):
        rows[row], seen = _spread(seen, opaque[row], size)
    return rows


def _read(cells: Cells, rows: list[int], size: int) -> View:
    """Name what is seen in the cells."""
    objects = []
    for cell, (row, bit, right, ahead) in zip(cells, _places(size), strict=True):
        if cell is not None and cell.type != "wall" and rows[row] & bit and (right or ahead):
            state = None
            if cell.type == "door":
                state = "open" if cell.is_open else "locked" if cell.is_locked else "closed"
            objects.append((cell.type, cell.color, state, right, ahead))
    walls = []
    for ray in _rays(size):
        steps = 0
        for number, (place, row, bit) in enumerate(ray, 1):
            # A ray ends at the first thing seen; cells out of sight do not stop it.
            if rows[row] & bit and cells[place] is not None:
                if cells[place].type == "wall":
                    steps = number
                break
        walls.append(steps)
    return View(objects, (walls[0], walls[1], walls[2]))


def look(level: MiniGridEnv) -> View:
    """
    What the agent sees now.

    Args:
        level (`MiniGridEnv`):
            A level in play; `agent_view_size` and `see_through_walls` are respected.

    Returns:
        [`View`]: the visible objects and the walls straight ahead, left and right.
    """
    size = level.agent_view_size
    cells = _cells_of(level)
    return _read(cells, _sight(cells, size, level.see_through_walls), size)


def render_image(level: MiniGridEnv) -> np.ndarray:
    """
    The image that Minigrid's `gen_obs` gives, bit for bit.

    Args:
        level (`MiniGridEnv`):
            A level in play.

    Returns:
        `np.ndarray` of shape `(size, size, 3)`: uint8 type, color and state of each cell of the view, `image[column,
        row]`; the agent's own cell shows what it carries.
    """
    size = level.agent_view_size
    cells = _cells_of(level)
    rows = _sight(cells, size, level.see_through_walls)
    codes = []
    for cell, (row, bit, _, _) in zip(cells, _places(size), strict=True):
        if not rows[row] & bit:
            codes.append(_UNSEEN)
        else:
            codes.append(_EMPTY if cell is None else cell.encode())
    codes[size // 2 * size + size - 1] = _EMPTY if level.carrying is None else level.carrying.encode()
    return np.array(codes, dtype=np.uint8).reshape(size, size, 3)


def view_from_image(image: np.ndarray) -> View:
    """
    Read an image back, for example one that was recorded.

    Args:
        image (`np.ndarray` of shape `(size, size, 3)`):
            An image as [`render_image`] gives it.

    Returns:
        [`View`]: the same view as [`look`] gave for the state it shows.
    """
    size = len(image)
    codes = image.reshape(size * size, 3).tolist()
    rows = [0] * size
    for (kind, _, _), (row, bit, _, _) in zip(codes, _places(size), strict=True):
        if kind != _UNSEEN[0]:
            rows[row] |= bit
    return _read(tuple(WorldObj.decode(*code) for code in codes), rows, size)
