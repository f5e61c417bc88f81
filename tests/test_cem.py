"""The cross-entropy method: bits of a run and threads, rules, ask and tell."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import fastopt
from fastopt import reference_cem
from fastopt._cem_workers import cut_rows, cuts

from .support import DTYPES, assert_same_bits

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def sphere(x):
    return np.square(x - 0.25).sum(axis=-1)


def largest(x):
    return np.abs(x - 0.25).max(axis=-1)


# ---- a run -----------------------------------------------------------------------------------------------------------

RUNS = {
    "plain": {},
    "full": {"covariance": "full"},
    "antithetic, bounds": {"antithetic": True, "bounds": [(-1, 0.125)] * 6, "n_repeats": 2},
    "reflect, new mean": {"bounds": [(-1, None)] * 6, "bound_handling": "reflect", "refit_about": "new_mean"},
    "restarts, noise": {"restarts": 2, "patience": 2, "extra_std": (0.5, 9), "min_std": 0.01, "maximize": True},
}


def assert_same_run(a, b):
    assert a.keys() == b.keys()
    for key in a.keys() - {"history", "settings"}:
        if isinstance(a[key], np.ndarray | float):
            assert_same_bits(a[key], b[key], key)
        else:
            assert a[key] == b[key], key
    for key, column in a.history.items():
        assert_same_bits(column, b.history[key], key)


@each_dtype
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS.keys())
def test_a_run_has_the_bits_of_its_definition(options, dtype):
    a, b = (
        ops.minimize_cem(largest, np.zeros(6, dtype), 0.5, vectorized=True, popsize=30, maxiter=12, rng=3, **options)
        for ops in (fastopt, reference_cem)
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
        fastopt.minimize_cem(slope, np.zeros(4), 1.0, maxiter=20, vectorized=True, refit_about=about, std_lr=1.0, rng=0)
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
    plain = fastopt.minimize_cem(flat, np.zeros(3), 1.0, **options).std
    for noise in (2.0, (2.0, 10)):
        std = fastopt.minimize_cem(flat, np.zeros(3), 1.0, extra_std=noise, **options).std
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
    np.testing.assert_allclose(cem.mean, x[[3, 8]].mean(axis=0), rtol=1e-14)


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


# ---- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "status", "rule"),
    [
        ({"xtol": 1e-3}, 0, "xtol"),
        ({"ftarget": 1e-3}, 1, "ftarget"),
        ({"maxiter": 7}, 2, "maxiter"),
        ({"maxfev": 1000}, 3, "maxfev"),
        ({"patience": 3, "min_std": 0.5}, 4, "patience"),
        ({"xtol": 0.0}, 5, "resolution"),
    ],
)
def test_each_rule_is_named(options, status, rule):
    result = fastopt.minimize_cem(sphere, np.zeros(3), 1.0, rng=0, **({"maxfev": 10**6} | options))
    assert (result.status, result.message.partition(":")[0]) == (status, rule)
    assert result.success == (status not in (2, 3))
    if rule == "maxfev":
        assert 1000 - (result.settings["popsize"] + 1) < result.nfev <= 1000
    if rule == "maxiter":
        assert result.nit == len(result.history["fun"]) == 7
    if rule == "xtol":
        assert (result.std <= 1e-3).all()


def test_ftarget_when_maximizing():
    result = fastopt.minimize_cem(lambda x: -sphere(x), np.zeros(3), maximize=True, ftarget=-0.01, rng=0)
    assert result.message.startswith("ftarget")
    assert result.fun >= -0.01


def test_float32_stops_at_its_grain():
    result = fastopt.minimize_cem(sphere, np.zeros(3, np.float32), 1.0, rng=0, maxfev=10**6)
    assert result.message.startswith("resolution")
    np.testing.assert_allclose(result.x, 0.25, atol=1e-6)


def test_min_std_is_a_floor():
    result = fastopt.minimize_cem(sphere, np.zeros(3), 1.0, min_std=0.125, rng=0, maxfev=20_000)
    assert (result.std >= 0.125).all()
    assert result.message.startswith("maxfev")


def test_restarts_grow_the_population():
    result = fastopt.minimize_cem(
        sphere, np.zeros(3), 1.0, popsize=10, std_lr=0.5, xtol=1e-2, restarts=2, maxfev=10**5, rng=0
    )
    assert result.message.startswith("xtol")
    restart, nfev = result.history["restart"], result.history["nfev"]
    assert restart[-1] == 2
    assert np.diff(nfev)[restart[1:] == 0][0] == 11
    assert np.diff(nfev)[restart[1:] == 1][-1] == 21
    assert np.diff(nfev)[-1] == 41
    first = int(np.argmax(restart == 1))
    start = result.candidate(first, 20)  # the mean with which restart 1 began
    assert (start != 0).any()
    assert result.fun == result.history["fun"].min() or result.fun == result.fun_mean


def test_callback_as_scipy_calls_it():
    seen = []

    def stop_at_three(intermediate_result):
        seen.append(intermediate_result)
        if intermediate_result.nit == 3:
            raise StopIteration

    result = fastopt.minimize_cem(sphere, np.zeros(3), rng=0, callback=stop_at_three)
    assert (result.nit, result.status, result.success) == (3, 6, False)
    assert [r.nit for r in seen] == [1, 2, 3]
    points = []
    fastopt.minimize_cem(sphere, np.zeros(3), rng=0, maxiter=3, callback=lambda xk: points.append(xk))
    assert_same_bits(points[2], seen[2].x)


def test_keyboard_interrupt_returns_the_best_so_far():
    left = 250

    def fun(x):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return sphere(x)

    result = fastopt.minimize_cem(fun, np.zeros(3), popsize=99, rng=0)
    assert (result.status, result.nit, result.nfev) == (8, 2, 200)
    assert "KeyboardInterrupt" in result.message
    assert result.fun == sphere(result.x)


def test_progress_is_shown(capsys):
    fastopt.minimize_cem(sphere, np.zeros(3), rng=0, maxiter=3, progress=True)
    assert "generation 3" in capsys.readouterr().err


# ---- ask and tell ----------------------------------------------------------------------------------------------------


def test_ask_and_tell_is_the_same_run():
    cem = fastopt.CEM(np.zeros(4), 1.0, popsize=50, maxiter=20, rng=9)
    while not cem.stop():
        assert cem.tell(largest(cem.ask()), fun_mean=largest(cem.mean))
    result = fastopt.minimize_cem(largest, np.zeros(4), 1.0, popsize=50, maxiter=20, rng=9)
    mine = cem.result()
    assert_same_bits(mine.std, result.std)
    assert_same_bits(mine.history["fun"], result.history["fun"])
    assert mine.nfev == result.nfev - 1  # without the final mean


def test_parts_in_any_order():
    whole, parts = (fastopt.CEM(np.zeros(4), popsize=50, rng=9) for _ in range(2))
    for _ in range(3):
        x = whole.ask()
        whole.tell(largest(x))
        for first, count in ((30, 20), (0, 10), (5, 10), (15, 14)):
            assert_same_bits(parts.ask(first, count), x[first : first + count])
            assert parts.tell(largest(parts.ask(first, count)), first=first) is False
        assert parts.tell([largest(x[29])], first=29) is True
        assert parts.tell(largest(x[:9]), generation=parts.generation - 1) is False  # too late, and ignored
        assert_same_bits(parts.mean, whole.mean)
        assert_same_bits(parts.std, whole.std)


@each_dtype
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS.keys())
def test_candidates_of_any_generation(options, dtype):
    options = {k: v for k, v in options.items() if k != "n_repeats"}
    cem = fastopt.CEM(np.zeros(6, dtype), 0.5, popsize=20, rng=1, **options)
    asked = []
    for _ in range(12):
        asked.append((cem.ask(), cem.mean))
        cem.tell(largest(asked[-1][0]))
    result = cem.result()
    for generation in (11, 0, 5, 6, 3, 11):
        x, mean = asked[generation]
        for i in (0, 7, len(x) - 1):
            assert_same_bits(result.candidate(generation, i), x[i])
        assert_same_bits(result.candidate(generation, len(x)), mean)
    assert_same_bits(cem.candidate(12, 3), cem.ask(3, 1)[0])


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS.keys())
def test_a_saved_run_goes_on_with_the_same_bits(options):
    options = {k: v for k, v in options.items() if k != "n_repeats"}
    cem = fastopt.CEM(np.zeros(6), 0.5, popsize=20, rng=1, **options)
    for _ in range(4):
        cem.tell(largest(cem.ask()), fun_mean=0.5)
    cem.tell(largest(cem.ask(5, 10)), first=5)  # in the middle of a generation
    state = cem.to_dict()
    flat = {**state, **{f"settings/{k}": v for k, v in state["settings"].items()}, **state["distribution"]}
    for value in flat.values():
        assert value is None or isinstance(value, int | float | str | bool | tuple | dict | np.ndarray)
    json.dumps({k: v for k, v in flat.items() if not isinstance(v, np.ndarray | dict)})
    other = fastopt.CEM.from_dict(state)
    for run in (cem, other):
        run.tell(largest(run.ask(0, 5)))
        run.tell(largest(run.ask(15)), first=15)
        for _ in range(5):
            run.tell(largest(run.ask()))
    assert_same_run(other.result(), cem.result())
    assert_same_bits(other.candidate(2, 5), cem.candidate(2, 5))
    assert len(state["elite_counts"]) == 4  # a copy: the run did not change it


def test_seeds():
    runs = [fastopt.CEM(np.zeros(3), rng=rng).ask() for rng in (1, 1, 2, None, None, fastopt.Philox4x32(1), (1, 0))]
    assert_same_bits(runs[0], runs[1])
    assert_same_bits(runs[0], runs[5])
    assert_same_bits(runs[0], runs[6])
    assert len(np.unique([run[0, 0] for run in runs])) == 4
    rng = fastopt.Philox4x32(1)
    assert (fastopt.CEM(np.zeros(3), rng=rng).ask() != fastopt.CEM(np.zeros(3), rng=rng).ask()).any()
    assert rng.state["stream"] == 2  # one stream a run
    seed = fastopt.CEM(np.zeros(3), rng=1).result().settings["seed"]
    assert 0 <= seed < 2**64


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
