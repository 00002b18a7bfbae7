# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Levels of several rooms, with doors, keys and missions in parts, are told, solved by the bot and trained in like one
room: the same recipe, another `env_id`."""

from __future__ import annotations

import json
import math
import re

import gymnasium as gym
import numpy as np
import pytest
from safetensors.torch import load_file

import trl_glam  # noqa: F401  registers the environments
from tests.tiny_models import tiny_t5
from trl_glam.agents import BotAgent
from trl_glam.cli.main import main
from trl_glam.envs import check_text_env
from trl_glam.envs.bot import BabyAIDemonstrator
from trl_glam.envs.language import phrasebook
from trl_glam.envs.view import view_from_image
from trl_glam.evaluation import Panel, evaluate_policy
from trl_glam.logs import load_log, verify_log


LEVELS = ["KeyCorridor", "UnlockPickup", "BossLevel"]
ACTIONS = ["turn left", "turn right", "go forward", "pick up", "drop", "toggle"]


def bot_steps(level: str, seed: int):
    """An episode of the bot: the level behind the environment, and what was said, at every step."""
    env = gym.make(f"BabyAI-Text/{level}-v0")
    obs, info = env.reset(seed=seed)
    bot = BabyAIDemonstrator(env)
    yield env.unwrapped.level, obs, info
    ended = False
    while not ended:
        obs, _, terminated, truncated, info = env.step(bot.act())
        ended = terminated or truncated
        yield env.unwrapped.level, obs, info


@pytest.mark.parametrize("level", LEVELS)
def test_every_step_of_several_rooms_says_what_minigrid_shows(level):
    """Walls and closed doors hide the rooms behind them, in Minigrid's picture and in the words."""
    words, rooms = phrasebook(), set()
    for seed in range(3):
        for world, obs, info in bot_steps(level, seed):
            rooms.add((seed, *(int(at) // (world.room_size - 1) for at in world.agent_pos)))
            carried = None if world.carrying is None else (world.carrying.type, world.carrying.color)
            # Minigrid's way from the grid to the picture, which the environment's own view goes round.
            grid, visible = world.gen_obs_grid()
            seen = view_from_image(grid.encode(visible))
            assert info["descriptions"] == words.sentences(seen, carried)
            assert obs["mission"] and info["admissible_actions"] == ACTIONS
    assert len(rooms) >= 2 * 3, "the bot never left its room"


def test_doors_are_told_locked_then_closed_or_open_and_the_key_is_carried():
    told = [sentence for *_, info in bot_steps("UnlockPickup", 0) for sentence in info["descriptions"]]
    assert any(re.match(r"You see a locked \w+ door ", sentence) for sentence in told)
    assert any(re.match(r"You see a open \w+ door ", sentence) for sentence in told)
    key = next(re.match(r"You carry a (\w+) key", s) for s in told if s.startswith("You carry"))
    assert any(sentence.startswith(f"You see a locked {key[1]} door") for sentence in told)


@pytest.mark.parametrize("level", LEVELS)
def test_bot_wins_every_episode_of_several_rooms(level):
    result = evaluate_policy(BotAgent(), Panel.from_env(f"BabyAI-Text/{level}-v0", 10), num_envs=5)
    assert result.success_rate == 1.0


@pytest.mark.parametrize("level", LEVELS)
def test_several_rooms_keep_the_contract(level):
    check_text_env(gym.make(f"BabyAI-Text/{level}-v0", max_steps=60), num_episodes=2)


@pytest.mark.parametrize("level", LEVELS)
def test_the_quickstart_recipe_trains_in_several_rooms(level, tmp_path, capsys):
    model, run = tiny_t5(tmp_path / "model"), tmp_path / "run"
    sizes = {"num_envs": 4, "rollout_steps": 16, "minibatch_size": 32, "total_env_steps": 192, "eval_episodes": 4}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    assert (
        main(
            ["train", "--config", "quickstart", "--env_id", f"BabyAI-Text/{level}-v0", "--env_kwargs"]
            + ['{"max_steps": 12}', "--model_name_or_path", model, "--output_dir", str(run), "--bf16", "false", *words]
        )
        == 0
    )
    updates = [
        row for row in json.loads((run / "trainer_state.json").read_text())["log_history"] if "ppo/approx_kl" in row
    ]
    assert len(updates) == 3
    for row in updates:
        # Without any success all returns are alike, and there is no variance to explain.
        assert all(math.isfinite(value) for name, value in row.items() if name != "ppo/explained_variance")
        assert 0 < row["ppo/entropy"] <= math.log(len(ACTIONS)) + 1e-6
        assert "rollout/success_rate" in row and row["rollout/episodes"] > 0
    before, after = load_file(f"{model}/model.safetensors"), load_file(run / "model.safetensors")
    assert any(not np.array_equal(before[name].numpy(), after[name].numpy()) for name in before if "decoder" in name)

    log = load_log(run / "interactions")
    rows = log.to_list() if hasattr(log, "to_list") else list(log)
    for row in rows:
        assert f"Goal of the agent: {row['mission']} \n" in row["prompt"] and row["mission"]
        assert row["prompt"].startswith(f"Possible action of the agent: {', '.join(ACTIONS)} \n")
        assert all(f"{sentence}, " in row["prompt"] for sentence in row["observation"])
        assert row["admissible_actions"] == ACTIONS and row["action"] == ACTIONS[row["action_index"]]
        assert row["success"] == (row["reward"] > 0)
    assert len({row["mission"] for row in rows}) > (1 if level == "BossLevel" else 0)
    assert verify_log(run / "interactions").ok
    capsys.readouterr()
