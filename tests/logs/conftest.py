# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Episodes made by hand, so that the writer and the reader are tested without an environment."""

import numpy as np

from trl_glam.prompts import History, PromptTemplate
from trl_glam.types import Decision, EpisodeKey, EpisodeRecord, Observation, Transition


ACTIONS = ("turn left", "turn right", "go forward")


def make_episode(slot=0, number=0, length=3, success=True, options=None, with_numbers=True):
    """The transitions of one episode, whose sentences, actions and numbers all differ from step to step."""
    key = EpisodeKey(
        "Made-v0", seed=1000 * slot + number, options=options, env_kwargs={"n": 2}, slot=slot, number=number
    )
    generator = np.random.default_rng([slot, number])
    history = History(PromptTemplate())
    transitions = []
    for step in range(length + 1):
        sentences = (f"You see a red ball {step} steps forward", f"You see a wall {slot} steps left")
        if step == 0:
            history.reset("go to the red ball", sentences)
        else:
            history.append(ACTIONS[transitions[-1].decision.index], sentences, ACTIONS)
        prompt = history.prompt(ACTIONS)
        observation = Observation(key, slot, step, "go to the red ball", sentences, ACTIONS, prompt, "goto")
        if step == length:
            break
        last = step == length - 1
        log_probs = np.log(generator.dirichlet(np.ones(3))).astype(np.float32) if with_numbers else None
        value = float(np.float32(generator.normal())) if with_numbers else None
        transitions.append(
            Transition(
                observation,
                Decision(int(generator.integers(3)), log_probs, value),
                reward=generator.random() if last and success else 0.0,
                terminated=last and success,
                truncated=last and not success,
                success=last and success,
                final_observation=None,
            )
        )
    ended = transitions[-1]
    transitions[-1] = Transition(
        ended.observation, ended.decision, ended.reward, ended.terminated, ended.truncated, ended.success, observation
    )
    return transitions


def make_record(transitions):
    actions = tuple(t.decision.index for t in transitions)
    first, last = transitions[0].observation, transitions[-1]
    total = sum(t.reward for t in transitions)
    return EpisodeRecord(first.episode, first.task_kind, actions, total, len(actions), last.success, first.mission)


def write_episode(writer, transitions):
    for transition in transitions:
        writer.on_transition(transition)
    writer.on_episode_end(make_record(transitions))
