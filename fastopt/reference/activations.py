"""Leaky ReLU, the hyperbolic tangent, their gradients, and the share of units that are inactive."""

from __future__ import annotations

import numpy as np

from fastopt.reference.core import Array, column_sums, hyperbolic_tangent, into

__all__ = [
    *("bias_tanh", "bias_tanh_backward", "inactive_fraction", "leaky_relu", "leaky_relu_backward"),
    *("tanh", "tanh_backward"),
]


def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    return into(out, np.where(x > 0, x, x * x.dtype.type(negative_slope)))


def leaky_relu_backward(grad: Array, x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    return into(out, np.where(x > 0, grad, grad * grad.dtype.type(negative_slope)))


def tanh(x: Array, *, out: Array | None = None) -> Array:
    return into(out, np.asarray(hyperbolic_tangent(x)))


def tanh_backward(grad: Array, y: Array, *, out: Array | None = None) -> Array:
    return into(out, np.asarray(grad * (y.dtype.type(1) - y * y)))


def bias_tanh(x: Array, bias: Array, *, out: Array | None = None) -> Array:
    return into(out, hyperbolic_tangent(x + bias))


def bias_tanh_backward(grad: Array, y: Array, *, out: Array | None = None) -> tuple[Array, Array]:
    dx = tanh_backward(grad, y)
    return into(out, dx), column_sums(dx)


def inactive_fraction(x: Array, axis: int | tuple[int, ...] = 0) -> Array:
    return np.asarray(np.mean(x <= 0, axis=axis))
