"""Sums over all gradients, or all parameters: norms, clipping, the L2 penalty."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._tree import ArrayTree, SparseRows, leaves
from fastopt.reference.core import Array, sum_squares


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
    dense = (summed_rows(g)[1] if isinstance(g, SparseRows) else g for _, g in leaves(grads) if g is not None)
    return math.sqrt(sum(sum_squares(g) for g in dense))


def clip_grad_norm_(grads: Any, max_norm: float) -> float:
    norm = grad_norm(grads)
    factor = min(1.0, max_norm / (norm + 1e-6))
    for _, g in leaves(grads):
        if g is not None:
            array = g.values if isinstance(g, SparseRows) else g
            array *= array.dtype.type(factor)
    return norm


def l2_penalty(params: ArrayTree, weight_decay: float) -> float:
    return 0.5 * weight_decay * sum(sum_squares(p) for _, p in leaves(params))
