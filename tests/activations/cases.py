"""The family's ways to call an op: cases of equal bits, and golden outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

import fastopt as fo

from ..support import ELEMENTWISE_GRAIN, RANDOM_GRAIN, Case, call


def _bias_tanh(out: int | None = None) -> Callable[..., Any]:
    """On arrays of any shape: those without a dimension are taken as one unit."""

    def run(ops: ModuleType, *given: np.ndarray) -> Any:
        x, *rest = [np.reshape(a, a.shape or 1, copy=False) for a in given]
        bias = np.arange(x.shape[-1]).astype(x.dtype) / 8
        return ops.bias_tanh(x, bias, **({} if out is None else {"out": [x, *rest][out]}))

    return run


def _bias_tanh_backward(out: int | None = None) -> Callable[..., Any]:
    def run(ops: ModuleType, *given: np.ndarray) -> Any:
        arrays = [np.reshape(a, a.shape or 1, copy=False) for a in given]
        return ops.bias_tanh_backward(*arrays[:2], **({} if out is None else {"out": arrays[out]}))

    return run


def cases() -> Iterator[tuple[str, Case]]:
    for slope in (0.01, 0.0, -1.5):
        yield f"leaky_relu {slope}", Case(call("leaky_relu", slope), 1, ELEMENTWISE_GRAIN, slope == 0.01)
        run = call("leaky_relu_backward", slope)
        yield f"leaky_relu_backward {slope}", Case(run, 2, ELEMENTWISE_GRAIN, slope == 0.01)
    yield "leaky_relu out", Case(call("leaky_relu", out=-1), 2, ELEMENTWISE_GRAIN, True)
    yield "leaky_relu in place", Case(call("leaky_relu", out=0), 1, ELEMENTWISE_GRAIN, True)
    yield "leaky_relu_backward out", Case(call("leaky_relu_backward", out=-1), 3, ELEMENTWISE_GRAIN, True)
    yield "leaky_relu_backward into grad", Case(call("leaky_relu_backward", out=0), 2, ELEMENTWISE_GRAIN)
    yield "leaky_relu_backward into x", Case(call("leaky_relu_backward", out=1), 2, ELEMENTWISE_GRAIN)
    yield "tanh", Case(call("tanh"), 1, ELEMENTWISE_GRAIN)
    yield "tanh out", Case(call("tanh", out=-1), 2, ELEMENTWISE_GRAIN, True)
    yield "tanh in place", Case(call("tanh", out=0), 1, ELEMENTWISE_GRAIN)
    yield "tanh_backward", Case(call("tanh_backward"), 2, ELEMENTWISE_GRAIN, True)
    yield "tanh_backward into y", Case(call("tanh_backward", out=1), 2, ELEMENTWISE_GRAIN)
    yield "bias_tanh out", Case(_bias_tanh(out=-1), 2, RANDOM_GRAIN, True)
    yield "bias_tanh in place", Case(_bias_tanh(out=0), 1, RANDOM_GRAIN)
    yield "bias_tanh_backward", Case(_bias_tanh_backward(), 2, ELEMENTWISE_GRAIN, True)
    yield "bias_tanh_backward into grad", Case(_bias_tanh_backward(out=0), 2, ELEMENTWISE_GRAIN)


def golden(x: np.ndarray, grad: np.ndarray) -> dict[str, Callable[[], Any]]:
    return {
        "leaky_relu": lambda: fo.leaky_relu(x, 0.01),
        "leaky_relu_backward": lambda: fo.leaky_relu_backward(grad, x, 0.01),
        "tanh": lambda: fo.tanh(x),
        "tanh_backward": lambda: fo.tanh_backward(grad, x),
        "bias_tanh": lambda: fo.bias_tanh(x[: x.size // 8 * 8].reshape(-1, 8), grad[:8]),
        "bias_tanh_backward": lambda: fo.bias_tanh_backward(*(a[: x.size // 8 * 8].reshape(-1, 8) for a in (grad, x))),
        "inactive_fraction": lambda: fo.inactive_fraction(x[: x.size // 8 * 8].reshape(-1, 8)),
    }
