"""Dropout whose mask is an address, not an array."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number, integer
from fastopt.random import DOMAIN_DROPOUT, MAX_STREAM, resolve_rng


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
    return _core.dropout(x, "x", y, mask.p, mask.seed, mask.stream, DOMAIN_DROPOUT), mask


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
    _check_mask("mask", mask)
    _core.check_array(grad, "grad")
    if grad.shape != mask.shape:
        raise ValueError(f"grad: expected shape {mask.shape} like mask, got {grad.shape}")
    return _core.dropout(grad, "grad", out, mask.p, mask.seed, mask.stream, DOMAIN_DROPOUT)


def mask_address(shape: tuple[int, ...], p: float, training: bool, rng: Any) -> DropoutMask:
    """Return the mask of one call; takes a stream, or a key, from `rng` when training, whatever p is."""
    p = finite_number("p", p, 0, most=1)
    if not training:
        return DropoutMask(0, 0, 0.0, shape)
    if isinstance(rng, DropoutMask):
        _check_mask("rng", rng)
        if (rng.p, rng.shape) != (p, shape):
            raise ValueError(
                f"rng: expected a mask of p={p} and shape {shape}, got one of p={rng.p} and shape {rng.shape}; "
                "pass rng=(mask.seed, mask.stream) for other decisions from the same stream"
            )
        return rng
    return DropoutMask(*resolve_rng(rng), p, shape)


def _check_mask(name: str, mask: Any) -> None:
    """Raise unless `mask` is one that dropout may have returned: anyone can make a NamedTuple."""
    if not isinstance(mask, DropoutMask):
        raise TypeError(f"{name}: expected the DropoutMask that dropout returned, got {type(mask).__name__}")
    integer(f"{name}.seed", mask.seed, 0, 2**64)
    integer(f"{name}.stream", mask.stream, 0, MAX_STREAM)
    finite_number(f"{name}.p", mask.p, 0, most=1)
