"""Returns and advantages."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastopt.reference.core import LEAST_SQUARES, Array, into, ordered_sum, square_scale

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
    terminated, truncated = _flags(terminated), _flags(truncated)
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
    terminated, truncated = _flags(terminated), _flags(truncated)
    advantages = np.zeros(rewards.shape, rewards.dtype)
    following = np.zeros(rewards.shape[1:], rewards.dtype)
    for t in reversed(range(len(rewards))):
        target = np.where(terminated[t], rewards[t], rewards[t] + f(gamma) * next_values[t])
        delta = target - values[t]
        following = np.where(terminated[t] | truncated[t], delta, delta + f(gamma * lam) * following)
        advantages[t] = following
    return advantages, advantages + values


def _flags(x: NDArray[np.bool]) -> NDArray[np.bool]:
    """Booleans of bytes 0 and 1, whatever those of a view of other memory are: true is what is not 0."""
    return x.view(np.uint8) != 0


def normalize_advantage(advantages: Array, *, eps: float = 1e-8, out: Array | None = None) -> Array:
    x, scale = advantages.astype(np.float64, order="C"), 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        deviations, squares, variance = _deviations(x)
    if not LEAST_SQUARES <= squares < math.inf and advantages.dtype == np.float64:
        scale = square_scale(squares, [x])
    if scale > 1 or (scale < 1 and not math.isfinite(squares)):  # equal numbers of any size are right as they are
        deviations, _, variance = _deviations(x * scale)
    else:
        scale = 1.0
    return into(out, (deviations * (1 / (math.sqrt(variance) + eps * scale))).astype(advantages.dtype))


def _deviations(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, float]:
    """Deviations from the mean, the sum of their squares up to a rounding of the mean, and the variance.

    Differences from the first number make the mean of equal numbers exact, and that of neighbours as exact as theirs.
    What is left when it is rounded, which may be all that neighbours differ by, is taken off last.
    """
    first = x.flat[0]
    shift = ordered_sum(x - first) / x.size
    mean = first + shift
    of_shift = mean - first
    rest = (first - (mean - of_shift)) + (shift - of_shift)  # exactly first + shift - mean
    squares = ordered_sum(np.square(x - mean))
    variance = squares / x.size - rest * rest
    return (x - mean) - rest, squares, 0.0 if variance < 0 else variance
