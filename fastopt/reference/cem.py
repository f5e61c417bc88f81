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
from fastopt.reference.core import Array
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
            numbers_z, z = z, np.zeros_like(z)
            for k in range(n):
                z[k:] += numbers_z[k] * d.factor[k, k:]
        x[row] = mean if i == d.population else mean + d.std * (-z if d.antithetic and i % 2 else z)
    lower, upper = d.lower, d.upper
    if lower is None or upper is None:
        return x
    if d.reflect:
        x = np.where(x < lower, lower + (lower - x), x)
        x = np.where(x > upper, upper - (x - upper), x)
    return _clip(x, lower, upper)


def cem_elites(scores: NDArray[np.float64], wanted: int, maximize: bool) -> tuple[NDArray[np.int64], int]:
    """(The numbers of the best `wanted` of the finite scores, rising; the number of the best, or -1): among equal
    scores the lower number is the better."""
    order = np.argsort(-scores if maximize else scores, kind="stable")
    order = order[np.isfinite(scores[order])][:wanted]
    return np.sort(order), int(order[0]) if len(order) else -1


def cem_refit(
    distribution: Distribution,
    elites: Any,
    about_new_mean: bool,
    mean_lr: float,
    std_lr: float,
    extra_variance: float,
    min_std: float,
) -> Distribution:
    """The distribution of the next generation, refitted in float64 to the elites u = (x - mean) / std in the order of
    numbers. Without elites it stays as it is.

    The diagonal form moves the std towards std * sqrt(v), v the second moment of u about the new or the old mean. The
    full form moves the covariance of u, which is factor.T @ factor, towards that of the elites; the diagonal of the
    result goes into std, the rest is factored again by Cholesky's method.
    """
    d = distribution
    mean, std, factor, lower, upper = d.mean, d.std, d.factor, d.lower, d.upper
    if not len(elites):
        return d.replaced(stream=d.stream + 1)
    unit = np.where(std > 0, std.astype(np.float64), 1.0)
    centre, before, n, count = mean.astype(np.float64), std.astype(np.float64), mean.size, len(elites)
    m1, m2 = np.zeros(n), np.zeros(n if factor is None else (n, n))
    for x in cem_candidates(distribution, 0, 0, elites):
        u = (x - centre) / unit
        m1 += u
        m2 += u * u if factor is None else np.outer(u, u)
    m1, m2 = m1 / count, m2 / count
    if factor is None:
        variance = m2 - m1 * m1 if about_new_mean else m2
        fitted = unit * np.sqrt(np.where(variance > 0, variance, 0))
        if extra_variance > 0:
            fitted = np.sqrt(fitted * fitted + extra_variance)
        moved = before + std_lr * (fitted - before)
    else:
        fitted = m2 - np.outer(m1, m1) if about_new_mean else m2
        if extra_variance > 0:
            fitted[np.diag_indices(n)] += extra_variance / (unit * unit)
        old = np.zeros((n, n))
        for row in factor.astype(np.float64):
            old += np.outer(row, row)
        old = np.where(np.outer(std > 0, std > 0), old, 0)
        c = old + std_lr * (fitted - old)
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
    return d.replaced(mean=mean, std=std, factor=factor, stream=d.stream + 1)


def cem_update(
    distribution: Distribution, scores: NDArray[np.float64], wanted: int, maximize: bool, options: tuple[Any, ...]
) -> tuple[NDArray[np.int64], int, float, Distribution]:
    """One generation, of which the scores come first in `scores`: (elites, the number of the best, its score, the next
    distribution). With fewer than two finite scores there are no elites."""
    elites, best = cem_elites(scores[: distribution.population], wanted, maximize)
    elites = elites if len(elites) >= 2 else elites[:0]
    following = cem_refit(distribution, elites, *options)
    return elites, best, float(scores[best]) if best >= 0 else math.nan, following


class CEM(method.CEM):
    _sample = staticmethod(cem_candidates)
    _update = staticmethod(cem_update)
    _refit = staticmethod(cem_refit)


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
