"""The family's golden outputs, and the planners that its tests compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.plan import CEMPlanner

from ..support import assert_same_bits

PLANNERS: dict[str, dict[str, Any]] = {
    "elites": {"bounds": [(-1, 0.75), (-2, 1)], "mean_lr": 0.75, "std_lr": [0.75, 0.5], "min_std": 0.125, "max_std": 2},
    "softmax": {"rule": "softmax", "temperature": 3.0},
    "mppi": {"rule": "mppi", "temperature": 0.25, "adapt_std": False, "bounds": [(-1, 1)]},
    "icem": {"noise_beta": 2.5, "keep_frac": 0.3, "decay": 1.25, "mean_last": True, "bounds": [(-1, 1)]},
    "truncated": {"truncated": True, "bounds": [(-1, 0.75), (-2, 1)]},
}


def cost(x: np.ndarray) -> np.ndarray:
    """Of candidates (..., horizon, actions). Exact everywhere: no sum."""
    target = np.linspace(-0.5, 0.5, x.shape[-2] * x.shape[-1]).reshape(x.shape[-2:]).astype(x.dtype)
    return np.abs(x - target).max(axis=(-1, -2))


def _planned(dtype: Any, **options: Any) -> list[np.ndarray]:
    planner = CEMPlanner(20, 2, popsize=300, iterations=3, rng=7, dtype=dtype, **options)
    actions = [planner.plan(cost, inject=np.zeros((2, 20, 2))) for _ in range(2)]
    return [*actions, planner.mean, planner.std, planner.candidate(1, 5)]


def golden(x: np.ndarray, grad: np.ndarray) -> dict[str, Callable[[], Any]]:
    dtype = x.dtype.type
    return {f"plan.CEMPlanner {name}": lambda o=options: _planned(dtype, **o) for name, options in PLANNERS.items()}


SMALL = {"popsize": 30, "iterations": 3}


def made(kind: Any = CEMPlanner, name: str = "icem", **options: Any) -> Any:
    return kind(*options.pop("sizes", (7, 2)), **{**SMALL, **PLANNERS[name], "rng": 3, **options})


def assert_same_plans(a: Any, b: Any) -> None:
    for name in ("action", "mean", "std"):
        assert_same_bits(getattr(a, name), getattr(b, name), name)
