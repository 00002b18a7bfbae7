# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""TextWorld behind the contract: the walkthrough wins, games are cached and split, options are checked.

Making a game takes seconds; the fast tests share three.
"""

from __future__ import annotations

import json
import sys

import gymnasium as gym
import numpy as np
import pytest
import yaml
from trl import ModelConfig

import trl_glam  # noqa: F401  registers the environments
from tests.tiny_models import tiny_llama, tiny_t5
from trl_glam.agents import BotAgent, RandomAgent
from trl_glam.cli.main import main
from trl_glam.cli.recipe import parse_recipe
from trl_glam.cli.train import TrainArguments, make_trainer
from trl_glam.envs import check_text_env, make_env
from trl_glam.envs import textworld as module
from trl_glam.envs.textworld import CHALLENGES, HELD_OUT_SEEDS, TextWorldEnv, Walkthrough, cache_directory, game_file
from trl_glam.evaluation import Panel, evaluate_policy
from trl_glam.logs import load_log, verify_log
from trl_glam.policy import ScoringPolicy
from trl_glam.resources import recipe_path
from trl_glam.rollout.runner import TRAINING_SEEDS
from trl_glam.trainer import GLAMConfig
from trl_glam.types import InvalidInputError


pytest.importorskip("textworld", reason="the extra `textworld` is not installed")
TREASURE = {"level": 11, "num_games": 1}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_GLAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def treasure():
    env = TextWorldEnv("TreasureHunter", **TREASURE)
    yield env
    env.close()


def play(env, seed, choose):
    """One episode: its infos, rewards, and how it ended."""
    obs, info = env.reset(seed=seed)
    told, rewards, ended = [(obs, info)], [], False
    while not ended:
        obs, reward, terminated, truncated, info = env.step(choose(info["admissible_actions"]))
        told.append((obs, info))
        rewards.append(reward)
        ended = terminated or truncated
    return told, rewards, terminated


def test_contract_is_kept(treasure):
    check_text_env(treasure, num_episodes=1)


def test_walkthrough_wins_with_return_1(treasure):
    treasure.reset(seed=0)
    told, rewards, terminated = play(treasure, 0, lambda _: Walkthrough(treasure).act())
    assert terminated and told[-1][1]["success"] and sum(rewards) == pytest.approx(1.0)


def test_walkthrough_finds_back_after_a_detour(treasure):
    _, info = treasure.reset(seed=0)
    bot = Walkthrough(treasure)
    wrong = next(i for i, a in enumerate(info["admissible_actions"]) if a.startswith("go") and i != bot.act())
    treasure.step(wrong)
    for _ in range(20):
        _, _, terminated, _, info = treasure.step(bot.act())
        if terminated:
            break
    assert info["success"]


def test_commands_change_and_are_five_or_more_on_average(treasure):
    generator = np.random.default_rng(0)
    told, _, _ = play(treasure, 0, lambda actions: int(generator.integers(len(actions))))
    sets = [tuple(info["admissible_actions"]) for _, info in told[:-1]]
    assert len(set(sets)) > 3 and np.mean([len(actions) for actions in sets]) >= 5
    assert all(list(actions) == sorted(actions) for actions in sets)


def test_text_has_no_banner_and_no_status_line(treasure):
    told, _, _ = play(treasure, 0, lambda _: 0)
    for obs, info in told:
        assert " ".join(info["descriptions"]) == obs["text"]
        assert not any(mark in obs["text"] for mark in ("$$", "-=", "=-", ">", "\n", "Your score"))
    obs, info = told[0]
    assert obs["mission"] and info["descriptions"][-1].startswith("You are carrying")


def test_time_limit_truncates():
    env = TextWorldEnv("TreasureHunter", **TREASURE, max_steps=3)
    look = lambda actions: actions.index("look")  # noqa: E731
    told, rewards, terminated = play(env, 0, look)
    assert len(rewards) == 3 and not terminated and not told[-1][1]["success"]
    env.close()


def test_excluded_verbs_are_not_admissible():
    env = TextWorldEnv("TreasureHunter", **TREASURE, exclude=["examine", "look", "inventory"])
    _, info = env.reset(seed=0)
    verbs = {action.split()[0] for action in info["admissible_actions"]}
    assert verbs <= {"go", "take", "open", "close", "put", "drop"}
    env.close()


def test_training_and_evaluation_seeds_open_other_games():
    assert HELD_OUT_SEEDS == TRAINING_SEEDS
    env = TextWorldEnv("TreasureHunter", **TREASURE)
    env.reset(seed=0)
    env.follow_solution()
    first = (env.solution, env._state["objective"])
    env.reset(seed=HELD_OUT_SEEDS)
    assert (env.solution, env._state["objective"]) != first
    env.reset(seed=5)  # one game: every training seed opens it
    assert (env.solution, env._state["objective"]) == first
    env.close()


def test_a_made_game_is_not_made_again(monkeypatch):
    settings = CHALLENGES["TreasureHunter"][1] | {"level": 11}
    path = game_file("TreasureHunter", settings, 0)
    assert path.is_relative_to(cache_directory()) and path.with_suffix(".json").is_file()
    monkeypatch.setattr(module, "_generate", lambda *_: pytest.fail("made again"))
    assert game_file("TreasureHunter", settings, 0) == path


def test_bot_agent_plays_textworld():
    panel = Panel.from_env("TextWorld/TreasureHunter-v0", 2, env_kwargs=TREASURE)
    assert evaluate_policy(BotAgent(), panel, num_envs=2).success_rate == 1.0


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama], ids=["t5", "llama"])
def test_changing_action_sets_score_like_one_by_one(make, treasure, tmp_path):
    generator = np.random.default_rng(1)
    told, _, _ = play(treasure, 0, lambda actions: int(generator.integers(len(actions))))
    rows = [(obs["text"], info["admissible_actions"]) for obs, info in told[:6]]
    assert len({len(actions) for _, actions in rows}) > 1
    policy = ScoringPolicy.from_pretrained(make(tmp_path))
    together = policy.score([text for text, _ in rows], [actions for _, actions in rows])
    for i, (text, actions) in enumerate(rows):
        alone = policy.score([text], [actions])
        logits = together.logits[i, : len(actions)]
        np.testing.assert_allclose(logits.detach().numpy(), alone.logits[0].detach().numpy(), atol=1e-4)
        assert not together.mask[i, len(actions) :].any()


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"challenge": "Zork"}, "challenge='Zork' is not known: choose one of CoinCollector"),
        ({"challenge": "Simple", "level": 3}, "got the setting 'level': it takes rewards, goal"),
        ({"challenge": "CoinCollector", "level": 301}, "level=301 is given; it goes from 1 to 300"),
        ({"challenge": "CoinCollector", "level": "5"}, "level='5' is given; it takes a value of type int"),
        ({"challenge": "Simple", "rewards": "many"}, "rewards='many' is given; it takes dense, balanced, sparse"),
        ({"challenge": "Cooking", "go": 7}, "go=7 is given; it takes 1, 6, 9, 12"),
        ({"challenge": "Simple", "num_games": 0}, "num_games=0 is given; it must be an integer of at least 1"),
    ],
)
def test_wrong_options_are_named(kwargs, message):
    with pytest.raises(InvalidInputError, match="^.*" + message.replace("(", r"\(")):
        TextWorldEnv(**kwargs)


def test_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "textworld", None)
    with pytest.raises(InvalidInputError, match=r'pip install "trl-glam\[textworld\]"'):
        make_env("TextWorld/Simple-v0")


def test_missing_extra_ends_a_command_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "textworld", None)
    words = ["--model_name_or_path", tiny_t5(tmp_path / "model"), "--output_dir", str(tmp_path)]
    assert main(["train", "--config", "textworld", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("trl-glam train: ") and 'pip install "trl-glam[textworld]"' in error


def test_eval_plays_the_bot_on_textworld(tmp_path, capsys):
    words = ["--env_id", "TextWorld/TreasureHunter-v0", "--env_kwargs", json.dumps(TREASURE), "--episodes", "2"]
    assert main(["eval", "bot", *words, "--output_dir", str(tmp_path)]) == 0
    (test,) = json.loads((tmp_path / "results.json").read_text())["suites"].values()
    assert test["success_rate"] == 1.0
    capsys.readouterr()


def test_recipe_trains_and_its_log_replays(tmp_path, capsys):
    recipe = yaml.safe_load(recipe_path("textworld").read_text(encoding="utf-8"))
    env_kwargs = json.dumps({**recipe["env_kwargs"], "num_games": 1})
    sizes = {"num_envs": 4, "rollout_steps": 8, "minibatch_size": 16, "total_env_steps": 64, "eval_episodes": 4}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    words += ["--model_name_or_path", tiny_t5(tmp_path / "model"), "--output_dir", str(tmp_path), "--bf16", "false"]
    assert main(["train", "--config", "textworld", "--env_kwargs", env_kwargs, *words]) == 0
    log = list(load_log(tmp_path / "interactions"))
    # Of the 64 steps those of finished episodes.
    assert 40 <= len(log) <= 64 and len({tuple(row["admissible_actions"]) for row in log}) > 3
    for row in log:
        assert len(row["logprobs"]) == len(row["admissible_actions"])
        assert row["prompt"].startswith(f"Possible action of the agent: {', '.join(row['admissible_actions'])} \n")
    assert verify_log(tmp_path / "interactions").ok
    capsys.readouterr()


def test_an_index_past_the_commands_raises(treasure):
    _, info = treasure.reset(seed=0)
    with pytest.raises(InvalidInputError, match="is out of range"):
        treasure.step(len(info["admissible_actions"]))


# What each of the four is played at in the slow tests, and how many commands it has at least, on average. A room of
# Coin Collector has at most four exits and nothing in it: no level gets to five.
PLAYED = {
    "CoinCollector": ({}, 3.5),
    "TreasureHunter": ({}, 5),
    "Simple": ({}, 5),
    "Cooking": ({"recipe": 2, "take": 2, "go": 6, "open": True, "cook": True, "cut": True}, 5),
}


@pytest.mark.slow
@pytest.mark.parametrize("challenge", list(CHALLENGES))
def test_walkthrough_wins_every_game(challenge):
    panel = Panel.from_env(f"TextWorld/{challenge}-v0", 50, env_kwargs={"num_games": 50, **PLAYED[challenge][0]})
    assert evaluate_policy(BotAgent(), panel).success_rate == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("challenge", list(CHALLENGES))
def test_commands_change_and_are_many_in_every_kind_of_game(challenge):
    generator = np.random.default_rng(0)
    settings, least = PLAYED[challenge]
    env = TextWorldEnv(challenge, num_games=12, **settings)
    sets = []
    for seed in range(HELD_OUT_SEEDS, HELD_OUT_SEEDS + 12):
        told, _, _ = play(env, seed, lambda actions: int(generator.integers(len(actions))))
        sets += [tuple(info["admissible_actions"]) for _, info in told[:-1]]
    assert np.mean([len(actions) for actions in sets]) >= least
    assert len(set(sets)) > 10
    env.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1])
def test_recipe_learns_games_that_carry_over(seed, real_t5, tmp_path):
    words = ["--config", "textworld", "--seed", str(seed), "--output_dir", str(tmp_path)]
    _, args, model_args = parse_recipe("train", (TrainArguments, GLAMConfig, ModelConfig), words, "")
    trainer = make_trainer(args, model_args)
    panel = Panel.from_env(args.env_id, 100, env_kwargs={**args.env_kwargs, "num_games": 100})
    before, at_random = trainer.play(panel), evaluate_policy(RandomAgent(), panel)
    trainer.train()
    after = trainer.play(panel)
    assert after.interval[0] > max(before.interval[1], at_random.interval[1])


@pytest.mark.slow
def test_no_evaluation_game_is_a_training_game():
    """Short solutions recur; a map and the way through it do not."""
    import textworld

    env = gym.make("TextWorld/CoinCollector-v0", level=6, num_games=30).unwrapped
    games = {}
    for held_out in (False, True):
        games[held_out] = set()
        for number in range(env.num_games):
            path = game_file(env.challenge, env.settings, number, held_out)
            game = textworld.Game.load(str(path.with_suffix(".json")))
            exits = sorted(str(fact) for fact in game.world.facts if fact.name.endswith("_of"))
            games[held_out].add((tuple(exits), tuple(game.metadata["walkthrough"])))
    assert min(map(len, games.values())) > 5
    assert games[False].isdisjoint(games[True])
