"""Dropout whose mask is an address, alone and in the fused layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt.masking import DropoutMask, mask_address
from fastopt.random import DOMAIN_DROPOUT
from fastopt.reference.activations import leaky_relu, leaky_relu_backward
from fastopt.reference.core import Array, column_sums, into
from fastopt.reference.random import values16

__all__ = ["bias_leaky_relu_dropout", "bias_leaky_relu_dropout_backward", "dropout", "dropout_backward"]


def dropout(
    x: Array, p: float = 0.5, *, training: bool = True, rng: Any = None, out: Array | None = None
) -> tuple[Array, DropoutMask]:
    mask = mask_address(x.shape, p, training, rng)
    return into(out, _drop(x, mask)), mask


def dropout_backward(grad: Array, mask: DropoutMask, *, out: Array | None = None) -> Array:
    return into(out, _drop(grad, mask))


def _drop(x: Array, mask: DropoutMask) -> Array:
    if mask.p == 0:
        return x.copy()
    return np.where(_kept(mask), x * x.dtype.type(_scale(mask.p)), x.dtype.type(0))


def _threshold(p: float) -> int:
    return min(max(round(65536 * p), 1), 65535) if p > 0 else 0


def _scale(p: float) -> float:
    return 1 / (1 - _threshold(p) / 65536) if p < 1 else 0.0


def _kept(mask: DropoutMask) -> NDArray[np.bool]:
    if mask.p in (0, 1):  # no random numbers are needed
        return np.full(mask.shape, mask.p == 0)
    values = values16(mask.seed, mask.stream, DOMAIN_DROPOUT, math.prod(mask.shape))
    return values.reshape(mask.shape) >= _threshold(mask.p)


def bias_leaky_relu_dropout(
    x: Array,
    bias: Array,
    negative_slope: float = 0.01,
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Any = None,
    out: Array | None = None,
) -> tuple[Array, DropoutMask]:
    mask = mask_address(x.shape, p, training, rng)
    one = x.dtype.type
    y = leaky_relu(x + bias, negative_slope) * one(_scale(mask.p))
    y = np.where(y == 0, one(-0.0), y)
    return into(out, np.where(_kept(mask), y, one(0))), mask


def bias_leaky_relu_dropout_backward(
    grad: Array, y: Array, mask: DropoutMask, negative_slope: float = 0.01, *, out: Array | None = None
) -> tuple[Array, Array]:
    dx = leaky_relu_backward(grad * grad.dtype.type(_scale(mask.p)), y, negative_slope)
    dropped = (y == 0) & ~np.signbit(y) | (mask.p == 1)
    dx = np.where(dropped, grad.dtype.type(0), dx)
    return into(out, dx), column_sums(dx)
