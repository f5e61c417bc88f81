"""The losses of PPO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.policy.ppo import PPOStats
from fastopt.reference.core import Array, column_sums, exponential, into
from fastopt.reference.policy.categorical import categorical_entropy, categorical_log_prob, logits_gradient
from fastopt.reference.policy.core import which_count
from fastopt.reference.policy.gaussian import gaussian_entropy, gaussian_gradients, gaussian_log_prob

__all__ = ["categorical_ppo_loss", "gaussian_ppo_loss"]


def categorical_ppo_loss(
    logits: Array | Sequence[Array],
    actions: NDArray[Any],
    advantages: Array,
    old_log_prob: Array,
    values: Array,
    returns: Array,
    *,
    clip_range: float = 0.2,
    clip_range_vf: float | None = None,
    old_values: Array | None = None,
    entropy_coef: float = 0.0,
    value_coef: float = 0.5,
    valid: NDArray[np.bool] | None = None,
    out: tuple[Any, Array] | None = None,
) -> tuple[float, Any, Array, PPOStats]:
    several = isinstance(logits, list | tuple)
    lists: list[Any] = list(logits) if several else [logits]
    chosen = [actions[..., k] for k in range(len(lists))] if several else [actions]
    log_prob, entropy = np.zeros_like(values), np.zeros_like(values)
    for one, of_one in zip(lists, chosen, strict=True):
        log_prob = log_prob + categorical_log_prob(one, of_one)
        entropy = entropy + categorical_entropy(one)
    counts = which_count(valid, values)
    batch = advantages, old_log_prob, values, returns, old_values
    terms, weight, dvalues = _terms(log_prob, entropy, *batch, clip_range, clip_range_vf, value_coef, counts)
    scale = entropy_coef / counts.sum(dtype=np.float64)
    dlogits = [
        logits_gradient(one, of_one, weight, scale, counts).astype(one.dtype)
        for one, of_one in zip(lists, chosen, strict=True)
    ]
    outs, out_values = ([None] * len(lists), None) if out is None else (out[0] if several else [out[0]], out[1])
    dlogits = [into(o, d) for o, d in zip(outs, dlogits, strict=True)]
    loss, stats = _results(terms, counts, entropy_coef, value_coef)
    return loss, dlogits if several else dlogits[0], into(out_values, dvalues), stats


def gaussian_ppo_loss(
    mean: Array,
    log_std: Array,
    actions: Array,
    advantages: Array,
    old_log_prob: Array,
    values: Array,
    returns: Array,
    *,
    clip_range: float = 0.2,
    clip_range_vf: float | None = None,
    old_values: Array | None = None,
    entropy_coef: float = 0.0,
    value_coef: float = 0.5,
    valid: NDArray[np.bool] | None = None,
    out: tuple[Array, Array, Array] | None = None,
) -> tuple[float, Array, Array, Array, PPOStats]:
    counts = which_count(valid, values)
    log_prob = gaussian_log_prob(mean, log_std, actions)
    entropy = np.zeros_like(values) + gaussian_entropy(log_std)
    batch = advantages, old_log_prob, values, returns, old_values
    terms, weight, dvalues = _terms(log_prob, entropy, *batch, clip_range, clip_range_vf, value_coef, counts)
    scale = entropy_coef / counts.sum(dtype=np.float64)
    dmean, dlog_std = gaussian_gradients(mean, log_std, actions, weight, scale, counts)
    loss, stats = _results(terms, counts, entropy_coef, value_coef)
    out_mean, out_log_std, out_values = (None, None, None) if out is None else out
    return loss, into(out_mean, dmean), into(out_log_std, dlog_std), into(out_values, dvalues), stats


def _terms(
    log_prob: Array,
    entropy: Array,
    advantages: Array,
    old_log_prob: Array,
    values: Array,
    returns: Array,
    old_values: Array | None,
    clip_range: float,
    clip_range_vf: float | None,
    value_coef: float,
    counts: NDArray[np.bool],
) -> tuple[list[Array], Array, Array]:
    """The terms of each sample's loss; the weight of its log-probability, which is - dloss / dlog_prob; dvalues."""
    f, n = values.dtype.type, counts.sum(dtype=np.float64)
    log_ratio = log_prob - old_log_prob
    ratio = exponential(log_ratio)
    whole, cut = advantages * ratio, advantages * _clipped(ratio, f(1 - clip_range), f(1 + clip_range))
    surrogate = np.where(whole > cut, cut, whole)
    weight = np.where(whole > cut, f(0), whole * f(1 / n))
    predicted, moves = values, np.ones(values.shape, bool)
    if clip_range_vf is not None:
        moved, most = values - old_values, f(clip_range_vf)
        predicted, moves = old_values + _clipped(moved, -most, most), ~((moved < -most) | (moved > most))
    error = predicted - returns
    dvalues = np.where(moves, error * f(2 * value_coef / n), f(0))
    outside = (np.abs(ratio - f(1)) > f(clip_range)).astype(f)
    terms = [surrogate, error * error, entropy, (ratio - f(1)) - log_ratio, outside]
    return [np.where(counts, x, f(0)) for x in terms], np.where(counts, weight, f(0)), np.where(counts, dvalues, f(0))


def _clipped(x: Array, low: Any, high: Any) -> Array:
    x = np.where(x < low, low, x)
    return np.where(x > high, high, x)


def _results(
    terms: list[Array], counts: NDArray[np.bool], entropy_coef: float, value_coef: float
) -> tuple[float, PPOStats]:
    columns = np.stack([x.ravel().astype(np.float64) for x in terms], axis=1)
    surrogate, squared_error, entropy, kl, outside = (column_sums(columns) / float(counts.sum())).tolist()
    stats = PPOStats(-surrogate, squared_error, -entropy, kl, outside)
    loss = (stats.policy_loss + entropy_coef * stats.entropy_loss) + value_coef * stats.value_loss
    return loss, stats
