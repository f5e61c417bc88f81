"""Raw random words, uniform and normal numbers. Every contender has its own; range, mean or variance are checked."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, cases, from_numpy, mkl_random, sizes, torch

import fastopt
from fastopt import reference


class RandomUniform(Op):
    name = "random uniform"
    exact = frozenset({"reference", "fastopt"})
    span = 1.0

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.out = np.zeros(size, dtype)

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.out], [self.out]  # a store reads the line that it overwrites

    def result(self, returned: Any) -> list[Array]:
        return [np.asarray(returned)]

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if contender in self.exact:
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
    contenders = (*Op.contenders, "mkl")
    one_thread = Op.one_thread | {"mkl"}

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if contender in self.exact:
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

    def mkl(self) -> Call:
        """float64 in a new array, by the inverse distribution function: mkl_random has nothing else as fast."""
        mkl_random.seed(7, "PHILOX4X32X10")
        return partial(mkl_random.standard_normal, self.size)

    def fastopt(self) -> Call:
        return partial(fastopt.Philox4x32(7).standard_normal, dtype=self.dtype, out=self.out)


class RandomRaw(RandomUniform):
    """uint32 words into a new array, as fastopt and NumPy give them; torch fills one, MKL gives bytes."""

    name = "random words"
    data = sizes(np.uint32, 10, 16, 20, 24)
    contenders = (*Op.contenders, "mkl")
    one_thread = Op.one_thread | {"mkl"}
    exact = RandomUniform.exact | {"mkl"}  # stream 0 of a seed is MKL's Philox of that seed
    span = 2.0**32

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.out.view(np.float32)], [self.out.view(np.float32)]

    def result(self, returned: Any) -> list[Array]:
        return [np.frombuffer(returned if isinstance(returned, bytes) else np.asarray(returned), np.uint32)]

    def reference(self) -> Call:
        return partial(reference.Philox4x32(7).random_raw, self.size)

    def numpy(self) -> Call:
        bits = np.random.SFC64(7)
        return lambda: bits.random_raw(self.size // 2).view(np.uint32)

    def torch(self) -> Call:
        (out,) = from_numpy(self.out.view(np.int32))
        return partial(out.random_, -(2**31), 2**31)

    def mkl(self) -> Call:
        """`bytes` is viRngUniformBits into a new bytes object; `randint` over all of uint32 costs the same or more."""
        mkl_random.seed(7, "PHILOX4X32X10")
        return partial(mkl_random.bytes, 4 * self.size)

    def fastopt(self) -> Call:
        return partial(fastopt.Philox4x32(7).random_raw, self.size)


class RandomIntegers(RandomUniform):
    """int64 numbers below 1,000 into a new array."""

    name = "random integers"
    data = sizes(np.uint32, 10, 16, 20)
    exact = frozenset({"reference"})
    span = 1000.0

    def traffic(self) -> tuple[list[Array], list[Array]]:
        both = np.empty(2 * self.size, np.float32)
        return [both], [both]

    def result(self, returned: Any) -> list[Array]:
        return [np.asarray(returned)]

    def reference(self) -> Call:
        return partial(reference.Philox4x32(7).integers, 1000, size=self.size)

    def numpy(self) -> Call:
        return partial(np.random.Generator(np.random.SFC64(7)).integers, 1000, size=self.size)

    def torch(self) -> Call:
        (out,) = from_numpy(np.empty(self.size, np.int64))
        return partial(out.random_, 0, 1000)

    def fastopt(self) -> Call:
        return partial(fastopt.Philox4x32(7).integers, 1000, size=self.size)


class RandomPermutation(RandomIntegers):
    """The numbers from 0 on in random order, into a new array."""

    name = "permutation"
    contenders = ("reference", "numpy", "fastopt")

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if contender in self.exact:
            Op.compare(self, contender, ours, theirs)
        assert np.array_equal(np.sort(ours), np.arange(self.size))

    def reference(self) -> Call:
        return partial(reference.Philox4x32(7).permutation, self.size)

    def numpy(self) -> Call:
        return partial(np.random.Generator(np.random.SFC64(7)).permutation, self.size)

    def fastopt(self) -> Call:
        return partial(fastopt.Philox4x32(7).permutation, self.size)


@pytest.mark.parametrize(
    "case", cases(RandomUniform, RandomNormal, RandomRaw, RandomIntegers, RandomPermutation), ids=str
)
def test_random(case: Case, race: Any) -> None:
    race(case)
