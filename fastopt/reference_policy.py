"""The definitions of :mod:`fastopt.policy` in plain NumPy: the same names, signatures and bits.

It is to `fastopt.policy` what :mod:`fastopt.reference` is to `fastopt`. Sums along a row are taken column by column;
sums over the batch are float64 in the fixed order of :func:`fastopt.reference.ordered_sum`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt import random as _random
from fastopt.reference import _column_sums, _horner, _into, natural_log, normals, ordered_sum, uniforms

Array = NDArray[Any]

# ---- exponential and logarithm ---------------------------------------------------------------------------------------

# Of (e**r - 1 - r) / r**2 for |r| <= ln(2) / 2: Chebyshev fits, relative errors of e**r below 1.1e-8 and 1.8e-17.
EXP_FLOAT32 = (0.001392621, 0.008363203, 0.041666556, 0.16666576, 0.5)
EXP_FLOAT64 = (
    *(2.5100424157005067e-08, 2.7620138719733994e-07, 2.7557268378684192e-06, 2.480152119021773e-05),
    *(0.00019841269863105968, 0.0013888888917281794, 0.008333333333330051, 0.04166666666662399),
    *(0.16666666666666669, 0.5000000000000001),
)


def exponential(x: Array) -> Array:
    """e**x = 2**k * e**r with k the integer nearest to x / ln 2, and a polynomial in r of correctly rounded steps.

    Adding 1.5 * 2**(mantissa bits) rounds to an integer. 2**k is applied in two factors, for results below the smallest
    normal number and above the largest.
    """
    single = x.dtype == np.float32
    f, unsigned = x.dtype.type, np.uint32 if single else np.uint64
    low, high = (-104, 89) if single else (-746, 710)  # 0 and infinity beyond
    mantissa, bias2 = (23, 256) if single else (52, 2048)
    ln2_high, ln2_low = (0.693359375, -2.12194440e-4) if single else (0.6931471803691238165, 1.9082149292705877e-10)
    x = np.where(x > f(high), f(high), x)
    x = np.where(x < f(low), f(low), x)
    magic = f(1.5 * 2**mantissa)
    shifted = x * f(1.4426950408889634) + magic
    k = shifted - magic
    r = (x - k * f(ln2_high)) - k * f(ln2_low)
    y = f(1) + (r + (r * r) * _horner(r, EXP_FLOAT32 if single else EXP_FLOAT64))
    both = shifted.view(unsigned) - (magic.view(unsigned) - unsigned(bias2))  # k + 2 * bias + 2
    half = both >> unsigned(1)
    one, other = ((part - unsigned(1)) << unsigned(mantissa) for part in (half, both - half))
    return (y * one.view(x.dtype)) * other.view(x.dtype)


def logarithm(x: Array) -> Array:
    """ln x for positive normal numbers; NaN stays NaN."""
    return np.where(np.isnan(x), x, natural_log(x, x.dtype.type(1) - x))


# ---- rows ------------------------------------------------------------------------------------------------------------


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _row_sum(x: Array) -> Array:
    total = np.zeros(len(x), x.dtype)
    for k in range(x.shape[1]):
        total = total + x[:, k]
    return total


def _batch_mean(per_sample: Array) -> float:
    return ordered_sum(per_sample.astype(np.float64)) / per_sample.size


def _softmax(logits: Array) -> tuple[Array, Array, Array]:
    """x = logits - max, e**x and its sum, of each row."""
    rows = _rows(logits)
    largest = rows[:, 0]
    for k in range(1, rows.shape[1]):
        largest = np.where(rows[:, k] > largest, rows[:, k], largest)
    x = rows - largest[:, None]
    e = exponential(x)
    return x, e, _row_sum(e)


def _weighted(e: Array, x: Array) -> Array:
    """e * x, and 0 where e is 0: 0 log 0 = 0."""
    return np.where(e == 0, e.dtype.type(0), e * x)


# ---- categorical policies --------------------------------------------------------------------------------------------


def categorical_kl(old_logits: Array, new_logits: Array, *, per_sample: bool = False) -> Any:
    old_x, old_e, old_sum = _softmax(old_logits)
    new_x, _, new_sum = _softmax(new_logits)
    kl = _row_sum(_weighted(old_e, old_x - new_x)) / old_sum + logarithm(new_sum / old_sum)
    return kl.reshape(old_logits.shape[:-1]) if per_sample else _batch_mean(kl)


def categorical_log_prob(logits: Array, actions: NDArray[Any]) -> Array:
    x, _, total = _softmax(logits)
    of_action = x[np.arange(len(x)), actions.ravel()]
    return (of_action - logarithm(total)).reshape(logits.shape[:-1])


def categorical_entropy(logits: Array) -> Array:
    return _entropy(*_softmax(logits)).reshape(logits.shape[:-1])


def _entropy(x: Array, e: Array, total: Array) -> Array:
    return logarithm(total) - _row_sum(_weighted(e, x)) / total


def categorical_sample(logits: Array, rng: Any = None) -> NDArray[np.int64]:
    _, e, total = _softmax(logits)
    u = uniforms(logits.dtype, *_random.resolve_rng(rng), 0, len(e), domain=_random.DOMAIN_ACTION)
    actions, cumulative, passed = np.zeros(len(e), np.int64), np.zeros_like(u), u * total
    for k in range(e.shape[1]):
        cumulative = cumulative + e[:, k]
        actions += cumulative <= passed
    actions[np.isnan(total)] = -1
    return actions.reshape(logits.shape[:-1])


def categorical_policy_gradient(
    logits: Array,
    actions: NDArray[Any],
    advantages: Array,
    *,
    entropy_coef: float = 0.0,
    out: Array | None = None,
) -> tuple[float, Array]:
    f = logits.dtype.type
    x, e, total = _softmax(logits)
    chosen = np.arange(x.shape[1]) == actions.ravel()[:, None]
    adv = advantages.ravel()
    p = e * (f(1) / total)[:, None]
    log_prob = x[chosen] - logarithm(total)
    loss = -(adv * log_prob)
    grad = (adv * f(1 / len(x)))[:, None] * np.where(chosen, p - f(1), p)
    if entropy_coef != 0:
        entropy = _entropy(x, e, total)
        loss = loss - f(entropy_coef) * entropy
        log_p = x - logarithm(total)[:, None]
        grad = grad + f(entropy_coef / len(x)) * _weighted(p, log_p + entropy[:, None])
    return _batch_mean(loss), _into(out, grad.reshape(logits.shape))


# ---- Gaussian policies -----------------------------------------------------------------------------------------------

HALF_LOG_2PI = 0.9189385332046727
HALF_LOG_2PI_E = 1.4189385332046727


def gaussian_kl(
    old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array, *, per_sample: bool = False
) -> Any:
    f = old_mean.dtype.type
    d = _like_rows(old_log_std, old_mean) - _like_rows(new_log_std, old_mean)
    t = (_rows(old_mean) - _rows(new_mean)) * exponential(-_like_rows(new_log_std, old_mean))
    kl = _row_sum(f(0.5) * (((exponential(d + d) - f(1)) - (d + d)) + t * t))
    return kl.reshape(old_mean.shape[:-1]) if per_sample else _batch_mean(kl)


def _like_rows(log_std: Array, mean: Array) -> Array:
    return np.ascontiguousarray(np.broadcast_to(_rows(log_std), _rows(mean).shape))


def gaussian_log_prob(mean: Array, log_std: Array, actions: Array) -> Array:
    t = (_rows(actions) - _rows(mean)) * exponential(-_like_rows(log_std, mean))
    return _log_prob(t, _like_rows(log_std, mean)).reshape(mean.shape[:-1])


def _log_prob(t: Array, log_std: Array) -> Array:
    f = t.dtype.type
    return -_row_sum(f(0.5) * (t * t) + log_std) - f(t.shape[1] * HALF_LOG_2PI)


def gaussian_entropy(log_std: Array) -> Array:
    rows = _rows(log_std)
    return (_row_sum(rows) + rows.dtype.type(rows.shape[1] * HALF_LOG_2PI_E)).reshape(log_std.shape[:-1])


def gaussian_sample(mean: Array, log_std: Array, rng: Any = None, *, out: Array | None = None) -> Array:
    z = normals(mean.dtype, *_random.resolve_rng(rng), 0, mean.size, domain=_random.DOMAIN_ACTION)
    return _into(out, mean + exponential(log_std) * z.reshape(mean.shape))


def gaussian_policy_gradient(
    mean: Array,
    log_std: Array,
    actions: Array,
    advantages: Array,
    *,
    entropy_coef: float = 0.0,
    out: tuple[Array, Array] | None = None,
) -> tuple[float, Array, Array]:
    f = mean.dtype.type
    rows, spread, adv = _rows(mean), _like_rows(log_std, mean), advantages.ravel()
    inverse = exponential(-spread)
    t = (_rows(actions) - rows) * inverse
    loss = -(adv * _log_prob(t, spread))
    w = (adv * f(1 / len(rows)))[:, None]
    dmean = -(w * (t * inverse))
    dlog_std = w * (f(1) - t * t)
    if entropy_coef != 0:
        entropy = _row_sum(spread) + f(rows.shape[1] * HALF_LOG_2PI_E)
        loss = loss - f(entropy_coef) * entropy
        dlog_std = dlog_std - f(entropy_coef / len(rows))
    if log_std.ndim == 1:
        dlog_std = _column_sums(dlog_std)
    out_mean, out_log_std = (None, None) if out is None else out
    return (
        _batch_mean(loss),
        _into(out_mean, dmean.reshape(mean.shape)),
        _into(out_log_std, dlog_std.reshape(log_std.shape)),
    )


# ---- advantages ------------------------------------------------------------------------------------------------------


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
    return _into(out, ((x - mean) * (1 / (std + eps))).astype(advantages.dtype))
