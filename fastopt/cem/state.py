"""The state of a search as a flat dict of arrays and plain numbers, and back."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._checks import integer
from fastopt.cem.arguments import checked_settings
from fastopt.cem.result import STOPS

Array = NDArray[Any]

FORMAT = 1
COLUMNS = 6  # of the history
NUMBERS = ("_fun", "_fun_mean", "_best_of_restart", "_final_score")  # NaN where there is none
COUNTS = ("_nfev", "_stale", "_bad", "_idle")
NONE_SO_FAR = {"_rule", "_told_mean"}  # left out where they are None, as settings are, which `unset` names
MAY_BE_NONE = {"integrality", "bounds", "maxiter", "maxfev", "std_lr", "ftarget", "patience"}


def saved(cem: Any) -> dict[str, Any]:
    """What :meth:`CEM.to_dict` returns."""
    d, elites = cem._distribution, cem._elites[: cem._generation]
    settings = {key: value for key, value in cem._settings.items() if value is not None}
    if isinstance(settings["extra_std"], tuple):
        settings["extra_std"] = np.array(settings["extra_std"], np.float64)
    return {
        "format": FORMAT,
        "dtype": str(d.mean.dtype),
        "seed": cem._seed,
        "rng": np.array(cem._rng, np.uint64),
        "repeats": cem._repeats,
        "reserve": cem._reserve,
        "generation": cem._generation,
        "unset": " ".join(sorted(key for key, value in cem._settings.items() if value is None)),
        **{f"settings/{key}": v.copy() if isinstance(v, np.ndarray) else v for key, v in settings.items()},
        **{name: array.copy() for name, array in _distribution(d).items()},
        "elites": np.concatenate([*elites, np.empty(0, np.int64)]),
        "elite_counts": np.array([len(e) for e in elites], np.int64),
        "history": cem._history_rows(),
        "scores": cem._scores.copy(),
        "told": cem._told.copy(),
        "begun": np.array(cem._begun[: cem._restart + 1], np.int64),
        "x": cem._x.copy(),
        "x_mean": cem._x_mean.copy(),
        "average": cem._average.copy(),
        **{name.lstrip("_"): getattr(cem, name) for name in (*NUMBERS, *COUNTS)},
        **{name[1:]: getattr(cem, name) for name in NONE_SO_FAR if getattr(cem, name) is not None},
    }


def _distribution(d: Any) -> dict[str, Array]:
    found = {"mean": d.mean, "std": d.std, "factor": d.factor, "path": d.path}
    return {name: array for name, array in found.items() if array is not None}


def restore(cem: Any, state: Mapping[str, Any], arguments: list[str], limits: Mapping[str, int]) -> None:
    """Set up a new object with the state that `saved` returned, all of it checked, and with other limits; `arguments`
    are those of a search."""
    entries = Entries(state)
    entries.integer("format", FORMAT, FORMAT + 1)
    dtype = np.dtype(entries.text("dtype", "float32", "float64"))
    given: dict[str, Any] = dict.fromkeys(arguments)
    unset = str(entries.plain("unset")).split()
    for key in [key for key in state if key.startswith("settings/")]:
        name = key.removeprefix("settings/")
        if name not in given:
            raise ValueError(f"state: expected the keys of to_dict(), got {key!r}")
        given[name] = entries.plain(key)
    for name, value in given.items():
        if value is None and (name not in MAY_BE_NONE or name not in unset):
            raise ValueError(f"state: expected the keys of to_dict(), got none {'settings/' + name!r}")
    if np.ndim(given["extra_std"]) == 1 and len(given["extra_std"]) == 2:
        first, within = given["extra_std"]
        given["extra_std"] = float(first), int(within)
    for name in ("x0", "sigma0"):
        given[name] = entries.array(f"settings/{name}", dtype, (None,))
    settings = checked_settings({**given, **limits})
    n = settings["x0"].size
    scores = entries.array("scores", np.dtype(np.float64), (None,))
    if scores.size < settings["popsize"]:  # said before memory is asked for by it
        raise ValueError(f"state['scores']: expected popsize, {settings['popsize']}, or more, got {scores.size}")
    source, stream = entries.array("rng", np.dtype(np.uint64), (2,)).tolist()
    cem._set_up(settings, entries.integer("seed", 0, 2**64), (source, stream))
    cem._repeats = entries.integer("repeats", 1, 2**20 + 1)
    cem._reserve = entries.integer("reserve", 0, 2**20 + 1)
    generation = entries.integer("generation", 0, 2**62)
    begun = entries.array("begun", np.dtype(np.int64), (None,)).tolist()
    rising = all(a < b for a, b in itertools.pairwise(begun))
    if not begun or begun[0] != 0 or not rising or begun[-1] > generation or len(begun) > settings["restarts"] + 1:
        raise ValueError(f"state['begun']: expected rising numbers from 0 to at most {generation}, got {begun}")
    cem._begun, cem._restart, cem._generation = begun, len(begun) - 1, generation
    first = cem._first_distribution(cem._restart)
    new: dict[str, Any] = {
        name: entries.array(name, array.dtype, array.shape) for name, array in _distribution(first).items()
    }
    if not (new["std"] >= 0).all():
        raise ValueError(f"state['std']: expected no negative numbers and no NaN, got {new['std']}")
    cem._distribution = first.replaced(**new, stream=first.stream + generation - begun[-1])
    cem._await_scores()
    cem._scores[:] = entries.array("scores", np.dtype(np.float64), (cem._popsize,))
    cem._told[:] = entries.array("told", np.dtype(np.bool), (cem._popsize,))
    counts = entries.array("elite_counts", np.dtype(np.int64), (generation,))
    elites = entries.array("elites", np.dtype(np.int64), (int(counts.sum()),)) if (counts >= 0).all() else None
    sizes = settings["popsize"] * 2 ** np.repeat(np.arange(len(begun)), np.diff([*begun, generation]))
    if elites is None or not ((elites >= 0) & (elites < np.repeat(sizes, counts))).all() or (counts == 1).any():
        raise ValueError(f"state['elites']: expected numbers of candidates, elite_counts of them, got {elites}")
    cem._elites = [part.copy() for part in np.split(elites, np.cumsum(counts)[:-1])] if generation else []
    cem._history = bytearray(entries.array("history", np.dtype(np.float64), (generation, COLUMNS)).tobytes())
    cem._x, cem._x_mean = (entries.array(name, dtype, (n,)) for name in ("x", "x_mean"))
    cem._average = entries.array("average", np.dtype(np.float64), (n,))
    for name in NUMBERS:
        setattr(cem, name, entries.number(name.lstrip("_")))
    for name in COUNTS:
        setattr(cem, name, entries.integer(name.lstrip("_"), 0, 2**63))
    cem._told_mean = entries.number("told_mean") if "told_mean" in state else None
    cem._rule = entries.text("rule", *STOPS) if "rule" in state else None
    entries.all_taken()
    if limits and cem._rule in ("maxiter", "maxfev", "interrupted", "callback"):
        cem._rule = None


class Entries:
    """A saved state's entries, each taken in the kind that it has; a file's are all arrays, JSON's all lists."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected what to_dict() returned, got {type(state).__name__}")
        self._state = state
        self._left = set(state)

    def plain(self, key: str) -> Any:
        if key not in self._state:
            raise ValueError(f"state: expected the keys of to_dict(), got none {key!r}")
        self._left.discard(key)
        value = self._state[key]
        return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value

    def integer(self, key: str, low: int, high: int) -> int:
        return integer(f"state[{key!r}]", self.plain(key), low, high)

    def number(self, key: str) -> float:
        value = self.plain(key)
        if isinstance(value, bool | np.bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise TypeError(f"state[{key!r}]: expected a number, got {value!r}")
        return float(value)

    def text(self, key: str, *allowed: str) -> str:
        value = self.plain(key)
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"state[{key!r}]: expected one of {', '.join(allowed)}, got {value!r}")
        return str(value)

    def array(self, key: str, dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> Array:
        """A copy, where `shape` says None of any length; the values must be those of the dtype."""
        given = self.plain(key)
        value = np.asarray(given)
        if isinstance(given, list):  # JSON's
            if dtype == np.uint64 and all(type(number) is int and 0 <= number < 2**64 for number in given):
                value = np.array(given, dtype)  # NumPy makes floats of numbers on both sides of 2**63
            if not value.size and value.ndim < len(shape) and not all(shape):
                value = value.reshape([length or 0 for length in shape])  # [] is of every shape without elements
        kinds = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}[dtype.kind]
        if value.dtype.kind not in kinds and value.size:
            raise TypeError(f"state[{key!r}]: expected {dtype}, got {value.dtype}")
        if value.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, value.shape, strict=True)):
            raise ValueError(f"state[{key!r}]: expected shape {shape}, got {value.shape}")
        found = np.array(value, dtype, order="C")
        if dtype.kind in "iu" and (found != value).any():
            raise ValueError(f"state[{key!r}]: expected {dtype}, got numbers outside of its range")
        return found

    def all_taken(self) -> None:
        if self._left:
            raise ValueError(f"state: expected the keys of to_dict(), got {', '.join(map(repr, sorted(self._left)))}")
