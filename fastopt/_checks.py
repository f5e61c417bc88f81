"""Checks of single numbers, with errors that name the argument, what was expected and what came."""

from __future__ import annotations

import math
import struct
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
        # In a thread whose processor takes subnormal numbers for 0, its comparisons do too.
        if value == 0 and above == 0 and 0 < int.from_bytes(struct.pack("<d", value), "little") < 1 << 63:
            return float(value)
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
