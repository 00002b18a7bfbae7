# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Symbolic-PPO: recurrent PPO on BabyAI's 7x7x3 grid and the words of the mission, without any sentences.

The learner is `RecurrentPPO` of sb3-contrib (`pip install "trl-glam[baselines]"`); here are only the network, BabyAI's
FiLM (https://huggingface.co/papers/1810.08272) without its batch normalisation, and the way to and from the library.
It differs from BabyAI's own PPO in that gradients flow through a whole rollout instead of 20 steps, and that actor and
critic have an LSTM each. sb3 steps the environments while training; elsewhere the agent plays in the one loop, where
it reads the grid from the environment itself.

    trl-glam baseline symbolic --config symbolic.cpu
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ..envs.babyai_text import BabyAITextEnv
from ..envs.contract import make_env
from ..envs.view import render_image
from ..policy.output import choose
from ..types import Decision, EpisodeRecord, InvalidInputError, Observation
from .training import BaselineConfig, BaselineRun, SavableAgent, Vocabulary, read_settings, restore, save_agent


NAME = "symbolic"
MAX_MISSION_WORDS = 64
_CODES = 16  # above every type, colour and state of Minigrid


@dataclass
class Config(BaselineConfig):
    r"""
    Settings of Symbolic-PPO, beside those of [`BaselineConfig`].

    Parameters:
        rollout_steps (`int`, *optional*, defaults to `40`):
            Steps of every environment between two updates.
        minibatch_size (`int`, *optional*, defaults to `1280`):
            Transitions of one optimizer step.
        num_ppo_epochs (`int`, *optional*, defaults to `4`):
            Passes over a rollout.
        gae_lambda (`float`, *optional*, defaults to `0.99`):
            Trace decay of the advantage.
        cliprange (`float`, *optional*, defaults to `0.2`):
            Epsilon of the ratio.
        vf_coef (`float`, *optional*, defaults to `0.5`):
            Weight of the value loss.
        entropy_coef (`float`, *optional*, defaults to `0.01`):
            Weight of the entropy bonus.
        hidden_size (`int`, *optional*, defaults to `128`):
            Channels of the grid's convolutions, size of the mission's GRU and of the LSTMs.
    """

    num_envs: int = field(default=64, metadata={"help": "Environments side by side."})
    rollout_steps: int = field(default=40, metadata={"help": "Steps of every environment between two updates."})
    minibatch_size: int = field(default=1280, metadata={"help": "Transitions of one optimizer step."})
    num_ppo_epochs: int = field(default=4, metadata={"help": "Passes over a rollout."})
    gae_lambda: float = field(default=0.99, metadata={"help": "Trace decay of the advantage."})
    cliprange: float = field(default=0.2, metadata={"help": "Epsilon of the ratio."})
    vf_coef: float = field(default=0.5, metadata={"help": "Weight of the value loss."})
    entropy_coef: float = field(default=0.01, metadata={"help": "Weight of the entropy bonus."})
    hidden_size: int = field(default=128, metadata={"help": "Channels, and size of the GRU and the LSTMs."})


class FiLMExtractor(nn.Module):
    """
    Grid and mission -> features: the mission's GRU scales and shifts the channels of two residual convolutions.

    Args:
        observation_space (`gymnasium.spaces.Dict`):
            See [`observation_space`].
        vocabulary_size (`int`):
            Number of word ids.
        hidden_size (`int`, *optional*, defaults to `128`):
            Number of channels, size of words and of the GRU.
    """

    def __init__(self, observation_space: spaces.Dict, vocabulary_size: int, hidden_size: int = 128) -> None:
        super().__init__()
        self.features_dim = hidden_size
        self.words = nn.Embedding(vocabulary_size, hidden_size, padding_idx=0)
        self.mission = nn.GRU(hidden_size, hidden_size, batch_first=True)
        # A cell is the sum of the embeddings of its type, colour and state.
        self.cells = nn.Embedding(3 * _CODES, hidden_size)
        self.register_buffer("offsets", _CODES * torch.arange(3), persistent=False)
        self.first = nn.Conv2d(hidden_size, hidden_size, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "inner": nn.Conv2d(hidden_size, hidden_size, 3, padding=1),
                    "outer": nn.Conv2d(hidden_size, hidden_size, 3, padding=1),
                    "film": nn.Linear(hidden_size, 2 * hidden_size),
                }
            )
            for _ in range(2)
        )

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """
        Features of a batch.

        Args:
            observations (`dict[str, Tensor]`):
                `image` of shape `(B, 7, 7, 3)` and `mission` of shape `(B, MAX_MISSION_WORDS)`, float as sb3 gives
                them.

        Returns:
            `Tensor` of shape `(B, hidden_size)`.
        """
        mission = self._read(observations["mission"].long())
        grid = self.cells(observations["image"].long() + self.offsets).sum(-2).permute(0, 3, 1, 2)
        grid = self.first(grid).relu()
        for block in self.blocks:
            scale, shift = block["film"](mission)[..., None, None].chunk(2, dim=1)
            grid = grid + ((1 + scale) * block["outer"](block["inner"](grid).relu()) + shift).relu()
        return grid.amax((2, 3))

    def _read(self, missions: Tensor) -> Tensor:
        # Few missions fill a batch; each is read once.
        different, row_of = missions.unique(dim=0, return_inverse=True)
        lengths = (different != 0).sum(1).clamp(min=1)  # sb3 pads a batch of sequences with zeros
        outputs, _ = self.mission(self.words(different[:, : int(lengths.max())]))
        return outputs[torch.arange(len(different), device=outputs.device), lengths - 1][row_of]


def observation_space(vocabulary_size: int) -> spaces.Dict:
    """What the network reads: the grid's codes, and the mission's word ids padded with 0."""
    return spaces.Dict(
        {
            # Its bound tells sb3 that this is no picture: it is neither transposed nor divided by 255.
            "image": spaces.Box(0, _CODES - 1, (7, 7, 3), np.uint8),
            "mission": spaces.Box(0, vocabulary_size - 1, (MAX_MISSION_WORDS,), np.int64),
        }
    )


def _encode(env: BabyAITextEnv, mission: str, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    ids = vocabulary.encode(mission)
    if len(ids) > MAX_MISSION_WORDS:
        raise InvalidInputError(
            f"The mission {mission!r} has {len(ids)} words; Symbolic-PPO reads {MAX_MISSION_WORDS}."
        )
    return {"image": render_image(env.level), "mission": np.pad(ids, (0, MAX_MISSION_WORDS - len(ids)))}


def _babyai(env: gym.Env) -> BabyAITextEnv:
    if not isinstance(env.unwrapped, BabyAITextEnv) or env.unwrapped.level.agent_view_size != 7:
        raise InvalidInputError(
            f"Symbolic-PPO sees the 7x7 grid of BabyAI-Text/... environments; {env.unwrapped} has none."
        )
    return env.unwrapped


class SymbolicEnv(gym.Env):
    """
    One slot of the training as sb3 sees it: plays the run's seeded episodes one after the other.

    Args:
        run ([`BaselineRun`]):
            Gives the episodes and is told when they end.
        slot (`int`):
            Which of the environments this is.
        vocabulary ([`Vocabulary`]):
            Learns the words of the missions.
    """

    def __init__(self, run: BaselineRun, slot: int, vocabulary: Vocabulary) -> None:
        self.run = run
        self.slot = slot
        self.vocabulary = vocabulary
        self.env = make_env(run.config.env_id, run.config.env_kwargs, run.config.env_module)
        self.observation_space = observation_space(vocabulary.size)
        self.action_space = self.env.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        # sb3 gives seeds to the first episodes alone; the run has one for each.
        self.key = self.run.episodes.next(self.slot)
        observation, info = self.env.reset(seed=self.key.seed)
        self.text = observation["mission"]
        self.vocabulary.learn(self.text)
        self.actions: list[int] = []
        return _encode(_babyai(self.env), self.text, self.vocabulary), info

    def step(self, action: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = self.env.step(int(action))
        self.actions.append(int(action))
        self.run.advance(1)
        if terminated or truncated:
            # The reward comes at the end of an episode alone.
            kind, length = info.get("task_kind"), len(self.actions)
            record = EpisodeRecord(
                self.key, kind, tuple(self.actions), float(reward), length, info["success"], self.text
            )
            self.run.on_episode_end(record)
        observation = _encode(_babyai(self.env), self.text, self.vocabulary)
        return observation, self.run.config.reward_scale * float(reward), terminated, truncated, info


class SymbolicAgent(SavableAgent):
    """
    A trained network as an agent; remembers the LSTM's state of every slot.

    Args:
        policy (`sb3_contrib.common.recurrent.policies.RecurrentActorCriticPolicy`):
            Network with its heads.
        vocabulary ([`Vocabulary`]):
            Words to ids.
    """

    name = NAME
    needs_environment = True

    def __init__(self, policy: nn.Module, vocabulary: Vocabulary) -> None:
        self.policy = policy
        self.vocabulary = vocabulary
        self._envs: dict[int, BabyAITextEnv] = {}
        self._memory: dict[int, Tensor] = {}

    def bind(self, slot: int, env: gym.Env) -> None:
        self._envs[slot] = _babyai(env)

    @torch.no_grad()
    def act(
        self, observations: Sequence[Observation], generators: Sequence[np.random.Generator], greedy: bool = False
    ) -> list[Decision]:
        num_actions = int(self.policy.action_space.n)
        for observation in observations:
            if len(observation.admissible_actions) != num_actions:
                raise InvalidInputError(
                    f"Symbolic-PPO was trained with {num_actions} actions; this environment has "
                    f"{len(observation.admissible_actions)}: {', '.join(observation.admissible_actions)}."
                )
        device = self.policy.device
        encoded = [_encode(self._envs[o.slot], o.mission, self.vocabulary) for o in observations]
        inputs = {
            name: torch.from_numpy(np.stack([one[name] for one in encoded])).to(device)
            for name in ("image", "mission")
        }
        # [2, 1, B, H]: hidden and cell state; sb3 clears those of episodes that start.
        empty = torch.zeros(2, 1, self.policy.lstm_actor.hidden_size, device=device)
        memory = torch.stack([self._memory.get(o.slot, empty) for o in observations], dim=2)
        starts = torch.tensor([float(o.step == 0) for o in observations], device=device)
        distribution, memory = self.policy.get_distribution(inputs, (memory[0], memory[1]), starts)
        for i, observation in enumerate(observations):
            self._memory[observation.slot] = torch.stack([state[:, i] for state in memory])
        log_probs = distribution.distribution.logits.cpu().numpy()
        return [
            Decision(index=choose(own, generator, greedy), log_probs=own)
            for own, generator in zip(log_probs, generators, strict=True)
        ]

    def save(self, folder: str | Path) -> None:
        """Write `symbolic.safetensors` and `symbolic_config.json` into an existing folder."""
        settings = {
            "vocabulary_size": self.vocabulary.size,
            "hidden_size": self.policy.lstm_actor.hidden_size,
            "num_actions": int(self.policy.action_space.n),
            "words": self.vocabulary.words,
        }
        save_agent(folder, NAME, self.policy, settings)


def _sb3() -> tuple[type, type]:
    """sb3-contrib's learner and its policy for observations of several parts."""
    try:
        from sb3_contrib import RecurrentPPO
        from sb3_contrib.ppo_recurrent import MultiInputLstmPolicy
    except ModuleNotFoundError as error:
        raise InvalidInputError(f'Symbolic-PPO needs {error.name}: pip install "trl-glam[baselines]".') from error
    return RecurrentPPO, MultiInputLstmPolicy


def _network(vocabulary_size: int, hidden_size: int) -> dict[str, Any]:
    """sb3's description of the network: BabyAI's heads have one hidden layer of 64."""
    return {
        "features_extractor_class": FiLMExtractor,
        "features_extractor_kwargs": {"vocabulary_size": vocabulary_size, "hidden_size": hidden_size},
        "lstm_hidden_size": hidden_size,
        "net_arch": [64],
        "optimizer_kwargs": {"eps": 1e-5},
    }


def load(folder: str | Path) -> SymbolicAgent:
    """
    Read a trained agent.

    Args:
        folder (`str` or `Path`):
            `output_dir` of a training, or a checkpoint.

    Returns:
        [`SymbolicAgent`]

    Raises:
        [`InvalidInputError`]: when the folder holds none, or sb3-contrib is missing.
    """
    _, policy_class = _sb3()
    settings = read_settings(folder, NAME)
    size = settings["vocabulary_size"]
    policy = policy_class(
        observation_space(size),
        spaces.Discrete(settings["num_actions"]),
        lr_schedule=lambda _: 0.0,
        **_network(size, settings["hidden_size"]),
    )
    restore(policy, folder, NAME)
    return SymbolicAgent(policy, Vocabulary(settings["words"], size))


def train(config: Config) -> dict[str, float]:
    """
    Train Symbolic-PPO and save it in `config.output_dir`.

    Args:
        config ([`Config`]):
            The settings.

    Returns:
        `dict[str, float]`: the metrics of the last evaluation.
    """
    recurrent_ppo, policy_class = _sb3()
    from stable_baselines3.common.vec_env import DummyVecEnv

    checkpoint = config.checkpoint()
    known = Vocabulary() if checkpoint is None else load(checkpoint).vocabulary
    run = BaselineRun(config, checkpoint)
    # Not before the first `learn` are they reset.
    envs = DummyVecEnv([lambda slot=slot: SymbolicEnv(run, slot, known) for slot in range(config.num_envs)])
    model = recurrent_ppo(
        policy_class,
        envs,
        learning_rate=config.learning_rate,
        n_steps=config.rollout_steps,
        batch_size=config.minibatch_size,
        n_epochs=config.num_ppo_epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.cliprange,
        ent_coef=config.entropy_coef,
        vf_coef=config.vf_coef,
        max_grad_norm=config.max_grad_norm,
        policy_kwargs=_network(known.size, config.hidden_size),
        seed=config.seed,
    )
    if checkpoint is not None:
        restore(model.policy, checkpoint, NAME)
    run.learns(SymbolicAgent(model.policy, known), model.policy.optimizer)
    try:
        while not run.finished:
            # One rollout and its update.
            model.learn(config.num_envs * config.rollout_steps, log_interval=None, reset_num_timesteps=False)
            losses = model.logger.name_to_value
            run.after_update({f"ppo/{name.removeprefix('train/')}": float(value) for name, value in losses.items()})
        return run.finish()
    finally:
        envs.close()
        run.close()
