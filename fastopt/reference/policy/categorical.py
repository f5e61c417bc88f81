"""Categorical policies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.random import DOMAIN_ACTION, resolve_rng
from fastopt.reference.core import Array, exponential, into, logarithm
from fastopt.reference.policy.core import as_rows, batch_mean, row_sum, which_count
from fastopt.reference.random import uniforms, words

__all__ = [
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "categorical_policy_gradient",
    "categorical_sample",
]


def categorical_kl(old_logits: Array, new_logits: Array, *, per_sample: bool = False) -> Any:
    old_x, old_e, old_sum = softmax(old_logits)
    new_x, _, new_sum = softmax(new_logits)
    kl = row_sum(_weighted(old_e, old_x - new_x)) / old_sum + logarithm(new_sum / old_sum)
    return kl.reshape(old_logits.shape[:-1]) if per_sample else batch_mean(kl)


def categorical_log_prob(logits: Array, actions: NDArray[Any]) -> Array:
    x, _, total = softmax(logits)
    of_action = x[np.arange(len(x)), actions.ravel()]
    return (of_action - logarithm(total)).reshape(logits.shape[:-1])


def categorical_entropy(logits: Array) -> Array:
    return _entropy(*softmax(logits)).reshape(logits.shape[:-1])


def _entropy(x: Array, e: Array, total: Array) -> Array:
    return logarithm(total) - row_sum(_weighted(e, x)) / total


def categorical_sample(logits: Array, rng: Any = None) -> NDArray[np.int64]:
    e = softmax(logits)[1].astype(np.float64)
    total = row_sum(e)
    u = _draws(logits.dtype, *resolve_rng(rng), len(e))
    actions, cumulative, passed = np.zeros(len(e), np.int64), np.zeros_like(u), u * total
    for k in range(e.shape[1]):
        cumulative = cumulative + e[:, k]
        actions += cumulative <= passed
    actions[np.isnan(total)] = -1
    return actions.reshape(logits.shape[:-1])


def _draws(dtype: Any, seed: int, stream: int, count: int) -> NDArray[np.float64]:
    """Numbers between 0 and 1: to 32 bits for float32, with as much room at either end, to 53 for float64."""
    if dtype == np.float64:
        return uniforms(dtype, seed, stream, 0, count, domain=DOMAIN_ACTION)
    return (words(seed, stream, DOMAIN_ACTION, 0, count).astype(np.float64) + 0.5) * 2.0**-32


def categorical_policy_gradient(
    logits: Array,
    actions: NDArray[Any],
    advantages: Array,
    *,
    entropy_coef: float = 0.0,
    valid: NDArray[np.bool] | None = None,
    out: Array | None = None,
) -> tuple[float, Array]:
    f, counts = logits.dtype.type, which_count(valid, advantages)
    n = counts.sum(dtype=np.float64)
    loss = -(advantages * categorical_log_prob(logits, actions))
    if entropy_coef / n != 0:
        loss = loss - f(entropy_coef) * categorical_entropy(logits)
    grad = logits_gradient(logits, actions, advantages * f(1 / n), entropy_coef / n, counts)
    return batch_mean(np.where(counts, loss, f(0)), n), into(out, grad)


def logits_gradient(
    logits: Array, actions: NDArray[Any], weight: Array, entropy_scale: float, counts: NDArray[np.bool]
) -> Array:
    """weight * (p - onehot(actions)) + entropy_scale * p * (log p + entropy), 0 where a sample does not count."""
    f = logits.dtype.type
    x, e, total = softmax(logits)
    chosen = np.arange(x.shape[1]) == actions.ravel()[:, None]
    p = e * (f(1) / total)[:, None]
    grad = weight.ravel()[:, None] * np.where(chosen, p - f(1), p)
    if entropy_scale != 0:
        log_p = x - logarithm(total)[:, None]
        grad = grad + f(entropy_scale) * _weighted(p, log_p + _entropy(x, e, total)[:, None])
    return np.where(counts.ravel()[:, None], grad, f(0)).reshape(logits.shape)


def softmax(logits: Array) -> tuple[Array, Array, Array]:
    """x = logits - max, e**x and its sum, of each row."""
    rows = as_rows(logits)
    largest = rows[:, 0]
    for k in range(1, rows.shape[1]):
        largest = np.where(rows[:, k] > largest, rows[:, k], largest)
    x = rows - largest[:, None]
    e = exponential(x)
    return x, e, row_sum(e)


def _weighted(e: Array, x: Array) -> Array:
    """e * x, and 0 where e is 0: 0 log 0 = 0."""
    return np.where(e == 0, e.dtype.type(0), e * x)
