"""Arrays of bfloat16, given as uint16 codes: the bits of the definition, at every length, layout and thread count."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt

from ..support import LAYOUTS, OPTIMIZER_GRAIN, assert_equals_reference, assert_same_bits, call, laid_out, run_reference
from .cases import CODES

each_case = pytest.mark.parametrize("name", CODES)


def codes(seed, shape):
    """Of all 65,536, one in four; the others of numbers of common size."""
    rng = np.random.default_rng(seed)
    common = (rng.standard_normal(shape).astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return np.where(rng.random(shape) < 1 / 4, rng.integers(0, 1 << 16, shape, np.uint16), common)


@each_case
def test_lengths_and_shifted_addresses(name):
    count, run = CODES[name]
    for n in range(131):
        arrays = [laid_out(codes(k, (n,)), (n + 5 * k) % 16) for k in range(count)]
        assert_equals_reference(run, arrays, f"length {n}")


@each_case
def test_block_and_chunk_borders_and_threads(name):
    count, run = CODES[name]
    for size in (1023, 1024, 1025, OPTIMIZER_GRAIN + 1, 3 * OPTIMIZER_GRAIN + 5):
        arrays = [codes(k, (size,)) for k in range(count)]
        expected = run_reference(run, arrays)
        for threads in (1, 3):
            copies = [array.copy() for array in arrays]
            with fastopt.num_threads(threads):
                assert_equals_reference(run, copies, f"size {size}, {threads} threads", expected)


@each_case
@pytest.mark.parametrize("shape", [(5, 7, 3), (0, 3), (1,), ()], ids=str)
def test_layouts(name, shape):
    count, run = CODES[name]
    for first in range(len(LAYOUTS)):
        chosen = [list(LAYOUTS)[(first + k) % len(LAYOUTS)] for k in range(count)]
        assert_equals_reference(run, [laid_out(codes(k, shape), chosen[k]) for k in range(count)], str(chosen))


def test_a_tie_goes_to_the_even_code_and_all_nan_are_one():
    def moved(p, grad):
        p, grad = np.array([p], np.uint16), np.array([grad], np.uint16)
        fastopt.sgd_step(p, grad, None, 1, lr=1.0)
        return hex(p[0])

    half = 0xBB80  # -2**-8: half a unit above 1 is in the middle of two codes
    assert moved(0x3F80, half) == "0x3f80"
    assert moved(0x3F81, half) == "0x3f82"
    assert moved(0x7F7F, 0xFF7F) == "0x7f80"  # to infinity, where the largest number is exceeded
    assert moved(0x3F80, 0xFFFF) == moved(0x7FA0, 0) == "0x7fc0"


def test_an_average_of_squares_stays_a_normal_number():
    p, grad, m, v = (np.full(3, code, np.uint16) for code in (0x3F80, 0, 0x0080, 0x0080))
    fastopt.adam_step(p, grad, m, v, 5)
    assert m.tolist() == [0, 0, 0]  # below the smallest normal number
    assert v.tolist() == [0x0100] * 3  # twice that


def test_the_norm_of_codes_is_that_of_their_values():
    for size in (0, 1, 15, 4097, 100_000):
        x = codes(1, (size,)) & 0xBFFF  # below 2
        values = (x.astype(np.uint32) << 16).view(np.float32)
        assert fastopt.grad_norm([x]) == fastopt.grad_norm([values])
    assert fastopt.grad_norm([np.zeros(5, np.uint16), np.full(2, 0x4040, np.uint16)]) == np.sqrt(18.0)
    assert fastopt.grad_norm(np.array(0, np.uint16)) == 0  # whose squares are summed again, as tiny ones are
    assert fastopt.grad_norm(np.array(0x7F80, np.uint16)) == np.inf


def test_codes_and_numbers_are_not_mixed():
    p, grad, m, v = (np.zeros(3, np.uint16) for _ in range(4))
    all_alike = r"; give all as numbers, or .* all as codes of bfloat16, x\.view"  # astype takes codes for integers
    with pytest.raises(TypeError, match="grad: expected uint16 like param, got float32" + all_alike):
        fastopt.adam_step(p, grad.astype(np.float32), m, v, 1)
    with pytest.raises(TypeError, match="exp_avg: expected float32 like param, got uint16" + all_alike):
        fastopt.adam_step(p.astype(np.float32), grad.astype(np.float32), m, v.astype(np.float32), 1)
    in_float32 = r"expected float32 or float64, got uint16; .*view\(np\.float32\) codes of bfloat16"
    with pytest.raises(TypeError, match="params/0: " + in_float32):
        fastopt.Adam([p])
    with pytest.raises(TypeError, match="grads/0: " + in_float32):
        fastopt.clip_grad_norm_([grad], 1.0)
    with pytest.raises(TypeError, match="grads/0.values: " + in_float32):
        fastopt.grad_norm([fastopt.SparseRows(np.array([0]), grad[None])])


def test_a_memory_map_is_an_array_as_any(tmp_path):
    arrays = [codes(k, (9,)) for k in range(4)]
    expected = run_reference(call("adam_step", 3), arrays)
    for k, array in enumerate(arrays):
        arrays[k] = np.memmap(tmp_path / f"{k}", np.uint16, "w+", shape=array.shape)
        arrays[k][...] = array
    assert_equals_reference(call("adam_step", 3), arrays, "memmap", expected)


def test_what_is_only_read_stays():
    arrays = [codes(k, (99,)) for k in range(4)]
    grad = arrays[1].copy()
    call("adam_step", 3)(fastopt, *arrays)
    assert_same_bits(arrays[1], grad)
