"""A planner's state, from the flat dict that it was saved as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.cem.state import Entries
from fastopt.plan.arguments import checked_settings
from fastopt.plan.decision import Decision

Array = NDArray[Any]
MAY_BE_NONE = "batch", "bounds"


def restore(planner: Any, state: Mapping[str, Any], arguments: list[str]) -> None:
    """Set up a new object with the state that `to_dict` returned, all of it checked; `arguments` are a planner's."""
    entries = Entries(state)
    entries.integer("format", 1, 2)
    given = {
        name: None if name in MAY_BE_NONE and f"settings/{name}" not in state else entries.plain(f"settings/{name}")
        for name in arguments
    }
    settings = checked_settings(given)
    dtype, sizes, bounds = np.dtype(settings["dtype"]), (settings["horizon"], settings["actions"]), settings["bounds"]
    count = 1 if settings["batch"] is None else settings["batch"]
    planner._set_up(settings, entries.array("seeds", np.dtype(np.uint64), (count,)))
    planner._fresh = entries.array("fresh", np.dtype(np.bool), (count,))
    kept = planner._search.kept
    number = entries.integer("decision", 0, 2**40)
    iteration = entries.integer("iteration", 0, settings["iterations"] + 1)

    def plans(key: str, *shape: int | None) -> Array:
        x = entries.array(key, dtype, shape)
        of_actions = x.reshape(-1, sizes[1])
        within = bounds is None or ((bounds[:, 0] <= of_actions) & (of_actions <= bounds[:, 1])).all()
        if not within or not np.isfinite(x).all():
            raise ValueError(f"state[{key!r}]: expected finite numbers within the bounds, got others")
        return x

    means = plans("means", iteration + 1, count, sizes[0] * sizes[1])
    stds = entries.array("stds", dtype, means.shape)
    if not (np.isfinite(stds) & (stds >= 0)).all():
        raise ValueError("state['stds']: expected finite numbers >= 0, got others")
    stored = tuple(plans(f"stored/{k}", count, None, *sizes) for k in range(iteration + 1))
    if any(rows.shape[1] < kept for rows in stored):
        raise ValueError(f"state['stored/0']: expected {kept} kept elites or more of each problem")
    running = entries.array("running", np.dtype(np.bool), (iteration + 1, count))
    if not running[0].all() or (running[1:] & ~running[:-1]).any():
        raise ValueError("state['running']: expected all problems at first, and none again that has stopped")
    unmoved = entries.array("unmoved", np.dtype(np.int64), (None,))
    if not ((unmoved >= 0) & (unmoved < count)).all():
        raise ValueError(f"state['unmoved']: expected numbers from 0 to {count - 1}, got {unmoved}")
    is_made = iteration == settings["iterations"] or not running[-1].any()
    made = plans("made", count, sizes[1]) if is_made else None
    entries.all_taken()
    problems = tuple(np.flatnonzero(row) for row in running)
    planner._decision = Decision(
        number, iteration, tuple(means), tuple(stds), stored, problems, frozenset(unmoved.tolist()), made
    )
