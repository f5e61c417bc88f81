"""From inside @njit: what a call costs, a whole training loop, and the first call of a new process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numba
import numpy as np
import pytest
from harness import Array, Call, Case, Op, cases

import fastopt
from fastopt.demo import njit as demo_njit

CALLS, SLOPE = 1000, np.float32(0.01)


@numba.njit
def call_often(x: Array, y: Array) -> None:
    for k in range(CALLS):
        fastopt.leaky_relu(x, SLOPE, out=y)
        x[0] = y[1] + np.float32(k)  # so that no call can be left out


@numba.njit
def loop_often(x: Array, y: Array) -> None:
    for k in range(CALLS):
        for i in range(x.size):
            y[i] = x[i] if x[i] > 0 else x[i] * SLOPE
        x[0] = y[1] + np.float32(k)


class NjitCall(Op):
    """1,000 calls from compiled code, beside the loop that one would write there."""

    name = "leaky_relu from njit, 1,000 calls"
    data = ((np.float32, 64),)
    contenders = ("loop", "fastopt")
    exact = frozenset({"loop", "fastopt"})

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.x, self.y = self.normal(1), np.zeros(size, dtype)

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.y], [self.x]

    def check(self, contender: str) -> None:
        self.compare(contender, *self.run(contender), *self.run("loop"))

    def loop(self) -> Call:
        return lambda: loop_often(self.x, self.y)

    def fastopt(self) -> Call:
        return lambda: call_often(self.x, self.y)


Six = tuple[Array, Array, Array, Array, Array, Array]


@numba.njit
def step_each(params: Six, grads: Six, exp_avg: Six, exp_avg_sq: Six) -> None:
    for k in range(CALLS):
        for i in numba.literal_unroll((0, 1, 2, 3, 4, 5)):
            fastopt.adam_step(params[i], grads[i], exp_avg[i], exp_avg_sq[i], k + 1)


@numba.njit
def step_nest(params: Six, grads: Six, exp_avg: Six, exp_avg_sq: Six) -> None:
    for k in range(CALLS):
        fastopt.adam_step(params, grads, exp_avg, exp_avg_sq, k + 1)


class NjitNest(Op):
    """1,000 Adam steps of six arrays from compiled code: of a tuple of them, beside a call for each."""

    name = "adam_step of a tuple from njit, 1,000 calls"
    data = ((np.float32, 4610),)
    contenders = ("each", "fastopt")
    exact = frozenset({"each", "fastopt"})

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.nests = [self.new_nest(k) for k in range(4)]

    def new_nest(self, k: int) -> Six:
        ends = np.cumsum([4 * 64, 64, 64 * 64, 64, 64 * 2])  # of a 4-64-64-2 network
        return tuple(
            part.copy() for part in np.split(self.normal(k) if k < 2 else np.zeros(self.size, self.dtype), ends)
        )

    def traffic(self) -> tuple[list[Array], list[Array]]:
        params, grads, *states = self.nests
        return [*params, *states[0], *states[1]], [*params, *grads, *states[0], *states[1]]

    def check(self, contender: str) -> None:
        found = []
        for step in (step_each if contender == "each" else step_nest, step_each):
            self.nests = [self.new_nest(k) for k in range(4)]
            step(*self.nests)
            found.append(np.concatenate(self.nests[0]))
        self.compare(contender, *found)

    def each(self) -> Call:
        return lambda: step_each(*self.nests)

    def fastopt(self) -> Call:
        return lambda: step_nest(*self.nests)


class Training(Op):
    """100 steps of fastopt.demo.njit.train: 4-64-64-2, batch 32. Each call begins with the same parameters."""

    name = "training, 100 steps"
    data = ((np.float32, demo_njit.PARAMETERS),)
    contenders = ("reference", "numpy", "python", "fastopt")
    one_thread = frozenset(contenders)
    exact = frozenset({"reference", "python", "fastopt"})
    steps, batch, lr, p = 100, 32, 1e-3, 0.1

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.first, self.x, self.target = demo_njit.problem(1)
        self.params = self.first.copy()

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.params], []

    def own(self, train: Any) -> Call:
        def call() -> None:
            self.params[:] = self.first
            train(self.params, self.x, self.target, self.steps, self.batch, self.lr, self.p, 0)

        return call

    def reference(self) -> Call:
        return self.own(demo_njit.train_in_numpy)

    def python(self) -> Call:
        return self.own(demo_njit.train_in_python)

    def fastopt(self) -> Call:
        return self.own(demo_njit.train)

    def numpy(self) -> Call:
        return self.own(train_in_good_numpy)

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if contender != "numpy":  # that one has random numbers of its own: it moves as far from the same beginning
            return super().compare(contender, ours, theirs)
        moved = [np.linalg.norm(params - self.first) for params in (ours, theirs)]
        assert moved[0] == pytest.approx(moved[1], rel=0.1)
        return None


def train_in_good_numpy(
    params: Array, x: Array, target: Array, steps: int, batch: int, lr: float, p: float, seed: int
) -> None:
    """The same training by someone who takes care: NumPy's fastest generator, all in place, scratch made once."""
    w1, b1, w2, b2, w3, b3 = demo_njit.layers(params)
    grads, exp_avg, exp_avg_sq = np.zeros_like(params), np.zeros_like(params), np.zeros_like(params)
    dw1, db1, dw2, db2, dw3, db3 = demo_njit.layers(grads)
    work, update = np.empty_like(params), np.empty_like(params)
    h1, h2, dh1, dh2, scratch = (np.empty((batch, demo_njit.HIDDEN), np.float32) for _ in range(5))
    factor1, factor2 = np.empty_like(h1), np.empty_like(h1)  # of dropout, then of the whole layer's gradient
    keep = np.empty(h1.shape, bool)
    xs, targets = np.empty((batch, x.shape[1]), np.float32), np.empty((batch, target.shape[1]), np.float32)
    error = np.empty_like(targets)
    rng = np.random.Generator(np.random.SFC64(seed))
    slope, scale, beta1, beta2 = np.float32(0.01), np.float32(1 / (1 - p)), 0.9, 0.999

    def layer(z: Array, bias: Array, factor: Array) -> None:
        np.add(z, bias, out=z)
        np.multiply(z, slope, out=scratch)
        np.maximum(z, scratch, out=z)
        rng.random(dtype=np.float32, out=factor)
        np.greater_equal(factor, p, out=keep)
        np.multiply(keep, scale, out=factor)
        np.multiply(z, factor, out=z)
        np.greater(z, 0, out=keep)  # a dropped element has a factor of 0 already
        np.maximum(keep, slope, out=scratch)
        np.multiply(factor, scratch, out=factor)

    for step in range(1, steps + 1):
        rows = rng.integers(0, len(x), batch)
        np.take(x, rows, axis=0, out=xs, mode="clip")  # with another mode, `out` is buffered
        np.take(target, rows, axis=0, out=targets, mode="clip")
        layer(np.dot(xs, w1, out=h1), b1, factor1)
        layer(np.dot(h1, w2, out=h2), b2, factor2)
        np.dot(h2, w3, out=error)
        np.add(error, b3, out=error)
        np.subtract(error, targets, out=error)
        float(np.vdot(error, error)) / error.size
        np.multiply(error, np.float32(2 / error.size), out=error)

        np.dot(h2.T, error, out=dw3)
        np.add.reduce(error, axis=0, out=db3)
        np.dot(error, w3.T, out=dh2)
        np.multiply(dh2, factor2, out=dh2)
        np.dot(h1.T, dh2, out=dw2)
        np.add.reduce(dh2, axis=0, out=db2)
        np.dot(dh2, w2.T, out=dh1)
        np.multiply(dh1, factor1, out=dh1)
        np.dot(xs.T, dh1, out=dw1)
        np.add.reduce(dh1, axis=0, out=db1)

        np.subtract(grads, exp_avg, out=work)
        np.multiply(work, np.float32(1 - beta1), out=work)
        np.add(exp_avg, work, out=exp_avg)
        np.square(grads, out=work)
        np.multiply(work, np.float32(1 - beta2), out=work)
        np.multiply(exp_avg_sq, np.float32(beta2), out=exp_avg_sq)
        np.add(exp_avg_sq, work, out=exp_avg_sq)
        correction = (1 - beta2**step) ** 0.5
        np.sqrt(exp_avg_sq, out=work)
        np.add(work, np.float32(1e-8 * correction), out=work)
        np.divide(exp_avg, work, out=update)
        np.multiply(update, np.float32(lr * correction / (1 - beta1**step)), out=update)
        np.subtract(params, update, out=params)


IMPORTS = """
import numba, os, numpy as np
from fastopt.demo.njit import PARAMETERS, train
arrays = (np.zeros(shape, np.float32) for shape in (PARAMETERS, (64, 4), (64, 2)))
"""
FIRST_CALL = """
losses = train(*arrays, 1, 32, 1e-3, 0.1, 0)
hits, misses = (sum(getattr(train.stats, f"cache_{kind}").values()) for kind in ("hits", "misses"))
assert (hits, misses) == (1, 0), "compiled again, although it is cached"
"""


EXIT = "os._exit(0)"  # what is loaded only to be taken down again is no part of the call


class FirstCall(Op):
    """A new process whose first compiled call is that of a cached function, beside one that only imports."""

    name = "first call of a process"
    data = ((np.float32, 1),)
    contenders = ("imports", "fastopt")

    def check(self, contender: str) -> None:
        demo_njit.train(*demo_njit.problem(1), 1, 32, 1e-3, 0.1, 0)  # fills the cache

    def process(self, script: str) -> Call:
        return lambda: subprocess.run([sys.executable, "-P", "-c", script], check=True)

    def imports(self) -> Call:
        return self.process(IMPORTS + EXIT)

    def fastopt(self) -> Call:
        return self.process(IMPORTS + FIRST_CALL + EXIT)


@pytest.mark.parametrize("case", cases(NjitCall, NjitNest, Training, FirstCall), ids=str)
def test_njit(case: Case, race: Any) -> None:
    race(case)
