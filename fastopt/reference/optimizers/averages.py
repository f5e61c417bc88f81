"""A moving average of an array."""

from __future__ import annotations

from fastopt.reference.core import Array


def ema_update(average: Array, value: Array, decay: float) -> None:
    rate = average.dtype.type(1 - decay)
    if rate != 0:
        average += rate * (value - average)
