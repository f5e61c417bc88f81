"""The cross-entropy method: what is wrong is found at once, and the error says what was expected and what came."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastopt


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
    ({"x0": np.zeros((2, 2, 2))}, ValueError, r"x0: expected a 1-D array of finite numbers, got shape \(2, 2, 2\)"),
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
    ({"refit_about": "new_mean"}, ValueError, "refit_about: expected 'old_mean' with weights='log'"),
    ({"weights": "rank"}, ValueError, "weights: expected 'log' or 'equal', got 'rank'"),
    ({"noisy": 1}, TypeError, "noisy: expected True or False"),
    ({"bounds": [(-1.7e308, 1.7e308)] * 2}, ValueError, "bounds: expected widths within the range of float64"),
    (
        {"x0": np.zeros(2, np.float32), "bounds": [(-1e200, 1e200)] * 2},
        ValueError,
        "bounds: .* of float32",
    ),
    ({"x0": np.zeros(2, np.float32), "sigma0": 1e39}, ValueError, "sigma0: expected finite numbers > 0 in float32"),
    ({"x0": np.zeros(2, np.float32), "sigma0": 1e-60}, ValueError, "sigma0: expected finite numbers > 0 in float32"),
    ({"extra_std": 1e200}, ValueError, "extra_std: expected a finite number"),
    ({"extra_std": (1e200, 3)}, ValueError, r"extra_std\[0\]: expected a finite number"),
    ({"x0": np.zeros(2, np.float32), "extra_std": 1e39}, ValueError, "extra_std: expected a finite number"),
    ({"x0": np.zeros(2, np.float32), "min_std": 1e39}, ValueError, "min_std: expected a finite number"),
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
