"""The family's ways to call an op: cases of equal bits, and golden outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastopt as fo

from ..support import ELEMENTWISE_GRAIN, Case, call


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


def golden(x: np.ndarray, grad: np.ndarray) -> dict[str, Callable[[], Any]]:
    return {
        "leaky_relu": lambda: fo.leaky_relu(x, 0.01),
        "leaky_relu_backward": lambda: fo.leaky_relu_backward(grad, x, 0.01),
        "inactive_fraction": lambda: fo.inactive_fraction(x[: x.size // 8 * 8].reshape(-1, 8)),
    }
