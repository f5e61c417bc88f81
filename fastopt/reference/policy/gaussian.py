"""Diagonal Gaussian policies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.random import DOMAIN_ACTION, resolve_rng
from fastopt.reference.core import Array, column_sums, exponential, into
from fastopt.reference.policy.core import as_rows, batch_mean, row_sum, which_count
from fastopt.reference.random import normals

__all__ = [
    "HALF_LOG_2PI",
    "HALF_LOG_2PI_E",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_prob",
    "gaussian_policy_gradient",
    "gaussian_sample",
]

HALF_LOG_2PI = 0.9189385332046727
HALF_LOG_2PI_E = 1.4189385332046727


def gaussian_kl(
    old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array, *, per_sample: bool = False
) -> Any:
    f = old_mean.dtype.type
    d = _like_rows(old_log_std, old_mean) - _like_rows(new_log_std, old_mean)
    low, high = two_factors(-_like_rows(new_log_std, old_mean))
    t = ((as_rows(old_mean) - as_rows(new_mean)) * low) * high
    kl = row_sum(f(0.5) * (((exponential(d + d) - f(1)) - (d + d)) + t * t))
    return kl.reshape(old_mean.shape[:-1]) if per_sample else batch_mean(kl)


def gaussian_log_prob(mean: Array, log_std: Array, actions: Array) -> Array:
    low, high = two_factors(-_like_rows(log_std, mean))
    t = ((as_rows(actions) - as_rows(mean)) * low) * high
    return _log_prob(t, _like_rows(log_std, mean)).reshape(mean.shape[:-1])


def _log_prob(t: Array, log_std: Array) -> Array:
    f = t.dtype.type
    return -row_sum(f(0.5) * (t * t) + log_std) - f(t.shape[1] * HALF_LOG_2PI)


def gaussian_entropy(log_std: Array) -> Array:
    rows = as_rows(log_std)
    return (row_sum(rows) + rows.dtype.type(rows.shape[1] * HALF_LOG_2PI_E)).reshape(log_std.shape[:-1])


def gaussian_sample(mean: Array, log_std: Array, rng: Any = None, *, out: Array | None = None) -> Array:
    z = normals(mean.dtype, *resolve_rng(rng), 0, mean.size, domain=DOMAIN_ACTION)
    low, high = two_factors(log_std)
    return into(out, mean + (low * z.reshape(mean.shape)) * high)


def gaussian_policy_gradient(
    mean: Array,
    log_std: Array,
    actions: Array,
    advantages: Array,
    *,
    entropy_coef: float = 0.0,
    valid: NDArray[np.bool] | None = None,
    out: tuple[Array, Array] | None = None,
) -> tuple[float, Array, Array]:
    f, counts = mean.dtype.type, which_count(valid, advantages)
    n = counts.sum(dtype=np.float64)
    loss = -(advantages * gaussian_log_prob(mean, log_std, actions))
    if entropy_coef / n != 0:
        loss = loss - f(entropy_coef) * gaussian_entropy(log_std)
    dmean, dlog_std = gaussian_gradients(mean, log_std, actions, advantages * f(1 / n), entropy_coef / n, counts)
    out_mean, out_log_std = (None, None) if out is None else out
    return batch_mean(np.where(counts, loss, f(0)), n), into(out_mean, dmean), into(out_log_std, dlog_std)


def gaussian_gradients(
    mean: Array, log_std: Array, actions: Array, weight: Array, entropy_scale: float, counts: NDArray[np.bool]
) -> tuple[Array, Array]:
    """By mean and log_std, of - weight * log p(actions) - entropy_scale * entropy; 0 where a sample does not count."""
    f = mean.dtype.type
    spread, counted = _like_rows(log_std, mean), counts.ravel()[:, None]
    low, high = two_factors(-spread)
    t = ((as_rows(actions) - as_rows(mean)) * low) * high
    w = weight.ravel()[:, None]
    dmean = np.where(counted, -((w * (t * low)) * high), f(0))
    dlog_std = np.where(counted, w * (f(1) - t * t) - f(entropy_scale), f(0))
    if log_std.ndim == 1:
        dlog_std = column_sums(dlog_std)
    return dmean.reshape(mean.shape), dlog_std.reshape(log_std.shape)


def two_factors(x: Array) -> tuple[Array, Array]:
    """e**x as a product of two factors: itself and 1, and at the ends of the range twice e**(x / 2).

    There e**x may be 0 or infinite where a product with it is neither. Beyond 176, or 1,416 for float64, no product
    with a number but 0 stays within the range of what is made of it.
    """
    f = x.dtype.type
    bound, furthest = (f(64), f(176)) if f is np.float32 else (f(512), f(1416))
    beyond = np.abs(x) > bound
    low = exponential(np.where(beyond, f(0.5) * np.clip(x, -furthest, furthest), x))
    return low, np.where(beyond, low, f(1))


def _like_rows(log_std: Array, mean: Array) -> Array:
    return np.ascontiguousarray(np.broadcast_to(as_rows(log_std), as_rows(mean).shape))
