"""Policy gradients on NumPy arrays: KL divergences, log-probabilities, entropies, sampling, gradients and advantages.

A batch of categorical policies is an array of `logits`, shape (..., actions); a batch of diagonal Gaussian ones is a
`mean` of that shape and a `log_std` of the same shape, or one for all, (actions,). The leading axes are the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt import reference_policy as _reference
from fastopt._line_search import LineSearchResult, kl_line_search

__all__ = [
    "LineSearchResult",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "categorical_policy_gradient",
    "categorical_sample",
    "discounted_returns",
    "gae",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_prob",
    "gaussian_policy_gradient",
    "gaussian_sample",
    "kl_line_search",
    "normalize_advantage",
]


def categorical_kl(old_logits: NDArray[Any], new_logits: NDArray[Any], *, per_sample: bool = False) -> Any:
    return _reference.categorical_kl(old_logits, new_logits, per_sample=per_sample)


def categorical_log_prob(logits: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
    return _reference.categorical_log_prob(logits, actions)


def categorical_entropy(logits: NDArray[Any]) -> NDArray[Any]:
    return _reference.categorical_entropy(logits)


def categorical_sample(logits: NDArray[Any], rng: Any = None) -> NDArray[np.int64]:
    return _reference.categorical_sample(logits, rng)


def categorical_policy_gradient(
    logits: NDArray[Any],
    actions: NDArray[Any],
    advantages: NDArray[Any],
    *,
    entropy_coef: float = 0.0,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]:
    return _reference.categorical_policy_gradient(logits, actions, advantages, entropy_coef=entropy_coef, out=out)


def gaussian_kl(
    old_mean: NDArray[Any],
    old_log_std: NDArray[Any],
    new_mean: NDArray[Any],
    new_log_std: NDArray[Any],
    *,
    per_sample: bool = False,
) -> Any:
    return _reference.gaussian_kl(old_mean, old_log_std, new_mean, new_log_std, per_sample=per_sample)


def gaussian_log_prob(mean: NDArray[Any], log_std: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
    return _reference.gaussian_log_prob(mean, log_std, actions)


def gaussian_entropy(log_std: NDArray[Any]) -> NDArray[Any]:
    return _reference.gaussian_entropy(log_std)


def gaussian_sample(
    mean: NDArray[Any], log_std: NDArray[Any], rng: Any = None, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    return _reference.gaussian_sample(mean, log_std, rng, out=out)


def gaussian_policy_gradient(
    mean: NDArray[Any],
    log_std: NDArray[Any],
    actions: NDArray[Any],
    advantages: NDArray[Any],
    *,
    entropy_coef: float = 0.0,
    out: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> tuple[float, NDArray[Any], NDArray[Any]]:
    return _reference.gaussian_policy_gradient(mean, log_std, actions, advantages, entropy_coef=entropy_coef, out=out)


def discounted_returns(
    rewards: NDArray[Any],
    terminated: NDArray[np.bool],
    truncated: NDArray[np.bool],
    gamma: float,
    *,
    next_values: NDArray[Any] | None = None,
) -> NDArray[Any]:
    return _reference.discounted_returns(rewards, terminated, truncated, gamma, next_values=next_values)


def gae(
    rewards: NDArray[Any],
    values: NDArray[Any],
    next_values: NDArray[Any],
    terminated: NDArray[np.bool],
    truncated: NDArray[np.bool],
    gamma: float,
    lam: float,
) -> tuple[NDArray[Any], NDArray[Any]]:
    return _reference.gae(rewards, values, next_values, terminated, truncated, gamma, lam)


def normalize_advantage(
    advantages: NDArray[Any], *, eps: float = 1e-8, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    return _reference.normalize_advantage(advantages, eps=eps, out=out)
