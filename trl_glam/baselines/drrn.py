# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""DRRN: Q-learning over action strings with one recurrent encoder for the prompt and one for the action.

"Deep Reinforcement Learning with a Natural Language Action Space" (He et al., 2016,
https://huggingface.co/papers/1511.04636) with the settings of GLAM (https://huggingface.co/papers/2302.02662): one
word embedding, two GRUs, a two-layer score of each (prompt, action) pair, uniform replay, Huber loss, no target
network; the softmax of the Q-values is the policy. Words are its tokens, time limits are bootstrapped, and the rest of
the original's memory (priorities) is left out.

    trl-glam baseline drrn --config drrn.cpu
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from ..policy.output import choose
from ..prompts import PromptTemplate
from ..rollout.runner import Runner, Sink
from ..types import Decision, Observation, Transition
from .training import BaselineConfig, BaselineRun, SavableAgent, Vocabulary, read_settings, restore, save_agent


NAME = "drrn"


@dataclass
class Config(BaselineConfig):
    r"""
    Settings of DRRN, beside those of [`BaselineConfig`].

    Parameters:
        hidden_size (`int`, *optional*, defaults to `128`):
            Size of the word embedding, of both GRUs and of the scorer's hidden layer.
        replay_size (`int`, *optional*, defaults to `100000`):
            Transitions kept; the paper keeps 5 million.
        batch_size (`int`, *optional*, defaults to `64`):
            Transitions of one optimizer step.
        learning_starts (`int`, *optional*, defaults to `1000`):
            Transitions in the memory before learning begins.
        updates_per_step (`int`, *optional*, defaults to `1`):
            Optimizer steps after each step of all environments.
    """

    gamma: float = field(default=0.9, metadata={"help": "Discount factor."})
    max_grad_norm: float = field(default=5.0, metadata={"help": "Gradient clipping."})
    hidden_size: int = field(default=128, metadata={"help": "Size of the embedding, the GRUs and the scorer."})
    replay_size: int = field(default=100_000, metadata={"help": "Transitions kept."})
    batch_size: int = field(default=64, metadata={"help": "Transitions of one optimizer step."})
    learning_starts: int = field(default=1_000, metadata={"help": "Transitions in the memory before learning begins."})
    updates_per_step: int = field(default=1, metadata={"help": "Optimizer steps after each step of all environments."})


class DRRN(nn.Module):
    """
    Q-values of (state, action) pairs.

    Args:
        vocabulary_size (`int`):
            Number of word ids; 0 pads.
        hidden_size (`int`, *optional*, defaults to `128`):
            Size of embedding, GRUs and hidden layer.
    """

    def __init__(self, vocabulary_size: int, hidden_size: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, hidden_size, padding_idx=0)
        self.state_encoder = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.action_encoder = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.scorer = nn.Sequential(nn.Linear(2 * hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))

    def forward(self, states: Tensor, actions: Tensor, state_of: Tensor, action_of: Tensor) -> Tensor:
        """
        Score the admissible actions of a batch of states.

        Args:
            states (`Tensor` of shape `(S, L)`), actions (`Tensor` of shape `(K, M)`):
                int64 word ids of the different states and of the different actions.
            state_of (`Tensor` of shape `(B,)`), action_of (`Tensor` of shape `(B, A)`):
                int64 rows of `states` and `actions`; -1 where there are fewer actions.

        Returns:
            `Tensor` of shape `(B, A)`: float32 Q-values, `-inf` where there are fewer actions.
        """
        state = self._encode(self.state_encoder, states)[state_of]
        action = self._encode(self.action_encoder, actions)[action_of.clamp(min=0)]
        pairs = torch.cat([state[:, None].expand(-1, action.shape[1], -1), action], dim=-1)
        return self.scorer(pairs).squeeze(-1).masked_fill(action_of < 0, -torch.inf)

    def _encode(self, encoder: nn.GRU, ids: Tensor) -> Tensor:
        lengths = (ids != 0).sum(1).cpu()
        packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        return encoder(packed)[1][-1]


class DRRNAgent(SavableAgent):
    """
    Acts by the softmax of its Q-values; reads the whole prompt.

    Args:
        network ([`DRRN`]):
            Scores.
        vocabulary ([`Vocabulary`]):
            Words to ids.
    """

    name = NAME

    def __init__(self, network: DRRN, vocabulary: Vocabulary) -> None:
        self.network = network
        self.vocabulary = vocabulary

    def encode(self, prompt: str) -> np.ndarray:
        """The word ids of a prompt, int16."""
        return np.array(self.vocabulary.encode(prompt), dtype=np.int16)

    def q_values(self, states: Sequence[np.ndarray], actions: Sequence[tuple[str, ...]]) -> Tensor:
        """
        Q-values of the admissible actions.

        Args:
            states (`list[np.ndarray]`):
                Encoded prompts.
            actions (`list[tuple[str, ...]]`):
                The admissible actions of each.

        Returns:
            `Tensor` of shape `(len(states), most actions)`: see [`DRRN.forward`].
        """
        # Small worlds repeat themselves: a state is read once however often the batch holds it.
        rows: dict[bytes, int] = {}
        state_of = torch.tensor([rows.setdefault(state.tobytes(), len(rows)) for state in states])
        ids = [torch.from_numpy(np.frombuffer(state, dtype=np.int16).astype(np.int64)) for state in rows]
        texts = {text: i for i, text in enumerate(dict.fromkeys(text for row in actions for text in row))}
        action_ids = [torch.tensor(self.vocabulary.encode(text)) for text in texts]
        action_of = pad_sequence([torch.tensor([texts[t] for t in row]) for row in actions], True, padding_value=-1)
        inputs = (pad_sequence(ids, True), pad_sequence(action_ids, True), state_of, action_of)
        return self.network(*(tensor.to(self.network.embedding.weight.device) for tensor in inputs))

    @torch.no_grad()
    def act(
        self, observations: Sequence[Observation], generators: Sequence[np.random.Generator], greedy: bool = False
    ) -> list[Decision]:
        states = [self.encode(observation.prompt) for observation in observations]
        q_values = self.q_values(states, [observation.admissible_actions for observation in observations])
        log_probs = q_values.log_softmax(-1).cpu().numpy()
        values = q_values.max(-1).values.tolist()
        decisions = []
        for i, (observation, generator) in enumerate(zip(observations, generators, strict=True)):
            own = log_probs[i, : len(observation.admissible_actions)]
            decisions.append(Decision(index=choose(own, generator, greedy), log_probs=own, value=values[i]))
        return decisions

    def save(self, folder: str | Path) -> None:
        """Write `drrn.safetensors` and `drrn_config.json` into an existing folder."""
        settings = {
            "vocabulary_size": self.vocabulary.size,
            "hidden_size": self.network.embedding.embedding_dim,
            "words": self.vocabulary.words,
        }
        save_agent(folder, NAME, self.network, settings)


def load(folder: str | Path) -> DRRNAgent:
    """
    Read a trained agent.

    Args:
        folder (`str` or `Path`):
            `output_dir` of a training, or a checkpoint.

    Returns:
        [`DRRNAgent`]

    Raises:
        [`InvalidInputError`]: when the folder holds none.
    """
    settings = read_settings(folder, NAME)
    network = DRRN(settings["vocabulary_size"], settings["hidden_size"])
    restore(network, folder, NAME)
    return DRRNAgent(network, Vocabulary(settings["words"], settings["vocabulary_size"]))


class Memory(NamedTuple):
    """A remembered transition; without `next_actions` the episode ended there for good."""

    state: np.ndarray
    action: str
    reward: float
    next_state: np.ndarray
    next_actions: tuple[str, ...]


class ReplayMemory(Sink):
    """
    Keeps the last transitions of a runner.

    Args:
        agent ([`DRRNAgent`]):
            Encodes prompts; its vocabulary learns their words.
        size (`int`):
            Transitions kept; the oldest goes first.
    """

    def __init__(self, agent: DRRNAgent, size: int) -> None:
        self.agent = agent
        self.size = size
        self._memories: list[Memory] = []
        self._oldest = 0
        self._last: dict[int, tuple[np.ndarray, Transition]] = {}

    def __len__(self) -> int:
        return len(self._memories)

    def on_transition(self, transition: Transition) -> None:
        observation = transition.observation
        state = self._learn(observation)
        # What an action led to is known when the next one is taken, or when the episode ends.
        if observation.slot in self._last:
            self._add(*self._last.pop(observation.slot), state, observation.admissible_actions)
        if transition.ended:
            final = transition.final_observation
            # After the end an environment need not name actions: the last ones stand in.
            actions = final.admissible_actions or observation.admissible_actions
            self._add(state, transition, self._learn(final), actions if transition.truncated else ())
        else:
            self._last[observation.slot] = (state, transition)

    def sample(self, count: int, generator: np.random.Generator) -> list[Memory]:
        """Draw transitions uniformly, with replacement."""
        return [self._memories[i] for i in generator.integers(len(self._memories), size=count)]

    def _learn(self, observation: Observation) -> np.ndarray:
        for text in (observation.prompt, *observation.admissible_actions):
            self.agent.vocabulary.learn(text)
        return self.agent.encode(observation.prompt)

    def _add(
        self, state: np.ndarray, taken: Transition, next_state: np.ndarray, next_actions: tuple[str, ...]
    ) -> None:
        action = taken.observation.admissible_actions[taken.decision.index]
        memory = Memory(state, action, taken.reward, next_state, tuple(next_actions))
        if len(self._memories) < self.size:
            self._memories.append(memory)
        else:
            self._memories[self._oldest] = memory
            self._oldest = (self._oldest + 1) % self.size


def td_loss(agent: DRRNAgent, batch: Sequence[Memory], gamma: float, reward_scale: float) -> Tensor:
    """
    Huber loss of Q(s, a) against `reward_scale * r + gamma * max_a' Q(s', a')`.

    Args:
        agent ([`DRRNAgent`]):
            Gives the Q-values on both sides.
        batch (`list[Memory]`):
            Transitions.
        gamma (`float`), reward_scale (`float`):
            Discount, and factor of the rewards.

    Returns:
        `Tensor`: a scalar.
    """
    device = agent.network.embedding.weight.device
    targets = reward_scale * torch.tensor([memory.reward for memory in batch], device=device)
    goes_on = [i for i, memory in enumerate(batch) if memory.next_actions]
    if goes_on:
        following = [batch[i] for i in goes_on]
        with torch.no_grad():
            q_next = agent.q_values([m.next_state for m in following], [m.next_actions for m in following])
        targets[goes_on] += gamma * q_next.max(-1).values
    q_taken = agent.q_values([m.state for m in batch], [(m.action,) for m in batch])[:, 0]
    return smooth_l1_loss(q_taken, targets)


def train(config: Config) -> dict[str, float]:
    """
    Train DRRN and save it in `config.output_dir`.

    Args:
        config ([`Config`]):
            The settings.

    Returns:
        `dict[str, float]`: the metrics of the last evaluation.
    """
    torch.manual_seed(config.seed)
    checkpoint = config.checkpoint()
    if checkpoint is None:
        vocabulary = Vocabulary()
        agent = DRRNAgent(DRRN(vocabulary.size, config.hidden_size), vocabulary)
    else:
        agent = load(checkpoint)
    agent.network.to("cuda" if torch.cuda.is_available() else "cpu")
    optimizer = torch.optim.Adam(agent.network.parameters(), lr=config.learning_rate)
    run = BaselineRun(config, checkpoint)
    run.learns(agent, optimizer)
    memory = ReplayMemory(agent, config.replay_size)
    # GLAM's prompt, window of 3, is also what evaluation shows to agents without a template of their own.
    runner = Runner(
        run.make_env, run.episodes, config.num_envs, agent, PromptTemplate(), config.seed, sinks=[memory, run]
    )
    generator = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(run.env_steps,)))
    try:
        while not run.finished:
            runner.step()
            if len(memory) < config.learning_starts:
                continue
            for _ in range(config.updates_per_step):
                loss = td_loss(agent, memory.sample(config.batch_size, generator), config.gamma, config.reward_scale)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.network.parameters(), config.max_grad_norm)
                optimizer.step()
            run.after_update({"drrn/td_loss": loss.item()})
        return run.finish()
    finally:
        runner.close()
