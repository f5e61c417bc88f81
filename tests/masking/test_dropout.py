"""Dropout: a mask that is an address, its statistics, and every kind of `rng`. Its bits are in test_same_bits.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastopt
from fastopt import DropoutMask, Philox4x32, dropout, dropout_backward, reference
from fastopt.random import DOMAIN_DROPOUT

from ..support import DTYPES, LAYOUTS, RANDOM_GRAIN, assert_same_bits, laid_out, special_values, values

ADDRESS = (2**64 - 3, 2**56 - 2)

# ---- the mask --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_mask_does_not_depend_on_how_the_array_is_cut(threads):
    n = 3 * RANDOM_GRAIN + 5
    whole = reference.dropout(np.ones(n, np.float32), 0.3, rng=ADDRESS)[0] != 0
    fastopt.set_num_threads(threads)
    for size in (0, 1, 7, 8, 9, 1023, 1024, 1025, RANDOM_GRAIN - 1, RANDOM_GRAIN + 9, n):
        for dtype in DTYPES:
            y, mask = dropout(np.ones(size, dtype), 0.3, rng=ADDRESS)
            assert np.array_equal(y != 0, whole[:size])
            assert np.array_equal(mask.to_array(), whole[:size])
    for shape in ((n // 5, 5), (5, n // 5)):
        assert np.array_equal(dropout(np.ones(shape), 0.3, rng=ADDRESS)[1].to_array().ravel(), whole[: n // 5 * 5])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("forward", LAYOUTS)
@pytest.mark.parametrize("backward", LAYOUTS)
def test_backward_has_the_decisions_of_forward_in_any_two_layouts(dtype, forward, backward):
    x = laid_out(np.ones((9, 5, 7), dtype), forward)
    y, mask = dropout(x, 0.4, rng=ADDRESS)
    grad = dropout_backward(laid_out(np.ones_like(x), backward), mask)
    assert_same_bits(np.array(grad, order="C"), np.array(y, order="C"))
    assert np.array_equal(mask.to_array(), y != 0)
    assert mask.to_array().any()
    assert not mask.to_array().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_in_place_and_apart(dtype):
    grad = values(1, 1000, dtype)
    mask = DropoutMask(*ADDRESS, 0.3, grad.shape)
    with np.errstate(all="ignore"):
        expected = reference.dropout_backward(grad, mask)
    out = np.empty_like(grad)
    assert dropout_backward(grad, mask, out=out) is out
    assert_same_bits(out, expected)
    assert dropout_backward(grad, mask, out=grad) is grad
    assert_same_bits(grad, expected)


def test_the_decision_is_a_16_bit_value_against_a_threshold():
    n, p = 1001, 0.3
    words = reference.words(*ADDRESS, DOMAIN_DROPOUT, 0, (n + 1) // 2).tolist()
    kept = [(words[e // 2] >> 16 * (e % 2) & 0xFFFF) >= round(65536 * p) for e in range(n)]
    assert dropout(np.ones(n), p, rng=ADDRESS)[1].to_array().tolist() == kept


@pytest.mark.parametrize(
    ("p", "threshold"),
    [
        (2.0**-40, 1),
        (2.0**-16, 1),
        (1.4 * 2.0**-16, 1),
        (0.1, 6554),
        (0.5, 32768),
        (1 - 2.0**-17, 65535),
        (1 - 2.0**-53, 65535),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_scale_is_that_of_the_rounded_probability(p, threshold, dtype):
    y, mask = dropout(np.ones(200_000, dtype), p, rng=ADDRESS)
    assert set(np.unique(y)) <= {dtype(0), dtype(1 / (1 - threshold / 65536))}
    assert mask.p == p
    assert type(mask.p) is float


@pytest.mark.parametrize("p", [1e-4, 0.1, 0.5, 0.9, 0.9999])
def test_keep_rate(p):
    # By Chernoff's bound for the binomial, P(n KL(k/n, q) >= t) <= 2 exp(-t), exact for every n: a right mask fails
    # here with probability below 1e-12. The threshold is a binomial's parameter, T / 65536, not p.
    n, q = 2**20, 1 - round(65536 * p) / 65536
    kept = dropout(np.ones(n, np.float32), p, rng=(99, 5))[1].to_array().mean()
    divergence = sum(a * math.log(a / b) for a, b in ((kept, q), (1 - kept, 1 - q)) if a > 0)
    assert n * divergence < math.log(2 / 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dropped_element_is_plus_zero_whatever_it_was(dtype):
    x = np.tile(special_values(dtype), 100)
    y, mask = dropout(x, 0.5, rng=ADDRESS)
    dropped = y[~mask.to_array()]
    assert_same_bits(dropped, np.zeros_like(dropped))


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_of_zero_and_one(dtype):
    x = values(2, 100, dtype)
    y, mask = dropout(x, 0, rng=ADDRESS)
    assert_same_bits(y, x)
    assert mask.to_array().all()
    y, mask = dropout(x, 1, rng=ADDRESS)
    assert_same_bits(y, np.zeros_like(x))
    assert not mask.to_array().any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_not_training(dtype):
    rng = Philox4x32(3)
    x = values(3, (4, 5), dtype)
    y, mask = dropout(x, 0.5, training=False, rng=rng)
    assert_same_bits(y, x)
    assert not np.may_share_memory(x, y)
    assert mask.p == 0
    assert mask.shape == x.shape
    assert_same_bits(dropout_backward(x, mask), x)
    assert mask.to_array().all()
    assert rng.state == Philox4x32(3).state


def test_mask_is_four_plain_values():
    mask = dropout(np.ones((2, 3), np.float32), np.float32(0.25), rng=Philox4x32(np.uint64(5)))[1]
    assert isinstance(mask, tuple)
    assert mask == (5, 0, 0.25, (2, 3))
    assert [type(value) for value in mask] == [int, int, float, tuple]
    assert mask.to_array().dtype == bool
    assert mask.to_array().shape == (2, 3)


@given(seed=st.integers(0, 2**64 - 1), stream=st.integers(0, 2**56 - 1), p=st.floats(0, 1), n=st.integers(0, 3000))
def test_any_address_and_probability(seed, stream, p, n):
    x = np.arange(1, n + 1, dtype=np.float32)
    expected, expected_mask = reference.dropout(x, p, rng=(seed, stream))
    y, mask = dropout(x, p, rng=(seed, stream))
    assert_same_bits(y, expected)
    assert mask == expected_mask
    assert np.array_equal(mask.to_array(), y != 0)
    assert_same_bits(dropout_backward(x, mask), y)


# ---- rng -------------------------------------------------------------------------------------------------------------


def _generator_key(generator):
    return int(generator.integers(2**64, dtype=np.uint64))


def test_rng_none_is_fresh_each_time():
    masks = [dropout(np.ones(3))[1] for _ in range(20)]
    assert len({mask.seed for mask in masks}) == 20
    assert {mask.stream for mask in masks} == {0}


@pytest.mark.parametrize("make", [np.random.SeedSequence, np.random.PCG64, np.random.MT19937, np.random.default_rng])
def test_rng_from_numpy_gives_a_new_key_each_time(make):
    def seeds():
        source = make(8)
        return [dropout(np.ones(3), rng=source)[1].seed for _ in range(10)]

    assert seeds() == seeds()
    assert len(set(seeds())) == 10


def test_rng_generator_draws_one_64_bit_key():
    generator, same = np.random.default_rng(8), np.random.default_rng(8)
    mask = dropout(np.ones(3), rng=generator)[1]
    assert mask.seed == _generator_key(same)
    assert generator.bit_generator.state == same.bit_generator.state


def test_rng_pair_and_mask_make_the_same_decisions_again():
    x = values(1, (3, 50), np.float64)
    first, mask = dropout(x, 0.3, rng=Philox4x32(4))
    for rng in (mask, (mask.seed, mask.stream), (np.uint64(4), np.int32(0))):
        y, again = dropout(x, 0.3, rng=rng)
        assert_same_bits(y, first)
        assert again == mask


def test_rng_mask_of_another_call_is_refused():
    mask = dropout(np.ones((2, 3)), 0.3, rng=Philox4x32(4))[1]
    with pytest.raises(ValueError, match=r"rng: expected a mask of p=0.4 and shape \(2, 3\), got one of p=0.3"):
        dropout(np.ones((2, 3)), 0.4, rng=mask)
    with pytest.raises(
        ValueError, match=r"rng: expected .* shape \(3, 2\), got .* shape \(2, 3\); pass rng=\(mask.seed"
    ):
        dropout(np.ones((3, 2)), 0.3, rng=mask)


@pytest.mark.parametrize("seed", [7, np.int64(7)])
def test_rng_int_is_refused_with_what_to_do(seed):
    with pytest.raises(TypeError, match=r"rng: .*got the int 7, .*same decisions.*rng = fastopt.Philox4x32\(7\) once"):
        dropout(np.ones(3), rng=seed)


@pytest.mark.parametrize(
    ("rng", "error", "message"),
    [
        ("7", TypeError, "rng: expected a Philox4x32, None, .*, got str"),
        (7.0, TypeError, "rng: expected a Philox4x32, None, .*, got float"),
        ([7, 0], TypeError, "rng: expected a Philox4x32, None, .*, got list"),
        ((7, 0, 1), TypeError, "rng: expected a Philox4x32, None, .*, got tuple"),
        (np.random, TypeError, "rng: expected a Philox4x32, None, .*, got module"),
        (np.random.RandomState(1), TypeError, "rng: expected a Philox4x32, None, .*, got RandomState"),
        ((7.0, 0), TypeError, r"rng\[0\] \(seed\): expected an int, got float"),
        ((7, None), TypeError, r"rng\[1\] \(stream\): expected an int, got NoneType"),
        ((-1, 0), ValueError, r"rng\[0\] \(seed\): expected 0 <= "),
        ((2**64, 0), ValueError, r"rng\[0\] \(seed\): expected 0 <= "),
        ((0, 2**56), ValueError, r"rng\[1\] \(stream\): expected 0 <= "),
    ],
)
def test_wrong_rng(rng, error, message):
    x = np.ones(3)
    with pytest.raises(error, match=message):
        dropout(x, rng=rng, out=x)
    assert_same_bits(x, np.ones(3))


@pytest.mark.parametrize(
    "mask",
    [
        DropoutMask(-1, 0, 0.5, (3,)),
        DropoutMask(2**64, 0, 0.5, (3,)),
        DropoutMask(0, -1, 0.5, (3,)),
        DropoutMask(0, 2**56, 0.5, (3,)),  # would reach into the next domain
        DropoutMask(0, 0, -0.5, (3,)),
        DropoutMask(0, 0, 2.0, (3,)),
        DropoutMask(0, 0, math.nan, (3,)),
        DropoutMask(0.5, 0, 0.5, (3,)),
        DropoutMask(0, 0, "0.5", (3,)),
        DropoutMask(0, 0, None, (3,)),
    ],
)
def test_a_mask_made_by_hand_is_checked(mask):
    grad = np.ones(3)
    with pytest.raises((TypeError, ValueError), match="expected"):
        dropout_backward(grad, mask, out=grad)
    assert_same_bits(grad, np.ones(3))
    with pytest.raises((TypeError, ValueError), match="expected"):
        mask.to_array()
    if isinstance(mask.p, float) and 0 <= mask.p <= 1:
        with pytest.raises((TypeError, ValueError), match="expected"):
            dropout(grad, mask.p, rng=mask)


FORGED_SHAPES = {
    "negative": ((2, -3), ValueError),
    "None": (None, TypeError),
    "int": (6, TypeError),
    "list": ([2, 3], TypeError),
    "str": ("23", TypeError),
    "floats": ((2.5, 3.0), TypeError),
    "flags": ((True, True), TypeError),
    "array": (np.array([2, 3]), TypeError),
    "too large": ((2**40, 2**40), ValueError),
    "too large and empty": ((2**62, 0, 2**62), ValueError),
    "too many": ((1,) * 65, ValueError),
}


@pytest.mark.parametrize(("shape", "error"), FORGED_SHAPES.values(), ids=FORGED_SHAPES.keys())
def test_a_shape_made_by_hand_is_checked(shape, error):
    mask, x, grad = DropoutMask(1, 2, 0.5, shape), np.ones((2, 3)), np.ones((2, 3))
    with pytest.raises(error, match=r"^mask\.shape: expected .*, got "):
        mask.to_array()
    with pytest.raises(error, match=r"^rng\.shape: expected .*, got "):
        dropout(x, 0.5, rng=mask, out=x)
    with pytest.raises(error, match=r"^mask\.shape: expected .*, got "):
        dropout_backward(grad, mask, out=grad)
    with pytest.raises(error, match=r"^mask\.shape: expected .*, got "):
        fastopt.bias_leaky_relu_dropout_backward(grad, x, mask, 0.1, out=grad)
    assert_same_bits(x, np.ones((2, 3)))
    assert_same_bits(grad, np.ones((2, 3)))


def test_a_mask_of_numpy_numbers_is_the_same():
    mask = DropoutMask(np.uint64(1), np.int64(2), np.float64(0.5), (np.int64(2), 3))
    assert_same_bits(mask.to_array(), DropoutMask(1, 2, 0.5, (2, 3)).to_array())


WRONG_CALLS = {
    "x kind": (lambda rng: dropout([1.0], rng=rng), TypeError),
    "x dtype": (lambda rng: dropout(np.ones(3, np.float16), rng=rng), TypeError),
    "p kind": (lambda rng: dropout(np.ones(3), "0.5", rng=rng), TypeError),
    "p bool": (lambda rng: dropout(np.ones(3), True, rng=rng), TypeError),
    "p below": (lambda rng: dropout(np.ones(3), -0.1, rng=rng), ValueError),
    "p above": (lambda rng: dropout(np.ones(3), 1.1, rng=rng), ValueError),
    "p nan": (lambda rng: dropout(np.ones(3), math.nan, rng=rng), ValueError),
    "out kind": (lambda rng: dropout(np.ones(3), rng=rng, out=[0.0] * 3), TypeError),
    "out dtype": (lambda rng: dropout(np.ones(3), rng=rng, out=np.empty(3, np.float32)), TypeError),
    "out shape": (lambda rng: dropout(np.ones(3), rng=rng, out=np.empty(4)), ValueError),
    "out read-only": (lambda rng: dropout(np.ones(3), rng=rng, out=np.broadcast_to(1.0, 3)), ValueError),
    "out overlap": (lambda rng: _dropout_shifted(rng), ValueError),
}


def _dropout_shifted(rng):
    buffer = np.ones(4)
    dropout(buffer[:-1], rng=rng, out=buffer[1:])


@pytest.mark.parametrize(("call", "error"), WRONG_CALLS.values(), ids=WRONG_CALLS.keys())
@pytest.mark.parametrize("make", [Philox4x32, np.random.default_rng])
def test_a_wrong_call_takes_nothing_from_the_rng(call, error, make):
    rng = make(5)
    with pytest.raises(error):
        call(rng)
    if make is Philox4x32:
        assert rng.state == make(5).state
    else:
        assert rng.bit_generator.state == make(5).bit_generator.state
