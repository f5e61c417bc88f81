"""Checks of single numbers, and of who else is at an object, with errors that say what was expected and what came."""

from __future__ import annotations

import math
from threading import get_ident
from typing import Any

import numpy as np


def finite_number(
    name: str,
    value: Any,
    least: float | None = None,
    *,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return a finite float in range: least <= value <= most, above < value < below, as far as they are given."""
    if type(value) is not float:
        if isinstance(value, bool | np.bool | str | bytes):
            raise TypeError(f"{name}: expected a float, got {type(value).__name__}")
        try:
            value = float(value)
        except OverflowError:
            value = math.inf if value > 0 else -math.inf
        except (TypeError, ValueError):
            raise TypeError(f"{name}: expected a float, got {type(value).__name__}") from None
    if (
        not math.isfinite(value)
        or (least is not None and value < least)
        or (most is not None and value > most)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        wanted = " and ".join(
            f"{sign} {limit:g}"
            for sign, limit in ((">=", least), ("<=", most), (">", above), ("<", below))
            if limit is not None
        )
        raise ValueError(f"{name}: expected a finite number{' ' + wanted if wanted else ''}, got {value}")
    return float(value)


def integer(name: str, value: Any, low: int, high: int) -> int:
    """Return an int with low <= value < high."""
    if isinstance(value, bool | np.bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    if not low <= value < high:
        raise ValueError(f"{name}: expected {low} <= {name} < {high}, got {value}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """Return a bool; a string such as "no" would count as true."""
    if not isinstance(value, bool | np.bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


class Held:
    """An object of which several fields change together: one caller at a time, and a second one is refused in words.

    ``with held("tell"):`` around what reads or changes them.
    """

    def __init__(self, kind: str) -> None:
        self.kind, self.doing, self.by = kind, "", 0

    def __call__(self, doing: str) -> _Holding:
        return _Holding(self, doing)


class _Holding:
    def __init__(self, held: Held, doing: str) -> None:
        self.held, self.doing = held, doing

    def __enter__(self) -> None:
        held, doing, me = self.held, self.doing, get_ident()
        if held.by:
            where = "this thread: a re-entry, which is not possible" if held.by == me else "another thread"
            raise RuntimeError(f"{doing}: this {held.kind} is in the middle of {held.doing} in {where}")
        # Since the test there was no call, and so no place at which a signal or another thread comes in.
        held.doing, held.by = doing, me

    def __exit__(self, *error: object) -> None:
        self.held.by = 0
