"""Checks of what a planner is given: sizes, bounds, rates, rules."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._checks import finite_number, flag, integer
from fastopt.cem.arguments import both_bounds, choice, number_of_elites, refuse_all_elites, rounded_inwards

Array = NDArray[Any]
RULES = "elites", "softmax", "mppi"
LONGEST_SERIES = 512  # of coloured noise
MOST_ITERATIONS = 2**16 - 1


def checked_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a planner, checked, and with what None means in their places."""
    horizon = integer("horizon", given["horizon"], 1, 2**31)
    actions = integer("actions", given["actions"], 1, 2**31 // horizon + 1)
    batch = given["batch"]
    try:
        dtype = np.dtype(given["dtype"])
    except TypeError:
        dtype = None
    if given["dtype"] is None or dtype not in (np.float32, np.float64):  # None would be float64
        raise TypeError(f"dtype: expected float32 or float64, got {given['dtype']!r}")
    lower, upper = _bounds(given["bounds"], actions, dtype)
    is_infinite = isinstance(given["max_std"], float | np.floating) and given["max_std"] == np.inf
    settings: dict[str, Any] = {
        "horizon": horizon,
        "actions": actions,
        "batch": None if batch is None else integer("batch", batch, 1, 2**31),
        "bounds": None if lower is None or upper is None else np.stack([lower, upper], axis=1),
        "sigma0": _sigma(given["sigma0"], lower, upper, horizon, actions, dtype),
        "popsize": integer("popsize", given["popsize"], 2, 2**40),
        "iterations": integer("iterations", given["iterations"], 1, MOST_ITERATIONS),
        "elite_frac": finite_number("elite_frac", given["elite_frac"], above=0, most=1),
        "rule": choice("rule", given["rule"], *RULES),
        "temperature": finite_number("temperature", given["temperature"], above=0),
        "adapt_std": flag("adapt_std", given["adapt_std"]),
        **{name: _rates(name, given[name], horizon, actions) for name in ("mean_lr", "std_lr")},
        "min_std": finite_number("min_std", given["min_std"], 0, most=most_std(dtype)),
        "max_std": float("inf") if is_infinite else finite_number("max_std", given["max_std"], above=0),
        "noise_beta": finite_number("noise_beta", given["noise_beta"], 0),
        "keep_frac": finite_number("keep_frac", given["keep_frac"], 0, most=1),
        "decay": finite_number("decay", given["decay"], 1),
        "mean_last": flag("mean_last", given["mean_last"]),
        "truncated": flag("truncated", given["truncated"]),
        "dtype": str(dtype),
        "tensors": choice("tensors", given["tensors"], "numpy", "torch"),
    }
    if settings["rule"] != "mppi":
        refuse_all_elites(settings["popsize"], settings["elite_frac"])
    if settings["min_std"] > settings["max_std"]:
        raise ValueError(f"max_std: expected at least min_std, {settings['min_std']:g}, got {settings['max_std']:g}")
    if settings["truncated"] and settings["bounds"] is None:
        raise ValueError("truncated: expected False without bounds, at which the distribution is cut, got True")
    if settings["noise_beta"] > 0:
        if settings["truncated"]:
            raise ValueError(
                f"noise_beta: expected 0 with truncated=True, which draws each number by itself, "
                f"got {settings['noise_beta']:g}"
            )
        if horizon > LONGEST_SERIES:
            raise ValueError(f"horizon: expected at most {LONGEST_SERIES} with noise_beta, got {horizon}")
    if settings["keep_frac"] > 0 and settings["rule"] == "mppi":
        raise ValueError("keep_frac: expected 0 with rule='mppi', which has no elites, got " + str(given["keep_frac"]))
    return settings


def populations(settings: dict[str, Any]) -> list[int]:
    """How many candidates each iteration draws: popsize / decay**i, but at least twice the elites."""
    least = min(settings["popsize"], 2 * number_of_elites(settings["popsize"], settings["elite_frac"]))
    wanted, found = float(settings["popsize"]), []
    for _ in range(settings["iterations"]):
        found.append(max(int(wanted), least))
        wanted /= settings["decay"]
    return found


def _bounds(bounds: Any, actions: int, dtype: np.dtype[Any]) -> tuple[Array | None, Array | None]:
    """Of each action, rounded inwards to the dtype."""
    if bounds is None:
        return None, None
    lower, upper = both_bounds(bounds)
    if lower.size not in (1, actions):
        raise ValueError(f"bounds: expected {actions} pairs, one for each action, or one for all, got {lower.size}")
    if (lower == upper).all():
        raise ValueError(
            f"bounds: expected (min, max) pairs, of which one at least leaves room, got {bounds!r}, where every action "
            "is fixed; lower and upper bounds as two lists are zip(lower, upper) here"
        )
    lower, upper = (np.broadcast_to(b, (actions,)) for b in (lower, upper))
    low, high = rounded_inwards(lower, upper, dtype)
    if not (low <= high).all():
        raise ValueError(f"bounds: expected a number of {dtype} between the two, got {bounds!r}")
    return low, high


def most_std(dtype: np.dtype[Any]) -> float:
    """Candidates of no larger std are finite, and so are the squares of their distances."""
    return float(np.sqrt(np.finfo(dtype).max))


def _sigma(
    sigma0: Any, lower: Array | None, upper: Array | None, horizon: int, actions: int, dtype: np.dtype[Any]
) -> Array:
    """The first std, (horizon, actions). None: half of the width where there are two finite bounds, else 1."""
    if sigma0 is None:
        sigma: Any = np.ones(actions)
        if lower is not None and upper is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                width = upper.astype(np.float64) - lower.astype(np.float64)
                sigma = np.where(np.isfinite(width) & (width > 0), np.minimum(width / 2, most_std(dtype)), 1.0)
    else:
        sigma = sigma0
    with np.errstate(over="ignore", under="ignore"):
        found = _for_each("sigma0", sigma, horizon, actions).astype(dtype)
    if not ((found > 0) & (found <= most_std(dtype))).all():
        raise ValueError(f"sigma0: expected numbers > 0 and at most {most_std(dtype):.2g} in {dtype}, got {sigma0!r}")
    return found


def _rates(name: str, rate: Any, horizon: int, actions: int) -> NDArray[np.float64]:
    rates = _for_each(name, rate, horizon, actions)
    if not ((rates >= 0) & (rates <= 1)).all():
        raise ValueError(f"{name}: expected numbers within 0 and 1, got {rate!r}")
    return rates


def _for_each(name: str, value: Any, horizon: int, actions: int) -> NDArray[np.float64]:
    """A number, or one of each action, at each step: (horizon, actions)."""
    try:
        return np.broadcast_to(np.asarray(value, np.float64), (horizon, actions)).copy()
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}: expected a number, {actions} numbers or shape {(horizon, actions)}, got {value!r}"
        ) from None
