"""Promise 1: a kernel returns exactly the bits of its definition in fastopt/reference/.

Each test takes every case of tests/cases.py, every mode of an op on arrays of one shape; others are compared in their
family's folder. test_same_bits_isa.py repeats both under each instruction set.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastopt

from ..cases import CASE_IDS, CASES
from ..support import (
    DTYPES,
    LAYOUTS,
    NONTEMPORAL_BYTES,
    OPTIMIZER_GRAIN,
    assert_equals_reference,
    assert_same_bits,
    assert_same_results,
    case_arrays,
    laid_out,
    run_reference,
    special_values,
)

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASE_IDS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@each_case
@each_dtype
def test_lengths_and_shifted_addresses(case, dtype):
    shifts = {n: {0, n % 15 + 1} for n in range(68)} | dict.fromkeys((1, 15, 16, 17, 33, 64, 67), range(16))
    for n, some in shifts.items():
        expected = run_reference(case.run, case_arrays(case, (n,), dtype))
        for shift in some:
            arrays = case_arrays(case, (n,), dtype, lambda k, shift=shift: (shift + 5 * k) % 16)
            assert_equals_reference(case.run, arrays, f"length {n}, shift {shift}", expected)


@each_case
@each_dtype
def test_chunk_borders_and_threads(case, dtype):
    # The last size is one in which a thread takes several chunks at once (thread_pool.cpp).
    sizes = [case.grain - 1, case.grain, case.grain + 1, 3 * case.grain + 5, 37 * OPTIMIZER_GRAIN + 11]
    for size in sizes:
        arrays = case_arrays(case, (size,), dtype)
        returned, after = run_reference(case.run, arrays)
        for threads in (1, 2, 3):
            copies = [array.copy() for array in arrays]
            with fastopt.num_threads(threads):
                assert_same_results(case.run(fastopt, *copies), returned, f"size {size}, {threads} threads")
            for array, wanted in zip(copies, after, strict=True):
                assert_same_bits(array, wanted, f"size {size}, {threads} threads")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name) for name, case in zip(CASE_IDS, CASES.values(), strict=True) if case.nontemporal],
)
@each_dtype
def test_outputs_too_large_for_the_cache(case, dtype):
    size = NONTEMPORAL_BYTES // np.dtype(dtype).itemsize + 12_345
    assert_equals_reference(case.run, case_arrays(case, (size,), dtype, lambda k: 3 + 5 * k))


@each_case
@each_dtype
@pytest.mark.parametrize("shape", [(5, 7, 3), (6, 1), (0, 3), (1,), ()], ids=str)
def test_layouts(case, dtype, shape):
    layouts = list(LAYOUTS)
    expected = run_reference(case.run, case_arrays(case, shape, dtype))
    for first, apart in itertools.product(range(len(layouts)), (0, 1, 3)):  # alike, and mixed in two ways
        chosen = [layouts[(first + apart * k) % len(layouts)] for k in range(case.arrays)]
        arrays = case_arrays(case, shape, dtype, chosen.__getitem__)
        assert_equals_reference(case.run, arrays, f"layouts {chosen}", expected)


@each_case
@each_dtype
def test_large_arrays_in_other_layouts(case, dtype):
    # Threads on the copies that such arrays are worked on, and on Fortran order without a copy.
    expected = run_reference(case.run, case_arrays(case, (211, 463), dtype))
    for layout in ("Fortran", "reversed", "unaligned"):
        arrays = case_arrays(case, (211, 463), dtype, lambda k, layout=layout: layout)
        assert_equals_reference(case.run, arrays, layout, expected)


@each_case
@each_dtype
def test_special_values(case, dtype):
    special = special_values(dtype)
    choices = np.random.default_rng(1).integers(0, len(special), (case.arrays, 4099))
    assert_equals_reference(case.run, [special[row] for row in choices])


@each_case
@given(data=st.data())
def test_any_values(case, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    elements = st.floats(width=32 if dtype == np.float32 else 64, allow_nan=True, allow_subnormal=True)
    layouts = st.sampled_from([*LAYOUTS, *range(1, 16)])
    arrays = [
        laid_out(data.draw(hnp.arrays(dtype, shape, elements=elements)), data.draw(layouts)) for _ in range(case.arrays)
    ]
    assert_equals_reference(case.run, arrays)


@each_dtype
@pytest.mark.parametrize("layout", ["C", "Fortran", "transposed"])
def test_new_results_have_the_memory_order_of_their_input(dtype, layout):
    x = laid_out(np.ones((4, 5, 6), dtype), layout)
    mask = fastopt.DropoutMask(1, 2, 0.5, x.shape)
    for y in (
        fastopt.leaky_relu(x),
        fastopt.leaky_relu_backward(x, x),
        fastopt.dropout(x, rng=(1, 2))[0],
        fastopt.dropout_backward(x, mask),
    ):
        assert y.strides == np.empty_like(x).strides
        assert y.base is None
        assert not np.may_share_memory(x, y)
