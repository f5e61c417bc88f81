"""Promise 1 in a thread whose processor flushes subnormal numbers to zero, which is what torch can switch on."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import fastopt
from fastopt import reference

from ..cases import CASE_IDS, CASES
from ..support import (
    DTYPES,
    assert_same_bits,
    assert_same_results,
    case_arrays,
    run_python,
    run_reference,
    special_values,
)

torch = pytest.importorskip("torch")


@pytest.fixture
def flushing():
    """A function that switches the mode on; it is off again after the test."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU has no such mode")
    torch.set_flush_denormal(False)
    yield lambda: torch.set_flush_denormal(True)
    torch.set_flush_denormal(False)


def flushes() -> bool:
    half_of_smallest_normal = np.array([2.0**-1022]) * 0.5
    return int(half_of_smallest_normal.view(np.uint64)[0]) == 0


def subnormals(k, size, dtype):
    """Special values, half of them subnormal or near it."""
    rng = np.random.default_rng(k)
    near = (rng.standard_normal(size) * np.finfo(dtype).tiny.astype(np.float64)).astype(dtype)
    return np.where(rng.random(size) < 0.5, near, rng.choice(special_values(dtype), size))


@functools.lru_cache(2)  # of both sizes, for the next number of threads
def expected(case, dtype, size):
    arrays = [subnormals(k, size, dtype) for k in range(case.arrays)]
    return arrays, *run_reference(case.run, arrays)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", CASES.values(), ids=CASE_IDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits(case, dtype, threads, flushing):
    fastopt.set_num_threads(threads)
    for size in (100, 3 * case.grain + 5):
        given, returned, after = expected(case, dtype, size)
        arrays = [array.copy() for array in given]
        with np.errstate(all="ignore"):
            flushing()
            actual = case.run(fastopt, *arrays)
            still = flushes()
            torch.set_flush_denormal(False)
        assert still  # the caller's mode is as it was
        assert_same_results(actual, returned, f"size {size}")
        for array, wanted in zip(arrays, after, strict=True):
            assert_same_bits(array, wanted, f"size {size}")


@pytest.mark.parametrize("value", [2.0**-530, 2.0**-537])
def test_a_penalty_that_is_subnormal(value, flushing):
    # Each block's sum is subnormal, and so are the total and the penalty: they are added and scaled outside the kernel.
    x = np.full(5000, value)
    expected = reference.l2_penalty(x, 2.0)
    assert 0 < expected < np.finfo(np.float64).tiny
    flushing()
    actual = fastopt.l2_penalty(x, 2.0)
    torch.set_flush_denormal(False)
    assert_same_bits(actual, expected)


def test_numbers_that_are_subnormal(flushing):
    # They are compared outside the kernels: a probability that is not 0 drops, a negative slope is refused.
    x, flags, tiny = np.linspace(-1, 1, 1 << 17), np.zeros(1 << 17, bool), 2.0**-1060

    def run():
        return [
            fastopt.dropout(x, tiny, rng=(1, 2))[0],
            fastopt.bias_leaky_relu_dropout(x[None], x, 0.5, tiny, rng=(1, 2))[0],
            fastopt.policy.normalize_advantage(x, eps=tiny),
            fastopt.policy.discounted_returns(x, flags, flags, tiny),
            fastopt.policy.discounted_returns(x.astype(np.float32), flags, flags, np.float32(2.0**-140)),
        ]

    expected = run()
    assert np.count_nonzero(expected[0]) < np.count_nonzero(x)
    flushing()
    actual = run()
    with pytest.raises(ValueError, match="negative_slope: expected a finite number >= 0"):
        fastopt.bias_leaky_relu_dropout(x[None], x, -tiny, 0.5)
    torch.set_flush_denormal(False)
    assert_same_results(actual, expected)


def test_hyper_parameters_that_are_subnormal(flushing):
    # For the processor they are 0 in this mode, which they may not be.
    found = []
    for switch in (lambda: None, flushing):
        arrays = [np.full(5, 0.5) for _ in range(4)]
        switch()
        fastopt.adam_step(*arrays, step=2, weight_decay=2.0**-1030)
        fastopt.clip_grad_norm_(arrays[0], 2.0**-1030)
        torch.set_flush_denormal(False)
        found.append(arrays)
    for array, expected in zip(*found, strict=True):
        assert_same_bits(array, expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_momentum_that_is_subnormal_has_no_buffer(compiled):
    # It is 0 for whoever compares it in this mode and a number for the kernel, which would look for its buffer.
    if compiled:
        pytest.importorskip("numba")
    run_python(
        f"""
        import numpy as np, torch, fastopt
        steps = [
            lambda p, g, v, m: fastopt.sgd_step(p, g, None, 1, momentum=m),
            lambda p, g, v, m: fastopt.rmsprop_step(p, g, v, momentum=m),
        ]
        if {compiled}:
            import numba
            steps = [numba.njit(step) for step in steps]
        arrays = [np.ones(5) for _ in range(3)]
        for step in steps:
            step(*arrays, 0.0)  # compiles, and is right
            torch.set_flush_denormal(True)
            try:
                step(*arrays, 2.0**-1060)
            except TypeError as error:
                assert "momentum_buffer: expected an array for momentum" in str(error)
            else:
                assert {compiled}  # where all is as the mode has it
            torch.set_flush_denormal(False)
        """
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_ops_in_other_layouts(dtype, flushing):
    for name in ("Adam", "leaky_relu_backward 0.01", "dropout 0.3"):
        case = CASES[name]
        arrays = case_arrays(case, (300, 301), dtype, lambda k: ("Fortran", "every other", "C", "reversed")[k])
        for k, array in enumerate(arrays):
            array[...] = subnormals(k, array.size, dtype).reshape(array.shape)
        with np.errstate(all="ignore"):
            returned, _ = run_reference(case.run, arrays)
            flushing()
            actual = case.run(fastopt, *arrays)
            torch.set_flush_denormal(False)
        assert_same_results(actual, returned, name)


def test_workers_that_are_made_by_a_thread_that_flushes():
    # A new thread inherits the mode of the one that makes it.
    run_python(
        """
        import numpy as np, torch, fastopt
        fastopt.set_num_threads(1)
        tiny = np.full(1 << 20, 2.0**-1030)
        expected = fastopt.leaky_relu(-tiny, 0.5).tobytes(), fastopt.dropout(tiny, 0.5, rng=(1, 2))[0].tobytes()
        x, y = -tiny, np.empty_like(tiny)
        torch.set_flush_denormal(True)
        fastopt.set_num_threads(3)
        for _ in range(20):
            assert fastopt.leaky_relu(x, 0.5, out=y).tobytes() == expected[0]
            assert fastopt.dropout(tiny, 0.5, rng=(1, 2), out=y)[0].tobytes() == expected[1]
        """
    )
