"""Leaky ReLU, the hyperbolic tangent, their gradients, and the share of units that are inactive."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import NDArray

from fastopt import _core

__all__ = [
    "bias_tanh",
    "bias_tanh_backward",
    "inactive_fraction",
    "leaky_relu",
    "leaky_relu_backward",
    "tanh",
    "tanh_backward",
]


def leaky_relu(x: NDArray[Any], negative_slope: float = 0.01, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return x where x > 0, else x * negative_slope.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape and layout
    negative_slope : float
        Any finite number; 0 gives the ReLU. It is rounded once to the dtype of `x`.
    out : ndarray, optional
        Array of the shape and dtype of `x` to write to. It may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array in the memory order of `x`.

    Raises
    ------
    TypeError
        If `x` or `out` is not an array of float32 or float64, or their dtypes differ.
    ValueError
        If the shapes differ, `out` is read-only or overlaps `x` in part, or the slope is not finite.

    Notes
    -----
    NaN stays NaN, and a zero keeps or takes the sign that ``x * negative_slope`` gives it. Maas, Hannun and Ng,
    "Rectifier nonlinearities improve neural network acoustic models", 2013.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> fastopt.leaky_relu(np.array([-2.0, 3.0]), 0.1)
    array([-0.2,  3. ])
    """
    return _core.leaky_relu(x, negative_slope, out)


def leaky_relu_backward(
    grad: NDArray[Any], x: NDArray[Any], negative_slope: float = 0.01, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the gradient of :func:`leaky_relu` with respect to x: grad where x > 0, else grad * negative_slope.

    Parameters
    ----------
    grad : ndarray
        Gradient with respect to the output; shape and dtype of `x`.
    x : ndarray of float32 or float64
        Input of the forward call. Where the slope is positive its output serves as well, so the forward call may have
        been in place.
    negative_slope : float
        That of the forward call.
    out : ndarray, optional
        Array of the shape and dtype of `grad` to write to. It may be `grad` or `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array in the memory order of `grad`.

    Raises
    ------
    TypeError, ValueError
        As :func:`leaky_relu`.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> fastopt.leaky_relu_backward(np.array([1.0, 1.0]), np.array([-2.0, 3.0]), 0.1)
    array([0.1, 1. ])
    """
    return _core.leaky_relu_backward(grad, x, negative_slope, out)


def tanh(x: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the hyperbolic tangent of x.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape and layout
    out : ndarray, optional
        Array of the shape and dtype of `x` to write to. It may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array in the memory order of `x`.

    Raises
    ------
    TypeError
        If `x` or `out` is not an array of float32 or float64, or their dtypes differ.
    ValueError
        If the shapes differ, or `out` is read-only or overlaps `x` in part.

    Notes
    -----
    Of a = abs(x) below 0.75 it is a + a**3 P(a**2), P a polynomial, else 1 - 2 / (exp(2 a) + 1), with the sign of x:
    the same bits on every machine. It is odd, never above 1 in magnitude and never falling, and its errors are at most
    1.1 units in the last place (of all float32, and of samples of float64). NaN stays NaN.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> fastopt.tanh(np.array([-0.5, 0.0, 30.0]))
    array([-0.46211716,  0.        ,  1.        ])
    """
    return _core.tanh(x, out)


def tanh_backward(grad: NDArray[Any], y: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of :func:`tanh` with respect to x: grad * (1 - y * y).

    Parameters
    ----------
    grad : ndarray
        Gradient with respect to the output; shape and dtype of `y`.
    y : ndarray of float32 or float64
        What the forward call returned.
    out : ndarray, optional
        Array of the shape and dtype of `grad` to write to. It may be `grad` or `y` itself.

    Returns
    -------
    ndarray
        `out`, or a new array in the memory order of `grad`.

    Raises
    ------
    TypeError, ValueError
        As :func:`tanh`.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> fastopt.tanh_backward(np.array([2.0, 2.0]), np.array([0.0, 0.5]))
    array([2. , 1.5])
    """
    return _core.tanh_backward(grad, y, out)


def bias_tanh(x: NDArray[Any], bias: NDArray[Any], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return tanh(x + bias), a hidden layer after its matrix product, in one pass.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., columns)
    bias : ndarray, shape (columns,)
    out : ndarray, optional
        Array of the shape and dtype of `x` to write to. It may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array in the memory order of `x`. Its bits are those of ``tanh(x + bias)``.

    Raises
    ------
    TypeError
        If `x`, `bias` or `out` is not an array of float32 or float64, or their dtypes differ.
    ValueError
        If `x` has no dimension, `bias` is not one number a column, or `out` is read-only or of another shape, overlaps
        `x` in part or `bias` at all.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> fastopt.bias_tanh(np.array([[1.0, -2.0], [0.0, 3.0]]), np.array([0.0, 2.0]))
    array([[0.76159416, 0.        ],
           [0.        , 0.9999092 ]])
    """
    return _core.bias_tanh(x, bias, out)


def bias_tanh_backward(
    grad: NDArray[Any], y: NDArray[Any], *, out: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the gradients of :func:`bias_tanh` with respect to x and bias, in one pass.

    dx = grad * (1 - y * y); dbias is the sum of the rows of dx.

    Parameters
    ----------
    grad : ndarray
        Gradient with respect to y, of its shape and dtype.
    y : ndarray of float32 or float64, shape (..., columns)
        What the forward call returned.
    out : ndarray, optional
        Array of the shape and dtype of `grad` to write dx to. It may be `grad` or `y` itself.

    Returns
    -------
    dx : ndarray
        `out`, or a new array in the memory order of `grad`.
    dbias : ndarray, shape (columns,)
        Summed in float64 in a fixed order (the rows of each block of 64 in order, then the blocks in order), and
        rounded once to the dtype of `grad`.

    Raises
    ------
    TypeError
        If `grad`, `y` or `out` is not an array of float32 or float64, or their dtypes differ.
    ValueError
        If `y` has no dimension, shapes differ, or `out` is read-only or overlaps an input in part.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> fastopt.bias_tanh_backward(np.ones((2, 2)), np.array([[0.0, 0.5], [0.5, 0.5]]))
    (array([[1.  , 0.75],
           [0.75, 0.75]]), array([1.75, 1.5 ]))
    """
    return _core.bias_tanh_backward(grad, y, out)


def inactive_fraction(x: NDArray[Any], axis: int | tuple[int, ...] = 0) -> NDArray[np.float64]:
    """Return, for each unit, the share of the batch in which its activation is at or below zero.

    A ReLU unit at 1.0 is dead: no example of the batch activates it, so its gradient is zero and it stays as it is.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Activations, or their inputs; the sign is what counts. NaN counts as active.
    axis : int or tuple of ints
        The batch axes, over which the share is taken.

    Returns
    -------
    ndarray of float64
        Shape of `x` without `axis`; between 0 and 1.

    Raises
    ------
    TypeError
        If `x` is not an array of float32 or float64.
    ValueError
        If the batch is empty, or `axis` is not an axis of `x`.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> fastopt.inactive_fraction(np.array([[-1.0, 2.0], [-3.0, -4.0]]))
    array([1. , 0.5])
    """
    _core.check_array(x, "x")
    try:
        axes = normalize_axis_tuple(axis, x.ndim, "axis")
    except TypeError:
        raise TypeError(f"axis: expected an int or a tuple of ints, got {axis!r}") from None
    batch = math.prod(x.shape[a] for a in axes)
    if batch == 0:
        raise ValueError(f"x: expected a batch of at least one along axis {axis}, got shape {x.shape}")
    units = tuple(n for a, n in enumerate(x.shape) if a not in axes)
    rows = np.require(np.moveaxis(x, axes, range(len(axes))), requirements=["C", "ALIGNED"])
    counts = _core.count_inactive(rows, batch, math.prod(units))
    with _core.DefaultFloatMode():
        return np.asarray(counts.reshape(units) / batch)
