"""Generations of the cross-entropy method on the sphere: sampling, scores, elites, refit; float32.

Each contender has numbers of its own; what is compared is the mean that its generations lead to.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, cases, optional

import fastopt

numba = optional("numba")


def sphere(x: Array) -> Array:
    return (x * x).sum(axis=-1)


if numba is not None:

    @numba.njit(fastmath=True)
    def compiled_sphere(x):
        total = np.float32(0)
        for k in range(x.size):  # over indices: a loop over values is not vectorised
            total += x[k] * x[k]
        return total


class Generations(Op):
    """So many generations of `shape` = (population, dimensions); `size` is all the numbers in them."""

    name = "CEM generation"
    shape, generations = (1000, 100), 20
    contenders = ("numpy", "fastopt", "fastopt_njit")
    one_thread = frozenset({"numpy"})

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        assert size == self.shape[0] * self.shape[1] * self.generations
        self.elites = self.shape[0] // 10

    def result(self, returned: Any) -> list[Array]:
        mean = returned if isinstance(returned, np.ndarray) else returned.x_mean
        return [np.array([np.square(mean).mean()])]

    def check(self, contender: str) -> None:
        (ours,), (theirs,) = self.run(contender), self.run("numpy")
        assert ours < 1  # nearer the minimum than the start
        assert abs(ours - theirs) < 0.5

    def numpy(self) -> Call:
        dimensions = self.shape[1]
        rng = np.random.Generator(np.random.SFC64(7))

        def call() -> Array:
            mean, std = np.ones(dimensions, self.dtype), np.ones(dimensions, self.dtype)
            for _ in range(self.generations):
                x = mean + std * rng.standard_normal(self.shape, dtype=self.dtype)
                chosen = x[np.argpartition(sphere(x), self.elites)[: self.elites]]
                mean = chosen.mean(axis=0)
                chosen.std(axis=0)  # the spread is kept at 1: a search that converges would change what is measured
            return mean

        return call

    def run_of(self, fun: Any, vectorized: bool) -> Call:
        return partial(
            fastopt.minimize_cem,
            fun,
            np.ones(self.shape[1], self.dtype),
            1.0,
            popsize=self.shape[0],
            elite_frac=0.1,
            min_std=1.0,
            std_lr=1.0,
            weights="equal",
            refit_about="new_mean",
            maxiter=self.generations,
            rng=7,
            vectorized=vectorized,
        )

    def fastopt(self) -> Call:
        return self.run_of(sphere, True)

    def fastopt_njit(self) -> Call:
        return self.run_of(compiled_sphere, False)


class SmallGenerations(Generations):
    name = "CEM generation, small"
    shape, generations = (64, 10), 1000


class LargeGenerations(Generations):
    name = "CEM generation, large"
    shape, generations = (10_000, 1000), 1


class BatchGenerations(Generations):
    """64 problems at once, against NumPy that is written for all of them at once too."""

    name = "CEM generation, 64 problems"
    problems = 64
    shape, generations = (300 * problems, 50), 20
    contenders = ("numpy", "fastopt")

    def numpy(self) -> Call:
        popsize, dimensions, elites = self.shape[0] // self.problems, self.shape[1], self.elites // self.problems
        rng, rows = np.random.Generator(np.random.SFC64(7)), np.arange(self.problems)[:, None]

        def call() -> Array:
            mean, std = (np.ones((self.problems, 1, dimensions), self.dtype) for _ in range(2))
            for _ in range(self.generations):
                x = mean + std * rng.standard_normal((self.problems, popsize, dimensions), dtype=self.dtype)
                chosen = x[rows, np.argpartition(sphere(x), elites, axis=1)[:, :elites]]
                mean = chosen.mean(axis=1, keepdims=True)
                chosen.std(axis=1)  # as above
            return mean

        return call

    def fastopt(self) -> Call:
        call = self.run_of(sphere, True)
        starts = np.ones((self.problems, self.shape[1]), self.dtype)
        options = {**call.keywords, "popsize": self.shape[0] // self.problems}  # type: ignore[attr-defined]
        return partial(fastopt.minimize_cem, sphere, starts, 1.0, **options)


class SmallBatchGenerations(BatchGenerations):
    """Where what a problem costs in Python counts most."""

    name = "CEM generation, 64 small problems"
    shape, generations = (64 * BatchGenerations.problems, 10), 100


class NjitGenerations(Generations):
    def fastopt(self) -> Call:
        return self.fastopt_njit()


class LargeNjitGenerations(LargeGenerations):
    def fastopt(self) -> Call:
        return self.fastopt_njit()


def size_of(op: type[Generations]) -> int:
    return op.shape[0] * op.shape[1] * op.generations


OPS = (Generations, SmallGenerations, LargeGenerations, BatchGenerations, SmallBatchGenerations)
for _op in OPS:
    _op.data = ((np.float32, size_of(_op)),)


@pytest.mark.parametrize("case", cases(*OPS), ids=str)
def test_cem(case: Case, race: Any) -> None:
    race(case)
