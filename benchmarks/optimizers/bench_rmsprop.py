"""RMSprop, plain, and centred with momentum. Torch has no fused one."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, blocks, cases, from_numpy, sizes, torch

import fastopt
from fastopt import reference

LR, ALPHA, EPS = 1e-2, 0.99, 1e-8


class RMSprop(Op):
    name = "rmsprop"
    data = (*Op.data, *sizes(np.float32, 18))
    contenders = ("reference", "numpy", "torch_foreach", "torch_loop", "fastopt", "stream", "stream_nontemporal")
    exact = frozenset({"reference", "fastopt"})
    checked_calls = 2
    momentum = 0.0
    states: tuple[str, ...] = ("square_avg",)

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.p, self.g = self.normal(1), self.normal(2)
        self.options = {"momentum": self.momentum, "centered": "grad_avg" in self.states}

    def zeros(self) -> list[Array]:
        return [np.zeros_like(self.p) for _ in self.states]

    def traffic(self) -> tuple[list[Array], list[Array]]:
        written = [self.p, *self.zeros()]
        return written, [*written, self.g]

    def result(self, returned: Any) -> list[Array]:
        return [self.p]

    def reference(self) -> Call:
        return partial(reference.RMSprop([self.p], LR, ALPHA, EPS, **self.options).step, [self.g])

    def numpy(self) -> Call:
        work = blocks(self.p, self.g, *self.zeros(), scratch=(self.dtype, self.dtype))

        def call() -> None:
            for p, g, v, *others, s, d in work:
                np.multiply(g, g, out=s)
                np.multiply(s, 1 - ALPHA, out=s)
                np.multiply(v, ALPHA, out=v)
                np.add(v, s, out=v)
                d_squared = v
                if others:
                    m, b = others
                    np.subtract(g, m, out=s)
                    np.multiply(s, 1 - ALPHA, out=s)
                    np.add(m, s, out=m)
                    np.multiply(m, m, out=s)
                    d_squared = np.subtract(v, s, out=d)
                np.sqrt(d_squared, out=d)
                np.add(d, EPS, out=d)
                np.divide(g, d, out=s)
                if others:
                    np.multiply(b, self.momentum, out=b)
                    np.add(b, s, out=b)
                    np.multiply(b, LR, out=s)
                else:
                    np.multiply(s, LR, out=s)
                np.subtract(p, s, out=p)

        return call

    def torch(self, foreach: bool) -> Call:
        param, grad = from_numpy(self.p, self.g)
        param.requires_grad_(True)
        param.grad = grad
        optimizer = torch.optim.RMSprop([param], LR, ALPHA, EPS, **self.options, foreach=foreach)
        states = dict(zip(self.states, from_numpy(*self.zeros()), strict=True))
        optimizer.state[param] = {"step": torch.zeros(()), **states}
        return optimizer.step

    def torch_foreach(self) -> Call:
        return self.torch(foreach=True)

    def torch_loop(self) -> Call:
        return self.torch(foreach=False)

    def fastopt(self) -> Call:
        return partial(fastopt.RMSprop([self.p], LR, ALPHA, EPS, **self.options).step, [self.g])


class CenteredRMSprop(RMSprop):
    name = "rmsprop, centred, momentum"
    momentum = 0.9
    states = ("square_avg", "grad_avg", "momentum_buffer")


@pytest.mark.parametrize("case", cases(RMSprop, CenteredRMSprop), ids=str)
def test_rmsprop(case: Case, race: Any) -> None:
    race(case)
