# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The Gymnasium ids `BabyAI-Text/<level>-v0` and `TextWorld/<game>-v0`, registered as names alone.

Minigrid is imported when an environment is made, not here; so its level names are listed below, and a test compares
the list with what the installed Minigrid registers.
"""

from __future__ import annotations

import gymnasium as gym

from .textworld import register_textworld


GLAM_LEVELS = (
    "MixedTrainLocal MixedTestLocal GoToLocalS8N16 PickupLocal PickUpThenGoToLocal GoToAfterPickUpLocal "
    "PickUpSeqGoToLocal PickUpSeqPickUpLocal"
).split()
MINIGRID_LEVELS = (
    "ActionObjDoor BlockedUnlockPickup BossLevel BossLevelNoUnlock FindObjS5 FindObjS6 FindObjS7 GoTo GoToDoor "
    "GoToImpUnlock GoToLocal GoToLocalS5N2 GoToLocalS6N2 GoToLocalS6N3 GoToLocalS6N4 GoToLocalS7N4 GoToLocalS7N5 "
    "GoToLocalS8N2 GoToLocalS8N3 GoToLocalS8N4 GoToLocalS8N5 GoToLocalS8N6 GoToLocalS8N7 GoToObj GoToObjDoor "
    "GoToObjMaze GoToObjMazeOpen GoToObjMazeS4 GoToObjMazeS4R2 GoToObjMazeS5 GoToObjMazeS6 GoToObjMazeS7 GoToObjS4 "
    "GoToObjS6 GoToOpen GoToRedBall GoToRedBallGrey GoToRedBallNoDists GoToRedBlueBall GoToSeq GoToSeqS5R2 "
    "KeyCorridor KeyCorridorS3R1 KeyCorridorS3R2 KeyCorridorS3R3 KeyCorridorS4R3 KeyCorridorS5R3 KeyCorridorS6R3 "
    "KeyInBox MiniBossLevel MoveTwoAcrossS5N2 MoveTwoAcrossS8N9 OneRoomS12 OneRoomS16 OneRoomS20 OneRoomS8 Open "
    "OpenDoor OpenDoorColor OpenDoorDebug OpenDoorLoc OpenDoorsOrderN2 OpenDoorsOrderN2Debug OpenDoorsOrderN4 "
    "OpenDoorsOrderN4Debug OpenRedBlueDoors OpenRedBlueDoorsDebug OpenRedDoor OpenTwoDoors Pickup PickupAbove "
    "PickupDist PickupDistDebug PickupLoc PutNextLocal PutNextLocalS5N3 PutNextLocalS6N4 PutNextS4N1 PutNextS5N1 "
    "PutNextS5N2 PutNextS5N2Carrying PutNextS6N3 PutNextS6N3Carrying PutNextS7N4 PutNextS7N4Carrying Synth SynthLoc "
    "SynthS5R2 SynthSeq UnblockPickup Unlock UnlockLocal UnlockLocalDist UnlockPickup UnlockPickupDist UnlockToUnlock"
).split()


def register_environments() -> None:
    """Register `BabyAI-Text/<level>-v0` for every level of Minigrid's BabyAI and GLAM's, and the TextWorld games."""
    register_textworld()
    levels = {name: {"level": name} for name in (*MINIGRID_LEVELS, *GLAM_LEVELS)}
    levels["GoToFrench"] = {"level": "GoToLocal", "language": "french"}
    for name, kwargs in levels.items():
        env_id = f"BabyAI-Text/{name}-v0"
        if env_id not in gym.registry:
            gym.register(env_id, entry_point="trl_glam.envs.babyai_text:BabyAITextEnv", kwargs=kwargs)
