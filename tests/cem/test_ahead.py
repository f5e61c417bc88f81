"""Candidates that the pool makes while a function scores those before them (forks: promises/test_fork.py)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastopt
from fastopt import _core
from fastopt._core import Distribution

from ..support import assert_same_bits


def distribution():
    return Distribution(np.zeros(2000), np.ones(2000), None, None, None, 1, 2, 300, False, False)


def largest(x):
    return np.abs(x - 0.25).max(axis=1)


def assert_same_run(a, b):
    for name in ("x", "x_mean", "std"):
        assert_same_bits(a[name], b[name], name)
    assert (a.fun, a.nfev) == (b.fun, b.nfev)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_candidates_made_ahead(threads):
    d = distribution()
    with fastopt.num_threads(threads):
        x = _core.cem_candidates(d, 0, 301)
        for stop in (0, 1, 50, 301):  # what is left is given up
            with _core.CandidatesAhead(d, 0, 301) as ahead:
                assert_same_bits(ahead[0:stop].copy(), x[:stop])
        with pytest.raises(RuntimeError, match="given up"):
            ahead[0:1]
        _core.CandidatesAhead(d, 0, 301)  # never used
        with _core.CandidatesAhead(d, 0, 301) as a, _core.CandidatesAhead(d, 0, 301) as b:
            assert_same_bits(b[100:301].copy(), a[100:301].copy())
            assert_same_bits(a[0:100], x[:100])


def test_a_function_may_use_the_threads_too():
    def fun(x):
        fastopt.set_num_threads(1 + fastopt.get_num_threads() % 3)
        y = fastopt.leaky_relu(np.tile(x, (50, 1)))
        with _core.CandidatesAhead(d, 0, 301) as ahead:
            assert_same_bits(ahead[0:301], other)
        return np.abs(y[: len(x)]).max(axis=1)

    d = distribution()
    other = _core.cem_candidates(d, 0, 301)
    options = {"popsize": 600, "maxiter": 3, "rng": 1, "vectorized": True}
    with fastopt.num_threads(1):
        alone = fastopt.minimize_cem(
            lambda x: np.abs(np.where(x > 0, x, 0.01 * x)).max(axis=1), np.ones(300), **options
        )
    with fastopt.num_threads(3):
        assert_same_run(fastopt.minimize_cem(fun, np.ones(300), **options), alone)


def test_a_function_that_raises_while_candidates_are_made():
    calls = 0

    def fun(x):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ZeroDivisionError
        return x.max(axis=1)

    with fastopt.num_threads(3):
        for _ in range(20):
            calls = 0
            with pytest.raises(ZeroDivisionError):
                fastopt.minimize_cem(fun, np.ones(300), popsize=1000, vectorized=True)


def test_runs_in_several_python_threads():
    def run(seed):
        return fastopt.minimize_cem(largest, np.ones(300), popsize=600, maxiter=5, rng=seed, vectorized=True)

    with fastopt.num_threads(3):
        alone = [run(seed) for seed in range(4)]
        with ThreadPoolExecutor(4) as executor:
            for one, other in zip(executor.map(run, range(4)), alone, strict=True):
                assert_same_run(one, other)
