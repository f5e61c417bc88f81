"""The hyperbolic tangent, its gradient, and both of a layer with its biases."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, blocks, cases, from_numpy, torch

import fastopt
from fastopt import reference

COLUMNS = 64


class Tanh(Op):
    name = "tanh"
    exact = frozenset({"reference", "fastopt"})
    rtol = 4e-7  # NumPy's is its own

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.x, self.y = self.normal(1), np.zeros(size, dtype)

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.y], [self.x]

    def reference(self) -> Call:
        return partial(reference.tanh, self.x, out=self.y)

    def numpy(self) -> Call:
        return partial(np.tanh, self.x, out=self.y)

    def torch(self) -> Call:
        x, y = from_numpy(self.x, self.y)
        return partial(torch.tanh, x, out=y)

    def fastopt(self) -> Call:
        return partial(fastopt.tanh, self.x, out=self.y)


class BiasTanh(Tanh):
    """Rows of 64, a layer of a policy."""

    name = "bias_tanh"

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.x, self.y = self.x.reshape(-1, COLUMNS), self.y.reshape(-1, COLUMNS)
        self.bias = self.normal(2)[:COLUMNS]

    def reference(self) -> Call:
        return partial(reference.bias_tanh, self.x, self.bias, out=self.y)

    def numpy(self) -> Call:
        def call() -> None:
            np.add(self.x, self.bias, out=self.y)
            np.tanh(self.y, out=self.y)

        return call

    def torch(self) -> Call:
        x, bias, y = from_numpy(self.x, self.bias, self.y)
        return lambda: torch.tanh(torch.add(x, bias, out=y), out=y)

    def fastopt(self) -> Call:
        return partial(fastopt.bias_tanh, self.x, self.bias, out=self.y)


class TanhBackward(Op):
    name = "tanh_backward"
    rtol = 4e-7

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.grad, self.y, self.dx = self.normal(1), np.tanh(self.normal(2)), np.zeros(size, dtype)

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.dx], [self.grad, self.y]

    def reference(self) -> Call:
        return partial(reference.tanh_backward, self.grad, self.y, out=self.dx)

    def numpy(self) -> Call:
        work = blocks(self.grad, self.y, self.dx)

        def call() -> None:
            for grad, y, dx in work:
                np.multiply(y, y, out=dx)
                np.subtract(1, dx, out=dx)
                np.multiply(grad, dx, out=dx)

        return call

    def torch(self) -> Call:
        grad, y, dx = from_numpy(self.grad, self.y, self.dx)
        return partial(torch.ops.aten.tanh_backward.grad_input, grad, y, grad_input=dx)

    def fastopt(self) -> Call:
        return partial(fastopt.tanh_backward, self.grad, self.y, out=self.dx)


class BiasTanhBackward(TanhBackward):
    name = "bias_tanh_backward"

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.grad, self.y, self.dx = (a.reshape(-1, COLUMNS) for a in (self.grad, self.y, self.dx))

    def reference(self) -> Call:
        return partial(reference.bias_tanh_backward, self.grad, self.y, out=self.dx)

    def numpy(self) -> Call:
        alone, ones = super().numpy(), np.ones(len(self.dx), self.dtype)

        def call() -> Array:
            alone()
            return ones @ self.dx

        return call

    def torch(self) -> Call:
        alone, (dx,) = super().torch(), from_numpy(self.dx)
        return lambda: (alone(), dx.sum(0))

    def fastopt(self) -> Call:
        return partial(fastopt.bias_tanh_backward, self.grad, self.y, out=self.dx)


@pytest.mark.parametrize("case", cases(Tanh, BiasTanh, TanhBackward, BiasTanhBackward), ids=str)
def test_tanh(case: Case, race: Any) -> None:
    race(case)
