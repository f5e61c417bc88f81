"""Definitions against numbers: the noise's spectrum, weights, moments; SciPy says what is right."""

from __future__ import annotations

import numpy as np
import pytest

from fastopt import _core
from fastopt.plan import CEMPlanner
from fastopt.reference import plan as reference

from ..support import assert_same_bits


@pytest.mark.parametrize("beta", [0.5, 2.0, 4.0])
def test_coloured_noise_has_its_spectrum_and_variance_1_at_every_horizon(beta):
    """The covariance factor @ factor.T says it exactly: its transform is diagonal, the powers, and they sum to 1."""
    for horizon in range(2, 65):
        factor = _core.plan_noise_factor(horizon, beta)
        assert not np.triu(factor, 1).any()
        covariance = factor @ factor.T
        np.testing.assert_allclose(covariance.diagonal(), 1, rtol=1e-12)
        transform = np.fft.fft(np.eye(horizon)) / np.sqrt(horizon)
        powers = transform @ covariance @ transform.conj().T
        frequency = np.abs(np.fft.fftfreq(horizon)) * horizon
        wanted = np.maximum(frequency, 1) ** -beta
        wanted *= horizon / wanted.sum()
        np.testing.assert_allclose(powers.diagonal().real, wanted, rtol=1e-9)
        assert np.abs(powers - np.diag(powers.diagonal())).max() < 1e-10


@pytest.mark.parametrize("kind", [CEMPlanner, reference.CEMPlanner])
def test_noise_whose_covariance_is_singular_is_refused(kind):
    for horizon, beta in ((30, 14.0), (8, 1000.0)):
        with pytest.raises(ValueError, match=rf"noise_beta: expected less with horizon {horizon}, .*, got {beta:g}"):
            kind(horizon, 1, noise_beta=beta)
    assert np.isfinite(kind(30, 1, noise_beta=13.5, popsize=20, rng=0).ask()).all()


def test_the_factor_has_the_bits_of_its_definition():
    for horizon, beta in ((1, 2.0), (2, 1.0), (13, 2.5), (30, 4.0), (64, 0.25)):
        assert_same_bits(_core.plan_noise_factor(horizon, beta), reference.plan_noise_factor(horizon, beta))


def test_what_is_drawn_has_that_spectrum():
    """20,000 series: the relative error of a periodogram's mean is 1 / sqrt(20000), 0.7 %."""
    x = CEMPlanner(30, 1, popsize=20_000, noise_beta=2.0, rng=0, dtype="float64").ask()[:, :, 0]
    power = (np.abs(np.fft.rfft(x, axis=1)) ** 2).mean(axis=0)
    frequency = np.maximum(np.arange(16.0), 1)
    wanted = frequency**-2
    wanted *= 30 * 30 / (2 * wanted.sum() - wanted[0] - wanted[-1])
    np.testing.assert_allclose(power, wanted, rtol=0.05)
    np.testing.assert_allclose(x.var(axis=0), 1, rtol=0.05)


def test_the_tail_and_the_quantile_are_those_of_scipy():
    special = pytest.importorskip("scipy.special")
    x = np.linspace(0, 9, 20_001)
    np.testing.assert_allclose(reference.normal_tail(x), special.ndtr(-x), rtol=1e-13)
    tail = np.concatenate([np.logspace(-16.8, -0.31, 20_001), [0.5]])
    np.testing.assert_allclose(reference.normal_quantile(tail), -special.ndtri(tail), rtol=0, atol=2e-14)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.5), (0.875, 0.25), (-1.0, 2.0), (0.0, 50.0), (0.5, 1e-3)])
def test_truncated_normals_are_those_of_scipy(mean, std):
    """Each number by the inverse of SciPy's distribution function, and the moments of all."""
    stats = pytest.importorskip("scipy.stats")
    n = 20_000
    args = np.full((1, 1), mean), np.full((1, 1), std), np.array([-1.0]), np.array([1.0]), None, np.empty((1, 0, 1, 1))
    x = _core.plan_candidates(*args, np.array([7], np.uint64), 0, None, n, n, 1, 1, True).ravel()
    u = np.concatenate([reference.inner_uniforms(np.float64, 7, 0, i * 32, 1) for i in range(200)])
    right = stats.truncnorm((-1 - mean) / std, (1 - mean) / std, mean, std)
    np.testing.assert_allclose(x[:200], right.ppf(u), rtol=0, atol=1e-11)
    wanted_mean, wanted_variance = right.stats("mv")
    spread = np.sqrt(wanted_variance)
    assert abs(x.mean() - wanted_mean) < 5 * spread / np.sqrt(n)
    assert abs(x.var() / wanted_variance - 1) < 5 * np.sqrt(2 / n)
    assert np.abs(x).max() <= 1


def test_truncated_floats_lie_within_the_bounds_and_reach_far():
    planner = CEMPlanner(4, 3, bounds=[(-0.1, 0.1), (-1, 1), (-8, 8)], sigma0=1.0, truncated=True, popsize=5000, rng=0)
    x = planner.ask()
    assert x.dtype == np.float32
    assert (np.abs(x) <= np.float32([0.1, 1, 8])).all()
    assert np.abs(x[:, :, 2]).max() > 3.5


def test_softmax_weights_are_those_of_scipy():
    special = pytest.importorskip("scipy.special")
    costs = np.random.default_rng(0).normal(size=(3, 100)) * 20
    rows, weights, best = _core.plan_weigh(costs, 10, 1, 0.5)
    for p in range(3):
        assert rows[p].tolist() == np.argsort(costs[p])[:10].tolist()
        assert best[p] == costs[p].argmin()
        np.testing.assert_allclose(weights[p] / weights[p].sum(), special.softmax(-0.5 * costs[p][rows[p]]), rtol=1e-13)


def test_mppi_is_the_weighted_sum_of_all():
    planner = CEMPlanner(6, 2, popsize=100, rule="mppi", temperature=0.5, adapt_std=False, iterations=1, rng=0)
    x = planner.ask().astype(np.float64)
    std = planner.std
    costs = np.abs(x).sum(axis=(1, 2))
    costs[[3, 50]] = np.nan, np.inf
    planner.tell(costs)
    finite = np.isfinite(costs)
    weights = np.exp(-(costs[finite] - costs[finite].min()) / 0.5)
    weights /= weights.sum()
    np.testing.assert_allclose(planner.mean, np.einsum("n,nha->ha", weights, x[finite]), rtol=1e-6, atol=1e-7)
    assert_same_bits(planner.std, std)


@pytest.mark.parametrize("rule", ["elites", "softmax"])
def test_the_refit_is_the_weighted_mean_and_deviation(rule):
    options = {"mean_lr": 0.75, "std_lr": [0.25, 1.0], "min_std": 0.02, "max_std": 0.6}
    planner = CEMPlanner(5, 2, popsize=200, rule=rule, temperature=2.0, rng=0, dtype="float64", **options)
    x, mean, std = planner.ask(), planner.mean, planner.std
    costs = np.square(x - 0.5).sum(axis=(1, 2))
    costs[7] = -np.inf  # is no elite
    planner.tell(costs)
    elites = np.argsort(np.where(np.isfinite(costs), costs, np.inf))[:20]
    weights = np.ones(20) if rule == "elites" else np.exp(-2 * (costs[elites] - costs[elites].min()))
    m = np.average(x[elites], axis=0, weights=weights)
    v = np.average(np.square(x[elites] - m), axis=0, weights=weights)
    np.testing.assert_allclose(planner.mean, mean + 0.75 * (m - mean), rtol=1e-13)
    wanted = np.clip(std + np.array([0.25, 1.0]) * (np.sqrt(v) - std), 0.02, 0.6)
    np.testing.assert_allclose(planner.std, wanted, rtol=1e-13)


def test_candidates_without_weight_count_for_nothing_also_where_they_are_infinite():
    x = np.random.default_rng(0).normal(size=(2, 6, 100))
    weights = np.array([[0.0, 1, 2, 0, 0.5, 0], [3, 0, 0, 1, 1, 0]])
    rest = np.zeros((2, 100)), np.ones((2, 100)), None, None, np.ones(100), np.ones(100), 0.0, np.inf
    wanted = _core.plan_refit(x, weights, *rest)
    assert np.isfinite(wanted).all()
    x[weights == 0] = np.inf
    x[0, 0] = np.nan
    for refit in (_core.plan_refit, reference.plan_refit):
        for a, b in zip(refit(x, weights, *rest), wanted, strict=True):
            assert_same_bits(a, b)


def test_fewer_than_two_finite_costs_leave_the_distribution():
    for rule in ("elites", "softmax", "mppi"):
        planner = CEMPlanner(5, 2, popsize=20, rule=rule, rng=0)
        mean, std = planner.mean, planner.std
        costs = np.full(20, np.nan)
        costs[3] = 1
        planner.tell(costs)
        assert_same_bits(planner.mean, mean)
        assert_same_bits(planner.std, std)
