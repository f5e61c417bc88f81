"""What the families of policies share: sums along rows and over the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.reference.core import Array, ordered_sum


def as_rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def row_sum(x: Array) -> Array:
    total = np.zeros(len(x), x.dtype)
    for k in range(x.shape[1]):
        total = total + x[:, k]
    return total


def batch_mean(per_sample: Array, count: float | None = None) -> float:
    """The mean over so many samples, if not over all: what the others are is 0."""
    return ordered_sum(per_sample.astype(np.float64)) / float(per_sample.size if count is None else count)


def which_count(valid: NDArray[np.bool] | None, like: Array) -> NDArray[Any]:
    """A mask of the shape of `like`: all without one, else those that are not 0, whatever bytes a view of them has."""
    return np.ones(like.shape, bool) if valid is None else as_flags(valid)


def as_flags(x: NDArray[np.bool]) -> NDArray[Any]:
    return np.asarray(x.view(np.uint8) != 0)
