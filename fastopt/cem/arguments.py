"""Checks of what the cross-entropy method is given: the start, the bounds, the noise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number, integer

Array = NDArray[Any]
P = ParamSpec("P")
R = TypeVar("R")


def in_default_float_mode(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function compute as kernels do, whatever mode another library has set in this thread."""

    @functools.wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with _core.DefaultFloatMode():
            return function(*args, **kwargs)

    return computed


def choice(name: str, value: Any, *allowed: str) -> str:
    if value not in allowed:
        raise ValueError(f"{name}: expected {' or '.join(map(repr, allowed))}, got {value!r}")
    return str(value)


def noise(extra_std: Any) -> float | tuple[float, int]:
    if isinstance(extra_std, tuple | list) and len(extra_std) == 2:
        return finite_number("extra_std[0]", extra_std[0], 0), integer("extra_std[1]", extra_std[1], 1, 2**32)
    return finite_number("extra_std", extra_std, 0)


@in_default_float_mode
def noise_variance(extra_std: float | tuple[float, int], generation: int) -> float:
    """Return the variance that is added at a generation: constant, or falling to zero."""
    if isinstance(extra_std, tuple):
        return extra_std[0] ** 2 * max(0.0, 1 - generation / extra_std[1])
    return extra_std**2


def start(x0: Any, sigma0: Any, bounds: Any) -> tuple[Array, Array, Array | None, Array | None]:
    """Return the checked start: x0, sigma0, lower and upper bounds (or None), of one dtype and length."""
    lower, upper = (None, None) if bounds is None else both_bounds(bounds)
    if x0 is None and bounds is None:
        raise TypeError("x0: expected a point to start from, or bounds, got neither")
    if x0 is None:
        if lower is None or upper is None or not (np.isfinite(lower).all() and np.isfinite(upper).all()):
            raise ValueError("x0: expected a point to start from where not every dimension has two finite bounds")
        x0 = (lower + upper) / 2
    x = np.array(x0)  # a copy
    if x.dtype.kind not in "fiu":
        raise TypeError(f"x0: expected real numbers, got dtype {x.dtype}")
    x = np.atleast_1d(x if x.dtype == np.float32 else x.astype(np.float64))
    if x.ndim != 1 or not 0 < x.size < 2**31 or not np.isfinite(x).all():
        raise ValueError(f"x0: expected a 1-D array of finite numbers, got shape {np.shape(x0)}: {x0!r}")
    if lower is not None and upper is not None:
        if lower.size not in (1, x.size):
            raise ValueError(f"bounds: expected {x.size} pairs, one for each element of x0, got {lower.size}")
        lower, upper = (np.broadcast_to(b, x.shape).astype(np.float64) for b in (lower, upper))
        if not ((lower <= x) & (x <= upper)).all():
            k = int(np.argmin((lower <= x) & (x <= upper)))
            raise ValueError(f"x0: expected a point within bounds, got x0[{k}] = {x[k]} for ({lower[k]}, {upper[k]})")
        widths = np.where(np.isfinite(lower) & np.isfinite(upper), (upper - lower) / 4, 1.0)
        if np.isinf(lower).all() and np.isinf(upper).all():
            lower = upper = None
    else:
        widths = np.ones(x.shape)
    if sigma0 is None:
        sigma = widths
    else:
        sigma = np.array(sigma0, np.float64)
        if sigma.shape not in ((), (1,), x.shape):
            raise ValueError(f"sigma0: expected a number or an array of shape {x.shape} like x0, got {sigma.shape}")
        sigma = np.broadcast_to(sigma, x.shape)
        if not (np.isfinite(sigma) & (sigma > 0)).all():
            raise ValueError(f"sigma0: expected finite numbers > 0, got {sigma0!r}")
    if lower is None or upper is None:
        return x, sigma.astype(x.dtype), None, None
    # A bound is rounded inwards: no candidate may lie outside by a rounding.
    low, high = lower.astype(x.dtype), upper.astype(x.dtype)
    low = np.where(low < lower, np.nextafter(low, x.dtype.type(np.inf)), low)
    high = np.where(high > upper, np.nextafter(high, x.dtype.type(-np.inf)), high)
    return np.minimum(np.maximum(x, low), high), sigma.astype(x.dtype), low, high


def both_bounds(bounds: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lower and upper bounds from (min, max) pairs, in which None is for none, or from SciPy's Bounds."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        lower, upper = np.broadcast_arrays(*(np.atleast_1d(np.array(b, np.float64)) for b in (bounds.lb, bounds.ub)))
    else:
        try:
            pairs = [(-np.inf if low is None else low, np.inf if high is None else high) for low, high in bounds]
            lower, upper = np.array(pairs, np.float64).reshape(-1, 2).T
        except (TypeError, ValueError):
            raise ValueError("bounds: expected a sequence of (min, max) pairs or a scipy.optimize.Bounds") from None
    if lower.ndim != 1 or not lower.size:
        raise ValueError(f"bounds: expected a pair for each of at least one dimension, got shape {lower.shape}")
    wrong = np.flatnonzero(~(lower <= upper))  # a NaN too
    if wrong.size:
        k = wrong[0]
        raise ValueError(
            f"bounds: expected min <= max in each dimension, got ({lower[k]}, {upper[k]}) in dimension {k}"
        )
    return lower, upper
