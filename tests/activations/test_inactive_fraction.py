"""The share of inactive units: its bits in any layout, along any axes, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastopt

from ..support import DTYPES, ELEMENTWISE_GRAIN, LAYOUTS, assert_equals_reference, assert_same_bits, laid_out, values

AXES = [0, 1, 2, -1, (0,), (0, 1), (2, 0), (-1, -2), (0, 1, 2), ()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_inactive_fraction_in_any_layout(dtype, axis, layout):
    x = laid_out(values(5, (6, 7, 5), dtype), layout)
    assert_equals_reference(lambda ops, x: ops.inactive_fraction(x, axis), [x])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "shape", [(3 * ELEMENTWISE_GRAIN + 5,), (1, 3 * ELEMENTWISE_GRAIN + 5), (70_001, 3), (301, 1001), (3, 0)], ids=str
)
def test_inactive_fraction_of_large_arrays(dtype, threads, shape):
    fastopt.set_num_threads(threads)
    assert_equals_reference(lambda ops, x: ops.inactive_fraction(x), [values(6, shape, dtype)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_inactive_fraction_of_all_shapes_and_shifts(dtype):
    for rows in range(1, 20):
        for columns in range(68):
            x = laid_out(values(7, (rows, columns), dtype), (rows + columns) % 16)
            assert_equals_reference(lambda ops, x: ops.inactive_fraction(x), [x], f"{rows}, {columns}")


@given(
    x=hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=6), elements=st.floats(width=32)),
    data=st.data(),
)
def test_inactive_fraction_of_any_axes(x, data):
    axes = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, max_size=x.ndim))
    assert_equals_reference(lambda ops, x: ops.inactive_fraction(x, tuple(axes)), [x])


def test_inactive_fraction_counts_zeros_of_both_signs_and_not_nan():
    x = np.array([0.0, -0.0, np.nan, -np.inf, np.inf, 5e-324, -5e-324])
    assert fastopt.inactive_fraction(x) == 4 / 7
    assert_same_bits(fastopt.inactive_fraction(x[:, np.newaxis]), np.array([4 / 7]))
    assert_same_bits(fastopt.inactive_fraction(x, ()), np.array([1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]))


def test_inactive_fraction_is_a_float64_array_and_may_be_0_d():
    for x in (np.ones(4, np.float32), np.ones((), np.float32)):
        fraction = fastopt.inactive_fraction(x, tuple(range(x.ndim)))
        assert type(fraction) is np.ndarray
        assert_same_bits(fraction, np.array(0.0))


@pytest.mark.parametrize(
    ("shape", "axis", "error", "message"),
    [
        ((0, 3), 0, ValueError, r"x: expected a batch of at least one along axis 0, got shape \(0, 3\)"),
        ((3, 0), (0, 1), ValueError, r"x: expected a batch of at least one along axis \(0, 1\), got shape \(3, 0\)"),
        ((3,), 1, ValueError, "axis"),
        ((), 0, ValueError, "axis"),
        ((3, 2), (0, 0), ValueError, "axis"),
        ((3,), "0", TypeError, "axis"),
        ((3,), 0.0, TypeError, "axis"),
        ((3,), None, TypeError, "axis"),
    ],
)
def test_inactive_fraction_refuses_wrong_axes(shape, axis, error, message):
    with pytest.raises(error, match=message):
        fastopt.inactive_fraction(np.ones(shape), axis)
