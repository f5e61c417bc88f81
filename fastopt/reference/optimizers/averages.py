"""A moving average of an array."""

from __future__ import annotations

from fastopt.reference.core import Array


def averaged(average: Array, value: Array, decay: float) -> Array:
    """decay * average + (1 - decay) * value, counted from the one of them that has the larger share.

    So none is lost: from 1e8 to 1 with a decay of 0 it is 1, where 1e8 + (1 - 1e8) is 0 in float32.
    """
    dtype = average.dtype.type
    base, rate = (value, dtype(-decay)) if decay < 0.5 else (average, dtype(1 - decay))
    return base + rate * (value - average) if rate != 0 else base


def ema_update(average: Array, value: Array, decay: float) -> None:
    average[...] = averaged(average, value, decay)
