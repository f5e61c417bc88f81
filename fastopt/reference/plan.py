"""The definition of planning in plain NumPy: `CEMPlanner`, with the same signature and bits.

What it shares with the compiled form is bookkeeping: which iteration of which decision it is, and what was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.plan import decision, planner
from fastopt.random import DOMAIN_PLAN
from fastopt.reference.cem import cem_elites
from fastopt.reference.core import Array, exponential, horner, natural_log
from fastopt.reference.random import normals, sine_cosine, words, words64

__all__ = ["CEMPlanner"]


def plan_noise_factor(horizon: int, beta: float) -> NDArray[np.float64]:
    """The lower triangular matrix F for which F @ z, z of independent normal numbers, is a series with the power
    1 / f**beta at the frequencies f = 1, 2, ... over the horizon (both ways round), that of f = 1 at 0, and variance 1.

    That is Cholesky's factor of the series' covariance, which is the transform of the powers, divided by their sum.
    """
    frequency = np.minimum(np.arange(horizon), horizon - np.arange(horizon))
    f = np.maximum(frequency, 1).astype(np.float64)
    power = exponential(-beta * natural_log(f, 1 - f))
    total = np.cumsum(power)[-1]
    covariance = [
        np.cumsum([power[k] * _cosine(k * lag % horizon, horizon) for k in range(horizon)])[-1] / total
        for lag in range(horizon)
    ]
    factor = np.zeros((horizon, horizon))
    for i in range(horizon):
        left = covariance[0]
        for j in range(i):
            rest = covariance[i - j]
            for k in range(j):
                rest -= factor[i, k] * factor[j, k]
            factor[i, j] = rest / factor[j, j]
            left -= factor[i, j] * factor[i, j]
        factor[i, i] = np.sqrt(left)
    return factor


def _cosine(m: int, n: int) -> float:
    """cos(2 pi m / n) for 0 <= m < n, from the nearest quarter of a turn."""
    quarter = (8 * m + n) // (2 * n)
    sine, cosine = sine_cosine(np.array((4 * m - quarter * n) / (4 * n)))
    x = float(sine if quarter % 2 else cosine)
    return -x if quarter % 4 in (1, 2) else x


def normal_tail(x: Array) -> Array:
    """The probability of a normal number above x, for 0 <= x <= 9: exp(-x**2 / 2) / (1 + x) times a polynomial in
    (x - 3) / (x + 3). What lies beyond counts as the nearer end."""
    x = np.where(x > 0, x, 0.0)
    x = np.where(x < 9, x, 9.0)
    return exponential(-0.5 * (x * x)) * (horner((x - 3) / (x + 3), TAIL) / (1 + x))


def normal_quantile(tail: Array) -> Array:
    """The x >= 0 above which a normal number is with this probability, at most 1/2: w = sqrt(-2 ln tail) less a
    polynomial in (w - 3) / (w + 3)."""
    w = np.sqrt(-2 * natural_log(tail, 1 - tail))
    return w - horner((w - 3) / (w + 3), QUANTILE)


# Chebyshev fits: errors below 3e-14 of the tail, and below 1e-14 of the quantile.
TAIL = (
    *(-1.669310425140691e-08, 6.387067094510967e-08, 8.47510270146804e-07, 2.4049374023585774e-06),
    *(1.0001054168660365e-06, -9.207287600295531e-06, -1.8095675772930367e-05, 1.746244304207638e-05),
    *(0.00010398441487851663, 1.739640930816913e-05, -0.0005196575998471988, -0.0003546871944128728),
    *(0.003009268487517038, 0.0011607917443270668, -0.02272958639497457, 0.045163889898354403),
    *(-0.016432180656093857, -0.09652675790055293, 0.48605579342224864),
)
QUANTILE = (
    *(0.04355348420929574, -0.07561644392652647, 0.03471393801680286, -0.01050085953343628),
    *(0.02918905791671063, -0.044377270771781684, 0.04164083372000992, -0.0444823576700882),
    *(0.047150865227309574, -0.05505737004068653, 0.058054353662424805, -0.06928076831313643),
    *(0.07421932716242603, -0.0928851534366409, 0.10194496782583602, -0.13703008985160717),
    *(0.15794447844976425, -0.2564587320468669, 0.33991278760430566, -0.845740106667539, 0.713379661821386),
)


def inner_uniforms(dtype: Any, seed: int, stream: int, first: int, count: int) -> NDArray[np.float64]:
    """Uniform in (0, 1), both ends excluded: 32 bits of word e for float32, 52 of words 2e and 2e + 1 for float64."""
    if dtype == np.float32:
        return (words(seed, stream, DOMAIN_PLAN, first, count).astype(np.float64) + 0.5) * 2.0**-32
    w = words64(seed, stream, DOMAIN_PLAN, first, count)
    return ((w >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def plan_candidates(
    mean: Array,
    std: Array,
    lower: Array | None,
    upper: Array | None,
    factor: Array | None,
    stored: Array,
    seeds: NDArray[np.uint64],
    stream: int,
    rows: NDArray[np.int64] | None,
    count: int,
    drawn: int,
    horizon: int,
    actions: int,
    truncated: bool,
) -> Array:
    """Rows 0, 1, ... of the candidates of each problem, or those of `rows`: (problems, count, horizon, actions).

    Rows below `drawn` are mean + std * noise, cut off at the bounds. White noise is made of normal numbers
    row * padded + d of the stream, `padded` being the elements of a candidate rounded up to groups of 32; with a factor
    the series of an action over the horizon is the factor times numbers (row * actions + action) * padded + h, padded
    being the horizon rounded up. Truncated: the normal distribution between the bounds, by the inverse of its
    distribution function. Then come the rows that are stored, and after them the mean.
    """
    problems, n = mean.shape
    out = np.empty((problems, count, n), mean.dtype)
    for p in range(problems):
        seed = int(seeds[p])
        numbers = np.arange(count) if rows is None else rows[p]
        for k, row in enumerate(numbers.tolist()):
            if row >= drawn:
                is_stored = row - drawn < stored.shape[1]
                out[p, k] = stored[p, row - drawn].ravel() if is_stored else mean[p]
            elif truncated and lower is not None and upper is not None:
                u = inner_uniforms(mean.dtype, seed, stream, row * _padded(n), n)
                out[p, k] = _truncated(u, mean[p], std[p], lower, upper)
            elif factor is not None:
                series = [
                    normals(mean.dtype, seed, stream, (row * actions + a) * _padded(horizon), horizon, DOMAIN_PLAN)
                    for a in range(actions)
                ]
                noise = np.stack([_times(factor, z) for z in series], axis=1)
                out[p, k] = mean[p] + std[p] * noise.ravel()
            else:
                out[p, k] = mean[p] + std[p] * normals(mean.dtype, seed, stream, row * _padded(n), n, DOMAIN_PLAN)
            if row < drawn and lower is not None and upper is not None:
                out[p, k] = _clip(out[p, k], lower, upper)
    return out.reshape(problems, count, horizon, actions)


def _padded(n: int) -> int:
    return (n + 31) // 32 * 32


def _clip(x: Array, lower: Array, upper: Array) -> Array:
    x = np.where(x < lower, lower, x)
    return np.where(x > upper, upper, x)


def _times(factor: Array, z: Array) -> Array:
    """factor @ z, the products of each row added in order."""
    y = np.zeros_like(z)
    for k in range(len(z)):
        y[k:] += factor[k:, k] * z[k]
    return y


def _truncated(u: NDArray[np.float64], mean: Array, std: Array, lower: Array, upper: Array) -> Array:
    """The mean lies within the bounds, so that neither of the parts beyond them is more than a half. The smaller of the
    two tails at a number has all its digits."""
    m, s, low, high = (x.astype(np.float64) for x in (mean, std, lower, upper))
    unit = np.where(s > 0, s, 1.0)
    below, above = normal_tail((m - low) / unit), normal_tail((high - m) / unit)
    within = (1 - above) - below
    p, rest = below + u * within, above + (1 - u) * within
    z = normal_quantile(np.where(p < rest, p, rest))
    return (m + s * np.where(p < rest, -z, z)).astype(mean.dtype)


def plan_weigh(
    scores: NDArray[np.float64], wanted: int, rule: int, temperature: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """(rows, weights, best): of each problem the rows that weigh, how much, and the best row.

    Rule 0, elites: the `wanted` best, the best first, with weight 1. Rule 1, softmax: these with
    exp(-temperature * (score - best)). Rule 2, MPPI: all rows with exp(-(score - best) / temperature). A score that is
    not finite weighs nothing; with fewer than two that are, none does, and the best is -1.
    """
    problems, n = scores.shape
    wanted = n if rule == MPPI else min(wanted, n)
    rows, weights = np.zeros((problems, wanted), np.int64), np.zeros((problems, wanted))
    best = np.full(problems, -1)
    for p in range(problems):
        elites = cem_elites(scores[p], n if rule == MPPI else wanted, maximize=False)
        rows[p, : len(elites)] = elites
        if rule == MPPI:
            rows[p] = np.arange(n)
        if len(elites) < 2:
            continue
        best[p] = elites[0]
        counts = np.isfinite(scores[p, rows[p]]) & (np.arange(wanted) < (n if rule == MPPI else len(elites)))
        behind = np.where(counts, scores[p, rows[p]], scores[p, best[p]]) - scores[p, best[p]]
        power = behind * temperature if rule == SOFTMAX else behind / temperature
        weights[p] = np.where(counts, 1.0 if rule == ELITES else exponential(-power), 0.0)
    return rows, weights, best


ELITES, SOFTMAX, MPPI = 0, 1, 2


def plan_refit(
    candidates: Array,
    weights: NDArray[np.float64],
    mean: Array,
    std: Array,
    lower: Array | None,
    upper: Array | None,
    mean_lr: NDArray[np.float64],
    std_lr: NDArray[np.float64],
    min_std: float,
    max_std: float,
) -> tuple[Array, Array]:
    """The weighted mean of the candidates, and about it their standard deviation; mean and std move towards them.

    A candidate of weight 0 counts for nothing, also where it is infinite.
    """
    new_mean, new_std = mean.copy(), std.copy()
    for p, w in enumerate(weights):
        total = float(np.cumsum(w)[-1])
        if not total > 0:
            continue
        x, w = candidates[p].reshape(len(w), -1).astype(np.float64)[w != 0], w[w != 0]
        m = np.cumsum(w[:, None] * x, axis=0)[-1] / total
        v = np.cumsum(w[:, None] * ((x - m) * (x - m)), axis=0)[-1] / total
        before, wide = mean[p].astype(np.float64), std[p].astype(np.float64)
        new_mean[p] = (before + mean_lr * (m - before)).astype(mean.dtype)
        if lower is not None and upper is not None:
            new_mean[p] = _clip(new_mean[p], lower, upper)
        wide = wide + std_lr * (np.sqrt(v) - wide)
        wide = np.where(wide > min_std, wide, min_std)
        new_std[p] = np.where(wide < max_std, wide, max_std)
    return new_mean, new_std


class Search(decision.Search):
    noise_factor = staticmethod(plan_noise_factor)
    candidates = staticmethod(plan_candidates)
    weigh = staticmethod(plan_weigh)
    refit = staticmethod(plan_refit)


class CEMPlanner(planner.CEMPlanner):
    _search_by = Search
