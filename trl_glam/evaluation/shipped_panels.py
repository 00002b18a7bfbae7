# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Writes the panel files of the package: `python -m trl_glam.evaluation.shipped_panels`.

One panel of 1,000 episodes for every kind of test episode in GLAM (huggingface.co/papers/2302.02662), task kinds
equally often, a quick one with its first 100 episodes, and the demo's 100. Seeds lie above every training seed and are
used once. The files are the truth: a test checks that this module still writes them byte for byte.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..rollout.runner import TRAINING_SEEDS
from .panels import PANELS_DIRECTORY, EpisodeGroup, Panel


NUM_EPISODES = 1_000
NUM_QUICK_EPISODES = 100

TASK_KINDS = ("goto", "pickup", "putnext", "pick up seq go to", "open")

# Append only: a panel's place here decides its seeds.
_LEVELS = (
    ("mixed_train", "MixedTrainLocal", TASK_KINDS, "The five kinds of task with the words seen in training"),
    ("mixed_test", "MixedTestLocal", TASK_KINDS, "The five kinds of task about pairs of colour and type never named"),
    ("composition", "PickUpSeqPickUpLocal", (), "A composition never trained on: pick up, then pick up"),
    ("then", "PickUpThenGoToLocal", (), "Only `pick up A, then go to B`"),
    ("after", "GoToAfterPickUpLocal", (), "Only `go to B after you pick up A`"),
    ("french", "GoToFrench", (), "Go to an object, in French"),
    ("goto", "GoToLocal", (), "Go to an object among eight"),
    ("goto_4", "GoToLocalS8N4", (), "Go to an object among four"),
    ("goto_16", "GoToLocalS8N16", (), "Go to an object among sixteen"),
)
_SEEDS_PER_PANEL = 10_000


def shipped_panels() -> list[Panel]:
    """All panels that the package ships."""
    panels = []
    for position, (name, level, kinds, description) in enumerate(_LEVELS):
        first_seed = TRAINING_SEEDS + position * _SEEDS_PER_PANEL
        variants = [{"task": kind} for kind in kinds] or [None]
        size = NUM_EPISODES // len(variants)
        groups = tuple(
            EpisodeGroup(f"BabyAI-Text/{level}-v0", tuple(range(first, first + size)), options=options)
            for first, options in zip(range(first_seed, first_seed + NUM_EPISODES, size), variants, strict=True)
        )
        panel = Panel(name, groups, description)
        panels += [panel, replace(panel.head(NUM_QUICK_EPISODES), name=f"{name}_quick")]
    demo = Panel.from_env(
        "BabyAI-Text/GoToLocalS5N2-v0", 100, first_seed=TRAINING_SEEDS + len(_LEVELS) * _SEEDS_PER_PANEL, name="demo"
    )
    return [*panels, replace(demo, description="Go to one of two objects in a small room, the level of the demo")]


def write(directory: Path = PANELS_DIRECTORY) -> None:
    """Write every panel as `<name>.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    for panel in shipped_panels():
        panel.save(directory / f"{panel.name}.json")


if __name__ == "__main__":
    write()
