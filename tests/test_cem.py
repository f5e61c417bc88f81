"""The cross-entropy method: kernels against their definition, bits and threads, rules, errors, ask and tell."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

import fastopt
from fastopt import _core, reference
from fastopt._cem_workers import cut_rows, cuts
from fastopt._core import Distribution

from .support import DTYPES, assert_same_bits

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def sphere(x):
    return np.square(x - 0.25).sum(axis=-1)


def largest(x):
    return np.abs(x - 0.25).max(axis=-1)


def distribution(n, dtype, *, full=False, bounds=False, antithetic=False, reflect=False, population=70, seed=1):
    rng = np.random.default_rng(seed)
    mean, std = rng.standard_normal(n).astype(dtype), np.abs(rng.standard_normal(n)).astype(dtype)
    std[n // 2] = 0  # a dimension that no longer moves
    factor = np.triu(rng.standard_normal((n, n)))
    factor = (factor / np.sqrt(np.square(factor).sum(axis=0))).astype(dtype) if full else None
    lower, upper = (mean - dtype(0.5), mean + dtype(0.75)) if bounds else (None, None)
    return Distribution(mean, std, factor, lower, upper, 2**63 + 12345, 3 | 2 << 32, population, antithetic, reflect)


KINDS = [
    dict(zip(("full", "bounds", "antithetic", "reflect"), flags, strict=True))
    for flags in itertools.product((False, True), repeat=4)
    if flags[1] or not flags[3]
]


# ---- the kernels -----------------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(k for k, v in kind.items() if v) or "plain")
def test_kernels_have_the_bits_of_their_definition(kind, dtype):
    elites = np.array([1, 4, 9, 30, 31, 64])
    # Of a last group with up to 12 dimensions only those are computed.
    for n in (1, 5, 13, 31, 32, 33, 100) if kind["full"] else (1, 5, 12, 13, 31, 32, 33, 44, 100, 257, 600, 1100):
        d = distribution(n, dtype, **kind)
        x = reference.cem_candidates(d, 0, 71)
        assert_same_bits(_core.cem_candidates(d, 3, 68), x[3:], f"n {n}")
        assert_same_bits(x[70], d.mean)
        some = np.array([33, 0, 70, 1, 7])
        assert_same_bits(_core.cem_candidates(d, 0, 0, some), x[some], f"n {n}")
        for about_new_mean, extra_variance in ((False, 0.0), (True, 0.0), (False, 0.01)):
            options = (about_new_mean, 0.7, 0.3, extra_variance, 1e-3)
            ours, theirs = _core.cem_refit(d, elites, *options), reference.cem_refit(d, elites, *options)
            assert ours.largest_std == ours.std.max()
            assert ours.largest_mean == np.abs(ours.mean).max()
            assert ours.stream == theirs.stream == d.stream + 1
            for name in ("mean", "std", "factor") if kind["full"] else ("mean", "std"):
                assert_same_bits(getattr(ours, name), getattr(theirs, name), f"n {n}, {options}: {name}")


@each_dtype
def test_kernels_on_threads_and_in_other_cuts(dtype):
    for kind in ({}, {"antithetic": True, "bounds": True}, {"full": True}):
        n = 150 if kind.get("full") else 2000
        d = distribution(n, dtype, population=300, **kind)
        with fastopt.num_threads(1):
            x = _core.cem_candidates(d, 0, 301)
        elites = np.arange(0, 300, 7)
        after = []
        for threads in (1, 2, 3):
            with fastopt.num_threads(threads):
                assert_same_bits(_core.cem_candidates(d, 0, 301), x)
                pieces = [_core.cem_candidates(d, a, min(a + 37, 301) - a) for a in range(0, 301, 37)]
                assert_same_bits(np.concatenate(pieces), x)
                with _core.CandidatesAhead(d, 0, 301) as ahead:
                    pieces = [ahead[a : min(a + 37, 301)].copy() for a in range(0, 301, 37)]
                assert_same_bits(np.concatenate(pieces), x)
                after.append(_core.cem_refit(d, elites, False, 1.0, 0.5, 0.0, 0.0))
        for other in after[1:]:
            assert_same_bits(other.mean, after[0].mean)
            assert_same_bits(other.std, after[0].std)


def test_candidates_are_normal_numbers_of_their_address():
    d = distribution(40, np.float32)
    z = reference.normals(np.float32, d.seed, d.stream, 7 * 64, 40, domain=3)
    assert_same_bits(_core.cem_candidates(d, 7, 1)[0], d.mean + d.std * z)


def test_antithetic_candidates_come_in_mirrored_pairs():
    d = distribution(40, np.float64, antithetic=True).replaced(mean=np.zeros(40))
    x = _core.cem_candidates(d, 0, 70)
    assert_same_bits(x[1::2], -x[0::2] + 0.0 if (x[0::2] == 0).any() else -x[0::2])
    assert len(np.unique(x[0::2], axis=0)) == 35


def test_elites():
    rng = np.random.default_rng(1)
    for n, maximize in itertools.product((1, 2, 10, 1000), (False, True)):
        scores = rng.integers(0, max(2, n // 3), n).astype(float)  # many ties
        for bad in (np.nan, np.inf, -np.inf):
            scores[rng.random(n) < 0.1] = bad
        for wanted in (1, 2, n // 3 + 1, n, n + 5):
            elites, best = _core.cem_elites(scores, wanted, maximize)
            expected, expected_best = reference.cem_elites(scores, wanted, maximize)
            assert elites.tolist() == expected.tolist()
            assert best == expected_best
            assert np.isfinite(scores[elites]).all()


def test_equal_scores_go_by_their_number():
    assert _core.cem_elites(np.zeros(9), 4, False)[0].tolist() == [0, 1, 2, 3]
    assert _core.cem_elites(np.array([0.0, 1.0, -0.0, 1.0, 1.0]), 3, True)[0].tolist() == [1, 3, 4]
    assert _core.cem_elites(np.full(3, np.inf), 2, False) == (pytest.approx([]), -1)


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


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_a_result_of_the_wrong_shape_names_both():
    with pytest.raises(ValueError, match=r"shape \(41,\) for candidates of shape \(41, 3\), got \(3,\).*transpose"):
        fastopt.minimize_cem(lambda x: x[0], np.zeros(3), popsize=40, vectorized=True)


@pytest.mark.parametrize("value", [np.zeros(3), "one", 1j, [1, 2]])
def test_a_score_that_is_no_number(value):
    with pytest.raises(TypeError, match="fun: expected one real number") as caught:
        fastopt.minimize_cem(lambda x: value, np.zeros(3))
    assert "generation 0, restart 0" in caught.value.__notes__[0]


def test_an_error_in_the_function_says_where():
    def fun(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        fastopt.minimize_cem(fun, np.zeros(3))
    assert "candidates 0 to" in caught.value.__notes__[0]


BAD_ARGUMENTS = [
    ({"x0": None}, TypeError, "x0: expected a point to start from, or bounds, got neither"),
    ({"x0": "start"}, TypeError, "x0: expected real numbers"),
    ({"x0": np.zeros(2, complex)}, TypeError, "x0: expected real numbers, got dtype complex128"),
    ({"x0": [0.0, math.nan]}, ValueError, "x0: expected a 1-D array of finite numbers"),
    ({"x0": np.zeros((2, 2))}, ValueError, r"x0: expected a 1-D array of finite numbers, got shape \(2, 2\)"),
    ({"x0": []}, ValueError, "x0: expected a 1-D array"),
    ({"x0": None, "bounds": [(0, None)]}, ValueError, "x0: expected a point to start from where"),
    ({"sigma0": 0.0}, ValueError, "sigma0: expected finite numbers > 0"),
    ({"sigma0": [1.0, 2.0, 3.0]}, ValueError, r"sigma0: .* shape \(2,\) like x0, got \(3,\)"),
    ({"bounds": [(0, 1)] * 3}, ValueError, "bounds: expected 2 pairs"),
    ({"bounds": [(1, 0)] * 2}, ValueError, r"bounds: expected min <= max .*, got \(1.0, 0.0\) in dimension 0"),
    ({"bounds": 3}, ValueError, r"bounds: expected a sequence of \(min, max\) pairs"),
    (
        {"bounds": [(1, 2), (0, 1)]},
        ValueError,
        r"x0: expected a point within bounds, got x0\[0\] = 0.0 for \(1.0, 2.0\)",
    ),
    ({"popsize": 1}, ValueError, "popsize: expected 2 <= popsize"),
    ({"popsize": 10.0}, TypeError, "popsize: expected an int, got float"),
    ({"elite_frac": 0}, ValueError, "elite_frac: expected a finite number <= 1 and > 0, got 0"),
    ({"elite_frac": 1.5}, ValueError, "elite_frac"),
    ({"mean_lr": 0}, ValueError, "mean_lr"),
    ({"std_lr": 2}, ValueError, "std_lr"),
    ({"extra_std": -1}, ValueError, "extra_std: expected a finite number >= 0"),
    ({"extra_std": (1, 0)}, ValueError, r"extra_std\[1\]"),
    ({"min_std": math.nan}, ValueError, "min_std"),
    ({"refit_about": "mean"}, ValueError, "refit_about: expected 'old_mean' or 'new_mean', got 'mean'"),
    ({"covariance": "Full"}, ValueError, "covariance: expected 'diag' or 'full', got 'Full'"),
    ({"bound_handling": "wrap"}, ValueError, "bound_handling: expected 'clip' or 'reflect'"),
    ({"maximize": "no"}, TypeError, "maximize: expected True or False"),
    ({"antithetic": 1}, TypeError, "antithetic: expected True or False"),
    ({"xtol": -1.0}, ValueError, "xtol"),
    ({"ftarget": math.inf}, ValueError, "ftarget"),
    ({"patience": 0}, ValueError, "patience"),
    ({"restarts": -1}, ValueError, "restarts"),
    ({"maxiter": 0}, ValueError, "maxiter"),
    ({"rng": "seed"}, TypeError, "rng: expected"),
    ({"rng": -1}, ValueError, "seed: expected"),
]
OF_THE_LOOP = [
    ({"fun": 3}, TypeError, "fun: expected a function, got int"),
    ({"n_repeats": 0}, ValueError, "n_repeats"),
    ({"popsize": 50, "maxfev": 51}, ValueError, "maxfev: expected at least 52, .* got 51"),
    ({"workers": 0}, ValueError, "workers: expected 1 <= workers"),
    ({"workers": 1.5}, TypeError, "workers: expected an int, a map-like callable or a concurrent.futures.Executor"),
    ({"timeout": 0}, ValueError, "timeout"),
    ({"vectorized": "no"}, TypeError, "vectorized: expected True or False"),
    ({"callback": 1}, TypeError, "callback: expected a function, got int"),
    ({"progress": None}, TypeError, "progress: expected True or False"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_ARGUMENTS + OF_THE_LOOP, ids=lambda v: str(v)[:40])
def test_bad_arguments(options, error, message):
    calls = []
    with pytest.raises(error, match=message):
        fastopt.minimize_cem(**({"fun": calls.append, "x0": [0.0, 0.0]} | options))
    assert not calls


@pytest.mark.parametrize(("options", "error", "message"), BAD_ARGUMENTS, ids=lambda v: str(v)[:40])
def test_bad_arguments_of_the_class(options, error, message):
    with pytest.raises(error, match=message):
        fastopt.CEM(**({"x0": [0.0, 0.0]} | options))


def test_bad_asks_and_tells():
    cem = fastopt.CEM(np.zeros(2), popsize=10, rng=0)
    with pytest.raises(ValueError, match="count: expected"):
        cem.ask(5, 6)
    with pytest.raises(ValueError, match=r"scores: expected at most 5 numbers, .* got shape \(6,\)"):
        cem.tell(np.zeros(6), first=5)
    with pytest.raises(ValueError, match=r"got shape \(10, 2\)"):
        cem.tell(np.zeros((10, 2)))
    with pytest.raises(TypeError, match="expected one real number"):
        cem.tell(["a"] * 10)
    with pytest.raises(ValueError, match="generation: expected"):
        cem.tell(np.zeros(10), generation=1)
    with pytest.raises(ValueError, match="generation: expected"):
        cem.candidate(1, 0)
    with pytest.raises(ValueError, match="i: expected"):
        cem.candidate(0, 11)
    assert cem.generation == 0
    assert not cem._told.any()  # nothing was taken


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
