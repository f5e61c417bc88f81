"""The cross-entropy method: bits of a run and threads, bad scores, noise, cuts and what is returned."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastopt
from fastopt import reference
from fastopt.cem.workers import cut_rows, cuts

from ..support import DTYPES, assert_same_bits
from .runs import RUNS, assert_same_run, largest, sphere

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


# ---- a run -----------------------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS.keys())
def test_a_run_has_the_bits_of_its_definition(options, dtype):
    a, b = (
        ops.minimize_cem(largest, np.zeros(6, dtype), 0.5, vectorized=True, popsize=30, maxiter=12, rng=3, **options)
        for ops in (fastopt, reference)
    )
    assert_same_run(a, b)
    assert a.x.dtype == a.x_mean.dtype == a.std.dtype == dtype
    assert_same_bits(a.candidate(7, 3), b.candidate(7, 3))


@each_dtype
def test_threads_do_not_change_a_run(dtype):
    runs = []
    for threads in (1, 2, 3):
        with fastopt.num_threads(threads):
            runs.append(
                fastopt.minimize_cem(largest, np.zeros(300, dtype), 0.5, popsize=500, vectorized=True, maxiter=4, rng=1)
            )
    for run in runs[1:]:
        assert_same_run(run, runs[0])


@each_dtype
def test_a_vectorised_function_and_one_of_a_candidate_make_the_same_run(dtype):
    one, many = (
        fastopt.minimize_cem(largest, np.zeros(7, dtype), popsize=150, maxiter=5, rng=1, vectorized=v)
        for v in (False, True)
    )
    assert_same_run(one, many)


def test_reaches_a_minimum():
    result = fastopt.minimize_cem(sphere, np.zeros(5), 1.0, rng=0)
    np.testing.assert_allclose(result.x, 0.25, atol=1e-7)
    np.testing.assert_allclose(result.x_mean, 0.25, atol=1e-7)
    assert result.success
    assert result.message.startswith("xtol")
    assert result.fun == min(result.history["fun"].min(), result.fun_mean)
    assert (np.diff(result.history["fun"]) <= 0).all()


def test_maximize_is_minus_the_function():
    low = fastopt.minimize_cem(sphere, np.zeros(5), rng=1, maxiter=9)
    high = fastopt.minimize_cem(lambda x: -sphere(x), np.zeros(5), rng=1, maxiter=9, maximize=True)
    assert_same_bits(low.x, high.x)
    assert low.fun == -high.fun


def ellipsoid(n, condition, seed):
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    weights = condition ** np.linspace(0, 1, n)
    return lambda x: (np.square((x - 0.5) @ rotation) * weights).sum(axis=1)


def test_full_covariance_solves_a_rotated_ellipsoid():
    result = fastopt.minimize_cem(
        ellipsoid(6, 1e6, 0), np.zeros(6), 1.0, covariance="full", maxfev=30_000, rng=0, vectorized=True
    )
    assert result.fun < 1e-10
    correlation = result.covariance / np.sqrt(np.outer(result.covariance.diagonal(), result.covariance.diagonal()))
    assert np.abs(np.triu(correlation, 1)).max() > 0.5
    np.testing.assert_allclose(np.sqrt(result.covariance.diagonal()), result.std, rtol=1e-6)


def test_about_the_old_mean_the_spread_does_not_shrink_on_a_slope():
    slope = lambda x: x.sum(axis=1)  # noqa: E731
    new, old = (
        fastopt.minimize_cem(
            slope, np.zeros(4), 1.0, maxiter=20, vectorized=True, weights="equal", refit_about=about, std_lr=1.0, rng=0
        )
        for about in ("new_mean", "old_mean")
    )
    assert new.std.max() < 0.1
    assert old.std.max() > 10  # and it goes ever faster
    assert old.fun < 10 * new.fun < 0


@each_dtype
@pytest.mark.parametrize("handling", ["clip", "reflect"])
def test_bounds_hold(handling, dtype):
    lower, upper = np.array([-1.0, 0.1, -np.inf, 0.3]), np.array([0.1, np.inf, 0.7, 0.3])
    start = np.array([0.0, 2.0, 0.0, 0.3])
    if dtype == np.float32:
        lower[3] = upper[3] = start[3] = np.float32(0.3)
    seen = []

    def fun(x):
        seen.append(x)
        return sphere(x)

    options = {"bound_handling": handling, "vectorized": True, "maxiter": 60, "rng": 2}
    result = fastopt.minimize_cem(fun, start.astype(dtype), bounds=(list(zip(lower, upper, strict=True))), **options)
    x = np.concatenate(seen).astype(np.float64)
    assert (x >= lower).all()
    assert (x[:, [0, 1, 2]] <= upper[[0, 1, 2]]).all()
    np.testing.assert_allclose(result.x, [0.1, 0.25, 0.25, 0.3], atol=0.02)


def test_x0_and_sigma0_from_bounds():
    cem = fastopt.CEM(bounds=[(-1, 3), (0, 1)], rng=0)
    assert cem.mean.tolist() == [1, 0.5]
    assert cem.std.tolist() == [1, 0.25]
    optimize = pytest.importorskip("scipy.optimize")
    assert_same_bits(fastopt.CEM(bounds=optimize.Bounds([-1, 0], [3, 1]), rng=0).ask(), cem.ask())


def test_extra_std_is_added_to_the_variance_and_can_fade():
    flat = lambda x: np.zeros(len(x))  # noqa: E731
    options = {"std_lr": 1.0, "maxiter": 1, "vectorized": True, "rng": 4}
    for weights in ("equal", "log"):
        plain = fastopt.minimize_cem(flat, np.zeros(3), 1.0, weights=weights, **options).std
        for noise in (2.0, (2.0, 10)):
            std = fastopt.minimize_cem(flat, np.zeros(3), 1.0, weights=weights, extra_std=noise, **options).std
            np.testing.assert_allclose(std, np.sqrt(plain**2 + 4), rtol=1e-14)
    options["maxiter"] = 40
    faded = fastopt.minimize_cem(sphere, np.zeros(3), 1.0, extra_std=(1.0, 10), **options)
    kept = fastopt.minimize_cem(sphere, np.zeros(3), 1.0, extra_std=1.0, **options)
    assert faded.std.max() < 1e-3
    assert kept.std.min() > 0.9


# ---- scores that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_bad_scores_rank_worst(bad, maximize):
    sign = -1 if maximize else 1

    def fun(x):
        return bad if x[0] > 0.25 else sign * sphere(x)

    result = fastopt.minimize_cem(fun, np.zeros(3), 0.5, maximize=maximize, maxfev=5000, rng=1)
    assert abs(result.fun) < 1e-4
    assert result.x[0] <= 0.25


def test_bad_scores_of_a_vectorised_function():
    def fun(x):
        return [None if row[0] > 0 else float(sphere(row)) for row in x]

    a = fastopt.minimize_cem(fun, np.zeros(3), vectorized=True, maxiter=5, rng=1)
    b = fastopt.minimize_cem(lambda x: fun([x])[0], np.zeros(3), maxiter=5, rng=1)
    assert_same_run(a, b)


def test_no_good_score_no_update():
    cem = fastopt.CEM(np.zeros(3), 1.0, popsize=20, rng=0)
    before = cem.ask()
    for scores in (np.full(20, np.nan), [1.0] + [math.inf] * 19):
        assert cem.tell(scores)
        assert cem.mean.tolist() == [0, 0, 0]
        assert cem.std.tolist() == [1, 1, 1]
        assert (cem.ask() != before).any()  # drawn anew
    assert cem.fun == 1.0
    result = fastopt.minimize_cem(lambda x: math.nan, np.zeros(3), rng=0)
    assert result.status == 7
    assert result.nit == 10
    assert not result.success
    assert "no update" in result.message
    assert math.isnan(result.fun)


def test_fewer_good_scores_than_elites():
    cem = fastopt.CEM(np.zeros(2), 1.0, popsize=20, elite_frac=0.5, mean_lr=1.0, rng=0)
    x = cem.ask()
    scores = np.full(20, np.nan)
    scores[[3, 8]] = 1.0
    cem.tell(scores)
    expected = np.average(x[[3, 8]], axis=0, weights=np.log([2.5, 2.5 / 2]))  # the ranks among two
    np.testing.assert_allclose(cem.mean, expected, rtol=1e-14)


def test_there_are_two_elites_at_least():
    result = fastopt.minimize_cem(sphere, np.zeros(3), 1.0, popsize=5, elite_frac=1e-6, maxiter=5, rng=0)
    assert (result.std > 0).all()
    assert np.isfinite(result.x_mean).all()


# ---- noise -----------------------------------------------------------------------------------------------------------


def test_n_repeats_averages():
    calls = []

    def fun(x, *, key):
        calls.append(key)
        return sphere(x) + key / 2**64

    result = fastopt.minimize_cem(fun, np.zeros(2), popsize=10, n_repeats=4, maxiter=3, rng=0)
    assert len(calls) == result.nfev == (3 * 11 + 1) * 4
    assert len(set(calls)) == len(calls)  # no two evaluations share a key
    x = result.candidate(0, 2)
    mean = sum(sphere(x) + key / 2**64 for key in calls[8:12]) / 4
    again = fastopt.minimize_cem(lambda x, key: fun(x, key=key), np.zeros(2), popsize=10, n_repeats=4, maxiter=3, rng=0)
    assert_same_run(result, again)
    assert result.history["fun_generation"][0] <= mean + 1e-12


def test_keys_of_a_vectorised_function_are_those_of_one_candidate():
    one = fastopt.minimize_cem(
        lambda x, key: largest(x) + (key >> 11) * 2.0**-53, np.zeros(2), n_repeats=3, maxiter=3, rng=5
    )
    many = fastopt.minimize_cem(
        lambda x, key: largest(x) + (key >> np.uint64(11)) * 2.0**-53,
        np.zeros(2),
        n_repeats=3,
        maxiter=3,
        rng=5,
        vectorized=True,
    )
    assert_same_run(one, many)


def test_the_mean_of_a_noisy_function():
    def fun(x, key):
        return sphere(x) + np.random.default_rng(key).standard_normal()

    result = fastopt.minimize_cem(fun, np.zeros(3), 1.0, maxfev=6000, rng=0)
    assert sphere(result.x_mean) < 0.1
    assert result.fun < result.fun_mean - 2  # the best candidate is the luckiest
    assert abs(result.fun_mean) < 3


# ---- cuts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("population", "dimensions"), [(1, 1), (64, 10), (100, 5), (1000, 100), (1001, 70_000)])
def test_cuts_are_a_function_of_the_problem(population, dimensions):
    pieces = cuts(population, dimensions)
    assert [a for a, _ in pieces] == [0, *(b for _, b in pieces[:-1])]
    assert pieces[-1][1] == population + 1  # with the mean
    assert max(b - a for a, b in pieces) <= cut_rows(population, dimensions) + 1


def test_a_vectorised_function_sees_the_cuts():
    for n, popsize in ((3, 500), (3000, 100)):
        shapes = []

        def fun(x, shapes=shapes):
            shapes.append(x.shape)
            return largest(x)

        fastopt.minimize_cem(fun, np.zeros(n), popsize=popsize, maxiter=1, vectorized=True, rng=0)
        assert shapes == [(b - a, n) for a, b in cuts(popsize, n)] + [(1, n)]


def test_a_function_may_write_into_its_argument():
    def fun(x):
        score = largest(x)
        x[...] = 99
        return score

    for vectorized in (False, True):
        a, b = (
            fastopt.minimize_cem(f, np.zeros(3), maxiter=4, n_repeats=2, rng=0, vectorized=vectorized)
            for f in (fun, largest)
        )
        assert_same_run(a, b)


def test_args():
    result = fastopt.minimize_cem(lambda x, a, b: a * sphere(x) + b, np.zeros(2), args=(2, 3), rng=0)
    assert result.fun == pytest.approx(3)
    assert fastopt.minimize_cem(lambda x, a: sphere(x) + a, np.zeros(2), args=3.0, rng=0).fun == pytest.approx(3)


# ---- what is returned ------------------------------------------------------------------------------------------------


def test_the_result_is_a_dict_with_attributes():
    result = fastopt.minimize_cem(sphere, np.zeros(2), rng=0, maxiter=2)
    assert result["fun"] is result.fun
    assert {"x", "fun", "nit", "nfev", "success", "status", "message", "x_mean", "fun_mean", "std"} <= set(dir(result))
    with pytest.raises(AttributeError, match="jac"):
        result.jac  # noqa: B018
    assert "message" in repr(result)
    assert result.settings["popsize"] == 100 or result.settings["popsize"] > 1


def test_no_candidate_is_kept():
    # 1,000 candidates of 100,000 dimensions are 400 MB; what is allocated is a block of them.
    import tracemalloc

    tracemalloc.start()
    fastopt.minimize_cem(
        lambda x: x[:, 0], np.zeros(100_000, np.float32), popsize=1000, maxiter=1, vectorized=True, rng=0
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
