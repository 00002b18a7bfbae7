# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""DRRN: its Q-values, its memory, its loss in closed form, and that it learns and comes back from disk."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.toy_envs import CorridorEnv, LampEnv
from trl_glam.baselines import drrn
from trl_glam.baselines.drrn import DRRN, DRRNAgent, Memory, ReplayMemory, td_loss
from trl_glam.baselines.training import Vocabulary
from trl_glam.cli.main import main
from trl_glam.evaluation import Panel, evaluate_policy
from trl_glam.prompts import PromptTemplate
from trl_glam.rollout import EpisodeCollector, ListedEpisodes, Runner
from trl_glam.types import EpisodeKey, InvalidInputError


gym.register("Tests/Lamp-v0", entry_point=LampEnv)


def make_agent(text: str = "", size: int = 200) -> DRRNAgent:
    torch.manual_seed(0)
    vocabulary = Vocabulary(size=size)
    vocabulary.learn(text)
    return DRRNAgent(DRRN(size, hidden_size=8), vocabulary)


def test_q_values_do_not_depend_on_what_shares_the_batch():
    agent = make_agent("turn left right go forward you see a wall red ball pick up")
    prompts = ["you see a wall", "you see a red ball left of a wall", "you see a wall"]
    actions = [("turn left", "go forward"), ("go forward", "turn right", "pick up"), ("pick up",)]
    states = [agent.encode(prompt) for prompt in prompts]
    together = agent.q_values(states, actions)
    assert together.shape == (3, 3)
    for row, state, names in zip(together, states, actions, strict=True):
        alone = torch.cat([agent.q_values([state], [(name,)])[0] for name in names])
        torch.testing.assert_close(row[: len(names)], alone)
        assert (row[len(names) :] == -torch.inf).all()


def test_the_policy_is_the_softmax_of_the_q_values():
    agent = make_agent()
    records = EpisodeCollector()
    decisions = []

    class Spy(DRRNAgent):
        def act(self, observations, generators, greedy=False):
            found = super().act(observations, generators, greedy)
            decisions.extend(zip(observations, found, strict=True))
            return found

    play(Spy(agent.network, agent.vocabulary), [records], greedy=True)
    for observation, decision in decisions:
        q_values = agent.q_values([agent.encode(observation.prompt)], [observation.admissible_actions])[0].detach()
        np.testing.assert_allclose(decision.log_probs, q_values.log_softmax(-1), rtol=1e-5, atol=1e-6)
        assert decision.index == int(q_values.argmax()) and decision.value == pytest.approx(float(q_values.max()))


def play(agent, sinks, num_episodes=6, num_slots=2, greedy=False, **corridor):
    keys = [EpisodeKey("corridor", seed=seed, slot=seed) for seed in range(num_episodes)]
    runner = Runner(
        lambda key: CorridorEnv(**corridor),
        ListedEpisodes(keys),
        num_slots,
        agent,
        PromptTemplate(num_observations=1),
        seed=0,
        greedy=greedy,
        sinks=sinks,
    )
    runner.run()
    runner.close()


def test_the_memory_joins_each_action_to_what_it_led_to():
    agent, records = make_agent(), EpisodeCollector()
    memory = ReplayMemory(agent, size=1000)
    play(agent, [memory, records], length=3, max_steps=5)
    assert len(memory) == sum(record.length for record in records.records)
    words = dict(enumerate(agent.vocabulary.words, 2))
    ends = []
    for one in memory._memories:
        told, then = (" ".join(words[i] for i in state) for state in (one.state, one.next_state))
        (cell, time), (next_cell, next_time) = (
            (int(text.split("cell ")[2][0]), int(text.split("time ")[1][0])) for text in (told, then)
        )
        assert next_time == time + 1 and next_cell == cell + (one.action == "walk") and one.reward == 1.0
        # The goal ends the episode for good; a time limit does not.
        assert (one.next_actions == ()) == (next_cell == 3)
        ends.append(next_cell == 3)
    assert sum(ends) == sum(map(reached_the_end, records.records)) > 0


def reached_the_end(record) -> bool:
    start = int(np.random.default_rng(record.key.seed).integers(2))
    return start + record.actions.count(0) >= 3


def test_the_memory_forgets_the_oldest():
    agent = make_agent()
    memory = ReplayMemory(agent, size=4)
    play(agent, [memory], num_episodes=3, num_slots=1)
    whole = ReplayMemory(agent, size=1000)
    play(agent, [whole], num_episodes=3, num_slots=1)
    assert len(memory) == 4
    kept = sorted((m.state.tobytes(), m.action) for m in memory._memories)
    assert kept == sorted((m.state.tobytes(), m.action) for m in whole._memories[-4:])


def test_td_loss_in_closed_form():
    agent = make_agent("a b c go stay")
    state, following = agent.encode("a b"), agent.encode("c")
    batch = [Memory(state, "go", 0.5, following, ("go", "stay")), Memory(following, "stay", 1.0, state, ())]
    q_next = agent.q_values([following], [("go", "stay")]).max().item()
    q_taken = [agent.q_values([m.state], [(m.action,)]).item() for m in batch]
    errors = [q_taken[0] - (20 * 0.5 + 0.9 * q_next), q_taken[1] - 20 * 1.0]
    huber = np.mean([abs(error) - 0.5 for error in errors])  # both are far beyond 1
    loss = td_loss(agent, batch, gamma=0.9, reward_scale=20.0)
    assert loss.item() == pytest.approx(huber, rel=1e-5)


FLAGS = {
    "env_id": "Tests/Lamp-v0",
    "num_envs": 8,
    "total_env_steps": 1600,
    "learning_starts": 64,
    "learning_rate": 5e-3,
    "hidden_size": 32,
    "eval_episodes": 60,
    "eval_env_steps": 800,
    "seed": 3,
}


def test_training_learns_saves_and_goes_on(tmp_path, capsys):
    words = [word for name, value in FLAGS.items() for word in (f"--{name}", str(value))]
    assert main(["baseline", "drrn", *words, "--output_dir", str(tmp_path)]) == 0
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    rates = [row["eval_success_rate"] for row in state["log_history"] if "eval_success_rate" in row]
    assert state["env_steps"] == 1600 and len(rates) == 2 and rates[-1] > 0.9

    agent = drrn.load(tmp_path)
    panel = Panel.from_env("Tests/Lamp-v0", 60)
    again = evaluate_policy(agent, panel, seed=3)
    assert again.success_rate == rates[-1]
    assert evaluate_policy(agent, panel, seed=3, num_envs=7).to_dict() == again.to_dict()

    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-800"]
    resumed = [*words, "--output_dir", str(tmp_path), "--resume_from_checkpoint", "--total_env_steps", "1000"]
    assert main(["baseline", "drrn", *resumed]) == 0
    after = json.loads((tmp_path / "trainer_state.json").read_text())
    assert after["env_steps"] == 1000
    # Episodes are numbered on, not played again: one step each.
    assert all(125 <= number <= 127 for number in after["episode_numbers"].values())
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("*.bin"))


def test_a_folder_without_an_agent_is_an_error(tmp_path):
    with pytest.raises(InvalidInputError, match="no trained drrn agent"):
        drrn.load(tmp_path)
