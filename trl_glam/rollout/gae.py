# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Generalised advantage estimation over a block of steps x environments, in NumPy.

Episodes end inside the block: a terminated one is worth 0 afterwards, a truncated one the value of its terminal
observation, and the trace stops at both.
"""

import numpy as np


def compute_gae(
    rewards: np.ndarray,
    values: np.ndarray,
    ended: np.ndarray,
    terminal_values: np.ndarray,
    last_values: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> tuple[np.ndarray, np.ndarray]:
    r"""
    Advantages and returns (Schulman et al., 2016, https://huggingface.co/papers/1506.02438, equation 16).

    $$\delta_t = r_t + \gamma V'_{t+1} - V_t, \qquad A_t = \delta_t + \gamma \lambda (1 - e_t) A_{t+1}$$

    with $e_t$ = 1 where an episode ended with step t, and $V'_{t+1}$ = `terminal_values[t]` there, `values[t + 1]`
    elsewhere.

    Args:
        rewards (`np.ndarray` of shape `(T, N)`):
            Scaled rewards.
        values (`np.ndarray` of shape `(T, N)`):
            Value of each step's observation, in scaled-reward units.
        ended (`np.ndarray` of shape `(T, N)`, bool):
            Whether the episode ended (terminated or truncated) with this step.
        terminal_values (`np.ndarray` of shape `(T, N)`):
            Value of the observation after an ended episode's last step: 0 if terminated, V(terminal observation) if
            truncated and bootstrapped. Read only where `ended`.
        last_values (`np.ndarray` of shape `(N,)`):
            Value of the observations after the last step. Read only for episodes that still run.
        gamma (`float`):
            Discount factor.
        gae_lambda (`float`):
            Trace decay.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: advantages and returns (= advantages + values), float32, shape `(T, N)`.
    """
    values = values.astype(np.float64)
    next_values = np.where(ended, terminal_values, np.concatenate([values[1:], last_values[None]]))
    deltas = rewards + gamma * next_values - values
    decay = gamma * gae_lambda * ~ended
    advantages = np.zeros_like(deltas)
    trace = np.zeros_like(deltas[0])
    for step in range(len(deltas) - 1, -1, -1):
        trace = deltas[step] + decay[step] * trace
        advantages[step] = trace
    return advantages.astype(np.float32), (advantages + values).astype(np.float32)
