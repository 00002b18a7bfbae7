# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Saves the running episodes of a runner and brings them back: by replay, or from an environment's own state.

A replay plays the episode's actions again from its seed and compares a digest of everything the environment said. An
environment that says something else is named; its episode can begin anew if inexactness is allowed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..envs.host import Failure
from ..envs.in_process import Environments
from ..types import Decision, EpisodeKey, InvalidInputError
from .slot import Slot


logger = logging.getLogger(__name__)


def save_slots(slots: Sequence[Slot], environments: Environments) -> list[dict[str, Any] | None]:
    """
    The running episodes, JSON-serialisable.

    Args:
        slots (`Sequence[Slot]`):
            All slots.
        environments ([`Environments`]):
            Their environments.

    Returns:
        `list[dict | None]`: one entry a slot; `None` where no episode runs.

    Raises:
        [`EnvironmentFault`]: when an environment offers a state and cannot give it.
    """
    running = [slot for slot in slots if slot.observation is not None]
    states: dict[int, dict[str, Any] | None] = {}
    for slot, state in zip(running, environments.states([slot.index for slot in running]), strict=True):
        if isinstance(state, Failure):
            raise slot.fault(state)
        states[slot.index] = state
    return [None if slot.observation is None else slot.state_dict(states[slot.index]) for slot in slots]


def load_slots(
    slots: Sequence[Slot],
    environments: Environments,
    state: Sequence[dict[str, Any] | None],
    seed: int,
    allow_inexact: bool = False,
) -> list[EpisodeKey]:
    """
    Bring the running episodes back.

    Args:
        slots (`Sequence[Slot]`):
            All slots, empty.
        environments ([`Environments`]):
            Their environments.
        state (`Sequence[dict | None]`):
            What [`save_slots`] gave, for the same number of slots.
        seed (`int`):
            Seed of the action draws.
        allow_inexact (`bool`, *optional*, defaults to `False`):
            An episode that does not come back begins anew instead of ending the run.

    Returns:
        `list[EpisodeKey]`: the episodes that have to begin anew; their slots have no observation yet.

    Raises:
        [`InvalidInputError`]: when an environment does not come to where it was, unless that is allowed.
    """
    if len(state) != len(slots):
        raise InvalidInputError(
            f"The saved run has {len(state)} environments on this process, this one {len(slots)}; resume "
            "with the same num_envs and number of processes."
        )
    saved = {slot.index: one for slot, one in zip(slots, state, strict=True) if one is not None}
    for slot in slots:
        slot.observation = None
        if slot.index in saved:
            slot.take(EpisodeKey.from_dict(saved[slot.index]["key"]), seed)
            slot.faults_in_a_row = saved[slot.index]["faults_in_a_row"]
    with_state = [slots[index] for index, one in saved.items() if "environment" in one]
    without = [slots[index] for index, one in saved.items() if "environment" not in one]
    problems = {**_restore(with_state, environments, saved), **_replay(without, environments, saved)}
    for index, one in saved.items():
        if index not in problems:
            slots[index].generator.bit_generator.state = one["generator"]
    if not problems:
        return []
    named = " ".join(_describe(slots[index], len(saved[index]["actions"]), why) for index, why in problems.items())
    if not allow_inexact:
        raise InvalidInputError(
            f"The run cannot go on exactly: {named} An environment must depend on its reset seed, its options and the "
            "actions alone (trl_glam.envs.check_text_env), or offer get_state and set_state; with "
            "allow_inexact_resume these episodes begin anew."
        )
    logger.warning("The resumed run is not exact: %s These episodes begin anew.", named)
    for index in problems:
        slots[index].observation = None
        environments.discard(index)
    return [slots[index].key for index in problems]


def _describe(slot: Slot, num_actions: int, why: str) -> str:
    key = slot.key
    return (
        f"Environment {key.env_id} (slot {key.slot}, episode {key.number}, seed {key.seed}) does not come back to "
        f"where it was after {num_actions} actions: {why}"
    )


def _restore(slots: list[Slot], environments: Environments, saved: dict[int, dict[str, Any]]) -> dict[int, str]:
    """Restore environments from their own states; what is wrong, by slot."""
    problems = {}
    requests = [(slot.index, slot.key, saved[slot.index]["environment"]) for slot in slots]
    for slot, outcome in zip(slots, environments.restore(requests), strict=True):
        if isinstance(outcome, Failure):
            problems[slot.index] = outcome.reason
        else:
            slot.load_window(saved[slot.index])
    return problems


def _replay(slots: list[Slot], environments: Environments, saved: dict[int, dict[str, Any]]) -> dict[int, str]:
    """Replay environments, all of them one step at a time; what is wrong, by slot."""
    problems = {}
    playing: list[Slot] = []
    for slot, outcome in zip(slots, environments.begin([(slot.index, slot.key) for slot in slots]), strict=True):
        if isinstance(outcome, Failure):
            problems[slot.index] = outcome.reason
        else:
            slot.open(outcome)
            playing.append(slot)
    step = 0
    while playing:
        playing = [slot for slot in playing if len(saved[slot.index]["actions"]) > step]
        actions = [(slot.index, saved[slot.index]["actions"][step]) for slot in playing]
        going_on = []
        for slot, (_, action), outcome in zip(playing, actions, environments.step(actions), strict=True):
            if isinstance(outcome, Failure):
                problems[slot.index] = outcome.reason
            elif action >= len(slot.observation.admissible_actions):
                problems[slot.index] = f"action {action} is not admissible at step {step} any more."
            elif outcome.terminated or outcome.truncated:
                problems[slot.index] = "it ends earlier."
            else:
                slot.advance(Decision(index=action), outcome)
                going_on.append(slot)
        playing, step = going_on, step + 1
    for slot in slots:
        if slot.index not in problems and slot.digest != saved[slot.index]["digest"]:
            problems[slot.index] = "it says something else than before."
    return problems
