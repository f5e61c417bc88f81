"""Leaky ReLU and its gradient, and the share of units that are inactive."""

from __future__ import annotations

import numpy as np

from fastopt.reference.core import Array, into

__all__ = ["inactive_fraction", "leaky_relu", "leaky_relu_backward"]


def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    return into(out, np.where(x > 0, x, x * x.dtype.type(negative_slope)))


def leaky_relu_backward(grad: Array, x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    return into(out, np.where(x > 0, grad, grad * grad.dtype.type(negative_slope)))


def inactive_fraction(x: Array, axis: int | tuple[int, ...] = 0) -> Array:
    return np.asarray(np.mean(x <= 0, axis=axis))
