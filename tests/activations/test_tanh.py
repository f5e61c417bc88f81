"""The hyperbolic tangent, beyond the bits of its cases (promises/test_same_bits.py).

What holds for all 2**32 float32 is seen by ``python benchmarks/studies/tanh_errors.py``; here it is a sample of them.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt.reference.core import column_sums

from ..support import DTYPES, assert_same_bits, values

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def ordered(dtype, size=2**19):
    """Numbers from 0 to infinity: some of every magnitude, and neighbours about where the formula changes."""
    unsigned = np.uint32 if dtype == np.float32 else np.uint64
    step = int(np.array(np.inf, dtype).view(unsigned)) // size
    everywhere = (np.arange(size, dtype=unsigned) * unsigned(step)).view(dtype)
    about = np.array(0.75, dtype).view(unsigned) + np.arange(-5000, 5000).astype(unsigned)
    dense = np.linspace(0.01, 22, size).astype(dtype)
    return np.unique(np.concatenate([everywhere, about.view(dtype), dense, np.array([np.inf], dtype)]))


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs a longer float than float64 to compare with")
@each_dtype
def test_errors_of_at_most_1_1_units(dtype):
    x = ordered(dtype)[:-1]
    exact = np.tanh(x.astype(np.longdouble))
    error = np.abs(fastopt.tanh(x) - exact) / np.spacing(exact.astype(dtype))
    assert np.max(error) <= 1.1  # the docstring states it


@each_dtype
def test_odd_bounded_and_never_falling(dtype):
    x = ordered(dtype)
    y = fastopt.tanh(x)
    assert np.all(np.diff(y) >= 0)
    assert y[0] == 0
    assert y[-1] == 1
    assert_same_bits(fastopt.tanh(-x), -y)


@each_dtype
def test_ends(dtype):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, np.finfo(dtype).smallest_subnormal], dtype)
    assert_same_bits(fastopt.tanh(x), np.array([0.0, -0.0, 1, -1, np.nan, x[5]], dtype))


@each_dtype
@pytest.mark.parametrize("columns", [1, 5, 64, 255, 256, 3000])
def test_a_layer_is_its_parts(columns, dtype):
    x, grad, bias = values(1, (70, columns), dtype), values(2, (70, columns), dtype), values(3, columns, dtype)
    with np.errstate(all="ignore"):
        y = fastopt.tanh(x + bias)
    assert_same_bits(fastopt.bias_tanh(x, bias), y)
    dx, dbias = fastopt.bias_tanh_backward(grad, y)
    assert_same_bits(dx, fastopt.tanh_backward(grad, y))
    with np.errstate(all="ignore"):
        assert_same_bits(dbias, column_sums(dx))


def test_gradient_against_differences():
    x, step = np.linspace(-3, 3, 101), 1e-5
    slope = (fastopt.tanh(x + step) - fastopt.tanh(x - step)) / (2 * step)
    np.testing.assert_allclose(fastopt.tanh_backward(np.ones_like(x), fastopt.tanh(x)), slope, rtol=1e-8, atol=1e-10)


def test_refused():
    x, bias = np.zeros((2, 3)), np.zeros(3)
    for call, message in (
        (lambda: fastopt.tanh(x, out=np.zeros((3, 2))), r"out: expected shape \(2, 3\) like x, got \(3, 2\)"),
        (lambda: fastopt.tanh_backward(x[0], x), r"grad: expected shape \(2, 3\) like y, got \(3,\)"),
        (lambda: fastopt.bias_tanh(x, bias[:2]), r"bias: expected shape \(3,\), one for each column of x, got \(2,\)"),
        (lambda: fastopt.bias_tanh(np.zeros(()), bias), "x: expected at least one dimension"),
        (lambda: fastopt.bias_tanh(x, x[0], out=x), "bias: expected memory apart from out"),
        (lambda: fastopt.bias_tanh_backward(np.zeros(()), np.zeros(())), "y: expected at least one dimension"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            call()


def test_out_is_returned():
    x, bias = np.ones((2, 3)), np.ones(3)
    assert fastopt.tanh(x, out=x) is x
    assert fastopt.bias_tanh(x, bias, out=x) is x
    assert fastopt.tanh_backward(x, x, out=x) is x
    assert fastopt.bias_tanh_backward(x, x, out=x)[0] is x
    assert fastopt.bias_tanh(np.empty((0, 3)), bias).shape == (0, 3)
    assert_same_bits(fastopt.bias_tanh_backward(np.empty((0, 3)), np.empty((0, 3)))[1], np.zeros(3))
