"""Sums over all gradients, or all parameters: norms, clipping, the L2 penalty."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._tree import ArrayTree, SparseRows, leaves
from fastopt.reference.core import Array, square_scale, sum_squares
from fastopt.reference.optimizers.bfloat16 import widened


def summed_rows(sparse: SparseRows) -> tuple[NDArray[np.int64], Array]:
    """The distinct row numbers as they come, and the gradient of each: repeated rows are added in their order."""
    rows = np.array(list(dict.fromkeys(sparse.indices.tolist())), np.int64)
    sums = np.empty((len(rows), sparse.values.shape[1]), sparse.values.dtype)
    for k, row in enumerate(rows):
        first, *others = sparse.values[sparse.indices == row]
        sums[k] = first
        for other in others:
            sums[k] += other
    return rows, sums


def grad_norm(grads: Any) -> float:
    return multiplied_norm(grads, 1.0)


def multiplied_norm(grads: Any, multiplier: float) -> float:
    """|grads * multiplier|"""
    given = [g for _, g in leaves(grads) if g is not None]
    dense = [summed_rows(g)[1] if isinstance(g, SparseRows) else widened(g) for g in given]
    total, scale = scaled_squares(dense)
    return abs(multiplier) / scale * math.sqrt(total)


def scaled_squares(arrays: list[Array]) -> tuple[float, float]:
    """(the sum of the squares of all arrays times scale, scale)"""
    with np.errstate(over="ignore"):
        total = sum(sum_squares(x) for x in arrays)
    scale = square_scale(total, arrays)
    return (total if scale == 1 else sum(sum_squares(x, scale) for x in arrays)), scale


def clip_factor(norm: float, max_norm: float) -> float:
    """min(1, max_norm / (norm + 1e-6)), NaN for a NaN."""
    return float(np.minimum(1.0, max_norm / (norm + 1e-6)))


def clip_grad_norm_(grads: Any, max_norm: float, *, error_if_nonfinite: bool = False) -> float:
    norm = grad_norm(grads)
    if error_if_nonfinite and not math.isfinite(norm):
        raise ValueError(f"grads: expected a finite norm, got {norm}")
    factor = clip_factor(norm, max_norm)
    for _, g in leaves(grads):
        if g is not None:
            array = g.values if isinstance(g, SparseRows) else g
            array *= array.dtype.type(factor)
    return norm


def l2_penalty(params: ArrayTree, weight_decay: float) -> float:
    total, scale = scaled_squares([p for _, p in leaves(params)])
    return 0.5 * weight_decay * (1 / scale) * total * (1 / scale)  # in an order that overflows only with the result
