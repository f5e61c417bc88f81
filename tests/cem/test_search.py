"""How well the cross-entropy method searches: by chance it goes nowhere, its scale follows at once, noise averages out.

The figures are counts of evaluations and distances of seeded runs: the same on every machine.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt import _core
from fastopt.cem.arguments import averaged
from fastopt.reference import cem as reference_cem

from .runs import sphere

each_covariance = pytest.mark.parametrize("covariance", ["diag", "full"])


def rotated_ellipsoid(n, condition):
    rotation, _ = np.linalg.qr(np.random.default_rng(n).standard_normal((n, n)))
    weights = condition ** np.linspace(0, 1, n)
    return lambda x: (np.square((x - 0.5) @ rotation) * weights).sum(axis=-1)


def rosenbrock(x):
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(axis=-1)


# ---- the refit's numbers ---------------------------------------------------------------------------------------------


def test_the_expectation_under_chance_is_digammas():
    special = pytest.importorskip("scipy.special")
    for count in (1, 2, 3, 20, 1000):
        expected = np.exp(np.log(count / 2) - special.digamma(count / 2))
        np.testing.assert_allclose(reference_cem._fair(np.ones(count)), expected, rtol=1e-10)


def test_the_expectation_under_chance_of_weights_by_rank():
    """E log(sum of w z**2) is the integral of (exp(-t) - product of (1 + 2 w t)**(-1/2)) / t."""
    s = np.arange(-60, 60, 0.02)
    t = np.exp(s)
    for count in (2, 3, 5, 13, 100):
        w = reference_cem.cem_weights(count)
        product = np.exp(-0.5 * np.log1p(2 * np.multiply.outer(w / w.sum(), t)).sum(axis=0))
        expected = np.exp(-0.02 * (np.exp(-t) - product).sum())
        np.testing.assert_allclose(reference_cem._fair(w), expected, rtol=7e-3)


def test_weights_fall_with_the_logarithm_of_the_rank():
    for count in (1, 2, 9, 1000):
        expected = np.log((count + 0.5) / np.arange(1, count + 1))
        np.testing.assert_allclose(reference_cem.cem_weights(count), expected, rtol=1e-13)


@pytest.mark.parametrize("weights", ["log", "equal"])
def test_a_full_refit_by_linear_algebra(weights):
    """The same equations in matrices, with NumPy's own factorization."""
    n = 4
    cem = fastopt.CEM(np.zeros(n), 0.7, covariance="full", weights=weights, popsize=30, rng=3)
    covariance, path, mean = np.eye(n) * 0.7**2, np.zeros(n), np.zeros(n)
    for _ in range(6):
        x = cem.ask()
        scores = rotated_ellipsoid(n, 100.0)(x)
        cem.tell(scores)
        e = x[np.argsort(scores)][: 15 if weights == "log" else 6] - mean
        w = np.log(15.5) - np.log(np.arange(1, 16)) if weights == "log" else np.ones(6)
        w, mu = w / w.sum(), w.sum() ** 2 / np.square(w).sum()
        mean = mean + w @ e
        if weights == "equal":
            lr = cem.settings["std_lr"]
            covariance = (1 - lr) * covariance + lr * (e.T * w) @ e
        else:
            lr, one = 2 * (mu - 1.75 + 1 / mu) / ((n + 2) ** 2 + mu), 2 * (1 - 1 / n) / ((n + 1.3) ** 2 + mu)
            age = (mu + 2) / (n + mu + 5)
            factor = np.linalg.cholesky(covariance)
            path = (1 - age) * path + np.sqrt(age * (2 - age) * mu) * np.linalg.solve(factor, w @ e)
            along = factor @ path
            covariance = (1 - lr - one) * covariance + lr * (e.T * w) @ e + one * np.outer(along, along)
            by_chance = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
            damping = 1 + 2 * max(0, np.sqrt((mu - 1) / (n + 1)) - 1) + age
            covariance *= np.exp(2 * age / damping * (np.linalg.norm(path) / by_chance - 1))
        np.testing.assert_allclose(cem.mean, mean, rtol=1e-9)
        np.testing.assert_allclose(cem.result().covariance, covariance, rtol=1e-9)


def test_equal_weights_are_the_textbooks_method():
    cem = fastopt.CEM(np.zeros(3), 1.0, weights="equal", std_lr=1.0, refit_about="new_mean", popsize=40, rng=0)
    x = cem.ask()
    cem.tell(sphere(x))
    elites = x[np.argsort(sphere(x))[:8]]
    np.testing.assert_allclose(cem.mean, elites.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(cem.std, elites.std(axis=0), rtol=1e-13)


def test_elites_that_all_lie_at_the_mean():
    """On a bound, say: the std falls, and stays a number."""
    cem = fastopt.CEM([0.0, 0.5], 1.0, bounds=[(0, 1)] * 2, rng=0)
    for _ in range(3):
        cem.tell(cem.ask()[:, 0])
    assert 0 < cem.std[0] < 0.1
    assert np.isfinite(cem.std).all()


def test_dimensions_that_cannot_move_do_not_shrink_the_others():
    fixed = fastopt.CEM(np.zeros(10), 1.0, bounds=[(-1e9, 1e9)] * 2 + [(0, 0)] * 8, popsize=20, rng=1)
    rng = np.random.default_rng(0)
    for _ in range(200):
        fixed.tell(rng.random(20))
    assert abs(np.log(fixed.std[:2]).mean()) / 200 < 0.02


# ---- a fair game -----------------------------------------------------------------------------------------------------


@each_covariance
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_scores_by_chance_leave_the_spread(n, covariance):
    change = []
    for seed in range(100 if n == 1 else 40):
        cem = fastopt.CEM(np.zeros(n), 1.0, covariance=covariance, xtol=0.0, rng=seed)
        rng = np.random.default_rng(seed)
        for _ in range(100):
            cem.tell(rng.random(cem.popsize))
        change.append(np.log(cem.std).mean() / 100)
    assert abs(np.mean(change)) < 0.02


@each_covariance
def test_plateaus(covariance):
    steps = lambda x: np.square(np.floor(np.abs(x) / 3)).sum(axis=1)  # noqa: E731
    for seed in range(10):
        result = fastopt.minimize_cem(
            steps, np.full(5, 30.0), 2.0, covariance=covariance, ftarget=0.0, vectorized=True, rng=seed
        )
        assert result.fun == 0, seed


# ---- the scale -------------------------------------------------------------------------------------------------------

# CMA-ES (cma 4.5.0): medians of 4,935, 2,460, 3,950 and 5,230 evaluations.
SCALES = {
    "sphere, 40-D": (sphere, 40, 15_000),
    "sphere, 20-D": (sphere, 20, 6_150),
    "ellipsoid 1e6, 10-D": (rotated_ellipsoid(10, 1e6), 10, 9_875),
    "Rosenbrock, 10-D": (rosenbrock, 10, 13_075),
}


@pytest.mark.parametrize("case", SCALES.values(), ids=SCALES.keys())
def test_evaluations_of_the_full_form(case):
    fun, n, most = case
    options = {"covariance": "full", "ftarget": 1e-8, "maxfev": 40_000, "vectorized": True}
    used = [fastopt.minimize_cem(fun, np.ones(n) * 1.5, 1.0, rng=seed, **options).nfev for seed in range(5)]
    assert np.median(used) <= most


# ---- noise -----------------------------------------------------------------------------------------------------------


def noisy_sphere(x, key):
    return np.square(x).sum(axis=1) + np.random.default_rng(key).standard_normal(len(x))


def test_noise_averages_out():
    start = np.random.default_rng(0).standard_normal((20, 2)) * 2
    distances = []
    for seed in range(20):
        result = fastopt.minimize_cem(
            noisy_sphere, start[seed], 1.0, noisy=True, maxfev=20_000, vectorized=True, rng=seed
        )
        assert result.message.startswith("maxfev")
        assert (result.x == result.x_mean).all()
        assert result.fun == result.fun_mean
        distances.append(np.linalg.norm(result.x))
    assert np.median(distances) <= 0.06


def test_the_noisy_result_is_the_average_of_the_means():
    cem = fastopt.CEM(np.zeros(3), 1.0, noisy=True, popsize=20, rng=0)
    for _ in range(9):
        cem.tell(sphere(cem.ask()), fun_mean=0.5)
    means = np.array([cem.candidate(generation, 20) for generation in range(1, 10)])
    expected = np.average(means, axis=0, weights=np.arange(1, 10))
    result = fastopt.CEM.from_dict(cem.to_dict()).result()
    np.testing.assert_allclose(result.x, expected, rtol=1e-12)
    assert np.isnan(result.fun)
    assert cem.fun < sphere(cem.mean) + 1  # the best candidate is still the run's
    np.testing.assert_array_equal(averaged(np.zeros(2), np.ones(2), 1), np.ones(2))


def test_a_noisy_float32_result_stays_within_bounds():
    run = fastopt.CEM(np.full(3, 0.1, np.float32), 1.0, bounds=[(0.1, 0.7)] * 3, noisy=True, popsize=20, rng=0)
    for _ in range(20):
        run.tell(run.ask().sum(axis=1))
    x = run.result().x
    assert x.dtype == np.float32
    assert ((np.float32(0.1) <= x) & (x <= np.float32(0.7))).all()


# ---- the ends of the range -------------------------------------------------------------------------------------------


def test_a_search_that_leaves_the_range_is_no_success():
    cem = fastopt.CEM(np.zeros(2, np.float32), 3e38, rng=0)
    cem.tell(np.arange(cem.popsize))  # some of these candidates are infinite
    assert cem.stop().startswith("overflow")
    assert (cem.result().status, cem.result().success) == (9, False)


def test_the_middle_of_large_bounds():
    cem = fastopt.CEM(bounds=[(1e308, 1.7e308), (5e-324, 5e-324)], rng=0)
    assert cem.mean.tolist() == [1.35e308, 5e-324]


def test_the_refit_of_the_door_takes_no_other_path():
    d = fastopt.CEM(np.zeros(3), rng=0)._distribution
    for path in (np.zeros(2), np.zeros(3, np.float32)):
        with pytest.raises(ValueError, match="path: expected an array of float64"):
            d.replaced(path=path)
    assert _core.cem_refit(d, [], False, 1.0, 1.0, 0.0, 0.0).path is d.path
