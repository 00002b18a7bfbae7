# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Symbolic-PPO: the way to and from sb3, memory by slot, and that it trains and comes back from disk."""

import json
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import trl_glam  # noqa: F401  (registers the environments)
from tests.toy_envs import LampEnv
from trl_glam.baselines import symbolic_ppo
from trl_glam.baselines.symbolic_ppo import FiLMExtractor, SymbolicAgent, SymbolicEnv, observation_space
from trl_glam.baselines.training import BaselineRun, Vocabulary
from trl_glam.cli.main import main
from trl_glam.evaluation import Panel, evaluate_policy
from trl_glam.rollout import SeededEpisodes
from trl_glam.types import InvalidInputError


pytest.importorskip("sb3_contrib")

LEVEL = "BabyAI-Text/GoToObjS4-v0"


def make_agent(num_actions: int = 6, hidden_size: int = 8) -> SymbolicAgent:
    torch.manual_seed(0)
    _, policy_class = symbolic_ppo._sb3()
    vocabulary = Vocabulary(size=60)
    vocabulary.learn("go to the a red green blue purple yellow grey ball box key")
    network = symbolic_ppo._network(60, hidden_size)
    policy = policy_class(observation_space(60), spaces.Discrete(num_actions), lambda _: 0.0, **network)
    # sb3 starts near the uniform policy: make it a decided one.
    torch.nn.init.normal_(policy.action_net.weight, std=3.0)
    return SymbolicAgent(policy, vocabulary)


def test_the_mission_and_every_cell_reach_the_features():
    torch.manual_seed(0)
    extractor = FiLMExtractor(observation_space(60), 60, hidden_size=8)
    image, mission = torch.zeros(1, 7, 7, 3), torch.zeros(1, symbolic_ppo.MAX_MISSION_WORDS)
    mission[0, :3] = torch.tensor([2.0, 3.0, 4.0])
    features = extractor({"image": image, "mission": mission})
    assert features.shape == (1, 8)
    other_mission = mission.clone()
    other_mission[0, 2] = 5.0
    assert not torch.allclose(extractor({"image": image, "mission": other_mission}), features)
    for channel in range(3):
        other_image = image.clone()
        other_image[0, 6, 0, channel] = 1.0
        assert not torch.allclose(extractor({"image": other_image, "mission": mission}), features)


def test_missions_are_read_to_their_last_word_whatever_else_is_in_the_batch():
    torch.manual_seed(0)
    extractor = FiLMExtractor(observation_space(60), 60, hidden_size=8)
    missions = torch.zeros(4, symbolic_ppo.MAX_MISSION_WORDS, dtype=torch.long)
    missions[0, :2] = torch.tensor([2, 3])
    missions[1, :5] = torch.tensor([2, 3, 4, 5, 6])
    missions[2] = missions[0]
    read = extractor._read(missions)
    for row, length in ((0, 2), (1, 5), (2, 2)):
        _, last = extractor.mission(extractor.words(missions[row : row + 1, :length]))
        torch.testing.assert_close(read[row], last[0, 0])


def test_sb3_sees_the_runs_own_episodes(tmp_path):
    config = symbolic_ppo.Config(env_id=LEVEL, seed=5, output_dir=str(tmp_path), reward_scale=20.0)
    run, vocabulary = BaselineRun(config), Vocabulary()
    finished = []
    run.on_episode_end = finished.append
    env = SymbolicEnv(run, slot=3, vocabulary=vocabulary)
    plain, expected = gym.make(LEVEL, include_image=True), SeededEpisodes(LEVEL, 5)
    generator = np.random.default_rng(0)
    for _ in range(3):
        observation, _ = env.reset(seed=99)
        seed = expected.next(3).seed
        told, _ = plain.reset(seed=seed)
        ended = False
        while not ended:
            assert env.observation_space.contains(observation)
            np.testing.assert_array_equal(observation["image"], told["image"])
            assert [i for i in observation["mission"] if i] == vocabulary.encode(told["mission"])
            action = int(generator.integers(6))
            observation, reward, terminated, truncated, _ = env.step(action)
            told, raw, *flags, _ = plain.step(action)
            assert reward == 20.0 * raw and (terminated, truncated) == tuple(flags)
            ended = terminated or truncated
        assert finished[-1].key.seed == seed and finished[-1].success == terminated
        assert finished[-1].episode_return == raw


def test_memory_is_kept_by_slot_and_cleared_between_episodes():
    panel = Panel.from_env(LEVEL, 12)
    alone = evaluate_policy(make_agent(), panel, num_envs=1)
    together = evaluate_policy(make_agent(), panel, num_envs=5)
    assert [r.actions for r in alone.records] == [r.actions for r in together.records]


def test_the_agent_steps_as_sb3_evaluates_whole_episodes():
    agent = make_agent()
    seen = []

    class Spy(SymbolicAgent):
        def act(self, observations, generators, greedy=False):
            decisions = super().act(observations, generators, greedy)
            encoded = [symbolic_ppo._encode(self._envs[o.slot], o.mission, self.vocabulary) for o in observations]
            seen.extend(zip(observations, encoded, decisions, strict=True))
            return decisions

    evaluate_policy(Spy(agent.policy, agent.vocabulary), Panel.from_env(LEVEL, 3), num_envs=1)
    batch = {
        name: torch.from_numpy(np.stack([inputs[name] for _, inputs, _ in seen])) for name in ("image", "mission")
    }
    starts = torch.tensor([float(observation.step == 0) for observation, _, _ in seen])
    zeros = torch.zeros(1, 1, 8)
    with torch.no_grad():
        distribution, _ = agent.policy.get_distribution(batch, (zeros, zeros), starts)
    log_probs = torch.from_numpy(np.stack([decision.log_probs for _, _, decision in seen]))
    torch.testing.assert_close(distribution.distribution.logits, log_probs, rtol=1e-4, atol=1e-5)


def test_training_saves_and_goes_on(tmp_path):
    flags = {
        "env_id": LEVEL,
        "num_envs": 4,
        "rollout_steps": 8,
        "minibatch_size": 16,
        "num_ppo_epochs": 1,
        "total_env_steps": 128,
        "hidden_size": 8,
        "logging_env_steps": 64,
        "eval_episodes": 6,
        "eval_env_steps": 64,
        "output_dir": tmp_path,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    assert main(["baseline", "symbolic", *words]) == 0
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    evaluations = [row for row in state["log_history"] if "eval_success_rate" in row]
    assert [row["env_steps"] for row in evaluations] == [64, 128]

    result = evaluate_policy(symbolic_ppo.load(tmp_path), Panel.from_env(LEVEL, 6), seed=42)
    assert result.success_rate == evaluations[-1]["eval_success_rate"]
    assert result.mean_length == evaluations[-1]["eval_mean_length"]

    assert main(["baseline", "symbolic", *words, "--resume_from_checkpoint", "--total_env_steps", "192"]) == 0
    after = json.loads((tmp_path / "trainer_state.json").read_text())
    assert [row["env_steps"] for row in after["log_history"] if "eval_success_rate" in row] == [64, 128, 192]
    assert not list(tmp_path.rglob("*.zip")) and not list(tmp_path.rglob("*.pt"))


def test_another_number_of_actions_is_an_error():
    with pytest.raises(InvalidInputError, match="trained with 3 actions"):
        evaluate_policy(make_agent(num_actions=3), Panel.from_env(LEVEL, 1))


def test_a_world_without_a_grid_is_an_error():
    with pytest.raises(InvalidInputError, match="7x7 grid"):
        evaluate_policy(make_agent(), Panel.from_env("Tests/SymbolicLamp-v0", 1))


gym.register("Tests/SymbolicLamp-v0", entry_point=LampEnv)


def test_without_the_extra_the_error_names_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(InvalidInputError, match=r"trl-glam\[baselines\]"):
        symbolic_ppo.load(tmp_path)
