"""Categorical policies over many actions, and over few rows: worked on along the row, which threads may share."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastopt
from fastopt import policy
from fastopt.reference import policy as reference_policy

from ..support import DTYPES, assert_same_bits, assert_same_results

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

ROWS = (1, 2, 3, 15, 16, 17, 63, 64, 65)
COLUMNS = (1, 5, 64, 65, 300, 70_001)  # the last so many that threads share a row
ADDRESS = (2**63 + 12345, 2**40 + 3)

# What gives each row's own result, whatever rows there are besides.
BY_ROW: dict[str, Callable[..., Any]] = {
    "kl": lambda ops, x, y, a: ops.categorical_kl(x, y, per_sample=True),
    "log_prob": lambda ops, x, y, a: ops.categorical_log_prob(x, a),
    "entropy": lambda ops, x, y, a: ops.categorical_entropy(x),
    "sample": lambda ops, x, y, a: ops.categorical_sample(x, ADDRESS),
}


def rows_of_every_kind(seed: int, columns: int, dtype: Any) -> np.ndarray:
    """65 rows: plain ones, and with masked actions, zeros of both signs, NaN and infinities at the start and later."""
    rng = np.random.default_rng(seed)
    x = (3 * rng.standard_normal((max(ROWS), columns))).astype(dtype)
    masked = rng.random(x.shape) < 0.3
    for row in range(2, len(x)):
        match row % 11:
            case 2:
                x[row, masked[row]] = -np.inf
            case 3:
                x[row] = np.where(masked[row], -0.0, 0.0)
            case 4:
                x[row] = np.where(masked[row], -0.0, -1000.0)
            case 5:
                x[row, 0] = np.nan
            case 6:
                x[row, -1] = np.nan
            case 7:
                x[row, columns // 2] = np.inf
            case 8:
                x[row] = -np.inf
            case 9:
                x[row, columns // 3] = np.finfo(dtype).max
            case 10:
                x[row, : columns // 2] = -np.inf
    return x


@functools.lru_cache(len(COLUMNS) * len(DTYPES))  # 120 MB; they come in turns
def given(columns: int, dtype: Any) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    x, y = rows_of_every_kind(1, columns, dtype), rows_of_every_kind(2, columns, dtype)[::-1].copy()
    arrays = [x, y, np.random.default_rng(3).integers(0, columns, len(x))]
    return arrays, {name: run(reference_policy, *arrays) for name, run in BY_ROW.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("op", BY_ROW)
def test_rows_of_any_number_and_width(op, threads, columns, dtype):
    arrays, expected = given(columns, dtype)
    for rows in ROWS:
        with fastopt.num_threads(threads):
            got = BY_ROW[op](policy, *[a[:rows].copy() for a in arrays])
        assert_same_bits(got, expected[op][:rows], f"{rows} rows")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("coef", [0.0, 0.013])
def test_gradients_of_rows_of_any_number_and_width(coef, columns, dtype):
    (x, _, actions), _ = given(columns, dtype)
    advantages = np.random.default_rng(4).standard_normal(len(x)).astype(dtype)
    for rows in ROWS if columns < 10_000 else (1, 2, 3, 16, 17):
        arrays = [x[:rows].copy(), actions[:rows], advantages[:rows]]
        expected = reference_policy.categorical_policy_gradient(*arrays, entropy_coef=coef)
        for threads in (1, 3):
            with fastopt.num_threads(threads):
                got = policy.categorical_policy_gradient(*arrays, entropy_coef=coef)
                logits = arrays[0].copy()
                in_place = policy.categorical_policy_gradient(logits, *arrays[1:], entropy_coef=coef, out=logits)
            assert_same_results(got, expected, f"{rows} rows, {threads} threads")
            assert_same_results(in_place, expected, f"{rows} rows, {threads} threads, in place")


# ---- other Python threads go on meanwhile ----------------------------------------------------------------------------

WIDE = 300_000


def wide_calls() -> dict[str, Callable[[], Any]]:
    x, y = np.zeros((1, WIDE), np.float32), np.ones((1, WIDE), np.float32)
    action, one = np.zeros(1, np.int64), np.ones(1, np.float32)
    steps, over = np.zeros((WIDE, 1), np.float32), np.zeros((WIDE, 1), bool)
    return {
        "categorical_kl": lambda: policy.categorical_kl(x, y),
        "categorical_log_prob": lambda: policy.categorical_log_prob(x, action),
        "categorical_entropy": lambda: policy.categorical_entropy(x),
        "categorical_sample": lambda: policy.categorical_sample(x, ADDRESS),
        "categorical_policy_gradient": lambda: policy.categorical_policy_gradient(x, action, one),
        "gaussian_kl": lambda: policy.gaussian_kl(x, y, y, x),
        "gaussian_log_prob": lambda: policy.gaussian_log_prob(x, y, y),
        "gaussian_entropy": lambda: policy.gaussian_entropy(x),
        "gaussian_policy_gradient": lambda: policy.gaussian_policy_gradient(x, y, y, one),
        "discounted_returns": lambda: policy.discounted_returns(steps, over, over, 0.9),
        "gae": lambda: policy.gae(steps, steps, steps, over, over, 0.9, 0.9),
    }


@pytest.fixture
def ticks():
    """How often another thread has had the interpreter's lock, which it gets only where it is given up."""
    counted, ended, interval = [0], [], sys.getswitchinterval()

    def count() -> None:
        while not ended:
            counted[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    sys.setswitchinterval(1000)
    yield lambda: counted[0]
    ended.append(True)
    sys.setswitchinterval(interval)
    thread.join()


@pytest.mark.parametrize("op", wide_calls())
def test_other_threads_go_on_while_one_row_is_worked_on(op, ticks):
    call = wide_calls()[op]
    fastopt.set_num_threads(1)
    for _ in range(100):  # the system may be late to let the other thread run
        before = ticks()
        call()
        if ticks() > before:
            return
    pytest.fail("no other thread ran during any call")
