# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Any BabyAI level of Minigrid without its slow and noisy parts.

[`make_fast`] derives from a level's class one that plays the same episodes, draw by draw, and differs in this only: it
renders no observation (`view.py` does, when asked), it prints nothing, its random numbers come from a plain Python reading
of PCG64's stream, and placing objects and taking a step do not go through NumPy. Tests compare it with Minigrid's own class
on every level. What the levels are is not here: see Minigrid and `levels.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling, RoomGridLevel

from ..types import InvalidInputError


# A level that places more objects than its room holds would draw for ever. The rarest of GLAM's test missions need a few
# hundred tries.
MAX_REJECTIONS = 100_000
MAX_PLACEMENT_FAILURES = 50

_LOW_32_BITS = 0xFFFFFFFF
_FORWARD = ((1, 0), (0, 1), (-1, 0), (0, -1))
_LEFT, _RIGHT, _AHEAD, _PICKUP, _DROP, _TOGGLE = range(6)


class RandomStream:
    """
    The draws of `np.random.Generator(np.random.PCG64(seed))` that Minigrid's levels make, at a sixth of their price.

    NumPy promises PCG64's raw stream for ever, but neither the speed of a scalar draw nor the way from the stream to an
    integer: reading the stream here (Lemire's method on its 32-bit halves) also fixes the episodes for all NumPy versions.

    Args:
        seed (`int`):
            Seed, as in `env.reset(seed=...)`.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))
        self._words: list[int] = []
        self._high: int | None = None

    def _next_64(self) -> int:
        if not self._words:
            self._words = self._bits.random_raw(64).tolist()
            self._words.reverse()
        return self._words.pop()

    def _next_32(self) -> int:
        high = self._high
        if high is not None:
            self._high = None
            return high
        word = self._next_64()
        self._high = word >> 32
        return word & _LOW_32_BITS

    def integers(self, low: int, high: int) -> int:
        """A uniform integer in `[low, high)`, as `Generator.integers` draws it."""
        span = high - low
        if span == 1:
            return low
        product = self._next_32() * span
        if product & _LOW_32_BITS < span:
            threshold = (_LOW_32_BITS + 1 - span) % span
            while product & _LOW_32_BITS < threshold:
                product = self._next_32() * span
        return low + (product >> 32)

    def uniform(self, low: float, high: float) -> float:
        """A uniform float in `[low, high)`, as `Generator.uniform` draws it."""
        return low + (high - low) * ((self._next_64() >> 11) * 2.0**-53)


class FastLevel(RoomGridLevel):
    """What [`make_fast`] mixes into a level; see the module's text."""

    _np_random: RandomStream

    def reset(self, *, seed: int, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        self._np_random = RandomStream(seed)
        return super().reset(seed=None)

    def gen_obs(self) -> dict:
        return {}

    # ---- the draws -----------------------------------------------------------------------------------------------

    def _rand_int(self, low: int, high: int) -> int:
        return self._np_random.integers(low, high)

    def _rand_float(self, low: float, high: float) -> float:
        return self._np_random.uniform(low, high)

    def _rand_bool(self) -> bool:
        return self._np_random.integers(0, 2) == 0

    # ---- generating a level --------------------------------------------------------------------------------------

    def _gen_grid(self, width: int, height: int) -> None:
        failures = 0
        for _ in range(MAX_REJECTIONS):
            try:
                super(RoomGridLevel, self)._gen_grid(width, height)
                self.gen_mission()
                self.validate_instrs(self.instrs)
                break
            except RejectSampling:
                continue
            except RecursionError:
                failures += 1
                if failures >= MAX_PLACEMENT_FAILURES:
                    break
        else:
            failures = MAX_PLACEMENT_FAILURES
        if failures >= MAX_PLACEMENT_FAILURES:
            raise InvalidInputError(
                f"{type(self).__name__} finds no valid episode with room_size={self.room_size}: its objects do not fit "
                "or cannot all be reached. Use a larger room_size or fewer objects."
            )
        self.surface = self.mission = self.instrs.surface(self)

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
        cells, width = self.grid.grid, self.grid.width
        reached = set()
        stack = [self.agent_pos[1] * width + self.agent_pos[0]]
        while stack:
            index = stack.pop()
            if index in reached:
                continue
            reached.add(index)
            cell = cells[index]
            # The outer ring is wall, so a neighbour's index never leaves the grid.
            if cell is None or cell.type == "door":
                stack += (index + 1, index - 1, index + width, index - width)
        if all(cell is None or cell.type == "wall" or index in reached for index, cell in enumerate(cells)):
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
        elif action == _DROP:
            if cell is None and self.carrying is not None:
                grid.grid[index] = self.carrying
                self.carrying.cur_pos = (x, y)
                self.carrying = None
            self.update_objs_poss()
        elif action == _TOGGLE and cell is not None:
            cell.toggle(self, (x, y))
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
    return type(level_class.__name__, (FastLevel, level_class), {})
