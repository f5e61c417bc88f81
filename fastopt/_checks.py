"""Checks of single numbers, with errors that name the argument, what was expected and what came."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastopt._core import finite_number as finite_number


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
