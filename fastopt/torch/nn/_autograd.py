"""The ops as torch records them: their gradients, gradients of gradients, and what `torch.func` makes of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from fastopt import _core
from fastopt.random import DOMAIN_DROPOUT
from fastopt.torch.nn import _library as library
from fastopt.torch.nn._ways import DIRECT, TRANSFORMED, way

_SingleLevelFunction: Any = Function.__mro__[1]


def _recorded(function: type[Function]) -> Any:
    """The `apply` of a Function without what only transforms need, a third of its time."""
    return super(_SingleLevelFunction, function).apply


def transformed(function: type[Function]) -> Any:
    """The whole `apply`, which knows of transforms."""
    return function.apply


def _each(function: type[Function], info: Any, in_dims: tuple[Any, ...], args: tuple[Any, ...]) -> tuple[Any, Any]:
    """A vmap sample by sample: the decisions of a dropout go by an element's place in its sample.

    Of no samples one of zeros, their sum, says what the results are like.
    """
    size = info.batch_size
    results: list[Any] = [
        transformed(function)(
            *(a if d is None else a.select(d, k) if size else a.sum(d) for a, d in zip(args, in_dims, strict=True))
        )
        for k in range(max(size, 1))
    ]
    if isinstance(results[0], tuple):
        return tuple(torch.stack(each)[:size] for each in zip(*results, strict=True)), (0,) * len(results[0])
    return torch.stack(results)[:size], 0


class Dropout(Function):
    """Of an address that is a number, or a tensor of one where torch has to see it."""

    @staticmethod
    def forward(x: Tensor, address: Any, p: float, inplace: bool) -> Tensor:
        y = x if inplace else torch.empty_like(x)
        _core.tensor_dropout(y, x, p, int(address), DOMAIN_DROPOUT)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.address, ctx.p, inplace = inputs
        if inplace:
            ctx.mark_dirty(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _dropout_at(grad, ctx.address, ctx.p), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return _dropout_at(tangent, ctx.address, ctx.p)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        return _each(Dropout, info, in_dims, args)


class _EagerDropout(Dropout):
    """The same for an eager call, which needs no arguments that can be looked at apart: a tenth less."""

    setup_context = _SingleLevelFunction.setup_context

    @staticmethod
    def forward(ctx: Any, x: Tensor, address: int, p: float, inplace: bool) -> Tensor:  # type: ignore[override]
        ctx.address, ctx.p = address, p
        if inplace:
            ctx.mark_dirty(x)
            y = x
        else:
            y = torch.empty_like(x)
        _core.tensor_dropout(y, x, p, address, DOMAIN_DROPOUT)
        return y


recorded_dropout = _recorded(_EagerDropout)


def _dropout_at(x: Tensor, address: Any, p: float) -> Tensor:
    """Dropout, and its gradient: one function."""
    chosen = way(x)
    if chosen is DIRECT:
        return (recorded_dropout if torch.is_grad_enabled() else Dropout.forward)(x, address, p, False)
    if chosen is TRANSFORMED:
        return transformed(Dropout)(x, address, p, False)
    return library.dropout(x, torch.as_tensor(address), p)


class LeakyReLU(Function):
    """What it keeps is what torch's keeps: the input, or the result where that takes the place of the input."""

    @staticmethod
    def forward(x: Tensor, negative_slope: float, inplace: bool) -> Tensor:
        y = x if inplace else torch.empty_like(x)
        _core.tensor_leaky_relu(y, x, negative_slope)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ctx.negative_slope, ctx.inplace = inputs
        if ctx.inplace:
            ctx.mark_dirty(output)
        ctx.save_for_backward(output if ctx.inplace else x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (kept,) = ctx.saved_tensors
        if torch.is_grad_enabled() or way(grad) is not DIRECT or way(kept) is not DIRECT:
            dx = torch.ops.aten.leaky_relu_backward(grad, kept, ctx.negative_slope, ctx.inplace)
        else:
            dx = torch.empty_like(grad)
            _core.tensor_leaky_relu_backward(dx, grad, kept, ctx.negative_slope)
        return dx, None, None


recorded_leaky_relu = _recorded(LeakyReLU)


class BiasLeakyReLUDropout(Function):
    """Keeps its output alone, which is its own mask."""

    @staticmethod
    def forward(x: Tensor, bias: Tensor, address: Any, negative_slope: float, p: float, inplace: bool) -> Tensor:
        y = x if inplace else torch.empty_like(x)
        _core.tensor_bias_leaky_relu_dropout(y, x, bias, negative_slope, p, int(address), DOMAIN_DROPOUT)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, _, _, ctx.negative_slope, ctx.p, inplace = inputs
        if inplace:
            ctx.mark_dirty(output)
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return *_fused_gradient(grad, y, ctx.negative_slope, ctx.p), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, x: Any, bias: Any, *_: Any) -> Tensor:
        (y,) = ctx.saved_tensors
        tangent = torch.zeros_like(y)
        for each in (x, bias):
            tangent = tangent if each is None else tangent + each
        return _fused_gradient(tangent, y, ctx.negative_slope, ctx.p)[0]

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        return _each(BiasLeakyReLUDropout, info, in_dims, args)


recorded_fused = _recorded(BiasLeakyReLUDropout)


class BiasLeakyReLUDropoutBackward(Function):
    """Linear in the gradient; y, of which it takes the signs, has no gradient from here."""

    forward = staticmethod(library.run_fused_backward)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, y, ctx.negative_slope, ctx.p = inputs
        ctx.save_for_backward(y)
        ctx.save_for_forward(y)

    @staticmethod
    def backward(ctx: Any, dx: Tensor, dbias: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return _fused_gradient(dx + dbias, y, ctx.negative_slope, ctx.p)[0], None, None, None

    @staticmethod
    def jvp(ctx: Any, grad: Any, *_: Any) -> Any:
        (y,) = ctx.saved_tensors
        return _fused_gradient(torch.zeros_like(y) if grad is None else grad, y, ctx.negative_slope, ctx.p)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        return _each(BiasLeakyReLUDropoutBackward, info, in_dims, args)


_recorded_fused_backward = _recorded(BiasLeakyReLUDropoutBackward)


def _fused_gradient(grad: Tensor, y: Tensor, negative_slope: float, p: float) -> Any:
    """(dx, dbias)"""
    chosen = way(grad)
    if chosen is DIRECT and way(y) is DIRECT:
        if torch.is_grad_enabled():
            return _recorded_fused_backward(grad, y, negative_slope, p)
        return BiasLeakyReLUDropoutBackward.forward(grad, y, negative_slope, p)
    if chosen is TRANSFORMED or way(y) is TRANSFORMED:
        return transformed(BiasLeakyReLUDropoutBackward)(grad, y, negative_slope, p)
    return library.bias_leaky_relu_dropout_backward(grad, y, negative_slope, p)
