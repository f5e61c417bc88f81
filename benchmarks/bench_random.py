"""Raw random words, uniform and normal numbers. Every contender has its own; range, mean or variance are checked."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, cases, from_numpy, sizes, torch

import fastopt
from fastopt import reference


class RandomUniform(Op):
    name = "random uniform"
    span = 1.0

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.out = np.zeros(size, dtype)

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.out], [self.out]  # a store reads the line that it overwrites

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if contender in ("reference", "fastopt"):
            super().compare(contender, ours, theirs)
            return
        share = ours.astype(np.float64) / self.span
        assert share.min() >= 0
        assert share.max() < 1
        assert abs(share.mean() - 0.5) < 6 * (1 / 12 / share.size) ** 0.5

    def reference(self) -> Call:
        return partial(reference.Philox4x32(7).random, dtype=self.dtype, out=self.out)

    def numpy(self) -> Call:
        return partial(np.random.Generator(np.random.SFC64(7)).random, dtype=self.dtype, out=self.out)

    def torch(self) -> Call:
        (out,) = from_numpy(self.out)
        return partial(torch.rand, self.size, out=out)

    def fastopt(self) -> Call:
        return partial(fastopt.Philox4x32(7).random, dtype=self.dtype, out=self.out)


class RandomNormal(RandomUniform):
    name = "random normal"

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if contender in ("reference", "fastopt"):
            Op.compare(self, contender, ours, theirs)
            return
        assert abs(np.mean(ours, dtype=np.float64)) < 6 * (1 / ours.size) ** 0.5
        assert abs(np.var(ours, dtype=np.float64) - 1) < 6 * (2 / ours.size) ** 0.5

    def reference(self) -> Call:
        return partial(reference.Philox4x32(7).standard_normal, dtype=self.dtype, out=self.out)

    def numpy(self) -> Call:
        return partial(np.random.Generator(np.random.SFC64(7)).standard_normal, dtype=self.dtype, out=self.out)

    def torch(self) -> Call:
        return from_numpy(self.out)[0].normal_

    def fastopt(self) -> Call:
        return partial(fastopt.Philox4x32(7).standard_normal, dtype=self.dtype, out=self.out)


class RandomRaw(RandomUniform):
    """uint32 words into a new array, as fastopt and NumPy give them; torch fills one."""

    name = "random words"
    data = sizes(np.uint32, 10, 16, 20, 24)
    span = 2.0**32

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.out.view(np.float32)], [self.out.view(np.float32)]

    def result(self, returned: Any) -> list[Array]:
        return [np.asarray(returned).view(np.uint32)]

    def reference(self) -> Call:
        return partial(reference.Philox4x32(7).random_raw, self.size)

    def numpy(self) -> Call:
        bits = np.random.SFC64(7)
        return lambda: bits.random_raw(self.size // 2).view(np.uint32)

    def torch(self) -> Call:
        (out,) = from_numpy(self.out.view(np.int32))
        return partial(out.random_, -(2**31), 2**31)

    def fastopt(self) -> Call:
        return partial(fastopt.Philox4x32(7).random_raw, self.size)


@pytest.mark.parametrize("case", cases(RandomUniform, RandomNormal, RandomRaw), ids=str)
def test_random(case: Case, race: Any) -> None:
    race(case)
