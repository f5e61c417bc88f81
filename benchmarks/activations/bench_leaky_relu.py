"""Leaky ReLU, its gradient, and the share of inactive units."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, blocks, cases, from_numpy, sizes, torch

import fastopt
from fastopt import reference

SLOPE = 0.01  # the default


class LeakyRelu(Op):
    name = "leaky_relu"
    data = (*Op.data, *sizes(np.float32, 26))

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.x, self.y = self.normal(1), np.zeros(size, dtype)

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.y], [self.x]

    def reference(self) -> Call:
        return partial(reference.leaky_relu, self.x, out=self.y)

    def numpy(self) -> Call:
        work = blocks(self.x, self.y)

        def call() -> None:
            for x, y in work:
                np.multiply(x, SLOPE, out=y)
                np.maximum(x, y, out=y)

        return call

    def torch(self) -> Call:
        x, y = from_numpy(self.x, self.y)
        return partial(torch._C._nn.leaky_relu, x, SLOPE, out=y)  # torch.nn.functional.leaky_relu has no out=

    def fastopt(self) -> Call:
        return partial(fastopt.leaky_relu, self.x, out=self.y)


class SmallLeakyRelu(LeakyRelu):
    """What a call costs, beside the shortest call that NumPy has."""

    name = "leaky_relu, short call"
    data = sizes(np.float32, 6)
    contenders = ("reference", "numpy", "negative", "torch", "fastopt")

    def check(self, contender: str) -> None:
        if contender != "negative":
            super().check(contender)

    def negative(self) -> Call:
        return partial(np.negative, self.x, out=self.y)


class LeakyReluBackward(Op):
    name = "leaky_relu_backward"

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.grad, self.x, self.dx = self.normal(1), self.normal(2), np.zeros(size, dtype)

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.dx], [self.grad, self.x]

    def reference(self) -> Call:
        return partial(reference.leaky_relu_backward, self.grad, self.x, out=self.dx)

    def numpy(self) -> Call:
        # The factor, 1 or the slope, as a number: np.copyto(dx, grad, where=mask) takes eight times as long.
        slope = self.dtype(SLOPE)
        work = blocks(self.grad, self.x, self.dx, scratch=(self.dtype, bool))

        def call() -> None:
            for grad, x, dx, factor, mask in work:
                np.greater(x, 0, out=mask)
                np.maximum(mask, slope, out=factor)
                np.multiply(grad, factor, out=dx)

        return call

    def torch(self) -> Call:
        grad, x, dx = from_numpy(self.grad, self.x, self.dx)
        return partial(torch.ops.aten.leaky_relu_backward.grad_input, grad, x, SLOPE, False, grad_input=dx)

    def fastopt(self) -> Call:
        return partial(fastopt.leaky_relu_backward, self.grad, self.x, out=self.dx)


class InactiveFraction(Op):
    name = "inactive_fraction"

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.x = self.normal(1).reshape(-1, max(64, size // 256))  # (batch, units)

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [], [self.x]

    def result(self, returned: Any) -> list[Array]:
        return [returned]

    def reference(self) -> Call:
        return partial(reference.inactive_fraction, self.x)

    def numpy(self) -> Call:
        mask = np.empty(self.x.shape, bool)

        def call() -> Array:
            np.less_equal(self.x, 0, out=mask)
            return np.add.reduce(mask.view(np.uint8), axis=0, dtype=np.uint16) / len(mask)

        return call

    def torch(self) -> Call:
        (x,) = from_numpy(self.x)
        return lambda: (x <= 0).sum(0).double() / len(x)

    def fastopt(self) -> Call:
        return partial(fastopt.inactive_fraction, self.x)


@pytest.mark.parametrize("case", cases(LeakyRelu, SmallLeakyRelu, LeakyReluBackward, InactiveFraction), ids=str)
def test_leaky_relu(case: Case, race: Any) -> None:
    race(case)
