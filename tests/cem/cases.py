"""The family's golden outputs. The bits of its runs are in test_minimize.py, of its kernels in test_kernels.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastopt as fo


def _minimized(dtype: Any, **options: Any) -> list[np.ndarray]:
    run = fo.minimize_cem(
        lambda x: np.abs(x - dtype(0.25)).max(axis=1),  # exact everywhere
        np.zeros(40, dtype),
        0.5,
        popsize=600,
        elite_frac=0.25,
        std_lr=0.5,
        mean_lr=0.75,
        maxiter=4,
        rng=7,
        vectorized=True,
        **options,
    )
    return [run.x, run.x_mean, run.std, run.history["fun"], run.candidate(1, 599)]


def _minimized_together(dtype: Any) -> list[np.ndarray]:
    options = {"popsize": 600, "maxiter": 3, "rng": 7, "vectorized": True}
    run = fo.minimize_cem(lambda x: np.abs(x - dtype(0.25)).max(axis=2), np.zeros((3, 40), dtype), 0.5, **options)
    return [run.x, run.x_mean, run.std, run.fun]


def golden(x: np.ndarray, grad: np.ndarray) -> dict[str, Callable[[], Any]]:
    dtype = x.dtype.type
    return {
        "minimize_cem": lambda: _minimized(dtype, antithetic=True, bounds=[(-1, 0.5)] * 40),
        "minimize_cem full": lambda: _minimized(dtype, covariance="full", extra_std=0.25, restarts=1, patience=2),
        "minimize_cem equal": lambda: _minimized(dtype, weights="equal", refit_about="new_mean", extra_std=0.25),
        "minimize_cem batch": lambda: _minimized_together(dtype),
        "CEM": lambda: fo.CEM(np.zeros(40, dtype), 0.5, popsize=600, rng=7).ask(),
    }
