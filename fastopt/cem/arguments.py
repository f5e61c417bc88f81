"""Checks of what the cross-entropy method is given: the start, the bounds, the noise."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number, flag, integer

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
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}: expected {' or '.join(map(repr, allowed))}, got {value!r}")
    return str(value)


def defaults(dimensions: int, covariance: str, weights: str, noisy: bool) -> dict[str, Any]:
    """What None means for these arguments, by experiment: `benchmarks/studies/cem_defaults.py` and its table."""
    full = covariance == "full"
    few = full and weights == "log"  # the scale follows at once: the rest is learnt in many small generations
    popsize = round((256 if noisy else 8 if few else 16) * math.sqrt(dimensions))
    elite_frac = 0.5 if few or noisy else 0.2
    std_lr: float | None = min(1.0, (0.75 if noisy else 1.5) / math.sqrt(dimensions))
    if full:  # D (D + 1) / 2 numbers are estimated from the elites: the fewer elites, the slower
        elites = elite_frac * popsize
        std_lr = None if few else min(1.0, 2 * elites / (dimensions * (dimensions + 2) + elites))
    return {
        "popsize": popsize,
        "elite_frac": elite_frac,
        "mean_lr": 1.0,
        "std_lr": std_lr,
        "refit_about": "old_mean",
    }


def checked_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a search, checked, and with what None means in their places."""
    x0, sigma0, lower, upper = start(given["x0"], given["sigma0"], given["bounds"])
    integrality = whole_dimensions(given["integrality"], x0.shape)
    if integrality is not None:
        sigma0 = np.where(integrality, np.maximum(sigma0, x0.dtype.type(LEAST_WHOLE_SIGMA0)), sigma0)
        if lower is not None and upper is not None:
            lower, upper = whole_bounds(lower, upper, integrality)
            x0 = np.clip(x0, lower, upper)
    covariance = choice("covariance", given["covariance"], "diag", "full")
    weights = choice("weights", given["weights"], "log", "equal")
    noisy = flag("noisy", given["noisy"])
    chosen = {
        name: value if given[name] is None else given[name]
        for name, value in defaults(x0.size, covariance, weights, noisy).items()
    }
    largest = float(np.finfo(x0.dtype).max)
    maxiter, maxfev, ftarget, patience = (given[name] for name in ("maxiter", "maxfev", "ftarget", "patience"))
    std_lr = chosen["std_lr"]
    settings: dict[str, Any] = {
        "x0": x0,
        "sigma0": sigma0,
        "integrality": integrality,
        "bounds": None if lower is None or upper is None else np.stack([lower, upper], axis=1),
        "popsize": integer("popsize", chosen["popsize"], 2, 2**40),
        "elite_frac": finite_number("elite_frac", chosen["elite_frac"], above=0, most=1),
        "maxiter": None if maxiter is None else integer("maxiter", maxiter, 1, 2**63),
        "maxfev": None if maxfev is None else integer("maxfev", maxfev, 1, 2**63),
        "mean_lr": finite_number("mean_lr", chosen["mean_lr"], above=0, most=1),
        "std_lr": None if std_lr is None else finite_number("std_lr", std_lr, above=0, most=1),
        "extra_std": noise(given["extra_std"], largest),
        "min_std": finite_number("min_std", given["min_std"], 0, most=largest),
        "refit_about": choice("refit_about", chosen["refit_about"], "old_mean", "new_mean"),
        "covariance": covariance,
        "weights": weights,
        "noisy": noisy,
        "antithetic": flag("antithetic", given["antithetic"]),
        "bound_handling": choice("bound_handling", given["bound_handling"], "clip", "reflect"),
        "maximize": flag("maximize", given["maximize"]),
        "xtol": finite_number("xtol", given["xtol"], 0),
        "ftarget": None if ftarget is None else finite_number("ftarget", ftarget),
        "patience": None if patience is None else integer("patience", patience, 1, 2**63),
        "restarts": integer("restarts", given["restarts"], 0, 2**10),
    }
    refuse_all_elites(settings["popsize"], settings["elite_frac"])
    if weights == "log" and settings["refit_about"] == "new_mean":
        raise ValueError("refit_about: expected 'old_mean' with weights='log', got 'new_mean', which needs 'equal'")
    if maxfev is not None and maxfev < settings["popsize"]:
        raise ValueError(f"maxfev: expected at least popsize, {settings['popsize']}, got {maxfev}")
    return settings


LEAST_WHOLE_STD = 0.3  # with the mean on a whole number one candidate in ten has another
LEAST_WHOLE_SIGMA0 = 1.0  # it begins well above the floor, at which a search may stop


def whole_dimensions(integrality: Any, shape: tuple[int, ...]) -> NDArray[np.bool] | None:
    """Return for each dimension whether it takes whole numbers alone; None if none does."""
    if integrality is None:
        return None
    found = np.asarray(integrality)
    if found.dtype.kind not in "biu" or found.shape not in ((), (1,), shape) or not np.isin(found, (0, 1)).all():
        raise ValueError(
            f"integrality: expected True or False, or an array of shape {shape} of them, got {integrality!r}"
        )
    return np.broadcast_to(found.astype(np.bool), shape).copy() if found.any() else None


def whole_bounds(lower: Array, upper: Array, integrality: NDArray[np.bool]) -> tuple[Array, Array]:
    """Return bounds that are rounded to whole numbers within those given, and give each of them the same room.

    Beyond 2**22 in float32, 2**51 in float64, there is no number in that room, and they stay.
    """
    infinity, half = lower.dtype.type(np.inf), lower.dtype.type(0.5)
    low, high = np.ceil(lower), np.floor(upper)
    empty = np.flatnonzero(integrality & (low > high))
    if empty.size:
        k = empty[0]
        raise ValueError(
            f"bounds: expected a whole number within ({lower[k]}, {upper[k]}), as integrality says, in dimension {k}"
        )
    low = np.where((low - half < low) & (low - half + half == low), np.nextafter(low - half, infinity), low)
    high = np.where((high + half > high) & (high + half - half == high), np.nextafter(high + half, -infinity), high)
    return np.where(integrality, low, lower), np.where(integrality, high, upper)


def least_std(integrality: NDArray[np.bool] | None, dtype: np.dtype[Any]) -> Array | None:
    """Return a floor of the std, without which a dimension of whole numbers would freeze."""
    return None if integrality is None else np.where(integrality, LEAST_WHOLE_STD, 0).astype(dtype)


def in_whole_numbers(x: Array, integrality: NDArray[np.bool] | None) -> Array:
    """Return x, whose last axis is of dimensions, with whole numbers where they are to be."""
    return x if integrality is None else np.where(integrality, np.rint(x), x)


def number_of_elites(popsize: int, elite_frac: float) -> int:
    return min(popsize, max(2, round(elite_frac * popsize)))


def refuse_all_elites(popsize: int, elite_frac: float) -> None:
    elites = number_of_elites(popsize, elite_frac)
    if elites >= popsize:
        raise ValueError(
            f"popsize: expected more candidates than elites, got {popsize}, of which {elites} are elites "
            f"(elite_frac {elite_frac:g}): nothing is selected"
        )


@in_default_float_mode
def averaged(average: NDArray[np.float64], mean: Array, number: int) -> NDArray[np.float64]:
    """Take mean `number`, from 1, into an average in which their weights rise evenly."""
    return average + 2 / (number + 1) * (mean.astype(np.float64) - average)


def numbers_of(name: str, x: Any) -> Array:
    """What is given as an array: sequences of one length, or a tensor of torch, whatever its gradients and device."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array, got a masked one; pass {name}.filled(np.nan)")
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = x.float() if str(x.dtype) == "torch.bfloat16" else x  # which NumPy does not know
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(f"{name}: expected an array, got sequences of several lengths") from None


LARGEST_ROOT = 2.0**511  # whose square float64 holds


def noise(extra_std: Any, largest: float) -> float | tuple[float, int]:
    """Return the checked argument; `largest` is the largest number of the arrays' dtype."""
    most = min(largest, LARGEST_ROOT)
    if isinstance(extra_std, tuple | list) and len(extra_std) == 2:
        first = finite_number("extra_std[0]", extra_std[0], 0, most=most)
        return first, integer("extra_std[1]", extra_std[1], 1, 2**32)
    return finite_number("extra_std", extra_std, 0, most=most)


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
        if (lower == upper).all():
            raise ValueError(
                f"bounds: expected (min, max) pairs, of which one at least leaves room, or x0, got {bounds!r}, where "
                "every variable is fixed; lower and upper bounds as two lists are zip(lower, upper) here"
            )
        with np.errstate(over="ignore"):
            x0 = (lower + upper) / 2
        x0 = np.where(np.isfinite(x0), x0, lower / 2 + upper / 2)
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
        with np.errstate(over="ignore"):
            within = (lower.astype(x.dtype) <= x) & (x <= upper.astype(x.dtype))  # as the dtype of x0 rounds the bounds
        if not within.all():
            k = int(np.argmin(within))
            raise ValueError(f"x0: expected a point within bounds, got x0[{k}] = {x[k]} for ({lower[k]}, {upper[k]})")
        with np.errstate(over="ignore", invalid="ignore"):
            widths = np.where(np.isfinite(lower) & np.isfinite(upper), (upper - lower) / 4, 1.0)
        if np.isinf(lower).all() and np.isinf(upper).all():
            lower = upper = None
    else:
        widths = np.ones(x.shape)
    if sigma0 is None:
        with np.errstate(over="ignore"):
            sigma = widths.astype(x.dtype)
        if lower is not None and upper is not None and not np.isfinite(sigma).all():
            k = int(np.argmin(np.isfinite(sigma)))
            raise ValueError(
                f"bounds: expected widths within the range of {x.dtype}, or sigma0, got ({lower[k]}, {upper[k]}) "
                f"in dimension {k}"
            )
    else:
        sigma = np.array(sigma0, np.float64)
        if sigma.shape not in ((), (1,), x.shape):
            raise ValueError(f"sigma0: expected a number or an array of shape {x.shape} like x0, got {sigma.shape}")
        with np.errstate(over="ignore", under="ignore"):
            sigma = np.broadcast_to(sigma, x.shape).astype(x.dtype)
        if not (np.isfinite(sigma) & (sigma > 0)).all():
            raise ValueError(f"sigma0: expected finite numbers > 0 in {x.dtype}, got {sigma0!r}")
    if lower is None or upper is None:
        return x, sigma, None, None
    low, high = rounded_inwards(lower, upper, x.dtype)
    return np.minimum(np.maximum(x, low), high), sigma, low, high


def rounded_inwards(lower: Array, upper: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return bounds of float64 in a dtype: no candidate may lie outside by a rounding."""
    with np.errstate(over="ignore"):
        low, high = lower.astype(dtype), upper.astype(dtype)
    low = np.where(low < lower, np.nextafter(low, dtype.type(np.inf)), low)
    return low, np.where(high > upper, np.nextafter(high, dtype.type(-np.inf)), high)


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
