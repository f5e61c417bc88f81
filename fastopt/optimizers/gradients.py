"""Sums over all gradients, or all parameters: norms, clipping, the L2 penalty."""

from __future__ import annotations

import math
from typing import Any

from fastopt import _core
from fastopt._checks import finite_number, flag
from fastopt._tree import ArrayTree, SparseRows, label, leaves


def grad_norm(grads: Any) -> float:
    """Return the root of the sum of the squares of all gradients, in float64 and in a fixed order.

    Gradients whose squares are beyond float64's range are scaled first by a power of two.

    Parameters
    ----------
    grads : array or :class:`SparseRows`, or these in lists, tuples and dicts, nested to any depth
        float32 or float64, or arrays of codes of bfloat16 as in :func:`adam_step`; None is passed over.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> fastopt.grad_norm({"w": np.array([3.0]), "b": np.array([4.0], "float32")})
    5.0
    """
    return _norm(_present(grads))


def _present(grads: Any) -> list[tuple[str, Any]]:
    """Return (name, gradient) for each that is not None."""
    return [(label("grads", path), grad) for path, grad in leaves(grads) if grad is not None]


def _norm(named: list[tuple[str, Any]]) -> float:
    dense = [_core.coalesce(grad, name)[1] if isinstance(grad, SparseRows) else grad for name, grad in named]
    return _core.norm(dense, [name for name, _ in named])


def clip_grad_norm_(grads: Any, max_norm: float, *, error_if_nonfinite: bool = False) -> float:
    """Scale gradients in place so that their common norm is at most max_norm, and return the norm before.

    The factor is min(1, max_norm / (norm + 1e-6)), as in torch.nn.utils.clip_grad_norm_. A norm that is NaN makes NaN
    of every gradient; an infinite one makes zeros of finite gradients and NaN of infinite ones.

    Parameters
    ----------
    grads : array or :class:`SparseRows`, or these in lists, tuples and dicts, nested to any depth
        float32 or float64, whose dtypes may differ; written. None is passed over.
    max_norm : float
        > 0.
    error_if_nonfinite : bool
        If True, a norm that is NaN or infinite is an error.

    Raises
    ------
    TypeError, ValueError
        If an array or `max_norm` is of the wrong kind or value, or the norm is not finite and may not be so; nothing is
        written then, and neither when memory runs out or the call is interrupted.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> g = np.array([3.0, 4.0])
    >>> fastopt.clip_grad_norm_([g], 1.0)
    5.0
    >>> round(fastopt.grad_norm(g), 5)
    1.0
    """
    max_norm = finite_number("max_norm", max_norm, above=0)
    flag("error_if_nonfinite", error_if_nonfinite)
    present = _present(grads)
    arrays = [grad.values if isinstance(grad, SparseRows) else grad for _, grad in present]
    _core.check_disjoint(arrays, [name for name, _ in present])
    norm = _norm(present)
    if error_if_nonfinite and not math.isfinite(norm):
        raise ValueError(
            f"grads: expected a finite norm, got {norm}; error_if_nonfinite=False scales by it all the same"
        )
    factor = _core.clip_factor(norm, max_norm)
    if factor != 1:
        _core.scale(arrays, factor)  # one call, so that all are scaled or none
    return norm


def l2_penalty(params: ArrayTree, weight_decay: float) -> float:
    """Return weight_decay / 2 times the sum of the squares of all parameters, in float64.

    Its gradient is what coupled weight decay adds, weight_decay * p, so that the loss printed is the loss minimised.

    Parameters
    ----------
    params : array, or arrays in lists, tuples and dicts, nested to any depth
        float32 or float64; dtypes may differ.
    weight_decay : float
        >= 0.

    Raises
    ------
    TypeError, ValueError
        If an array or `weight_decay` is of the wrong kind or value.

    Notes
    -----
    The sum has a fixed order, so its bits do not depend on threads or CPU. Parameters whose squares are beyond the
    range of float64 are scaled first by a power of two.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> fastopt.l2_penalty({"w": np.array([3.0, 4.0])}, 0.1)
    1.25
    """
    weight_decay = finite_number("weight_decay", weight_decay, 0)
    named = list(leaves(params))
    return _core.l2_penalty([array for _, array in named], [label("params", path) for path, _ in named], weight_decay)
