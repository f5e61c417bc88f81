"""Dropout and its gradient. Contenders with random numbers of their own are held to the keep rate and the scale."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, blocks, cases, from_numpy, sizes, torch

import fastopt
from fastopt import reference

P = 0.5
SCALE = 1 / (1 - P)


class Dropout(Op):
    name = "dropout"
    data = (*Op.data, *sizes(np.float32, 26))
    contenders = ("reference", "numpy", "numpy_16bit", "torch", "fastopt", "stream", "stream_nontemporal")
    one_thread = Op.one_thread | {"numpy_16bit"}

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.x, self.y = self.normal(1), np.zeros(size, dtype)

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.y], [self.x]

    def result(self, returned: Any) -> list[Array]:
        return [self.y if returned is None else returned[0] if isinstance(returned, tuple) else returned]

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if contender in ("reference", "fastopt"):
            super().compare(contender, ours, theirs)
            return
        kept = ours != 0
        np.testing.assert_allclose(ours[kept], self.normal(1)[kept] * SCALE, rtol=1e-6)
        assert abs(kept.mean() - (1 - P)) < 6 * (P * (1 - P) / ours.size) ** 0.5

    def reference(self) -> Call:
        return partial(reference.dropout, self.x, P, rng=fastopt.Philox4x32(7), out=self.y)

    def numpy(self) -> Call:
        """A uniform number for each element, from NumPy's fastest bit generator."""
        rng = np.random.Generator(np.random.SFC64(7))
        work = blocks(self.x, self.y, scratch=(self.dtype,), block=2**16)

        def call() -> None:
            for x, y, factor in work:
                rng.random(out=factor, dtype=self.dtype)
                np.greater_equal(factor, P, out=factor)
                np.multiply(factor, SCALE, out=factor)
                np.multiply(x, factor, out=y)

        return call

    def numpy_16bit(self) -> Call:
        """16 raw bits for each element, fastopt's own grain: as far as NumPy goes."""
        bits = np.random.SFC64(7)
        threshold = np.uint16(round(65536 * P))
        work = blocks(self.x, self.y, scratch=(bool,), block=2**16)

        def call() -> None:
            for x, y, keep in work:
                values = bits.random_raw((x.size + 3) // 4).view(np.uint16)[: x.size]
                np.greater_equal(values, threshold, out=keep)
                np.multiply(x, SCALE, out=y)
                np.multiply(y, keep, out=y)

        return call

    def torch(self) -> Call:
        (x,) = from_numpy(self.x)
        return partial(torch.nn.functional.dropout, x, P)

    def fastopt(self) -> Call:
        return partial(fastopt.dropout, self.x, P, rng=fastopt.Philox4x32(7), out=self.y)


class DropoutBackward(Op):
    """NumPy and torch multiply by the mask that their forward call stored; it is fastopt's here, so results agree."""

    name = "dropout_backward"
    exact = frozenset({"reference", "fastopt"})  # a product with the mask makes some zeros negative

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.grad, self.dx = self.normal(1), np.zeros(size, dtype)
        self.mask = fastopt.DropoutMask(seed=7, stream=0, p=P, shape=(size,))

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.dx], [self.grad]

    def reference(self) -> Call:
        return partial(reference.dropout_backward, self.grad, self.mask, out=self.dx)

    def numpy(self) -> Call:
        factor = np.multiply(self.mask.to_array(), SCALE, dtype=self.dtype)
        return partial(np.multiply, self.grad, factor, out=self.dx)

    def torch(self) -> Call:
        grad, keep, dx = from_numpy(self.grad, self.mask.to_array(), self.dx)
        return partial(torch.ops.aten.native_dropout_backward.out, grad, keep, SCALE, out=dx)

    def fastopt(self) -> Call:
        return partial(fastopt.dropout_backward, self.grad, self.mask, out=self.dx)


@pytest.mark.parametrize("case", cases(Dropout, DropoutBackward), ids=str)
def test_dropout(case: Case, race: Any) -> None:
    race(case)
