"""Bias, leaky ReLU and dropout in one pass: its parts, its mask, its gradient. Bits are also in test_same_bits.py."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt import DropoutMask, Philox4x32, reference
from fastopt import bias_leaky_relu_dropout as forward
from fastopt import bias_leaky_relu_dropout_backward as backward

from ..support import DTYPES, assert_same_bits, assert_same_results, special_values, values

ADDRESS = (2**64 - 3, 2**56 - 2)
# One row and many, one column and many, around the pieces, tiles and blocks that the kernels work in.
SHAPES = [
    *((1, 1), (1, 5), (5, 1), (63, 3), (64, 4), (65, 15), (130, 16), (200, 17), (129, 100), (3, 1023), (70, 1024)),
    *((67, 1025), (2, 2047), (66, 2049), (3, 5000), (1, 70_001), (20_000, 3), (7,), (2, 3, 4, 5)),
]


def data(shape, dtype):
    return values(1, shape, dtype), values(2, shape[-1:], dtype), values(3, shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_for_any_number_of_rows_and_columns(dtype, shape):
    x, bias, grad = data(shape, dtype)
    with np.errstate(all="ignore"):
        for p in (0.0, 0.4):
            expected = reference.bias_leaky_relu_dropout(x, bias, 0.1, p, rng=ADDRESS)
            expected_back = reference.bias_leaky_relu_dropout_backward(grad, *expected, 0.1)
            for threads in (1, 2, 3):
                with fastopt.num_threads(threads):
                    assert_same_results(forward(x, bias, 0.1, p, rng=ADDRESS), expected)
                    assert_same_results(backward(grad, *expected, 0.1), expected_back)


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_its_three_parts(dtype):
    x, bias, grad = data((100, 37), dtype)
    y, mask = forward(x, bias, 0.1, 0.3, rng=ADDRESS)
    with np.errstate(all="ignore"):
        z = x + bias
    parts, parts_mask = fastopt.dropout(fastopt.leaky_relu(z, 0.1), 0.3, rng=ADDRESS)
    assert mask == parts_mask
    assert np.array_equal(y, parts, equal_nan=True)  # a zero may differ in its sign
    dx, dbias = backward(grad, y, mask, 0.1)
    parts = fastopt.leaky_relu_backward(fastopt.dropout_backward(grad, mask), z, 0.1)
    finite = ~np.isnan(z)
    assert_same_bits(dx[finite], np.where(mask.to_array(), parts, dtype(0))[finite])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(dbias, dx.sum(axis=0, dtype=np.float64), rtol=1e-6, atol=1e-6)


def test_the_defaults_are_those_of_its_parts():
    x, bias, grad = data((40, 7), np.float64)
    y, mask = forward(x, bias, rng=ADDRESS)
    parts, parts_mask = fastopt.dropout(fastopt.leaky_relu(x + bias), rng=ADDRESS)
    assert mask == parts_mask
    assert np.array_equal(y, parts)
    assert_same_bits(y, forward(x, bias, 0.01, 0.5, rng=ADDRESS)[0])
    dx, _ = backward(grad, y, mask)
    assert np.array_equal(dx, fastopt.leaky_relu_backward(fastopt.dropout_backward(grad, mask), x + bias))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("p", [0.0, 0.5, 1 - 2.0**-20])
def test_the_output_is_its_own_mask(dtype, slope, p):
    x = np.resize(special_values(dtype), (640, 21))
    y, mask = forward(x, np.zeros(21, dtype), slope, p, rng=ADDRESS)
    plus_zero = (y == 0) & ~np.signbit(y)
    assert np.array_equal(plus_zero, ~mask.to_array())
    assert (x == 0)[mask.to_array()].any() == (p != 1 - 2.0**-20)  # zeros are among the kept


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_against_finite_differences(dtype):
    # The layer is piecewise linear, so central differences in float64 are exact up to rounding.
    rng = np.random.default_rng(5)
    x, bias = rng.standard_normal((70, 9)), rng.standard_normal(9)
    weight = rng.standard_normal(x.shape)
    y, mask = forward(x.astype(dtype), bias.astype(dtype), 0.2, 0.4, rng=ADDRESS)
    dx, dbias = backward(weight.astype(dtype), y, mask, 0.2)

    def loss(x, bias):
        return np.sum(weight * forward(x, bias, 0.2, 0.4, rng=ADDRESS)[0])

    h, rtol = 1e-7, (1e-5 if dtype == np.float32 else 1e-6)
    for i, j in ((0, 0), (3, 8), (69, 4), *zip(range(20), [0] * 20, strict=True)):
        step = np.zeros_like(x)
        step[i, j] = h
        slope = (loss(x + step, bias) - loss(x - step, bias)) / (2 * h)
        np.testing.assert_allclose(dx[i, j], slope, rtol=rtol, atol=1e-6)
    for j in range(9):
        step = np.eye(9)[j] * h
        slope = (loss(x, bias + step) - loss(x, bias - step)) / (2 * h)
        np.testing.assert_allclose(dbias[j], slope, rtol=rtol, atol=1e-5)


def test_dbias_is_summed_in_float64():
    y = np.full((200_000, 2), 1, np.float32)
    grad = np.full_like(y, 0.1)
    _, dbias = backward(grad, y, DropoutMask(0, 0, 0.0, y.shape), 0.1)
    assert dbias.dtype == np.float32
    assert_same_bits(dbias, np.full(2, 200_000 * float(np.float32(0.1)), np.float32))  # 20,000.0003; 19,905 in float32


def test_nan_and_infinity():
    x = np.array([[np.nan, np.inf, -np.inf, 1.0]] * 64)
    y, mask = forward(x, np.zeros(4), 0.0, 0.5, rng=ADDRESS)
    kept = mask.to_array()
    expected = np.where(kept, [np.nan, np.inf, np.nan, 2.0], 0.0)  # -inf * 0 is NaN, as in leaky_relu
    assert_same_bits(y, expected)
    dx, dbias = backward(np.full_like(x, np.inf), y, mask, 0.5)
    assert_same_bits(dx, np.where(kept, np.inf, 0.0))
    assert_same_bits(dbias, np.full(4, np.inf))


def test_in_place_keeps_one_array_between_forward_and_backward():
    x, bias, grad = data((100, 33), np.float32)
    expected, mask = forward(x, bias, 0.1, 0.5, rng=ADDRESS)
    expected_back = backward(grad, expected, mask, 0.1)
    y, _ = forward(x, bias, 0.1, 0.5, rng=ADDRESS, out=x)
    assert y is x
    assert_same_bits(y, expected)
    dx, dbias = backward(grad, y, mask, 0.1, out=y)
    assert dx is x
    assert_same_results((dx, dbias), expected_back)


def test_streams():
    x, bias = np.ones((4, 8)), np.zeros(8)
    rng = Philox4x32(3)
    first = forward(x, bias, 0.1, 0.5, rng=rng)[1]
    assert (first.stream, rng.state["stream"]) == (0, 1)
    assert forward(x, bias, 0.1, 0.0, rng=rng)[1].stream == 1
    assert forward(x, bias, 0.1, 0.5, training=False, rng=rng)[1] == DropoutMask(0, 0, 0.0, (4, 8))
    assert rng.state["stream"] == 2
    again, mask = forward(x, bias, 0.1, 0.5, rng=first)
    assert mask == first
    assert np.array_equal(again != 0, first.to_array())


OK = (np.ones((3, 4)), np.zeros(4), 0.1, 0.5)
WRONG = {
    "bias length": (
        {"bias": np.zeros(3)},
        ValueError,
        r"bias: expected shape \(4,\), one for each column of x, got \(3,\)",
    ),
    "bias shape": ({"bias": np.zeros((1, 4))}, ValueError, r"bias: expected shape \(4,\).* got \(1, 4\)"),
    "bias dtype": (
        {"bias": np.zeros(4, "f4")},
        TypeError,
        r"bias: expected float64 like x, got float32; bias.astype\(",
    ),
    "bias kind": ({"bias": [0.0] * 4}, TypeError, r"bias: expected a numpy.ndarray, got list"),
    "x kind": ({"x": 1.0}, TypeError, "x: expected a numpy.ndarray"),
    "x 0-d": ({"x": np.array(1.0)}, ValueError, r"x: expected at least one dimension, .* got shape \(\)"),
    "slope negative": ({"negative_slope": -0.1}, ValueError, "negative_slope: expected .*0.*got -0.1"),
    "slope NaN": ({"negative_slope": np.nan}, ValueError, "negative_slope: .*got nan"),
    "p": ({"p": 1.5}, ValueError, "p: .*got 1.5"),
    "p negative": ({"p": -0.1}, ValueError, "p: .*got -0.1"),
    "rng int": ({"rng": 7}, TypeError, "rng: "),
    "rng mask": ({"rng": DropoutMask(1, 2, 0.25, (3, 4))}, ValueError, "rng: expected a mask of p=0.5"),
    "out shape": ({"out": np.zeros((4, 3))}, ValueError, r"out: expected shape \(3, 4\) like x, got \(4, 3\)"),
    "out dtype": ({"out": np.zeros((3, 4), "f4")}, TypeError, "out: expected float64 like x, got float32"),
}


@pytest.mark.parametrize(("change", "error", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_write_nothing_and_take_no_stream(change, error, message):
    rng = Philox4x32(3)
    arguments = dict(zip(("x", "bias", "negative_slope", "p"), OK, strict=True)) | {"out": np.full((3, 4), 9.0)}
    arguments |= {"rng": rng} | change
    before = arguments["out"].copy()
    with pytest.raises(error, match=message):
        forward(**arguments)
    assert rng.state["stream"] == 0
    assert_same_bits(arguments["out"], before)


def test_bias_must_not_share_memory_with_out():
    block = np.zeros((4, 4))
    with pytest.raises(ValueError, match="bias: expected memory apart from out, got arrays that overlap"):
        forward(np.ones((4, 4)), block[1], 0.1, 0.5, rng=ADDRESS, out=block)


def test_wrong_arguments_of_backward():
    y, mask = forward(*OK, rng=ADDRESS)
    grad = np.ones_like(y)
    with pytest.raises(TypeError, match="mask: expected the DropoutMask that dropout returned, got tuple"):
        backward(grad, y, tuple(mask), 0.1)
    with pytest.raises(ValueError, match=r"y: expected shape \(3, 4\) like mask, got \(2, 4\)"):
        backward(grad[:2], y[:2], mask, 0.1)
    with pytest.raises(ValueError, match=r"grad: expected shape \(3, 4\) like y, got \(4, 3\)"):
        backward(grad.T, y, mask, 0.1)
    with pytest.raises(TypeError, match="grad: expected float64 like y, got float32"):
        backward(grad.astype("f4"), y, mask, 0.1)
    with pytest.raises(ValueError, match=r"negative_slope: expected .*0"):
        backward(grad, y, mask, -1.0)
    both = np.zeros((4, 4))
    with pytest.raises(ValueError, match="overlap"):
        backward(both[:3], y, mask, 0.1, out=both[1:])


def test_empty():
    for shape in ((0, 5), (5, 0), (0,)):
        y, mask = forward(np.ones(shape), np.ones(shape[-1:]), 0.1, 0.5, rng=ADDRESS)
        assert y.shape == shape
        dx, dbias = backward(np.ones(shape), y, mask, 0.1)
        assert dx.shape == shape
        assert_same_bits(dbias, np.zeros(shape[-1]))
