"""Philox4x32's integers and permutations: their bits, that they are even, and NumPy's signatures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastopt import Philox4x32, reference
from fastopt.random import DOMAIN_INTEGERS

from ..support import assert_same_bits

INT64 = st.integers(-(2**63), 2**63 - 1)
INTEGER_TYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.bool]


@given(first=INT64, second=INT64, endpoint=st.booleans(), size=st.integers(0, 50))
def test_any_range(first, second, endpoint, size):
    low, high = min(first, second), max(first, second) + (not endpoint)
    drawn = Philox4x32(3).integers(low, high, size, endpoint=endpoint)
    assert_same_bits(drawn, reference.Philox4x32(3).integers(low, high, size, endpoint=endpoint))
    words = reference.words(3, 0, DOMAIN_INTEGERS, 0, 2 * size).tolist()
    for number, a, b in zip(drawn.tolist(), words[::2], words[1::2], strict=True):
        assert number == low + (a + 2**32 * b) * (high + endpoint - low) // 2**64


@pytest.mark.parametrize("dtype", INTEGER_TYPES)
def test_the_whole_range_of_each_type(dtype):
    stats = pytest.importorskip("scipy.stats")
    low, high = (0, 1) if dtype is np.bool else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    drawn = Philox4x32(1).integers(low, high, 5000, dtype, endpoint=True)
    assert drawn.dtype == dtype
    assert_same_bits(drawn, reference.Philox4x32(1).integers(low, high, 5000, dtype, endpoint=True))
    within = (drawn.astype(float) - low + np.random.default_rng(1).random(5000)) / (high - low + 1)
    assert stats.kstest(within, "uniform").pvalue > 1e-4
    assert Philox4x32(1).integers(high, high, 3, dtype, endpoint=True).tolist() == [high] * 3
    with pytest.raises(ValueError, match=f"high: expected .*, got {high + 1}"):
        Philox4x32(1).integers(low, high + 1, dtype=dtype, endpoint=True)


def test_each_number_comes_as_often():
    stats = pytest.importorskip("scipy.stats")
    counts = np.bincount(Philox4x32(5).integers(7, size=70_000), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_scalars_are_plain():
    rng = Philox4x32(2)
    assert type(rng.integers(10)) is int
    assert type(rng.integers(2, dtype=bool)) is bool
    assert rng.state["stream"] == 2


@pytest.mark.parametrize("n", [0, 1, 2, 3, 511, 512, 513, 2000])
def test_permutations_have_the_bits_of_the_reference(n):
    order = Philox4x32(9).permutation(n, stream=4)
    assert_same_bits(order, reference.Philox4x32(9).permutation(n, stream=4))
    assert sorted(order.tolist()) == list(range(n))


def test_each_order_comes_as_often():
    stats = pytest.importorskip("scipy.stats")
    rng = Philox4x32(6)
    orders = [tuple(rng.permutation(4).tolist()) for _ in range(24_000)]
    counts = [orders.count(order) for order in itertools.permutations(range(4))]
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_permutation_of_an_array(axis):
    x = np.arange(30).reshape(5, 6)
    rng = Philox4x32(3)
    order = rng.permutation(x.shape[axis], stream=0)
    assert_same_bits(rng.permutation(x, axis), x.take(order, axis))
    assert rng.state["stream"] == 1
    assert rng.permutation(["a", "b", "c"]).tolist() == ["abc"[k] for k in rng.permutation(3, stream=1)]


WRONG = {
    "low float": (lambda rng: rng.integers(2.0), TypeError, "low: expected an int, got float"),
    "nothing below": (lambda rng: rng.integers(0), ValueError, "low: expected 1 <= low < "),
    "empty range": (lambda rng: rng.integers(3, 3), ValueError, "high: expected 4 <= high < .*, got 3"),
    "out of the type": (lambda rng: rng.integers(0, 257, 3, np.uint8), ValueError, "high: .* got 257"),
    "float type": (lambda rng: rng.integers(3, dtype=float), TypeError, "dtype: expected a type of integers or bool"),
    "stream": (lambda rng: rng.integers(3, stream=-1), ValueError, "stream: expected 0 <= stream"),
    "offset": (lambda rng: rng.integers(3, size=3, offset=2**63 - 2), ValueError, "offset: expected 0 <= offset < "),
    "x float": (lambda rng: rng.permutation(3.0), TypeError, "x: expected an int, got float"),
    "x negative": (lambda rng: rng.permutation(-1), ValueError, "x: expected 0 <= x < .*, got -1"),
    "axis": (lambda rng: rng.permutation(np.zeros(3), 1), ValueError, "axis 1 is out of bounds"),
}


@pytest.mark.parametrize(("draw", "error", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_draw_takes_no_stream(draw, error, message):
    rng = Philox4x32(4)
    with pytest.raises(error, match=message):
        draw(rng)
    assert rng.state["stream"] == 0


def test_large_seeds_are_hashed_as_numpy_does():
    for seed in (2**64, 2**128 - 1, 2**128, 3**200):
        words = np.random.SeedSequence(seed).generate_state(2)
        assert Philox4x32(seed).seed == int(words[0]) + 2**32 * int(words[1])
    with pytest.raises(ValueError, match=r"seed: expected 0 <= seed < .*, got -1"):
        Philox4x32(-1)
