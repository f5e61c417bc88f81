"""Checks of single numbers, and of who else is at an object, with errors that say what was expected and what came."""

from __future__ import annotations

import functools
from collections.abc import Callable
from threading import get_ident
from typing import Any, TypeVar, cast

import numpy as np

from fastopt._core import finite_number as finite_number
from fastopt._core import forks

Method = TypeVar("Method", bound=Callable[..., Any])
FREE = 0, "", 0


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


def alone(method: Method) -> Method:
    """Make a method one that reads or changes several fields of its object together, of which each moment is whole.

    One call of such methods at a time: a second one is refused in words. The object has `_held` = FREE at first.
    """
    name = method.__name__

    @functools.wraps(method)
    def guarded(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        mine = get_ident(), name, forks()
        by, doing, of_process = self._held
        if by and of_process == mine[2]:  # else the other thread is that of a parent, and not here
            where = "this thread: a re-entry, which is not possible" if by == mine[0] else "another thread"
            raise RuntimeError(f"{name}: this {type(self).__name__} is in the middle of {doing} in {where}")
        # No signal and no other thread comes in but where something is called.
        self._held = mine
        try:
            return method(self, *args, **kwargs)
        finally:
            self._held = FREE

    return cast(Method, guarded)
