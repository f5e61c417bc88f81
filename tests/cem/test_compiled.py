"""An @njit objective: scored by compiled code where its candidates are made, with the bits of the way round."""

from __future__ import annotations

import gc
import math
import weakref

import numpy as np
import pytest

import fastopt
from fastopt.cem.compiled import score_function

from ..support import DTYPES, assert_same_bits, run_python

numba = pytest.importorskip("numba")


@numba.njit
def largest(x):
    best = 0.0
    for value in x:
        best = max(best, abs(value - 0.25))
    return best


@numba.njit
def fussy(x, limit):
    if x[0] > limit:
        raise ValueError("too far")
    return math.nan if x[1] > limit else x[0] ** 2 + x[1] ** 2


def run(fun, dtype=np.float64, n=50, **options):
    options = {"popsize": 700, "maxiter": 3, "rng": 1} | options
    return fastopt.minimize_cem(fun, np.zeros(n, dtype), 1.0, **options)


@pytest.mark.parametrize(("fun", "args"), [(largest, ()), (fussy, (0.5,))])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_function_is_compiled_for_the_pool(fun, args, dtype):
    assert score_function(fun, np.dtype(dtype), args) is not None


def assert_same_run(a, b):
    for name in ("x", "x_mean", "std", "fun", "fun_mean"):
        assert_same_bits(a[name], b[name], name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options", [{}, {"antithetic": True, "bounds": [(-1, 1)] * 50}, {"covariance": "full"}, {"n_repeats": 2}], ids=str
)
def test_the_bits_of_one_call_a_candidate(options, dtype):
    expected = run(lambda x: largest(x), dtype, **options)
    for threads in (1, 2, 3):
        with fastopt.num_threads(threads):
            assert_same_run(run(largest, dtype, **options), expected)


def test_candidates_too_long_to_be_scored_where_they_are_made():
    assert_same_run(
        run(largest, np.float32, 17_000, popsize=9), run(lambda x: largest(x), np.float32, 17_000, popsize=9)
    )


def test_arguments_nan_and_errors():
    expected = run(lambda x, limit: fussy(x, limit), n=2, args=(50.0,))
    assert_same_run(run(fussy, n=2, args=(50.0,)), expected)
    assert run(fussy, n=2, args=(0.5,), bounds=[(-1, 0.5), (-1, 1)]).x[1] <= 0.5
    with pytest.raises(ValueError, match="too far") as caught:
        run(fussy, n=2, args=(0.5,))
    assert "generation 0, restart 0" in caught.value.__notes__[0]


def test_what_cannot_be_fused_is_called():
    @numba.njit
    def keyed(x, key):
        return x[0] ** 2 + (key & 1)

    @numba.njit(parallel=True)
    def parallel(x):
        total = 0.0
        for k in numba.prange(len(x)):
            total += x[k] ** 2
        return total

    @numba.njit
    def nothing(x):
        return None if x[0] > 0 else x[0] ** 2

    for fun in (keyed, parallel, nothing):
        assert np.isfinite(run(fun, n=2).fun)


def test_numba_is_not_imported_for_other_functions():
    script = """
import sys, numpy as np, fastopt
fastopt.minimize_cem(lambda x: x[0] ** 2, np.zeros(2), maxiter=2)
print("numba" in sys.modules)
"""
    assert run_python(script).strip() == "False"


def test_arguments_that_are_equal_but_not_the_same_are_told_apart():
    @numba.njit
    def invert(x, flag):
        return 1.0 * (~flag) + 0.0 * x[0]

    @numba.njit
    def sign(x, zero):
        return math.copysign(1.0, zero) + 0.0 * x[0]

    for objective, arguments in ((invert, (True, 1, False, 0)), (sign, (0.0, -0.0, 0.0))):
        for argument in arguments:
            expected = float(objective(np.ones(2), argument))
            assert run(objective, n=2, maxiter=1, args=(argument,)).fun == expected


def test_objectives_that_are_dropped_are_freed():
    def use(c):
        objective = numba.njit(lambda x: ((x - c) ** 2).sum())
        run(objective, n=2, maxiter=1)
        assert score_function(objective, np.dtype(np.float64), ()) is not None
        return weakref.ref(objective)

    dropped = [use(float(c)) for c in range(3)]
    gc.collect()
    assert [one() for one in dropped] == [None] * 3
