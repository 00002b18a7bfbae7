# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What training DRRN and Symbolic-PPO shares: settings, words, progress, evaluation, checkpoints.

A checkpoint holds weights, optimizer, vocabulary and episode counters. A resumed run goes on from there, not exactly:
the episodes that were running begin anew, and DRRN fills its replay memory again. Logs have the keys of Trainer's, so
that `trl-glam report` reads them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn
from tqdm.auto import tqdm

from ..agents import Agent
from ..envs.contract import make_env
from ..evaluation import Panel, evaluate_policy
from ..rollout.runner import SeededEpisodes, Sink
from ..trainer.policy_trainer_config import JSONObject
from ..types import EpisodeKey, EpisodeRecord, InvalidInputError, Transition


OPTIMIZER_NAME = "optimizer.safetensors"
STATE_NAME = "trainer_state.json"

_PAD, _UNKNOWN = 0, 1


class SavableAgent(Agent):
    """An agent with weights."""

    def save(self, folder: str | Path) -> None:
        """Write the weights and what is needed to load them."""
        raise NotImplementedError


@dataclass
class BaselineConfig:
    r"""
    Settings that both baselines have; names that [`GLAMConfig`] has mean the same here.

    Parameters:
        env_id (`str`):
            Gymnasium id of the environment.
        env_module (`str`, *optional*):
            Python module to import first, so that it registers `env_id`.
        env_kwargs (`dict[str, Any]`, *optional*):
            Keyword arguments of `gym.make`.
        num_envs (`int`, *optional*, defaults to `32`):
            Environments side by side.
        total_env_steps (`int`, *optional*, defaults to `100000`):
            Environment steps of the whole run.
        learning_rate (`float`, *optional*, defaults to `1e-4`):
            Learning rate of Adam.
        gamma (`float`, *optional*, defaults to `0.99`):
            Discount factor.
        reward_scale (`float`, *optional*, defaults to `20.0`):
            Factor of the reward in the loss; logs keep the raw reward.
        max_grad_norm (`float`, *optional*, defaults to `0.5`):
            Gradient clipping.
        logging_env_steps (`int`, *optional*, defaults to `1000`):
            Environment steps between two rows of the log.
        eval_env_steps (`int`, *optional*, defaults to `20000`):
            Environment steps between two evaluations, each with a checkpoint.
        eval_panel (`str`, *optional*):
            Name or path of the panel that is played. `None`: `eval_episodes` episodes of the training environment.
        eval_episodes (`int`, *optional*, defaults to `100`):
            Number of evaluation episodes without a panel.
        output_dir (`str`, *optional*, defaults to `"outputs/baseline"`):
            Folder of the trained agent, its log and its checkpoints.
        resume_from_checkpoint (`str`, *optional*):
            Folder of a checkpoint, or `"true"` for the newest one in `output_dir`.
        seed (`int`, *optional*, defaults to `42`):
            Seed of weights, episodes and action draws.
    """

    env_id: str | None = field(default=None, metadata={"help": "Gymnasium id of the environment."})
    env_module: str | None = field(default=None, metadata={"help": "Python module to import first."})
    env_kwargs: JSONObject | None = field(default=None, metadata={"help": "Keyword arguments of `gym.make`, as JSON."})
    num_envs: int = field(default=32, metadata={"help": "Environments side by side."})
    total_env_steps: int = field(default=100_000, metadata={"help": "Environment steps of the whole run."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Learning rate of Adam."})
    gamma: float = field(default=0.99, metadata={"help": "Discount factor."})
    reward_scale: float = field(default=20.0, metadata={"help": "Factor of the reward in the loss."})
    max_grad_norm: float = field(default=0.5, metadata={"help": "Gradient clipping."})
    logging_env_steps: int = field(default=1_000, metadata={"help": "Environment steps between two rows of the log."})
    eval_env_steps: int = field(
        default=20_000, metadata={"help": "Environment steps between two evaluations, each with a checkpoint."}
    )
    eval_panel: str | None = field(default=None, metadata={"help": "Name or path of the panel that is played."})
    eval_episodes: int = field(default=100, metadata={"help": "Number of evaluation episodes without a panel."})
    output_dir: str = field(default="outputs/baseline", metadata={"help": "Agent, log and checkpoints go here."})
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "Folder of a checkpoint, or `true` for the newest one in `output_dir`."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of weights, episodes and action draws."})

    def __post_init__(self) -> None:
        if self.env_id is None:
            raise InvalidInputError("No environment is given: set env_id, for example BabyAI-Text/GoToLocal-v0.")
        if isinstance(self.env_kwargs, str):
            try:
                self.env_kwargs = json.loads(self.env_kwargs)
            except json.JSONDecodeError as error:
                raise InvalidInputError(f"env_kwargs={self.env_kwargs!r} is not JSON: {error}.") from None
        for name, value in asdict(self).items():
            if name not in ("seed", "gamma") and isinstance(value, (int, float)) and value <= 0:
                raise InvalidInputError(f"{name}={value!r} is given; it must be greater than 0.")
        if not 0 <= self.gamma <= 1:
            raise InvalidInputError(f"gamma={self.gamma!r} is given; it must be between 0 and 1.")

    def checkpoint(self) -> Path | None:
        """The checkpoint to go on from, if one is asked for."""
        if self.resume_from_checkpoint is None or self.resume_from_checkpoint.lower() == "false":
            return None
        if self.resume_from_checkpoint.lower() != "true":
            folder = Path(self.resume_from_checkpoint)
            if not (folder / OPTIMIZER_NAME).is_file():
                raise InvalidInputError(f"{folder} is no checkpoint: it has no {OPTIMIZER_NAME}.")
            return folder
        if not (found := checkpoints(self.output_dir)):
            raise InvalidInputError(f"{self.output_dir} holds no checkpoint-N to resume from.")
        return found[-1]


class Vocabulary:
    """
    Words in the order in which training met them; id 0 pads, id 1 is any other word.

    Args:
        words (`list[str]`, *optional*):
            Words known already.
        size (`int`, *optional*, defaults to `2000`):
            Number of ids, those two included. Words that training meets when all are given stay unknown.
    """

    def __init__(self, words: list[str] | None = None, size: int = 2_000) -> None:
        self.size = size
        self._ids = {word: i for i, word in enumerate(words or [], _UNKNOWN + 1)}

    @property
    def words(self) -> list[str]:
        return list(self._ids)

    def learn(self, text: str) -> None:
        """Give ids to the words of a text that have none."""
        for word in _words(text):
            if word not in self._ids and len(self._ids) < self.size - _UNKNOWN - 1:
                self._ids[word] = len(self._ids) + _UNKNOWN + 1

    def encode(self, text: str) -> list[int]:
        """Ids of the words of a text, punctuation left out; never empty."""
        return [self._ids.get(word, _UNKNOWN) for word in _words(text)] or [_UNKNOWN]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class BaselineRun(Sink):
    """
    A run as it is watched and kept: counts steps, shows progress, evaluates, writes log and checkpoints.

    Args:
        config ([`BaselineConfig`]):
            The settings.
        checkpoint (`Path`, *optional*):
            Where the run goes on from.
    """

    def __init__(self, config: BaselineConfig, checkpoint: Path | None = None) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.episodes = SeededEpisodes(config.env_id, config.seed, env_kwargs=config.env_kwargs)
        self.panel = (
            Panel.load(config.eval_panel)
            if config.eval_panel
            else Panel.from_env(config.env_id, config.eval_episodes, env_kwargs=config.env_kwargs)
        )
        self.env_steps = 0
        self.log_history: list[dict[str, float]] = []
        if checkpoint is not None:
            state = json.loads((checkpoint / STATE_NAME).read_text(encoding="utf-8"))
            self.env_steps, self.log_history = state["env_steps"], state["log_history"]
            self.episodes.numbers = {int(slot): number for slot, number in state["episode_numbers"].items()}
        self._logged = self._evaluated = self.env_steps
        self._recent: deque[EpisodeRecord] = deque(maxlen=100)
        # Without a terminal the evaluations alone are printed.
        self._bar = tqdm(
            total=config.total_env_steps, initial=self.env_steps, unit="step", dynamic_ncols=True, disable=None
        )

    def learns(self, agent: SavableAgent, optimizer: torch.optim.Optimizer) -> None:
        """
        Say who learns, before the first step.

        Args:
            agent ([`SavableAgent`]):
                Its weights are restored already.
            optimizer (`torch.optim.Optimizer`):
                Of its weights; restored here.
        """
        self.agent, self.optimizer = agent, optimizer
        self._bar.set_description_str(agent.name)
        if self.checkpoint is not None:
            load_optimizer(optimizer, self.checkpoint / OPTIMIZER_NAME)

    @property
    def finished(self) -> bool:
        return self.env_steps >= self.config.total_env_steps

    def make_env(self, key: EpisodeKey) -> gym.Env:
        """The environment of an episode."""
        return make_env(key.env_id, key.env_kwargs, self.config.env_module)

    def on_transition(self, transition: Transition) -> None:
        self.advance(1)

    def advance(self, steps: int) -> None:
        """Count environment steps."""
        self.env_steps += steps
        self._bar.update(steps)

    def on_episode_end(self, record: EpisodeRecord) -> None:
        self._recent.append(record)
        success = sum(record.success for record in self._recent) / len(self._recent)
        self._bar.set_postfix_str(f"success {success:.2f}, length {record.length}", refresh=False)

    def after_update(self, metrics: dict[str, float]) -> None:
        """Log, evaluate and keep a checkpoint when it is time; called between environment steps."""
        if self.env_steps - self._logged >= self.config.logging_env_steps and self._recent:
            self._logged = self.env_steps
            count = len(self._recent)
            rollout = {
                "rollout/success_rate": sum(record.success for record in self._recent) / count,
                "rollout/mean_length": sum(record.length for record in self._recent) / count,
            }
            self.log_history.append({"env_steps": self.env_steps, **rollout, **metrics})
        if self.env_steps - self._evaluated >= self.config.eval_env_steps and not self.finished:
            self._evaluated = self.env_steps
            self.evaluate()
            self._write_checkpoint()

    def evaluate(self) -> dict[str, float]:
        """Play the panel with sampled actions and log what comes out."""
        config = self.config
        result = evaluate_policy(
            self.agent, self.panel, seed=config.seed, env_kwargs=config.env_kwargs, make_env=self.make_env
        )
        low, high = result.interval
        metrics = {
            "eval_success_rate": result.success_rate,
            "eval_success_rate_low": low,
            "eval_success_rate_high": high,
            "eval_mean_return": result.mean_return,
            "eval_mean_length": result.mean_length,
        }
        self.log_history.append({"env_steps": self.env_steps, **metrics})
        self._bar.write(f"step {self.env_steps}: success {result.success_rate:.3f} [{low:.3f}, {high:.3f}]")
        return metrics

    def finish(self) -> dict[str, float]:
        """Evaluate a last time and save the agent with its log; returns the metrics."""
        metrics = self.evaluate()
        self._write(Path(self.config.output_dir))
        return metrics

    def close(self) -> None:
        self._bar.close()

    def _write_checkpoint(self) -> None:
        folder = Path(self.config.output_dir, f"checkpoint-{self.env_steps}")
        # Under its name only once it is whole: a run killed here leaves no half checkpoint.
        partial = folder.with_name(f"{folder.name}.partial")
        for stale in (partial, folder):
            shutil.rmtree(stale, ignore_errors=True)
        self._write(partial)
        save_optimizer(self.optimizer, partial / OPTIMIZER_NAME)
        partial.rename(folder)
        for old in checkpoints(self.config.output_dir)[:-2]:
            shutil.rmtree(old)

    def _write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.agent.save(folder)
        state = {
            "env_steps": self.env_steps,
            "episode_numbers": self.episodes.numbers,
            "config": asdict(self.config),
            "log_history": self.log_history,
        }
        (folder / STATE_NAME).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    found = [path for path in Path(folder).glob("checkpoint-*") if path.name.split("-")[1].isdecimal()]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def save_agent(folder: str | Path, name: str, network: nn.Module, settings: dict[str, Any]) -> None:
    """Write `{name}.safetensors` and `{name}_config.json`."""
    save_model(network, str(Path(folder, f"{name}.safetensors")))
    Path(folder, f"{name}_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def read_settings(folder: str | Path, name: str) -> dict[str, Any]:
    """The settings that [`save_agent`] wrote."""
    path = Path(folder, f"{name}_config.json")
    if not path.is_file():
        raise InvalidInputError(
            f"{folder} holds no trained {name} agent (no {path.name}): give the output_dir of `trl-glam baseline "
            f"{name}`, or one of its checkpoints."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def restore(network: nn.Module, folder: str | Path, name: str) -> None:
    """Load the weights that [`save_agent`] wrote; one too many or too few raises."""
    load_model(network, Path(folder, f"{name}.safetensors"))


def save_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Write Adam's moments, named `{parameter}.{moment}`; its settings come from the configuration."""
    state = optimizer.state_dict()["state"]
    save_file(
        {f"{i}.{key}": value.contiguous() for i, moments in state.items() for key, value in moments.items()}, path
    )


def load_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Read what [`save_optimizer`] wrote."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in load_file(path).items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
