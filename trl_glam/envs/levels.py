# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The levels of GLAM that Minigrid lacks, and the way from a level's name to a level in play.

Each draws exactly what the original draws in the same order, so that the same seed gives the same episode: the order
below was found by replaying recorded episodes. Any BabyAI level that Minigrid registers is taken from there. Words are
not here.
"""

from __future__ import annotations

import difflib
from typing import Any

import gymnasium as gym
import minigrid  # noqa: F401  (registers Minigrid's levels)
from gymnasium.envs.registration import load_env_creator
from minigrid.core.constants import COLOR_NAMES
from minigrid.core.roomgrid import RoomGrid
from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai import GoToLocal
from minigrid.envs.babyai.core.levelgen import LevelGen
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling, RoomGridLevel
from minigrid.envs.babyai.core.verifier import (
    AfterInstr,
    BeforeInstr,
    GoToInstr,
    Instr,
    ObjDesc,
    OpenInstr,
    PickupInstr,
    PutNextInstr,
)

from ..types import InvalidInputError
from .fast_level import FastLevel, make_fast


# (color, type) pairs that training never names and the test always does.
HELD_OUT = frozenset(
    {("yellow", "box"), ("red", "key"), ("red", "door"), ("green", "ball"), ("grey", "door")},
)
TASK_KINDS = ("goto", "pickup", "open", "putnext", "pick up seq go to")

_ONE_OBJECT = {"goto": GoToInstr, "pickup": PickupInstr}


def _describe(obj: WorldObj) -> ObjDesc:
    return ObjDesc(obj.type, obj.color)


class LocalTask(RoomGridLevel):
    """
    A task in one room, whose named objects are restricted to the training or to the test pairs.

    Args:
        task (`str`):
            `goto`, `pickup`, `putnext`, `pick up seq go to`, `pick up then go to`, `go to after pick up` or `pick up
            seq pick up`.
        pairs (`str`, *optional*, defaults to `"train"`):
            `"train"`: no named object is in `HELD_OUT`; `"test"`: all are.
        room_size (`int`, *optional*, defaults to `8`):
            Side of the room, walls included.
        num_dists (`int`, *optional*, defaults to `8`):
            Objects beyond those named: one more is placed for a task on one object, two more for two.
    """

    def __init__(self, task: str, pairs: str = "train", room_size: int = 8, num_dists: int = 8, **kwargs: Any) -> None:
        self.task = task
        self.pairs = pairs
        self.num_dists = num_dists
        self.replay_key = (task, pairs, room_size, num_dists)
        super().__init__(num_rows=1, num_cols=1, room_size=room_size, **kwargs)

    def gen_mission(self) -> None:
        self.place_agent()
        if self.task in _ONE_OBJECT:
            objects = self.add_distractors(num_distractors=self.num_dists + 1, all_unique=False)
            named = [self._rand_elem(objects)]
            self.instrs = _ONE_OBJECT[self.task](_describe(named[0]))
        else:
            objects = self.add_distractors(num_distractors=self.num_dists + 2, all_unique=False)
            named = self._two_of(objects)
            self.instrs = self._instruction_on_two(*named)
        # After the draws above: an episode thrown away has consumed them too.
        self.check_objs_reachable()
        if any(((obj.color, obj.type) in HELD_OUT) == (self.pairs == "train") for obj in named):
            raise RejectSampling("names an excluded object")

    def _two_of(self, objects: list[WorldObj]) -> list[WorldObj]:
        first, second = self._rand_elem(objects), self._rand_elem(objects)
        looks = [(obj.color, obj.type) for obj in objects]
        # The original redraws only while both names mean the one object of that look.
        while second is first and looks.count((first.color, first.type)) == 1:
            second = self._rand_elem(objects)
        return [first, second]

    def _instruction_on_two(self, first: WorldObj, second: WorldObj) -> Instr:
        if self.task == "putnext":
            return PutNextInstr(_describe(first), _describe(second))
        start = PickupInstr(_describe(first))
        end_class = PickupInstr if self.task == "pick up seq pick up" else GoToInstr
        end = end_class(_describe(second))
        if self.task == "pick up then go to" or ("seq" in self.task and self._rand_bool()):
            return BeforeInstr(start, end)
        return AfterInstr(end, start)


class OpenLocal(RoomGridLevel):
    """
    Two rooms, a locked door between them, and its key beside the agent.

    Args:
        pairs (`str`, *optional*, defaults to `"train"`):
            `"train"`: a door that is not in `HELD_OUT`, its color named in half of the missions; `"test"`: one that
            is, always named.
        room_size (`int`, *optional*, defaults to `8`):
            Side of each room, walls included.
        num_dists (`int`, *optional*, defaults to `8`):
            Objects in the agent's room beside the key.
        max_steps (`int`, *optional*, defaults to `128`):
            Time limit.
    """

    def __init__(
        self, pairs: str = "train", room_size: int = 8, num_dists: int = 8, max_steps: int = 128, **kwargs: Any
    ) -> None:
        self.pairs = pairs
        self.num_dists = num_dists
        super().__init__(num_rows=1, num_cols=2, room_size=room_size, max_steps=max_steps, **kwargs)

    def reset(self, **kwargs: Any) -> tuple[dict, dict]:
        self._first_try = True
        return super().reset(**kwargs)

    def gen_mission(self) -> None:
        if self._first_try:
            # The original builds the rooms twice before its first try: the first draw of the door's row is thrown
            # away.
            self._first_try = False
            RoomGrid._gen_grid(self, self.width, self.height)
        color = self._rand_elem(("yellow", "green", "blue", "purple") if self.pairs == "train" else ("red", "grey"))
        while True:
            column, side = self._rand_int(0, self.num_cols), self._rand_int(0, 4)
            locked_room = self.get_room(column, 0)
            if locked_room.neighbors[side] is not None:
                break
        door, _ = self.add_door(column, 0, side, color, locked=True)
        while (key_column := self._rand_int(0, self.num_cols)) == column:
            pass
        self.add_object(key_column, 0, "key", color)
        self.add_distractors(key_column, 0, num_distractors=self.num_dists, all_unique=False)
        self.place_agent()
        while self.room_from_pos(*self.agent_pos) is locked_room:
            self.place_agent()
        unnamed = self.pairs == "train" and self._rand_bool()
        self.instrs = OpenInstr(ObjDesc("door", None if unnamed else color))
        self.check_objs_reachable()


class PickupLocal(LevelGen):
    """
    Pick up an object of a named color in one room.

    Args:
        room_size (`int`, *optional*, defaults to `8`):
            Side of the room, walls included.
        num_dists (`int`, *optional*, defaults to `8`):
            Objects in the room, the target among them.
    """

    def __init__(self, room_size: int = 8, num_dists: int = 8, **kwargs: Any) -> None:
        super().__init__(
            room_size=room_size,
            num_dists=num_dists,
            num_rows=1,
            num_cols=1,
            action_kinds=["pickup"],
            instr_kinds=["action"],
            locked_room_prob=0,
            locations=False,
            unblocking=False,
            **kwargs,
        )

    def rand_obj(self, types: list[str], colors: list[str] = COLOR_NAMES, max_tries: int = 100) -> ObjDesc:
        for _ in range(max_tries):
            color, kind = self._rand_elem(colors), self._rand_elem(types)
            description = ObjDesc(kind, color)
            if description.find_matching_objs(self)[0]:
                return description
        raise RecursionError("no object matches")


def _mixed(pairs: str) -> dict[str, tuple[type[RoomGridLevel], dict[str, Any]]]:
    kinds = {kind: (LocalTask, {"task": kind, "pairs": pairs}) for kind in TASK_KINDS}
    return kinds | {"open": (OpenLocal, {"pairs": pairs})}


# Levels whose episodes are of several kinds, and levels of one kind.
MIXED_LEVELS = {"MixedTrainLocal": _mixed("train"), "MixedTestLocal": _mixed("test")}
SINGLE_LEVELS: dict[str, tuple[type[RoomGridLevel], dict[str, Any]]] = {
    "GoToLocalS8N16": (GoToLocal, {"num_dists": 16}),
    "PickupLocal": (PickupLocal, {}),
    "PickUpThenGoToLocal": (LocalTask, {"task": "pick up then go to"}),
    "GoToAfterPickUpLocal": (LocalTask, {"task": "go to after pick up"}),
    "PickUpSeqGoToLocal": (LocalTask, {"task": "pick up seq go to"}),
    "PickUpSeqPickUpLocal": (LocalTask, {"task": "pick up seq pick up"}),
}


def minigrid_levels() -> dict[str, str]:
    """Level name -> Minigrid's id, for every BabyAI level that the installed Minigrid registers."""
    specs = sorted((spec.name, spec.version or 0, spec.id) for spec in gym.registry.values() if spec.namespace is None)
    return {name.removeprefix("BabyAI-"): env_id for name, _, env_id in specs if name.startswith("BabyAI-")}


def task_kinds(name: str) -> tuple[str, ...]:
    """The kinds of task of a level; empty for a level of one kind."""
    return tuple(MIXED_LEVELS.get(name, ()))


def make_level(name: str, task: str | None = None, **options: Any) -> FastLevel:
    """
    Make a level.

    Args:
        name (`str`):
            Name without prefix and version: one of GLAM's, or any BabyAI level of Minigrid's, like `GoToLocalS5N2`.
        task (`str`, *optional*):
            Kind of task; needed for a level of several kinds and only there.
        **options:
            Arguments of the level's class, like `room_size`, `num_dists`, `max_steps`.

    Returns:
        [`~trl_glam.envs.fast_level.FastLevel`]: the level, not reset.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: for a name, a kind or an option that does not exist.
    """
    if name in MIXED_LEVELS:
        level_class, defaults = MIXED_LEVELS[name][task]
    elif name in SINGLE_LEVELS:
        level_class, defaults = SINGLE_LEVELS[name]
    else:
        level_class, defaults = _from_minigrid(name)
    try:
        return make_fast(level_class)(**(defaults | options))  # type: ignore[arg-type]
    except (TypeError, AssertionError) as error:
        raise InvalidInputError(
            f"Level {name!r} cannot be made with {options}: {error or 'a value out of range'}. Its options are those "
            f"of {level_class.__module__}.{level_class.__name__}."
        ) from error


def _from_minigrid(name: str) -> tuple[type[RoomGridLevel], dict[str, Any]]:
    known = minigrid_levels()
    if name not in known:
        names = sorted({*known, *MIXED_LEVELS, *SINGLE_LEVELS})
        close = difflib.get_close_matches(name.removeprefix("BabyAI-"), names, n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(close)}?" if close else f"there are {len(names)}, like {names[0]}, GoToLocal."
        )
        raise InvalidInputError(f"There is no BabyAI level {name!r} that can be told in text: {hint}")
    spec = gym.spec(known[name])
    return load_env_creator(spec.entry_point), dict(spec.kwargs)
