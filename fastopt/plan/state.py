"""A planner's state, from the flat dict that it was saved as."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._checks import integer
from fastopt.plan.arguments import checked_settings

Array = NDArray[Any]
MAY_BE_NONE = "batch", "bounds"


def restored(cls: Any, state: Mapping[str, Any], decision: Callable[..., Any]) -> Any:
    """A planner of this class with the state that `to_dict` returned, all of it checked."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected what to_dict() returned, got {type(state).__name__}")
    left = dict(state)

    def plain(key: str) -> Any:
        if key not in left:
            raise ValueError(f"state: expected the keys of to_dict(), got none {key!r}")
        value = left.pop(key)
        return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value

    def array(key: str, dtype: Any, *shape: int | None) -> Array:
        value, wanted = np.asarray(plain(key)), np.dtype(dtype)
        fits = value.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, value.shape, strict=True))
        if not fits or (
            value.dtype.kind != wanted.kind and value.size and {value.dtype.kind, wanted.kind} != {"i", "u"}
        ):
            raise ValueError(f"state[{key!r}]: expected {wanted} of shape {shape}, got {value.dtype} of {value.shape}")
        return np.array(value, wanted, order="C")

    integer("state['format']", plain("format"), 1, 2)
    names = [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "rng")]
    given = {
        name: plain(f"settings/{name}") if f"settings/{name}" in left or name not in MAY_BE_NONE else None
        for name in names
    }
    settings = checked_settings(given)
    n, dtype = settings["horizon"] * settings["actions"], settings["dtype"]
    count = 1 if settings["batch"] is None else settings["batch"]
    self = cls.__new__(cls)
    self._set_up(settings, array("seeds", np.uint64, count))
    self._fresh = array("fresh", np.bool, count)
    number = integer("state['decision']", plain("decision"), 0, 2**40)
    iteration = integer("state['iteration']", plain("iteration"), 0, settings["iterations"] + 1)
    means, stds = (array(name, dtype, iteration + 1, count, n) for name in ("means", "stds"))
    if not (stds >= 0).all():
        raise ValueError("state['stds']: expected no negative numbers and no NaN")
    sizes = settings["horizon"], settings["actions"]
    stored = tuple(array(f"stored/{k}", dtype, count, None, *sizes) for k in range(iteration + 1))
    if any(rows.shape[1] < self._search.kept for rows in stored):
        raise ValueError(f"state['stored/0']: expected {self._search.kept} kept elites or more of each problem")
    running = array("running", np.bool, iteration + 1, count)
    unseen = frozenset(array("unseen", np.int64, None).tolist())
    made = array("made", dtype, count, settings["actions"]) if "made" in left else None
    if made is None and (iteration == settings["iterations"] or not running[-1].any()):
        raise ValueError("state: expected the key 'made' of a decision that is made, got none")
    if left:
        raise ValueError(f"state: expected the keys of to_dict(), got {', '.join(map(repr, sorted(left)))}")
    problems = tuple(np.flatnonzero(row) for row in running)
    self._decision = decision(number, iteration, tuple(means), tuple(stds), stored, problems, unseen, made)
    return self
