"""The L2 penalty: a sum in a fixed order, over any nest. Lengths, layouts and threads are in test_same_bits.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastopt
from fastopt import reference

from ..support import DTYPES, assert_same_bits, laid_out, values


def lanes_sum(x: np.ndarray) -> float:
    """The order of summation in other words than the reference's: sixteen lanes, one element at a time."""
    total = 0.0
    for begin in range(0, x.size, 4096):
        lanes = [0.0] * 16
        for k, value in enumerate(x[begin : begin + 4096].tolist()):
            lanes[k % 16] += value * value
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [low + high for low, high in zip(lanes[:half], lanes[half:], strict=True)]
        total += lanes[0]
    return total


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 4095, 4096, 4097, 3 * 4096 + 5])
def test_the_order_of_the_sum(dtype, size):
    x = np.random.default_rng(size).standard_normal(size).astype(dtype)
    assert fastopt.l2_penalty(x, 2.0) == lanes_sum(x)
    assert reference.l2_penalty(x, 2.0) == lanes_sum(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_blocks_and_threads(dtype, threads):
    fastopt.set_num_threads(threads)
    for size in (4095, 4097, 16 * 4096 + 1, 3 * 16 * 4096 + 7, 3 * 4096 + 5):
        for shift in (0, 1, 7):
            x = laid_out(values(size, size, dtype), shift)
            with np.errstate(all="ignore"):
                expected = reference.l2_penalty(x, 0.1)
            assert_same_bits(fastopt.l2_penalty(x, 0.1), expected)


@given(weight_decay=st.floats(0, allow_nan=False, allow_infinity=False), scale=st.integers(-500, 500))
def test_any_weight_decay(weight_decay, scale):
    x = np.ldexp(np.random.default_rng(0).standard_normal(100), scale)
    with np.errstate(all="ignore"):
        assert_same_bits(fastopt.l2_penalty(x, weight_decay), reference.l2_penalty(x, weight_decay))


def test_any_nest_and_mixed_dtypes():
    w, b = np.arange(12.0).reshape(3, 4), np.arange(5, dtype=np.float32)
    nest = {"w": w, "layers": [(b, w.T), {"b": b[::2], "none": []}]}
    penalty = fastopt.l2_penalty(nest, 0.5)
    assert type(penalty) is float
    assert penalty == 0.25 * float(2 * np.sum(w**2) + np.sum(b**2) + np.sum(b[::2] ** 2))
    assert fastopt.l2_penalty([], 0.5) == 0
    assert fastopt.l2_penalty(np.array(3.0), 2.0) == 9


def test_float32_is_squared_in_float64():
    assert fastopt.l2_penalty(np.array([1e30], np.float32), 2.0) == float(np.float32(1e30)) ** 2


def test_infinity_and_nan_flow_through():
    assert fastopt.l2_penalty(np.array([1.0, np.inf]), 1.0) == math.inf
    assert math.isnan(fastopt.l2_penalty(np.array([1.0, np.nan]), 1.0))


def test_its_gradient_is_what_coupled_weight_decay_adds():
    w = np.array([0.5, -1.25, 3.0])
    by_decay, by_gradient = w.copy(), w.copy()
    fastopt.SGD(by_decay, lr=0.125, weight_decay=0.25).step(np.zeros(3))
    step = 2.0**-10  # the penalty is a square, so its central difference is its slope, here without rounding
    unit = np.eye(3) * step
    slope = [(fastopt.l2_penalty(w + e, 0.25) - fastopt.l2_penalty(w - e, 0.25)) / (2 * step) for e in unit]
    fastopt.SGD(by_gradient, lr=0.125).step(np.array(slope))
    assert_same_bits(by_decay, by_gradient)
