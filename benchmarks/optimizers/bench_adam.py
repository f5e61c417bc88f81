"""Adam: one large array, and the six small ones of a policy."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, blocks, cases, from_numpy, sizes, torch

import fastopt
from fastopt import reference

LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


class Adam(Op):
    name = "adam"
    data = (*Op.data, *sizes(np.float32, 18, 26))
    checked_calls = 2

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.params, self.grads = self.split(self.normal(1)), self.split(self.normal(2))

    def split(self, values: Array) -> list[Array]:
        return [values]

    def zeros(self) -> list[Array]:
        return [np.zeros_like(p) for p in self.params]

    def traffic(self) -> tuple[list[Array], list[Array]]:
        written = [self.params[0], *self.zeros(), *self.zeros()]
        return written, [*written, self.grads[0]]

    def result(self, returned: Any) -> list[Array]:
        return self.params

    def reference(self) -> Call:
        return partial(reference.Adam(self.params, LR, (BETA1, BETA2), EPS).step, self.grads)

    def numpy(self) -> Call:
        states = zip(self.params, self.grads, self.zeros(), self.zeros(), strict=True)
        work = [block for arrays in states for block in blocks(*arrays, scratch=(self.dtype,))]
        step = 0

        def call() -> None:
            nonlocal step
            step += 1
            correction = math.sqrt(1 - BETA2**step)
            lr, eps = LR * correction / (1 - BETA1**step), EPS * correction
            for p, g, m, v, s in work:
                np.subtract(g, m, out=s)
                np.multiply(s, 1 - BETA1, out=s)
                np.add(m, s, out=m)
                np.multiply(g, g, out=s)
                np.multiply(s, 1 - BETA2, out=s)
                np.multiply(v, BETA2, out=v)
                np.add(v, s, out=v)
                np.sqrt(v, out=s)
                np.add(s, eps, out=s)
                np.divide(m, s, out=s)
                np.multiply(s, lr, out=s)
                np.subtract(p, s, out=p)

        return call

    def torch(self, **implementation: bool) -> Call:
        params = from_numpy(*self.params)
        for param, grad in zip(params, from_numpy(*self.grads), strict=True):
            param.requires_grad_(True)
            param.grad = grad
        optimizer = torch.optim.Adam(params, LR, (BETA1, BETA2), EPS, **(implementation or {"fused": True}))
        for param, m, v in zip(params, from_numpy(*self.zeros()), from_numpy(*self.zeros()), strict=True):
            optimizer.state[param] = {"step": torch.zeros(()), "exp_avg": m, "exp_avg_sq": v}
        return optimizer.step

    def fastopt(self) -> Call:
        return partial(fastopt.Adam(self.params, LR, (BETA1, BETA2), EPS).step, self.grads)


class PolicyAdam(Adam):
    """One step for the weights and biases of a 4-64-64-2 policy."""

    name = "adam, six arrays"
    shapes = ((64, 4), (64,), (64, 64), (64,), (2, 64), (2,))
    data = ((np.float32, 4610),)
    contenders = ("reference", "numpy", "torch", "torch_foreach", "torch_loop", "fastopt")

    def split(self, values: Array) -> list[Array]:
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        return [a.reshape(shape) for a, shape in zip(np.split(values, ends[:-1]), self.shapes, strict=True)]

    def torch_foreach(self) -> Call:
        return self.torch(foreach=True)

    def torch_loop(self) -> Call:
        return self.torch(foreach=False, fused=False)


@pytest.mark.parametrize("case", cases(Adam, PolicyAdam), ids=str)
def test_adam(case: Case, race: Any) -> None:
    race(case)
