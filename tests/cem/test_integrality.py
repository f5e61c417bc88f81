"""Whole numbers: candidates and results are rounded, within the bounds, and such a dimension does not freeze."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt import reference

from ..support import DTYPES, assert_same_bits

WHOLE = np.array([True, False, True, True, False])
TARGET = np.array([3.0, 0.5, -2.0, 7.0, -0.25])


def cost(x):
    return np.square(x - TARGET.astype(x.dtype)).sum(axis=-1)


@pytest.mark.parametrize("options", [{}, {"covariance": "full"}, {"weights": "equal"}, {"noisy": True, "maxiter": 40}])
def test_it_finds_whole_numbers(options):
    seen = []

    def watched(x):
        seen.append(x)
        return cost(x)

    bounds = [(-5.5, 9.25)] * 5
    result = fastopt.minimize_cem(
        watched, np.zeros(5), 3.0, bounds=bounds, integrality=WHOLE, vectorized=True, rng=1, **options
    )
    x = np.concatenate(seen)
    assert (x[:, WHOLE] == np.rint(x[:, WHOLE])).all()
    assert x[:, WHOLE].min() == -5
    assert x[:, WHOLE].max() == 9
    assert_same_bits(result.x[WHOLE], TARGET[WHOLE])
    assert_same_bits(result.x_mean[WHOLE], TARGET[WHOLE])
    np.testing.assert_allclose(result.x, TARGET, atol=0.2 if "noisy" in options else 1e-6)
    assert (result.std[WHOLE] >= 0.3).all()
    if "noisy" not in options:
        assert result.message.startswith("xtol")
    assert_same_bits(result.candidate(3, 5), x[3 * (result.settings["popsize"] + 1) + 5])


def test_a_std_that_would_freeze_is_kept_up():
    """The slope along the other dimension is steep: whole numbers that are nearly equal are chosen late. Each of these
    seeds ends elsewhere where the std may fall to nothing."""

    def late(x):
        return 1e6 * np.square(x[:, 0]) + np.abs(x[:, 1] - 6)

    options = {"integrality": [0, 1], "vectorized": True, "weights": "equal", "patience": 200}
    for seed in (0, 2, 4):
        assert fastopt.minimize_cem(late, [500.0, 0.0], 1.0, rng=seed, **options).x[1] == 6


@pytest.mark.parametrize(
    ("dimensions", "top", "bounds"), [(1, 2, (0, 2)), (3, 2, (0, 2)), (2, 6, None), (3, 1, (0, 1))]
)
@pytest.mark.parametrize("sigma0", [0.1, 0.5, None])
def test_it_looks_before_it_stops(dimensions, top, bounds, sigma0):
    """The first std may be as small as that at which a search stops."""

    def below(x):
        return np.abs(x - top).sum(axis=1)

    for seed in range(10):
        found = fastopt.minimize_cem(
            below,
            np.zeros(dimensions),
            sigma0,
            bounds=None if bounds is None else [bounds] * dimensions,
            integrality=True,
            vectorized=True,
            rng=seed,
        )
        assert found.x.tolist() == [top] * dimensions
        assert found.success


@pytest.mark.parametrize(("start", "bounds"), [([0.4], [(0.2, 3)]), ([0.25], [(0.125, 1.0)])])
def test_it_begins_within_the_bounds(start, bounds):
    """The start is within them, but the whole number next to it, 0, is not."""
    seen = []

    def watched(x):
        seen.append(float(x[0]))
        return seen[-1]

    cem = fastopt.CEM(start, bounds=bounds, integrality=True)
    assert cem.x == cem.x_mean == cem.candidate(0, cem.popsize) == 1
    found = fastopt.minimize_cem(watched, start, bounds=bounds, integrality=True, rng=0)
    assert found.x == found.x_mean == found.fun == min(seen) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_are_those_of_the_reference(dtype):
    options = {"integrality": WHOLE, "maxiter": 5, "vectorized": True, "bounds": [(-4, 8)] * 5}
    runs = [module.minimize_cem(cost, np.zeros(5, dtype), 2.0, rng=3, **options) for module in (fastopt, reference)]
    for name in ("x", "x_mean", "std", "fun"):
        assert_same_bits(*(np.asarray(run[name]) for run in runs), name)


def test_ask_tell_and_a_state():
    cem = fastopt.CEM(np.zeros(5), 2.0, integrality=WHOLE, rng=0)
    for _ in range(3):
        x = cem.ask()
        assert (x[:, WHOLE] == np.rint(x[:, WHOLE])).all()
        cem.tell(cost(x))
    other = fastopt.CEM.from_dict(cem.to_dict())
    assert_same_bits(other.ask(), cem.ask())
    twin = fastopt.CEM(np.zeros(5), 2.0, integrality=WHOLE, rng=0)
    twin.tell(cost(twin.ask()))
    assert_same_bits(cem.candidate(1, 2), twin.ask()[2])


def test_one_value_is_for_all_dimensions_and_false_is_for_none():
    assert (fastopt.CEM(np.zeros(3), integrality=True).ask() % 1 == 0).all()
    plain = [fastopt.CEM(np.zeros(3), integrality=none, rng=0).ask() for none in (None, False, [0, 0, 0])]
    for x in plain[1:]:
        assert_same_bits(x, plain[0])


@pytest.mark.parametrize("wrong", [[True, False], 2, [0.5, 0, 0], "all"])
def test_what_it_refuses(wrong):
    with pytest.raises(ValueError, match="integrality: expected True or False, or an array of shape"):
        fastopt.CEM(np.zeros(3), integrality=wrong)


def test_bounds_without_a_whole_number_are_refused():
    with pytest.raises(ValueError, match=r"bounds: expected a whole number within \(0.25, 0.75\).* in dimension 1"):
        fastopt.CEM([0.5, 0.5], bounds=[(0, 1), (0.25, 0.75)], integrality=[False, True])


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.float32, 2**22 + 1, 2**22 + 1),
        (np.float32, 2**23 + 2, 2**23 + 2),
        (np.float32, 2**23 + 2, 2**23 + 12),
        (np.float64, 2**53 + 2, 2**53 + 12),
        (np.float64, -(2**51) - 3, -(2**51)),
    ],
)
def test_bounds_so_large_that_no_halves_are_between_them(dtype, low, high):
    for sign in (1, -1):
        x0 = np.full(2, (low + high) // 2, dtype)
        result = fastopt.minimize_cem(
            lambda x, sign=sign: sign * (x - low).sum(axis=1).astype(float),
            x0,
            4.0,
            bounds=[(low, high)] * 2,
            integrality=True,
            vectorized=True,
            rng=1,
        )
        assert result.x.tolist() == [low if sign > 0 else high] * 2


def test_a_side_without_a_bound_stays_open():
    settings = fastopt.CEM([0.5], bounds=[(0, None)], integrality=True).settings
    assert settings["bounds"][0][1] == np.inf
