"""Returns and advantages."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastopt.reference.core import LEAST_SQUARES, Array, exponential, into, ordered_sum, square_scale
from fastopt.reference.policy.core import as_flags, which_count

__all__ = ["discounted_returns", "gae", "normalize_advantage", "vtrace"]


def discounted_returns(
    rewards: Array,
    terminated: NDArray[np.bool],
    truncated: NDArray[np.bool],
    gamma: float,
    *,
    next_values: Array | None = None,
) -> Array:
    g = rewards.dtype.type(gamma)
    terminated, truncated = as_flags(terminated), as_flags(truncated)
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
    *,
    valid: NDArray[np.bool] | None = None,
) -> tuple[Array, Array]:
    f, counts = rewards.dtype.type, which_count(valid, rewards)
    terminated, truncated = as_flags(terminated), as_flags(truncated)
    advantages = np.zeros(rewards.shape, rewards.dtype)
    following = np.zeros(rewards.shape[1:], rewards.dtype)
    for t in reversed(range(len(rewards))):
        target = np.where(terminated[t], rewards[t], rewards[t] + f(gamma) * next_values[t])
        delta = target - values[t]
        following = np.where(terminated[t] | truncated[t], delta, delta + f(gamma * lam) * following)
        following = np.where(counts[t], following, f(0))
        advantages[t] = following
    return advantages, np.where(counts, advantages + values, f(0))


def vtrace(
    log_ratios: Array,
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: NDArray[np.bool],
    truncated: NDArray[np.bool],
    gamma: float,
    *,
    lam: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
) -> tuple[Array, Array]:
    f = rewards.dtype.type
    terminated, truncated = as_flags(terminated), as_flags(truncated)
    ratio = exponential(log_ratios)
    rho = np.where(ratio > f(rho_clip), f(rho_clip), ratio)
    c = np.where(ratio > f(c_clip), f(c_clip), ratio)
    advantages, corrections = np.zeros(rewards.shape, rewards.dtype), np.zeros(rewards.shape, rewards.dtype)
    after = np.zeros(rewards.shape[1:], rewards.dtype)
    for t in reversed(range(len(rewards))):
        after = np.where(truncated[t], f(0), after)
        delta = rho[t] * (np.where(terminated[t], rewards[t], rewards[t] + f(gamma) * next_values[t]) - values[t])
        target = np.where(terminated[t], rewards[t], rewards[t] + f(gamma) * (next_values[t] + after))
        advantages[t] = rho[t] * (target - values[t])
        after = np.where(terminated[t], delta, delta + (f(gamma * lam) * c[t]) * after)
        corrections[t] = after
    return values + corrections, advantages


def normalize_advantage(advantages: Array, *, eps: float = 1e-8, ddof: int = 0, out: Array | None = None) -> Array:
    x, scale = advantages.astype(np.float64, order="C"), 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        deviations, squares, variance = _deviations(x, ddof)
    if not LEAST_SQUARES <= squares < math.inf and advantages.dtype == np.float64:
        scale = square_scale(squares, [x])
    if scale > 1 or (scale < 1 and not math.isfinite(squares)):  # equal numbers of any size are right as they are
        deviations, _, variance = _deviations(x * scale, ddof)
    else:
        scale = 1.0
    return into(out, (deviations * (1 / (math.sqrt(variance) + eps * scale))).astype(advantages.dtype))


def _deviations(x: NDArray[np.float64], ddof: int) -> tuple[NDArray[np.float64], float, float]:
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
    variance = (squares / x.size - rest * rest) * (x.size / (x.size - ddof))
    return (x - mean) - rest, squares, 0.0 if variance < 0 else variance
