"""Dropout whose mask is an address, not an array; alone, and fused with what surrounds it in a hidden layer."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number, integer
from fastopt.random import DOMAIN_DROPOUT, MAX_STREAM, give_back, resolve_rng

__all__ = [
    "DropoutMask",
    "bias_leaky_relu_dropout",
    "bias_leaky_relu_dropout_backward",
    "dropout",
    "dropout_backward",
]


class DropoutMask(NamedTuple):
    """The decisions of one dropout call: where they can be computed again.

    Element e (C order) of an array of `shape` is dropped when its 16-bit value in `stream` of `seed` is below
    round(65536 p). As an `rng` argument it makes the same decisions again.
    """

    seed: int
    stream: int
    p: float
    shape: tuple[int, ...]

    def to_array(self) -> NDArray[np.bool]:
        """Return the decisions as an array: True where an element is kept.

        Raises
        ------
        TypeError, ValueError
            If a field is none that a call has returned: one may make a mask by hand.

        Examples
        --------
        >>> import numpy as np, fastopt
        >>> y, mask = fastopt.dropout(np.ones(6), 0.5, rng=(7, 0))
        >>> mask.to_array()
        array([ True, False, False, False,  True, False])
        """
        _check_mask("mask", self)
        ones = np.ones(self.shape, np.float32)
        return np.asarray(_core.dropout(ones, "x", ones, self.p, self.seed, self.stream, DOMAIN_DROPOUT) != 0)


def dropout(
    x: NDArray[Any], p: float = 0.5, *, training: bool = True, rng: Any = None, out: NDArray[Any] | None = None
) -> tuple[NDArray[Any], DropoutMask]:
    """Drop each element of x with probability p and scale the others, so that the expectation stays.

    y = x / (1 - p) where kept and +0.0 where dropped, whatever x is there. Nothing is stored for the backward pass but
    the mask's address, of four plain values.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape and layout
    p : float
        Probability of dropping, 0 <= p <= 1. It has a grain of 2**-16: p is rounded to T / 65536 (within 1 .. 65535
        unless p is 0 or 1), and the scale 1 / (1 - T / 65536) uses the rounded p.
    training : bool
        If False, y equals x, and the mask has p = 0.
    rng : Philox4x32, optional
        Where the decisions come from; a :class:`~fastopt.Philox4x32` gives its next stream. None takes fresh entropy; a
        NumPy SeedSequence, BitGenerator or Generator gives a 64-bit key at each call. A :class:`DropoutMask` or a
        (seed, stream) pair makes the same decisions again. An int is refused: it would give one mask for ever.
    out : ndarray, optional
        Array of the shape and dtype of `x` to write to. It may be `x` itself.

    Returns
    -------
    y : ndarray
        `out`, or a new array in the memory order of `x`.
    mask : DropoutMask
        What :func:`dropout_backward` needs.

    Raises
    ------
    TypeError
        If `x` or `out` is not an array of float32 or float64, their dtypes differ, or `rng` is of another kind.
    ValueError
        If p is outside [0, 1], the shapes differ, `out` is read-only or overlaps `x` in part, or a mask given as `rng`
        belongs to another shape or p. No stream is taken then.

    Notes
    -----
    The decision of an element depends on its index in C order alone, not on the layout, the threads or the CPU.
    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, JMLR 15, 2014; in the "inverted" form that scales while
    training.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> rng = fastopt.Philox4x32(seed=7)
    >>> y, mask = fastopt.dropout(np.ones(6), 0.5, rng=rng)
    >>> y
    array([2., 0., 0., 0., 2., 0.])
    >>> fastopt.dropout_backward(np.ones(6), mask)
    array([2., 0., 0., 0., 2., 0.])
    """
    y = _core.make_output(x, "x", out)
    mask = mask_address(x.shape, p, training, rng)
    try:
        result = y, mask
        _core.dropout(x, "x", y, mask.p, mask.seed, mask.stream, DOMAIN_DROPOUT)
    except MemoryError:
        give_back(rng, mask.stream)
        raise
    return result


def dropout_backward(grad: NDArray[Any], mask: DropoutMask, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the gradient of :func:`dropout` with respect to x: grad / (1 - p) where kept, +0.0 where dropped.

    Parameters
    ----------
    grad : ndarray of float32 or float64
        Gradient with respect to y; of the mask's shape.
    mask : DropoutMask
        What the forward call returned; the decisions are computed again from it.
    out : ndarray, optional
        Array of the shape and dtype of `grad` to write to. It may be `grad` itself.

    Returns
    -------
    ndarray
        `out`, or a new array in the memory order of `grad`.

    Raises
    ------
    TypeError, ValueError
        As :func:`dropout`; ValueError if `grad` has another shape than the mask.
    """
    _core.check_array(grad, "grad")
    _check_mask("mask", mask, grad.shape)
    if grad.shape != mask.shape:
        raise ValueError(f"grad: expected shape {mask.shape} like mask, got {grad.shape}")
    return _core.dropout(grad, "grad", out, mask.p, mask.seed, mask.stream, DOMAIN_DROPOUT)


def bias_leaky_relu_dropout(
    x: NDArray[Any],
    bias: NDArray[Any],
    negative_slope: float = 0.01,
    p: float = 0.5,
    *,
    training: bool = True,
    rng: Any = None,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], DropoutMask]:
    """Do what follows a hidden layer's matrix product in one pass: add the bias, leaky ReLU, dropout.

    With z = x + bias, a = z where z > 0 else z * negative_slope: y = a / (1 - p) where kept and +0.0 where dropped. A
    kept zero, of either sign, is stored as -0.0, so that y is its own mask: backward needs nothing else from here. y
    must reach :func:`bias_leaky_relu_dropout_backward` unmodified, not even by an addition of zero.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., columns), any layout
    bias : ndarray, shape (columns,)
        Of the dtype of `x`.
    negative_slope : float
        Finite and at least 0; 0.01 unless given, as in :func:`leaky_relu`.
    p : float
        Probability of dropping, 0 <= p <= 1, with the grain and the default of :func:`dropout`. With p = 0 nothing is
        dropped.
    training : bool
        If False nothing is dropped or scaled, and the mask has p = 0.
    rng : Philox4x32, optional
        As in :func:`dropout`; the decisions are those of ``dropout`` on an array of this shape.
    out : ndarray, optional
        Array of the shape and dtype of `x` to write to. It may be `x` itself.

    Returns
    -------
    y : ndarray
        `out`, or a new array in the memory order of `x`.
    mask : DropoutMask
        Where the decisions came from; backward needs only its p.

    Raises
    ------
    TypeError
        If `x`, `bias` or `out` is not an array of float32 or float64, their dtypes differ, or `rng` is of another kind.
    ValueError
        If `x` has no dimension, `bias` is not one number a column, the slope is negative or not finite, p is outside
        [0, 1], `out` is read-only or of another shape, overlaps `x` in part or `bias` at all, or a mask given as `rng`
        belongs to another shape or p. No stream is taken then.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> x = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]])
    >>> y, mask = fastopt.bias_leaky_relu_dropout(x, np.zeros(3), 0.1, 0.5, rng=(7, 0))
    >>> y
    array([[ 2.,  0.,  0.],
           [ 0., 10.,  0.]])
    >>> fastopt.bias_leaky_relu_dropout_backward(np.ones((2, 3)), y, mask, 0.1)
    (array([[2., 0., 0.],
           [0., 2., 0.]]), array([2., 2., 0.]))
    """
    y = _core.bias_leaky_relu_dropout_output(x, bias, negative_slope, out)
    mask = mask_address(x.shape, p, training, rng)
    try:
        result = y, mask
        _core.bias_leaky_relu_dropout(x, bias, negative_slope, y, mask.p, mask.seed, mask.stream, DOMAIN_DROPOUT)
    except MemoryError:
        give_back(rng, mask.stream)
        raise
    return result


def bias_leaky_relu_dropout_backward(
    grad: NDArray[Any],
    y: NDArray[Any],
    mask: DropoutMask,
    negative_slope: float = 0.01,
    *,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the gradients of :func:`bias_leaky_relu_dropout` with respect to x and bias, in one pass.

    dx = +0.0 where y is +0.0 to the bit (everywhere if p is 1), grad / (1 - p) where y > 0, else that times
    negative_slope; dbias is the sum of the rows of dx.

    Parameters
    ----------
    grad : ndarray
        Gradient with respect to y, of its shape and dtype.
    y : ndarray of float32 or float64, shape (..., columns)
        What the forward call returned, unmodified: a zero's sign tells a kept element from a dropped one.
    mask : DropoutMask
        That of the forward call, of which p is used. Of another call's, another shape can be told and is refused; the
        same shape and p do no harm, but another p is taken: gradients have its scale then.
    negative_slope : float
        That of the forward call.
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
        If `grad`, `y` or `out` is not an array of float32 or float64, their dtypes differ, or `mask` is not a mask.
    ValueError
        If shapes differ, that of the mask too, `out` is read-only or overlaps an input in part, the slope is negative
        or not finite, or a field of the mask is none that a call has returned.

    Examples
    --------
    See :func:`bias_leaky_relu_dropout`.
    """
    _core.check_array(y, "y")
    _check_mask("mask", mask, y.shape)
    if y.shape != mask.shape:
        raise ValueError(f"y: expected shape {mask.shape} like mask, got {y.shape}")
    return _core.bias_leaky_relu_dropout_backward(grad, y, mask.p, negative_slope, out)


def mask_address(shape: tuple[int, ...], p: float, training: bool, rng: Any) -> DropoutMask:
    """Return the mask of one call; takes a stream, or a key, from `rng` when training, whatever p is."""
    p = finite_number("p", p, 0, most=1)
    if not training:
        return DropoutMask(0, 0, 0.0, shape)
    if isinstance(rng, DropoutMask):
        _check_mask("rng", rng, shape)
        if (rng.p, rng.shape) != (p, shape):
            raise ValueError(
                f"rng: expected a mask of p={p} and shape {shape}, got one of p={rng.p} and shape {rng.shape}; "
                "pass rng=(mask.seed, mask.stream) for other decisions from the same stream"
            )
        return rng
    address = resolve_rng(rng)
    try:
        return DropoutMask(*address, p, shape)
    except MemoryError:
        give_back(rng, address[1])
        raise


def _check_mask(name: str, mask: Any, like: tuple[int, ...] | None = None) -> None:
    """Raise unless `mask` is one that dropout may have returned: anyone can make a NamedTuple. `like` is the shape of
    what it is used on, if there is something: one that equals it needs no look of its own."""
    if not isinstance(mask, DropoutMask):
        raise TypeError(f"{name}: expected the DropoutMask that dropout returned, got {type(mask).__name__}")
    integer(f"{name}.seed", mask.seed, 0, 2**64)
    integer(f"{name}.stream", mask.stream, 0, MAX_STREAM)
    finite_number(f"{name}.p", mask.p, 0, most=1)
    shape = mask.shape
    if isinstance(shape, tuple) and shape == like:
        return
    if not isinstance(shape, tuple) or not all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) for n in shape
    ):
        raise TypeError(f"{name}.shape: expected a tuple of ints, got {shape!r}")
    if len(shape) > 64 or min(shape, default=0) < 0 or math.prod(n or 1 for n in shape) >= 2**60:  # elements of 8 bytes
        raise ValueError(f"{name}.shape: expected that of an array, got {shape}")
