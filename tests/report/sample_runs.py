# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Run folders as training, cloning, collecting and evaluating leave them, made in seconds without a language model.

A softmax agent that leans ever more on the bot stands for a policy that learns: it has probabilities and values.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from trl_glam.agents import Agent, BotAgent
from trl_glam.envs.contract import make_env
from trl_glam.evaluation.evaluate import evaluate_policy
from trl_glam.evaluation.panels import Panel
from trl_glam.evaluation.results import score_entry, write_results
from trl_glam.logs import LogWriter, collect_log
from trl_glam.prompts import PromptTemplate
from trl_glam.rollout.runner import EpisodeCollector, ListedEpisodes, Runner, SeededEpisodes
from trl_glam.training_summary import TrainingSummary
from trl_glam.types import Decision


ENV_ID = "BabyAI-Text/MixedTrainLocal-v0"
ENV_KWARGS = {"max_steps": 20}
TEMPLATE = PromptTemplate(num_observations=1)


class LeaningAgent(Agent):
    """Softmax over noise, plus `skill` on what the bot would do."""

    name = "leaning"

    def __init__(self, skill: float) -> None:
        self.skill = skill
        self.bot = BotAgent()

    def bind(self, slot, env):
        self.bot.bind(slot, env)

    def act(self, observations, generators, greedy=False):
        advice = self.bot.act(observations, generators)
        return [self._decide(*one, greedy) for one in zip(observations, advice, generators, strict=True)]

    def _decide(self, observation, advice, generator, greedy):
        logits = generator.normal(size=len(observation.admissible_actions))
        logits[advice.index] += self.skill
        probabilities = np.exp(logits) / np.exp(logits).sum()
        index = probabilities.argmax() if greedy else generator.choice(len(probabilities), p=probabilities)
        value = np.tanh(self.skill / 4) * 0.95 ** max(6 - observation.step, 0)
        return Decision(int(index), np.log(probabilities).astype(np.float32), float(value))


def make_training_run(
    folder: Path, seed: int, *, updates=6, episodes=4, finished=True, trainer="GLAM", speed=1.0
) -> Path:
    """`output_dir` of a run: its log, Trainer's state at the end (or in a checkpoint) and the summary."""
    run = {"prompt_template": TEMPLATE.to_dict()}
    writer = LogWriter(folder / "interactions", run_id=f"run-{seed}", policy="local:flan-t5-small-titles", run=run)
    collector, source = EpisodeCollector(), SeededEpisodes(ENV_ID, seed, env_kwargs=ENV_KWARGS)
    rows, recent, steps = [], [], 0
    for update in range(updates):
        writer.update = update
        keys = [source.next(slot) for slot in range(episodes)]
        agent, sinks = LeaningAgent(speed * 6.0 * update / updates), [collector, writer]
        Runner(_make, ListedEpisodes(keys), episodes, agent, TEMPLATE, seed, sinks=sinks).run()
        records = collector.take()
        recent = (recent + [record.success for record in records])[-20:]
        steps += sum(record.length for record in records)
        success = float(np.mean(recent))
        row = {
            "env_steps": steps,
            "step": update,
            "rollout/success_rate": success,
            "rollout/return": float(np.mean([record.episode_return for record in records])),
            "rollout/length": float(np.mean([record.length for record in records])),
            "ppo/entropy": 1.79 / (1 + speed * update),
            "ppo/approx_kl": 0.02 / (1 + update),
        }
        for kind in sorted({record.task_kind for record in records}):
            of_kind = [record.success for record in records if record.task_kind == kind]
            row[f"rollout/success_rate/{kind}"] = float(np.mean(of_kind))
        rows.append(row)
        if update % 3 == 2:
            band = {
                "eval_success_rate_low": max(success - 0.1, 0.0),
                "eval_success_rate_high": min(success + 0.1, 1.0),
            }
            rows.append({"env_steps": steps, "step": update, "eval_success_rate": success, **band})
    writer.close()
    state = folder if finished else folder / "checkpoint-20"
    state.mkdir(parents=True, exist_ok=True)
    (state / "trainer_state.json").write_text(json.dumps({"log_history": rows}))
    settings = {"total_env_steps": 16384, "num_envs": 32, "speed": speed, "seed": seed}
    TrainingSummary(trainer=trainer, env_id=ENV_ID, env_kwargs=ENV_KWARGS, settings=settings).save(folder)
    return folder


def _make(key):
    return make_env(key.env_id, key.env_kwargs)


def make_evaluation(folder: Path, policy: str, skill: float, *, episodes: int = 20) -> Path:
    """A folder with `results.json`."""
    panel = Panel.from_env(ENV_ID, episodes, env_kwargs=ENV_KWARGS)
    modes = {
        mode: evaluate_policy(LeaningAgent(skill), panel, greedy=mode == "greedy", template=TEMPLATE)
        for mode in ("sampled", "greedy")
    }
    floor = {"random": evaluate_policy(LeaningAgent(0.0), panel, template=TEMPLATE).success}
    entry = score_entry(modes, references=floor, published={"GFlan-T5": ".89±.05"})
    write_results(folder, policy, 0, {"no_change": entry})
    return folder


def make_log(
    folder: Path, agent: Agent, *, policy: str, episodes: int = 6, seed: int = 3, env_id: str = ENV_ID
) -> Path:
    """A collected log; the same seed gives the same episodes to every agent."""
    kwargs = ENV_KWARGS if env_id == ENV_ID else {}
    collect_log(
        agent,
        folder,
        env_id=env_id,
        env_kwargs=kwargs,
        seed=seed,
        policy=policy,
        num_episodes=episodes,
        num_envs=4,
        template=TEMPLATE,
    )
    return folder
