"""Returns and advantages."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastopt.reference.core import Array, into, ordered_sum

__all__ = ["discounted_returns", "gae", "normalize_advantage"]


def discounted_returns(
    rewards: Array,
    terminated: NDArray[np.bool],
    truncated: NDArray[np.bool],
    gamma: float,
    *,
    next_values: Array | None = None,
) -> Array:
    g = rewards.dtype.type(gamma)
    returns = np.zeros(rewards.shape, rewards.dtype)
    for t in reversed(range(len(rewards))):
        cut = truncated[t] | (t == len(rewards) - 1)
        following = returns[(t + 1) % len(rewards)]
        if next_values is None:
            returns[t] = np.where(terminated[t] | cut, rewards[t], rewards[t] + g * following)
        else:
            following = np.where(cut, next_values[t], following)
            returns[t] = np.where(terminated[t], rewards[t], rewards[t] + g * following)
    return returns


def gae(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: NDArray[np.bool],
    truncated: NDArray[np.bool],
    gamma: float,
    lam: float,
) -> tuple[Array, Array]:
    f = rewards.dtype.type
    advantages = np.zeros(rewards.shape, rewards.dtype)
    following = np.zeros(rewards.shape[1:], rewards.dtype)
    for t in reversed(range(len(rewards))):
        target = np.where(terminated[t], rewards[t], rewards[t] + f(gamma) * next_values[t])
        delta = target - values[t]
        following = np.where(terminated[t] | truncated[t], delta, delta + f(gamma * lam) * following)
        advantages[t] = following
    return advantages, advantages + values


def normalize_advantage(advantages: Array, *, eps: float = 1e-8, out: Array | None = None) -> Array:
    x = advantages.astype(np.float64, order="C")
    mean = ordered_sum(x) / x.size
    std = math.sqrt(ordered_sum(np.square(x - mean)) / x.size)
    return into(out, ((x - mean) * (1 / (std + eps))).astype(advantages.dtype))
