"""Leaky ReLU, beyond the bits of its cases (promises/test_same_bits.py)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastopt

from ..support import DTYPES, assert_equals_reference, assert_same_bits, values


@given(slope=st.floats(allow_nan=False, allow_infinity=False, width=32), dtype=st.sampled_from(DTYPES))
def test_any_slope(slope, dtype):
    x, grad = values(1, 300, dtype), values(2, 300, dtype)
    assert_equals_reference(lambda ops, x: ops.leaky_relu(x, slope), [x])
    assert_equals_reference(lambda ops, grad, x: ops.leaky_relu_backward(grad, x, slope), [grad, x])


def test_slope_is_rounded_once_to_the_dtype():
    x = np.array([-3.0], np.float32)
    assert fastopt.leaky_relu(x, 0.1)[0] == np.float32(-3) * np.float32(0.1)
    assert fastopt.leaky_relu(x, np.float64(0.1))[0] == fastopt.leaky_relu(x, np.float32(0.1))[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_may_have_the_output_for_its_x(dtype):
    x, grad = values(3, 1000, dtype), values(4, 1000, dtype)
    expected = fastopt.leaky_relu_backward(grad, x, 0.25)
    assert_same_bits(fastopt.leaky_relu_backward(grad, fastopt.leaky_relu(x, 0.25), 0.25), expected)


def test_out_is_returned():
    x = np.ones((2, 3))
    out = np.empty((2, 3), order="F")
    assert fastopt.leaky_relu(x, out=out) is out
    assert fastopt.leaky_relu(x, out=x) is x
    assert fastopt.leaky_relu_backward(x, x, out=x) is x
    assert fastopt.leaky_relu_backward(x, x, out=out) is out
