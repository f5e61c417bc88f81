"""The functions of `torch.nn.functional` that have compiled loops here, on tensors of the CPU.

float32 and float64 in any layout go through the loops, bfloat16 and float16 too, computed in float32 and rounded once;
every other tensor, such as those on other devices, goes through torch's own functions.
"""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import torch
from torch import Tensor

from fastopt import _core
from fastopt.masking import DropoutMask
from fastopt.torch.nn import _autograd as autograd
from fastopt.torch.nn import _library as library
from fastopt.torch.nn._ways import DIRECT, TORCH, TRANSFORMED, draw, drawn_tensor, way
from fastopt.torch.optim.base import increment_version

__all__ = ["bias_leaky_relu_dropout", "dropout", "leaky_relu"]

_WORTH = 2**17  # elements from which leaky ReLU's loop gains what recording it in Python costs

_grad_enabled = torch.is_grad_enabled


@overload
def dropout(
    input: Tensor, p: float = ..., training: bool = ..., inplace: bool = ..., *, return_mask: Literal[False] = ...
) -> Tensor: ...
@overload
def dropout(
    input: Tensor, p: float = ..., training: bool = ..., inplace: bool = ..., *, return_mask: Literal[True]
) -> tuple[Tensor, DropoutMask]: ...
def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, return_mask: bool = False
) -> Any:
    """Drop each element of input with probability p and scale the others, as `torch.nn.functional.dropout`.

    y = input / (1 - p) where kept and +0.0 where dropped, whatever input is there: NaN and infinity too. No mask is
    kept: the decisions are functions of an address, one number that each call draws from torch's generator, and are
    made again for the gradient.

    Parameters
    ----------
    input : Tensor of any shape and layout
        float32, float64, bfloat16 or float16 on the CPU. On every other tensor torch's own dropout runs.
    p : float
        Probability of dropping, 0 <= p <= 1, with the grain of :func:`fastopt.dropout`: a multiple of 2**-16.
    training : bool
        If False, or p is 0, input itself is returned and nothing is drawn.
    inplace : bool
        Write the result to input.
    return_mask : bool
        Return the mask too: the decisions as :func:`fastopt.dropout` makes them, so that ``rng=mask`` repeats them.

    Returns
    -------
    Tensor like input
        In its memory order if it is dense.
    DropoutMask
        With `return_mask` alone.

    Raises
    ------
    ValueError
        If p is outside [0, 1].
    RuntimeError
        If `inplace` is asked for where torch does not write, a leaf that requires gradients or an expanded tensor, or
        where elements may lie in the same place.
    TypeError
        If `return_mask` is asked for where there is no address to see: within torch.compile, torch.func and dispatch
        modes, and for tensors on which torch's own dropout runs.

    Notes
    -----
    The decision of an element depends on its index in C order alone, not on layout, threads or CPU. The same state of
    torch's generator gives the same masks, so manual_seed, fork_rng and checkpointing work as with torch's own, but the
    masks are others than torch's. Within torch.compile the address is a torch.randint of the graph.

    Examples
    --------
    >>> import torch, numpy as np, fastopt
    >>> import fastopt.torch.nn.functional as F
    >>> _ = torch.manual_seed(0)
    >>> y, mask = F.dropout(torch.ones(6), 0.5, return_mask=True)
    >>> bool((y.numpy() == fastopt.dropout(np.ones(6, np.float32), 0.5, rng=mask)[0]).all())
    True
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0:
        return (input, DropoutMask(0, 0, 0.0, tuple(input.shape))) if return_mask else input
    chosen = way(input)
    if chosen is DIRECT:
        wanted = input.requires_grad and _grad_enabled()
        if inplace:
            _check_in_place(input, wanted)
        address = draw()
        if wanted:
            y = autograd.recorded_dropout(input, address, p, inplace)
        else:
            y = autograd.Dropout.forward(input, address, p, inplace)
            if inplace:
                _written(input)
        return (y, DropoutMask(address, 0, float(p), tuple(input.shape))) if return_mask else y
    if chosen is TORCH and _is_narrow(input):
        result: Any = dropout(input.float(), p, return_mask=return_mask)  # type: ignore[call-overload]
        y, *mask = result if return_mask else (result,)
        y = input.copy_(y) if inplace else y.to(input.dtype)
        return (y, *mask) if return_mask else y
    if return_mask and input.is_neg() and not inplace:
        return dropout(input.resolve_neg(), p, return_mask=True)
    if return_mask:
        raise TypeError(f"return_mask: expected False where a call is {chosen.value}, got True")
    if chosen is TORCH:
        return torch.nn.functional.dropout(input, p, training, inplace)
    if chosen is TRANSFORMED:
        y = autograd.transformed(autograd.Dropout)(input, drawn_tensor(), p, False)
    else:
        y = library.dropout(input, drawn_tensor(), p)
    return input.copy_(y) if inplace else y


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return input where it is above 0, else input * negative_slope: `torch.nn.functional.leaky_relu`, to the bit.

    From 2**17 elements on the compiled loop runs; below, and on tensors that it does not take, torch's own.

    Parameters
    ----------
    input : Tensor of any shape and layout
    negative_slope : float
        Of any sign.
    inplace : bool
        Write the result to input. With gradients, a negative slope is refused in backward, as by torch.

    Returns
    -------
    Tensor like input

    Raises
    ------
    RuntimeError
        If `inplace` is asked for where torch does not write, a leaf that requires gradients or an expanded tensor, or
        where elements may lie in the same place.

    Examples
    --------
    >>> import torch
    >>> import fastopt.torch.nn.functional as F
    >>> F.leaky_relu(torch.tensor([1.0, -2.0]), 0.1)
    tensor([ 1.0000, -0.2000])
    """
    chosen = way(input)
    if chosen is not DIRECT or input.numel() < _WORTH or (inplace and negative_slope < 0):
        return torch.nn.functional.leaky_relu(input, negative_slope, inplace)
    wanted = input.requires_grad and _grad_enabled()
    if inplace:
        _check_in_place(input, wanted)
    if wanted:
        return autograd.recorded_leaky_relu(input, negative_slope, inplace)
    y = autograd.LeakyReLU.forward(input, negative_slope, inplace)
    if inplace:
        _written(input)
    return y


def bias_leaky_relu_dropout(
    input: Tensor,
    bias: Tensor,
    negative_slope: float = 0.01,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Tensor:
    """Do what follows a hidden layer's matrix product in one pass: add the bias, leaky ReLU, dropout.

    With z = input + bias, a = z where z > 0 else z * negative_slope: y = a / (1 - p) where kept and +0.0 where dropped.
    y is its own mask, as in :func:`fastopt.bias_leaky_relu_dropout`, so nothing else is kept for backward.

    Parameters
    ----------
    input : Tensor of shape (..., columns)
        float32, float64, bfloat16 or float16 on the CPU. On every other tensor torch's own three functions run.
    bias : Tensor of shape (columns,)
        Of the dtype of `input`; within an autocast it is converted.
    negative_slope : float
        Finite and at least 0.
    p : float
        Probability of dropping, 0 <= p <= 1, as in :func:`dropout`.
    training : bool
        If False nothing is dropped, scaled or drawn.
    inplace : bool
        Write y to input: the matrix product before needs its result no more.

    Returns
    -------
    Tensor like input
        Not to be changed in place before backward, which refuses it then.

    Raises
    ------
    TypeError, ValueError
        If `bias` is of another dtype, not one number a column, or overlaps what is written, the slope is negative or
        not finite, or p is outside [0, 1]. Nothing is drawn then.
    RuntimeError
        If `inplace` is asked for where torch does not write, or, in backward, if y was changed in place.

    Examples
    --------
    >>> import torch
    >>> import fastopt.torch.nn.functional as F
    >>> F.bias_leaky_relu_dropout(torch.tensor([[1.0, -2.0]]), torch.ones(2), 0.1, training=False)
    tensor([[ 2.0000, -0.1000]])
    """
    check_fused(negative_slope, p)
    if input.dim() == 0 or bias.shape != input.shape[-1:]:
        raise ValueError(
            f"bias: expected one number for each column of input, "
            f"got shapes {tuple(bias.shape)} and {tuple(input.shape)}"
        )
    if bias.dtype != input.dtype:
        if not torch.is_autocast_enabled(input.device.type):
            raise TypeError(f"bias: expected {input.dtype} like input, got {bias.dtype}")
        bias = bias.to(input.dtype)
    if not training:
        p = 0.0
    y: Tensor
    chosen = way(input)
    if chosen is DIRECT:
        chosen = way(bias)
    if chosen is DIRECT:
        wanted = (input.requires_grad or bias.requires_grad) and _grad_enabled()
        if inplace:
            _check_in_place(input, wanted)
            _core.tensors_apart(input, bias)
        address = draw() if p > 0 else 0
        if wanted:
            return autograd.recorded_fused(input, bias, address, negative_slope, p, inplace)
        y = autograd.BiasLeakyReLUDropout.forward(input, bias, address, negative_slope, p, inplace)
        if inplace:
            _written(input)
        return y
    if chosen is TORCH and _is_narrow(input):
        y = bias_leaky_relu_dropout(input.float(), bias.float(), negative_slope, p).to(input.dtype)
    elif chosen is TORCH:
        functional = torch.nn.functional
        y = functional.dropout(functional.leaky_relu(input + bias, negative_slope), p, training)
    else:
        seen = drawn_tensor() if p > 0 else torch.zeros((), dtype=torch.int64, device="cpu")
        if chosen is TRANSFORMED:
            y = autograd.transformed(autograd.BiasLeakyReLUDropout)(input, bias, seen, negative_slope, p, False)
        else:
            y = library.bias_leaky_relu_dropout(input, bias, seen, negative_slope, p)
    return input.copy_(y) if inplace else y


def check_fused(negative_slope: float, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"p: expected a probability between 0 and 1, got {p}")
    if not 0 <= negative_slope < math.inf:
        raise ValueError(f"negative_slope: expected a finite number >= 0, got {negative_slope}")


def _is_narrow(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16) and x.layout == torch.strided


def _check_in_place(x: Tensor, wanted: bool) -> None:
    """Refuse what torch does not write either, before anything is written."""
    if wanted and x.is_leaf and x.requires_grad:
        raise RuntimeError("inplace: expected a tensor that may be written, got a leaf that requires gradients")
    if not x.is_contiguous() and _core.tensor_overlaps_itself(x):
        raise RuntimeError(
            "inplace: expected a tensor of distinct elements, got one with elements in the same place, "
            "such as an expanded one; pass input.clone()"
        )


def _written(x: Tensor) -> None:
    """Tell torch that a tensor was changed past it."""
    if not x.is_inference():
        increment_version((x,))
