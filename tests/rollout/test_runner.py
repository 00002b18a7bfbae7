# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The one loop: seeds, windows, endings, and going on from a saved state, on environments known in closed form."""

import pytest

from tests.rollout import worlds
from tests.toy_envs import CorridorEnv, LampEnv
from trl_glam.agents import MixtureAgent, RandomAgent
from trl_glam.prompts import PromptTemplate
from trl_glam.rollout import EpisodeCollector, ListedEpisodes, Rollout, Runner, SeededEpisodes, Sink
from trl_glam.types import Decision, EpisodeKey, InvalidInputError


class FirstAction(RandomAgent):
    def act(self, observations, generators, greedy=False):
        return [Decision(index=0, log_probs=d.log_probs, value=0.0) for d in super().act(observations, generators)]


class Recorder(Sink):
    def __init__(self):
        self.transitions = []

    def on_transition(self, transition):
        self.transitions.append(transition)


def make_runner(num_slots=3, agent=None, first_slot=0, env=CorridorEnv, make_env=None, **kwargs):
    return Runner(
        make_env or (lambda key: env()),
        SeededEpisodes("toy", seed=7, first_slot=first_slot),
        num_slots,
        agent or RandomAgent(),
        PromptTemplate(),
        seed=7,
        **kwargs,
    )


def story(transitions):
    return [(t.observation.episode.episode_id, t.observation.prompt, t.decision.index, t.reward) for t in transitions]


def test_episodes_do_not_depend_on_the_environments_beside_them():
    together = make_runner(4)
    alone = make_runner(1, first_slot=2)
    for _ in range(30):
        beside = together.step()[2]
        single = alone.step()[0]
        assert story([beside]) == story([single])


def test_processes_change_nothing():
    plain, spread = make_runner(4), make_runner(4, make_env=worlds.make_corridor, workers=3)
    try:
        for _ in range(20):
            assert story(plain.step()) == story(spread.step())
    finally:
        spread.close()


def test_window_holds_the_last_observations_and_is_cleared_at_the_end():
    runner = make_runner(1, agent=FirstAction(), env=lambda: CorridorEnv(length=9, max_steps=5))
    prompts = [runner.step()[0].observation.prompt for _ in range(6)]
    assert [prompt.count("Observation") for prompt in prompts] == [1, 2, 3, 3, 3, 1]
    assert "Action 0: walk \n" in prompts[1] and prompts[1].endswith("\n Action 1: ")


def test_terminal_observation_of_a_truncated_episode_keeps_the_old_window_and_mission():
    runner = make_runner(1, agent=FirstAction(), env=lambda: CorridorEnv(length=99, max_steps=3))
    *_, last = [runner.step()[0] for _ in range(3)]
    assert last.truncated and not last.terminated
    assert last.final_observation.step == 3
    assert last.final_observation.prompt.startswith(last.observation.prompt[:40])
    assert "at time 3" in last.final_observation.prompt and "at time 0" not in last.final_observation.prompt
    assert runner.observations[0].step == 0


def test_terminated_wins_when_both_flags_are_set():
    runner = make_runner(1, agent=FirstAction(), env=lambda: CorridorEnv(length=3, max_steps=1))
    transitions = [runner.step()[0] for _ in range(8)]
    assert all(t.truncated for t in transitions if not t.terminated)
    assert not any(t.truncated and t.terminated for t in transitions)


def test_success_is_read_off_the_return_when_the_environment_does_not_say():
    records = EpisodeCollector()
    runner = make_runner(2, sinks=[records], success_threshold=3.5)
    for _ in range(60):
        runner.step()
    assert not runner.has_success_info
    assert {record.success for record in records.records} == {True, False}
    assert all(record.success == (record.episode_return > 3.5) for record in records.records)


def test_listed_episodes_are_played_once_to_their_end_in_any_number_of_slots():
    keys = [EpisodeKey("toy", seed=i, slot=i) for i in range(11)]
    outcomes = {}
    for num_slots in (1, 4, 11):
        records = EpisodeCollector()
        runner = Runner(
            lambda key: CorridorEnv(), ListedEpisodes(keys), num_slots, RandomAgent(), PromptTemplate(), 0,
            sinks=[records],
        )  # fmt: skip
        runner.run()
        outcomes[num_slots] = sorted((r.key.slot, r.actions, r.episode_return) for r in records.records)
        assert len(records.records) == 11
    assert outcomes[1] == outcomes[4] == outcomes[11]


def test_state_dict_goes_on_exactly_after_a_replay():
    runner = make_runner(3)
    for _ in range(13):
        runner.step()
    state, numbers = runner.state_dict(), dict(runner.episodes.numbers)
    expected = [story(runner.step()) for _ in range(20)]
    fresh = make_runner(3)
    fresh.episodes.numbers = numbers
    fresh.load_state_dict(state)
    assert [story(fresh.step()) for _ in range(20)] == expected


def test_resume_names_an_environment_that_does_not_replay():
    class Unseeded(LampEnv):
        count = 0

        def reset(self, *, seed=None, options=None):
            Unseeded.count += 1
            obs, info = super().reset(seed=seed, options=options)
            return f"{obs} Visit {Unseeded.count}.", info

    runner = make_runner(1, env=Unseeded)
    state = runner.state_dict()
    with pytest.raises(InvalidInputError, match=r"toy \(slot 0, .*\) does not come back to where it was after 0"):
        make_runner(1, env=Unseeded).load_state_dict(state)


def test_mixture_draws_its_coin_from_the_episodes_generator():
    agent = MixtureAgent(FirstAction(), RandomAgent(), 0.5)
    assert [story(make_runner(2, agent).step()) for _ in range(3)] == [story(make_runner(2, agent).step())] * 3


def test_rollout_scales_the_reward_once_and_stores_prompts_once():
    runner = make_runner(2, agent=FirstAction())
    steps = [runner.step() for _ in range(6)]
    rollout = Rollout.from_transitions(steps, reward_scale=20.0)
    assert rollout.rewards.tolist() == [[20.0, 20.0]] * 6
    assert all(t.reward == 1.0 for row in steps for t in row)
    assert len(set(rollout.prompts)) == len(rollout.prompts) < 12
    for t, row in enumerate(steps):
        for n, transition in enumerate(row):
            assert rollout.prompts[rollout.prompt_ids[t, n]] == transition.observation.prompt
            actions = rollout.action_sets[rollout.action_set_ids[t, n]]
            assert actions == transition.observation.admissible_actions
            assert (rollout.log_probs[t, n] > -float("inf")).sum() == len(actions)


def test_environment_that_breaks_the_contract_is_named():
    class NoActions(LampEnv):
        def _info(self):
            return {"admissible_actions": []}

    with pytest.raises(InvalidInputError, match="toy.*admissible_actions"):
        make_runner(1, env=NoActions).step()
