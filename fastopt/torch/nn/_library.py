"""The ops as operators of `torch.library`: what `torch.compile`, `torch.export` and dispatch modes see of them.

Made by `define` and `impl`, which take a microsecond a call; `custom_op` takes thirty.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastopt import _core
from fastopt.random import DOMAIN_DROPOUT

_LIBRARY: Any = torch.library.Library("fastopt", "DEF")  # type: ignore[no-untyped-call]


def _operator(schema: str, run: Any, like: Any, setup: Any, backward: Any) -> Any:
    """Define an operator: `run` on the CPU, `like` for what is known of its results, and how its gradient is taken."""
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)
    _LIBRARY.impl(name, run, "CPU")
    torch.library.register_fake(f"fastopt::{name}", like, lib=_LIBRARY)
    torch.library.register_autograd(f"fastopt::{name}", backward, setup_context=setup, lib=_LIBRARY)
    return getattr(torch.ops.fastopt, name).default


# ---- dropout ---------------------------------------------------------------------------------------------------------


def _run_dropout(x: Tensor, address: Tensor, p: float) -> Tensor:
    y = torch.empty_like(x)
    _core.tensor_dropout(y, x, p, int(address), DOMAIN_DROPOUT)
    return y


def _setup_dropout(ctx: Any, inputs: Any, output: Tensor) -> None:
    _, address, ctx.p = inputs
    ctx.save_for_backward(address)


dropout: Any = _operator(
    "dropout(Tensor x, Tensor address, float p) -> Tensor",
    _run_dropout,
    lambda x, address, p: torch.empty_like(x),
    _setup_dropout,
    lambda ctx, grad: (dropout(grad, *ctx.saved_tensors, ctx.p), None, None),
)


# ---- bias, leaky ReLU, dropout ---------------------------------------------------------------------------------------


def _run_fused(x: Tensor, bias: Tensor, address: Tensor, negative_slope: float, p: float) -> Tensor:
    y = torch.empty_like(x)
    _core.tensor_bias_leaky_relu_dropout(y, x, bias, negative_slope, p, int(address), DOMAIN_DROPOUT)
    return y


def _setup_fused(ctx: Any, inputs: Any, output: Tensor) -> None:
    ctx.negative_slope, ctx.p = inputs[3:]
    ctx.save_for_backward(output)


def _fused_backward(ctx: Any, grad: Tensor) -> Any:
    dx, dbias = bias_leaky_relu_dropout_backward(grad, *ctx.saved_tensors, ctx.negative_slope, ctx.p)
    return dx, dbias, None, None, None


bias_leaky_relu_dropout: Any = _operator(
    "bias_leaky_relu_dropout(Tensor x, Tensor bias, Tensor address, float negative_slope, float p) -> Tensor",
    _run_fused,
    lambda x, bias, address, negative_slope, p: torch.empty_like(x),
    _setup_fused,
    _fused_backward,
)


def run_fused_backward(grad: Tensor, y: Tensor, negative_slope: float, p: float) -> tuple[Tensor, Tensor]:
    dx, dbias = torch.empty_like(grad), grad.new_empty(grad.shape[-1])
    _core.tensor_bias_leaky_relu_dropout_backward(dx, dbias, grad, y, p, negative_slope)
    return dx, dbias


def _setup_fused_backward(ctx: Any, inputs: Any, output: Any) -> None:
    _, y, ctx.negative_slope, ctx.p = inputs
    ctx.save_for_backward(y)


def _fused_double_backward(ctx: Any, dx: Tensor, dbias: Tensor) -> Any:
    ddx, _ = bias_leaky_relu_dropout_backward(dx + dbias, *ctx.saved_tensors, ctx.negative_slope, ctx.p)
    return ddx, None, None, None


bias_leaky_relu_dropout_backward: Any = _operator(
    "bias_leaky_relu_dropout_backward(Tensor grad, Tensor y, float negative_slope, float p) -> (Tensor, Tensor)",
    run_fused_backward,
    lambda grad, y, negative_slope, p: (torch.empty_like(grad), grad.new_empty(grad.shape[-1])),
    _setup_fused_backward,
    _fused_double_backward,
)
