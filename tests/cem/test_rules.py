"""When a run of the cross-entropy method ends, and who is told on the way."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt

from ..support import assert_same_bits
from .runs import sphere


@pytest.mark.parametrize(
    ("options", "status", "rule"),
    [
        ({"xtol": 1e-3}, 0, "xtol"),
        ({"ftarget": 1e-3}, 1, "ftarget"),
        ({"maxiter": 7}, 2, "maxiter"),
        ({"maxfev": 500}, 3, "maxfev"),
        ({"patience": 3, "min_std": 0.5}, 4, "patience"),
        ({"xtol": 0.0}, 5, "resolution"),
    ],
)
def test_each_rule_is_named(options, status, rule):
    result = fastopt.minimize_cem(sphere, np.zeros(3), 1.0, rng=0, **({"maxfev": 10**6} | options))
    assert (result.status, result.message.partition(":")[0]) == (status, rule)
    assert result.success == (status not in (2, 3))
    if rule == "maxfev":
        assert 500 - (result.settings["popsize"] + 1) < result.nfev <= 500
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
