"""What a run of the cross-entropy method ends with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Why a run ended: the name of the rule, its status, whether that is a success, and the message.
STOPS = {
    "xtol": (0, True, "xtol: the std of every dimension has fallen to xtol of its first value"),
    "ftarget": (1, True, "ftarget: the target was reached"),
    "maxiter": (2, False, "maxiter: the generations are used up"),
    "maxfev": (3, False, "maxfev: the evaluations left do not suffice for another generation"),
    "patience": (4, True, "patience: no better candidate for that many generations"),
    "resolution": (
        5,
        True,
        "resolution: the std of every dimension has fallen to the grain of its floating-point type",
    ),
    "callback": (6, False, "callback: it said so"),
    "bad": (7, False, "bad: no two finite scores in any of the last 10 generations; no update was made in them"),
    "overflow": (9, False, "overflow: the distribution has left the range of its floating-point type"),
    "interrupted": (8, False, "interrupted: KeyboardInterrupt; this is the best so far"),
}


class Result(dict[str, Any]):
    """What a run found: a dict whose keys are attributes, with the fields of SciPy's OptimizeResult."""

    def __init__(self, fields: dict[str, Any], candidate: Callable[[int, int], NDArray[Any]] | None = None) -> None:
        super().__init__(fields)
        object.__setattr__(self, "_candidate", candidate)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self})

    def copy(self) -> Result:
        return Result(self, object.__getattribute__(self, "_candidate"))

    def __reduce__(self) -> tuple[Any, ...]:
        return Result, (dict(self), object.__getattribute__(self, "_candidate"))

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{key:>{width}}: {_short(key, value)}" for key, value in self.items())

    def candidate(self, generation: int, i: int) -> NDArray[Any]:
        """Return candidate i of a past generation, computed again (:meth:`CEM.candidate`)."""
        computed: Callable[[int, int], NDArray[Any]] = object.__getattribute__(self, "_candidate")
        return computed(generation, i)


def _short(key: str, value: Any) -> str:
    """A value as it is printed: long arrays at their ends, and of history and settings what there is."""
    if key in ("history", "settings"):
        return f"{{{', '.join(value)}}}"
    return np.array2string(value, threshold=10, edgeitems=3) if isinstance(value, np.ndarray) else repr(value)
