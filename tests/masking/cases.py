"""The family's ways to call an op: cases of equal bits, and golden outputs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

import fastopt as fo

from ..support import ELEMENTWISE_GRAIN, GOLDEN_ADDRESS, RANDOM_GRAIN, Case, call, values

ADDRESS = (0x0123456789ABCDEF, 2**40 + 5)


@functools.cache  # the reference asks first: a processor that flushes subnormal numbers would make other ones
def _bias(columns: int, dtype: Any) -> np.ndarray:
    return values(9, columns, dtype)


def _fused(slope: float, p: float, arrays: int = 1, out: int | None = None, **options: Any) -> Callable[..., Any]:
    """The fused layer on arrays of any shape: those without a dimension are taken as one unit."""

    def run(ops: ModuleType, *given: np.ndarray) -> Any:
        x, *rest = [np.reshape(a, a.shape or 1, copy=False) for a in given]
        bias = _bias(x.shape[-1], x.dtype)
        to = {} if out is None else {"out": [x, *rest][out]}
        return ops.bias_leaky_relu_dropout(x, bias, slope, p, **options, **to)

    return run


def _fused_backward(slope: float, p: float, out: int | None = None) -> Callable[..., Any]:
    def run(ops: ModuleType, *given: np.ndarray) -> Any:
        grad, y = [np.reshape(a, a.shape or 1, copy=False) for a in given]
        to = {} if out is None else {"out": (grad, y)[out]}
        mask = fo.DropoutMask(1, 2, p, y.shape)
        return ops.bias_leaky_relu_dropout_backward(grad, y, mask, slope, **to)

    return run


def cases() -> Iterator[tuple[str, Case]]:
    for p in (0.0, 2.0**-20, 0.3, 1.0):
        yield f"dropout {p}", Case(call("dropout", p, rng=ADDRESS), 1, RANDOM_GRAIN, p == 0.3)
    yield "dropout not training", Case(call("dropout", 0.3, training=False), 1, RANDOM_GRAIN)
    yield "dropout out", Case(call("dropout", 0.3, rng=ADDRESS, out=-1), 2, RANDOM_GRAIN, True)
    yield "dropout in place", Case(call("dropout", 0.3, rng=ADDRESS, out=0), 1, RANDOM_GRAIN)
    run = lambda ops, grad: ops.dropout_backward(grad, fo.DropoutMask(*ADDRESS, 0.3, grad.shape))  # noqa: E731
    yield "dropout_backward", Case(run, 1, RANDOM_GRAIN, True)

    fused: dict[str, Any] = {
        "": {},
        " slope 0": {"slope": 0.0, "p": 2.0**-20},
        " out": {"arrays": 2, "out": -1},
        " in place": {"out": 0},
        " p 0": {"p": 0.0},
        " p 1": {"p": 1.0},
        " not training": {"training": False},
    }
    for name, options in fused.items():
        nontemporal = name in ("", " out")
        run = _fused(**{"slope": 0.01, "p": 0.3, "rng": ADDRESS} | options)
        yield f"bias_leaky_relu_dropout{name}", Case(run, options.get("arrays", 1), RANDOM_GRAIN, nontemporal)
    for name, options in {"": {}, " slope 0": {"slope": 0.0}, " p 0": {"p": 0.0}, " p 1": {"p": 1.0}}.items():
        run = _fused_backward(**{"slope": 0.01, "p": 0.3} | options)
        yield f"bias_leaky_relu_dropout_backward{name}", Case(run, 2, ELEMENTWISE_GRAIN, not name)
    yield "bias_leaky_relu_dropout_backward into grad", Case(_fused_backward(0.01, 0.3, out=0), 2, ELEMENTWISE_GRAIN)
    yield "bias_leaky_relu_dropout_backward into y", Case(_fused_backward(0.01, 0.3, out=1), 2, ELEMENTWISE_GRAIN)


def golden(x: np.ndarray, grad: np.ndarray) -> dict[str, Callable[[], Any]]:
    rows = x[: x.size // 7 * 7].reshape(-1, 7)
    mask = fo.DropoutMask(*GOLDEN_ADDRESS, 0.25, x.shape)
    return {
        "dropout": lambda: fo.dropout(x, 0.25, rng=GOLDEN_ADDRESS)[0],
        "dropout_backward": lambda: fo.dropout_backward(grad, mask),
        "bias_leaky_relu_dropout": lambda: fo.bias_leaky_relu_dropout(rows, grad[:7], 0.125, 0.25, rng=GOLDEN_ADDRESS)[
            0
        ],
        "bias_leaky_relu_dropout_backward": lambda: fo.bias_leaky_relu_dropout_backward(
            rows, grad[: rows.size].reshape(-1, 7), fo.DropoutMask(*GOLDEN_ADDRESS, 0.25, rows.shape), 0.125
        ),
        "DropoutMask.to_array": lambda: mask.to_array(),
    }
