"""The definition of the cross-entropy method in plain NumPy: `CEM` and `minimize_cem`, the same signatures and bits.

What they share with the compiled form is bookkeeping: rules, history, workers.
"""

from __future__ import annotations

import functools
import inspect
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._core import Distribution
from fastopt.cem import method, minimize
from fastopt.cem.result import Result
from fastopt.random import DOMAIN_CEM
from fastopt.reference.core import Array, exponential, natural_log
from fastopt.reference.random import normals

__all__ = ["CEM", "minimize_cem"]


def cem_candidates(distribution: Distribution, first: int, count: int, indices: Any = None) -> Array:
    """Candidates first, first + 1, ... (or those of `indices`) as rows: mean + std * z, within the bounds.

    z[d] is normal number index * padded + d of the distribution's stream in domain 3, where padded is the number of
    dimensions rounded up to groups of 32; with `antithetic` an odd candidate has the z of the one before, negated. With
    a factor, an upper triangular matrix, z is first multiplied by it, its rows added in order. Candidate number
    `population` is the mean.
    """
    d, mean = distribution, distribution.mean
    n, padded = mean.size, (mean.size + 31) // 32 * 32
    numbers = np.arange(first, first + count) if indices is None else np.asarray(indices)
    x = np.empty((len(numbers), n), mean.dtype)
    for row, i in enumerate(numbers.tolist()):
        address = i - i % 2 if d.antithetic else i
        z = normals(mean.dtype, d.seed, d.stream, address * padded, n, DOMAIN_CEM)
        if d.factor is not None:
            z = _correlated(z, d.factor)
        x[row] = mean if i == d.population else mean + d.std * (-z if d.antithetic and i % 2 else z)
    lower, upper = d.lower, d.upper
    if lower is None or upper is None:
        return x
    if d.reflect:
        x = np.where(x < lower, lower + (lower - x), x)
        x = np.where(x > upper, upper - (x - upper), x)
    return _clip(x, lower, upper)


def cem_elites(scores: NDArray[np.float64], wanted: int, maximize: bool) -> NDArray[np.int64]:
    """The numbers of the best `wanted` of the finite scores, the best first: among equal scores the lower number is the
    better."""
    order = np.argsort(-scores if maximize else scores, kind="stable")
    return order[np.isfinite(scores[order])][:wanted]


def cem_weights(count: int) -> NDArray[np.float64]:
    """The weights of elites by rank, up to a factor: log((count + 1/2) / rank)."""
    ratio = (count + 0.5) / np.arange(1.0, count + 1)
    return natural_log(ratio, 1 - ratio)


def cem_refit(
    distribution: Distribution,
    elites: Any,
    about_new_mean: bool,
    mean_lr: float,
    std_lr: float,
    extra_variance: float,
    min_std: float,
) -> Distribution:
    """The distribution of the next generation, refitted in float64 to the elites u = (x - mean) / std, the best first.
    Without elites it stays as it is.

    m1 and m2 are the weighted means of u and of its squares (products, if there is a factor). Without a path the elites
    weigh the same, and std moves towards std * sqrt(m2), the textbook's fit, which may be taken about the new mean
    too. With one they weigh by rank; the logarithm of std moves by that of m2 less what is expected of elites chosen by
    chance, and then all of std by one scale (`_scale`).

    The full form moves the covariance of u, which is factor.T @ factor, towards that of the elites, and where there is
    a path also a little towards the path's; the diagonal of the result goes into std, the rest is factored again by
    Cholesky's method. A std_lr of 0 is chosen by the number of elites.
    """
    d = distribution
    mean, std, factor, lower, upper = d.mean, d.std, d.factor, d.lower, d.upper
    if not len(elites):
        return d.replaced(stream=d.stream + 1)
    unit = np.where(std > 0, std.astype(np.float64), 1.0)
    centre, before, n = mean.astype(np.float64), std.astype(np.float64), mean.size
    weights = np.ones(len(elites)) if d.path is None else cem_weights(len(elites))
    total = _in_order(weights)
    effective = total * total / _in_order(weights * weights)  # so many elites of equal weights would tell as much
    age = (effective + 2) / (n + effective + 5)
    if std_lr == 0:
        std_lr = min(1.0, 2 * (effective - 1.75 + 1 / effective) / ((n + 2.0) * (n + 2.0) + effective))
    m1, m2 = np.zeros(n), np.zeros(n if factor is None else (n, n))
    for x, weight in zip(cem_candidates(distribution, 0, 0, elites), weights, strict=True):
        u = (x - centre) / unit
        m1 += weight * u
        m2 += (weight * u) * u if factor is None else np.outer(weight * u, u)
    m1, m2 = m1 / total, m2 / total
    path = d.path
    if path is not None:
        step = m1 if factor is None else _whitened(m1, factor.astype(np.float64))
        path = (1 - age) * path + math.sqrt(age * (2 - age) * effective) * step
    if factor is None:
        variance = m2 - m1 * m1 if about_new_mean else m2
        if d.path is None:
            fitted = unit * np.sqrt(np.where(variance > 0, variance, 0))
            if extra_variance > 0:
                fitted = np.sqrt(fitted * fitted + extra_variance)
            moved = before + std_lr * (fitted - before)
        else:
            ratio = variance * _fair(weights)
            ratio = np.where(ratio > LEAST_RATIO, ratio, LEAST_RATIO)
            moved = before * exponential(0.5 * std_lr * natural_log(ratio, 1 - ratio))
    else:
        fitted = m2 - np.outer(m1, m1) if about_new_mean else m2
        if extra_variance > 0 and d.path is None:
            fitted[np.diag_indices(n)] += extra_variance / (unit * unit)
        old = np.zeros((n, n))
        for row in factor.astype(np.float64):
            old += np.outer(row, row)
        old = np.where(np.outer(std > 0, std > 0), old, 0)
        c = old + std_lr * (fitted - old)
        if path is not None:
            along = np.where(std > 0, _correlated(path, factor.astype(np.float64)), 0)
            rank_one = 2 * (n - 1) / (n * ((n + 1.3) * (n + 1.3) + effective))
            c += min(1 - std_lr, rank_one) * (np.outer(along, along) - old)
        scale = np.sqrt(np.where(c.diagonal() > 0, c.diagonal(), 0))
        moved = unit * scale
        products = np.outer(scale, scale)
        c = np.divide(c, products, out=np.zeros((n, n)), where=products > 0)
        c[np.diag_indices(n)] = 1
        factor = _cholesky(c).astype(mean.dtype)
    mean = (centre + mean_lr * (unit * m1)).astype(mean.dtype)
    if lower is not None and upper is not None:
        mean = _clip(mean, lower, upper)
    std = np.where(moved > min_std, moved, min_std).astype(mean.dtype)
    if path is not None:
        moved = std.astype(np.float64) * _scale(path, effective, age)
        if extra_variance > 0:
            moved = np.sqrt(moved * moved + extra_variance)
        std = np.where(moved > min_std, moved, min_std).astype(mean.dtype)
    return d.replaced(mean=mean, std=std, factor=factor, path=path, stream=d.stream + 1)


LEAST_RATIO = 2.0**-10  # of variances: elites that all lie where the mean is would make the logarithm infinite


def _fair(weights: NDArray[np.float64]) -> float:
    """What the weighted mean of squares of normal numbers is multiplied by for its logarithm to have an expectation of
    0, so that elites chosen by chance leave a std where it is.

    That is exp(log(k) - digamma(k)) for 2 k squares of equal weights, by digamma(k) = digamma(k + 1) - 1 / k up to
    y = k + 8 and the asymptotic series there, relative error 1e-11. Weights that differ have a third moment of their
    own; with the factor 9 / 4 the error is below 0.7 % for weights by rank.
    """
    total = _in_order(weights)
    effective = total * total / _in_order(weights * weights)
    skew = _in_order(weights * weights * weights) / (total * total * total) - 1 / (effective * effective)
    k = 0.5 * effective
    y = k + 8
    excess = 0.0
    for j in range(8):
        excess += 1 / (k + j)
    z = 1 / (y * y)
    series = 0.5 / y + z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z / 240)))
    ratio = np.array(k / y)
    return float(exponential(natural_log(ratio, 1 - ratio) + (excess + series) - 2.25 * skew))


def _scale(path: Array, effective: float, age: float) -> float:
    """By how much all of std grows: the path that the means have gone, each step with a weight that falls with its age,
    is longer than one of steps taken by chance where they go the same way, and shorter where they cancel out
    (cumulative step-size adaptation; Hansen and Ostermeier, Evolutionary Computation 9, 2001). Dimensions that never
    moved do not count."""
    moving = float(np.count_nonzero(path))
    if moving == 0:
        return 1.0
    damping = 1 + 2 * max(0.0, math.sqrt(max(0.0, (effective - 1) / (len(path) + 1))) - 1) + age
    by_chance = math.sqrt(moving) * (1 - 1 / (4 * moving) + 1 / (21 * moving * moving))
    growth = age / damping * (math.sqrt(_in_order(path * path)) / by_chance - 1)
    return float(exponential(np.array(max(min(1.0, growth), -1.0))))


def _whitened(step: Array, factor: Array) -> Array:
    """The z with z @ factor = step; no mean of normal numbers is beyond 8, only what roundings were divided by."""
    z, left = np.zeros_like(step), step.copy()
    for k in range(len(z)):
        z[k] = max(min(8.0, left[k] / factor[k, k]), -8.0)
        left[k + 1 :] -= z[k] * factor[k, k + 1 :]
    return z


def _correlated(z: Array, factor: Array) -> Array:
    """z @ factor, the rows added in order."""
    y = np.zeros_like(z)
    for k in range(len(z)):
        y[k:] += z[k] * factor[k, k:]
    return y


def _in_order(terms: Array) -> float:
    return float(np.cumsum(terms)[-1])


def cem_update(
    distribution: Distribution, scores: NDArray[np.float64], wanted: int, maximize: bool, options: tuple[Any, ...]
) -> tuple[NDArray[np.int64], int, float, Distribution]:
    """One generation, of which the scores come first in `scores`: (elites, the number of the best or -1, its score, the
    next distribution). With fewer than two finite scores there are no elites."""
    elites = cem_elites(scores[: distribution.population], wanted, maximize)
    best = int(elites[0]) if len(elites) else -1
    elites = elites if len(elites) >= 2 else elites[:0]
    following = cem_refit(distribution, elites, *options)
    return elites, best, float(scores[best]) if best >= 0 else math.nan, following


def cem_candidates_of(distributions: list[Distribution], first: int, count: int) -> Array:
    return np.stack([cem_candidates(d, first, count) for d in distributions])


def cem_update_of(
    distributions: list[Distribution],
    scores: NDArray[np.float64],
    wanted: int,
    maximize: bool,
    options: tuple[Any, ...],
) -> list[tuple[NDArray[np.int64], int, float, Distribution]]:
    return [cem_update(d, row, wanted, maximize, options) for d, row in zip(distributions, scores, strict=True)]


class CEM(method.CEM):
    _sample = staticmethod(cem_candidates)
    _update = staticmethod(cem_update)
    _refit = staticmethod(cem_refit)
    _sample_all = staticmethod(cem_candidates_of)
    _update_all = staticmethod(cem_update_of)


@functools.wraps(minimize.minimize_cem)
def minimize_cem(*arguments: Any, **options: Any) -> Result:
    call = inspect.signature(minimize.minimize_cem).bind(*arguments, **options)
    call.apply_defaults()
    return minimize.minimize_with(CEM, **call.arguments)


def _cholesky(c: Array) -> Array:
    """The upper triangular u with u.T @ u = c, by rows. A pivot of nothing but roundings sets its dimension apart from
    those after it."""
    for k in range(len(c)):
        sound = c[k, k] > 2.0**-40
        c[k, :k] = 0
        c[k, k] = np.sqrt(c[k, k] if sound else 2.0**-40)
        c[k, k + 1 :] = c[k, k + 1 :] / c[k, k] if sound else 0
        c[k + 1 :, k + 1 :] -= np.outer(c[k, k + 1 :], c[k, k + 1 :])
    return c


def _clip(x: Array, lower: Array, upper: Array) -> Array:
    x = np.where(x < lower, lower, x)
    return np.where(x > upper, upper, x)
