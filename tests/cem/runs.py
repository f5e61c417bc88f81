"""What the tests of whole runs share: two functions, runs of every kind, and the comparison of two results."""

from __future__ import annotations

import numpy as np

from ..support import assert_same_bits

RUNS = {
    "plain": {},
    "full": {"covariance": "full"},
    "antithetic, bounds": {"antithetic": True, "bounds": [(-1, 0.125)] * 6, "n_repeats": 2},
    "reflect": {"bounds": [(-1, None)] * 6, "bound_handling": "reflect"},
    "equal, new mean": {"weights": "equal", "refit_about": "new_mean"},
    "equal, full": {"weights": "equal", "covariance": "full", "std_lr": 0.25},
    "noisy": {"noisy": True, "restarts": 1, "patience": 3},
    "restarts, noise": {"restarts": 2, "patience": 2, "extra_std": (0.5, 9), "min_std": 0.01, "maximize": True},
}


def sphere(x):
    return np.square(x - 0.25).sum(axis=-1)


def largest(x):
    return np.abs(x - 0.25).max(axis=-1)


def assert_same_run(a, b):
    assert a.keys() == b.keys()
    for key in a.keys() - {"history", "settings"}:
        if isinstance(a[key], np.ndarray | float):
            assert_same_bits(a[key], b[key], key)
        else:
            assert a[key] == b[key], key
    for key, column in a.history.items():
        assert_same_bits(column, b.history[key], key)
