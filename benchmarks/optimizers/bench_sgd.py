"""Stochastic gradient descent, without and with momentum."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, blocks, cases, from_numpy, torch

import fastopt
from fastopt import reference

LR = 1e-3


class SGD(Op):
    name = "sgd"
    momentum = 0.0
    checked_calls = 2

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.p, self.g = self.normal(1), self.normal(2)
        self.buffers = [np.zeros_like(self.p)] if self.momentum else []

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.p, *self.buffers], [self.p, *self.buffers, self.g]

    def result(self, returned: Any) -> list[Array]:
        return [self.p]

    def reference(self) -> Call:
        return partial(reference.SGD([self.p], LR, self.momentum).step, [self.g])

    def numpy(self) -> Call:
        work = blocks(self.p, self.g, *self.buffers, scratch=(self.dtype,))

        def call() -> None:
            for p, direction, *buffers, s in work:
                for b in buffers:
                    np.multiply(b, self.momentum, out=b)
                    np.add(b, direction, out=b)
                    direction = b
                np.multiply(direction, LR, out=s)
                np.subtract(p, s, out=p)

        return call

    def torch(self) -> Call:
        param, grad, *buffers = from_numpy(self.p, self.g, *self.buffers)
        param.requires_grad_(True)
        param.grad = grad
        optimizer = torch.optim.SGD([param], LR, self.momentum, fused=True)
        optimizer.state[param] = dict(zip(["momentum_buffer"], buffers, strict=False))
        return optimizer.step

    def fastopt(self) -> Call:
        return partial(fastopt.SGD([self.p], LR, self.momentum).step, [self.g])


class MomentumSGD(SGD):
    name = "sgd, momentum"
    momentum = 0.9


@pytest.mark.parametrize("case", cases(SGD, MomentumSGD), ids=str)
def test_sgd(case: Case, race: Any) -> None:
    race(case)
