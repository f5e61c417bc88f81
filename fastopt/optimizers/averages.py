"""A moving average of an array."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number


def ema_update(average: NDArray[Any], value: NDArray[Any], decay: float) -> None:
    """Move an average towards a value, in place: average = decay * average + (1 - decay) * value.

    It is counted from the one that has the larger share, so that this one is never lost::

        average += (1 - decay) * (value - average)
        average = value - decay * (value - average)    when decay < 1/2

    Parameters
    ----------
    average, value : ndarray
        Of one shape and dtype, float32 or float64, not overlapping; `average` is written.
    decay : float
        0 <= decay <= 1; 1 leaves the average as it is, 0 makes it the value.

    Raises
    ------
    TypeError, ValueError
        If an array or `decay` is of the wrong kind or value; nothing is written then.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> a = np.zeros(2)
    >>> fastopt.ema_update(a, np.array([1.0, 2.0]), 0.75)
    >>> a
    array([0.25, 0.5 ])
    """
    _core.ema_update(average, value, finite_number("decay", decay, 0, most=1))
