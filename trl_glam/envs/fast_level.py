# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Any BabyAI level of Minigrid without its slow and noisy parts.

[`make_fast`] derives from a level's class one that plays the same episodes, draw by draw, and differs in this only: it
renders no observation (`view.py` does, when asked), it prints nothing, its random numbers come from a plain Python
reading of PCG64's stream, and placing objects and taking a step do not go through NumPy. Tests compare it with
Minigrid's own class on every level. What the levels are is not here: see Minigrid and `levels.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from minigrid.core.grid import Grid
from minigrid.core.roomgrid import Room
from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai import GoToImpUnlock, Unlock
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling, RoomGridLevel

from ..types import InvalidInputError


# A level that places more objects than its room holds would draw for ever. The rarest of GLAM's test missions need a
# few hundred tries.
MAX_REJECTIONS = 100_000
MAX_PLACEMENT_FAILURES = 50
MAX_REMEMBERED = 100_000

_LOW_32_BITS = 0xFFFFFFFF
_WORDS_AT_ONCE = 64
# (level's key, seed) -> the place in the stream where the accepted try began, so that an episode played again is not
# sampled again.
_ACCEPTED_AT: dict[tuple, int] = {}
_FORWARD = ((1, 0), (0, 1), (-1, 0), (0, -1))
_LEFT, _RIGHT, _AHEAD, _PICKUP, _DROP, _TOGGLE = range(6)


class RandomStream:
    """
    The draws of `np.random.Generator(np.random.PCG64(seed))` that Minigrid's levels make, at a sixth of their price.

    NumPy promises PCG64's raw stream for ever, but neither the speed of a scalar draw nor the way from the stream to
    an integer: reading the stream here (Lemire's method on its 32-bit halves) also fixes the episodes for all NumPy
    versions.

    Args:
        seed (`int`):
            Seed, as in `env.reset(seed=...)`.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))
        # 32-bit halves of the coming 64-bit words, low half first, in reverse.
        self._halves: list[int] = []
        self._fetched = 0

    def _fetch(self) -> None:
        words = self._bits.random_raw(_WORDS_AT_ONCE).astype("<u8")
        self._halves = words.view("<u4")[::-1].tolist()
        self._fetched += 2 * _WORDS_AT_ONCE

    @property
    def position(self) -> int:
        """Number of 32-bit halves consumed."""
        return self._fetched - len(self._halves)

    def skip(self, halves: int) -> None:
        """Skip to a position of a stream whose draws were all integers; for a fresh stream."""
        self._bits.advance(halves // 2)
        self._fetched = 2 * (halves // 2)
        if halves % 2:
            self._fetch()
            self._halves.pop()

    def integers(self, low: int, high: int) -> int:
        """A uniform integer in `[low, high)`, as `Generator.integers` draws it."""
        span = high - low
        if span == 1:
            return low
        if not self._halves:
            self._fetch()
        product = self._halves.pop() * span
        if product & _LOW_32_BITS < span:
            threshold = (_LOW_32_BITS + 1 - span) % span
            while product & _LOW_32_BITS < threshold:
                if not self._halves:
                    self._fetch()
                product = self._halves.pop() * span
        return low + (product >> 32)

    def uniform(self, low: float, high: float) -> float:
        """A uniform float in `[low, high)`, as `Generator.uniform` draws it: from a whole word, a left half stays."""
        left = [self._halves.pop()] if len(self._halves) % 2 else []
        if not self._halves:
            self._fetch()
        word = self._halves.pop() | self._halves.pop() << 32
        self._halves += left
        return low + (high - low) * ((word >> 11) * 2.0**-53)


class FastLevel(RoomGridLevel):
    """What [`make_fast`] mixes into a level; see the module's text."""

    _np_random: RandomStream
    _walls: list[WorldObj | None] | None = None
    _something_moved = False
    _numpy_integers = False
    # Names a level, options included, whose first tries are mostly rejected: see `_ACCEPTED_AT`. Integer draws only.
    replay_key: tuple | None = None

    def reset(self, *, seed: int, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        self._seed = seed
        self._np_random = RandomStream(seed)
        returned = super().reset(seed=None)
        self._something_moved = self.carrying is not None
        return returned

    def gen_obs(self) -> dict:
        return {}

    # ---- the draws -----------------------------------------------------------------------------------------------

    def _rand_int(self, low: int, high: int) -> Any:
        draw = self._np_random.integers(low, high)
        return np.int64(draw) if self._numpy_integers else draw

    def _rand_elem(self, iterable: Iterable[Any]) -> Any:
        choices = list(iterable)
        return choices[self._np_random.integers(0, len(choices))]

    def _rand_float(self, low: float, high: float) -> float:
        return self._np_random.uniform(low, high)

    def _rand_bool(self) -> bool:
        return self._np_random.integers(0, 2) == 0

    # ---- generating a level --------------------------------------------------------------------------------------

    def _gen_grid(self, width: int, height: int) -> None:
        stream = self._np_random
        key = None if self.replay_key is None else (*self.replay_key, self._seed)
        if key in _ACCEPTED_AT:
            stream.skip(_ACCEPTED_AT[key])
        rejections = failures = 0
        while rejections < MAX_REJECTIONS and failures < MAX_PLACEMENT_FAILURES:
            start = stream.position
            try:
                self._build_rooms(width, height)
                self.gen_mission()
                self.validate_instrs(self.instrs)
            except RejectSampling:
                rejections += 1
                continue
            except RecursionError:
                failures += 1
                continue
            if key is not None and rejections:
                if len(_ACCEPTED_AT) >= MAX_REMEMBERED:
                    _ACCEPTED_AT.clear()
                _ACCEPTED_AT[key] = start
            self.surface = self.mission = self.instrs.surface(self)
            return
        raise InvalidInputError(
            f"{type(self).__name__} finds no valid episode with room_size={self.room_size}: its objects do not fit or "
            "cannot all be reached. Use a larger room_size or fewer objects."
        )

    def _build_rooms(self, width: int, height: int) -> None:
        """Minigrid's `RoomGrid._gen_grid`, with walls that are put up once: nothing moves or changes them."""
        if self._walls is None:
            grid = Grid(width, height)
            for j in range(self.num_rows):
                for i in range(self.num_cols):
                    grid.wall_rect(i * (self.room_size - 1), j * (self.room_size - 1), self.room_size, self.room_size)
            self._walls = grid.grid
        self.grid = Grid(width, height)
        self.grid.grid = self._walls.copy()
        step, size = self.room_size - 1, self.room_size
        rooms = [
            [Room((i * step, j * step), (size, size)) for i in range(self.num_cols)] for j in range(self.num_rows)
        ]
        self.room_grid = rooms
        # Doors and neighbors in the order right, down, left, up.
        for j, row in enumerate(rooms):
            for i, room in enumerate(row):
                left, top = i * step, j * step
                if i < self.num_cols - 1:
                    room.neighbors[0] = row[i + 1]
                    room.door_pos[0] = (left + step, self._rand_int(top + 1, top + step))
                if j < self.num_rows - 1:
                    room.neighbors[1] = rooms[j + 1][i]
                    room.door_pos[1] = (self._rand_int(left + 1, left + step), top + step)
                if i > 0:
                    room.neighbors[2] = row[i - 1]
                    room.door_pos[2] = row[i - 1].door_pos[0]
                if j > 0:
                    room.neighbors[3] = rooms[j - 1][i]
                    room.door_pos[3] = rooms[j - 1][i].door_pos[1]
        self.agent_pos = ((self.num_cols // 2) * step + size // 2, (self.num_rows // 2) * step + size // 2)
        self.agent_dir = 0

    def place_obj(
        self,
        obj: WorldObj | None,
        top: tuple[int, int] | None = None,
        size: tuple[int, int] | None = None,
        reject_fn: Callable[..., bool] | None = None,
        max_tries: float = math.inf,
    ) -> tuple[int, int]:
        draw, cells, width = self._np_random.integers, self.grid.grid, self.grid.width
        left, upper = (max(top[0], 0), max(top[1], 0)) if top else (0, 0)
        across, down = size or (width, self.grid.height)
        right, lower = min(left + across, width), min(upper + down, self.grid.height)
        agent_x, agent_y = self.agent_pos
        tries = 0
        while True:
            if tries > max_tries:
                raise RecursionError("no free cell found")
            tries += 1
            x = draw(left, right)
            y = draw(upper, lower)
            if cells[y * width + x] is not None or (x == agent_x and y == agent_y):
                continue
            if reject_fn and reject_fn(self, (x, y)):
                continue
            break
        cells[y * width + x] = obj
        if obj is not None:
            obj.init_pos = obj.cur_pos = (x, y)
        return x, y

    def check_objs_reachable(self, raise_exc: bool = True) -> bool:
        width = self.grid.width
        free = things = 0
        for index, cell in enumerate(self.grid.grid):
            if cell is None:
                free |= 1 << index
            elif cell.type == "door":
                free |= 1 << index
                things |= 1 << index
            elif cell.type != "wall":
                things |= 1 << index
        # Bit y * width + x stands for cell (x, y). The outer ring is wall: a shifted bit never wraps into another row.
        reached, touched = 0, 1 << self.agent_pos[1] * width + self.agent_pos[0]
        while touched & free != reached:
            reached = touched & free
            touched = reached | reached << 1 | reached >> 1 | reached << width | reached >> width
        if not things & ~touched:
            return True
        if raise_exc:
            raise RejectSampling("unreachable object")
        return False

    # ---- playing it ----------------------------------------------------------------------------------------------

    def step(self, action: int) -> tuple[dict, float, bool, bool, dict]:
        self.step_count += 1
        grid = self.grid
        dx, dy = _FORWARD[self.agent_dir]
        x, y = self.agent_pos
        x, y = x + dx, y + dy
        index = y * grid.width + x
        cell = grid.grid[index]
        if action == _LEFT:
            self.agent_dir = (self.agent_dir - 1) % 4
        elif action == _RIGHT:
            self.agent_dir = (self.agent_dir + 1) % 4
        elif action == _AHEAD:
            if cell is None or cell.can_overlap():
                self.agent_pos = (x, y)
        elif action == _PICKUP:
            if cell is not None and self.carrying is None and cell.can_pickup():
                self.carrying = cell
                cell.cur_pos = (-1, -1)
                grid.grid[index] = None
                self._something_moved = True
        elif action == _DROP:
            if cell is None and self.carrying is not None:
                grid.grid[index] = self.carrying
                self.carrying.cur_pos = (x, y)
                self.carrying = None
                self._something_moved = True
            # Minigrid looks for the named objects at every drop, even one that fails; unless a thing was moved since,
            # it finds what it knows.
            if self._something_moved:
                self.update_objs_poss()
                self._something_moved = False
        elif action == _TOGGLE and cell is not None:
            cell.toggle(self, (x, y))
            self._something_moved = True
        status = self.instrs.verify(action)
        ended = status in ("success", "failure")
        reward = self._reward() if status == "success" else 0.0
        return {}, reward, ended, self.step_count >= self.max_steps, {}

    @property
    def front_pos(self) -> tuple[int, int]:
        dx, dy = _FORWARD[self.agent_dir]
        return self.agent_pos[0] + dx, self.agent_pos[1] + dy


@functools.cache
def make_fast(level_class: type[RoomGridLevel]) -> type[FastLevel]:
    """
    Derive the fast twin of a level's class.

    Args:
        level_class (`type[RoomGridLevel]`):
            A level of Minigrid's, or of `levels.py`.

    Returns:
        `type[FastLevel]`: a class with the same name, arguments and episodes.
    """
    # These two compare draws with `is`, which holds for small Python integers and never for NumPy's.
    compares_by_identity = issubclass(level_class, (GoToImpUnlock, Unlock))
    return type(level_class.__name__, (FastLevel, level_class), {"_numpy_integers": compares_by_identity})
