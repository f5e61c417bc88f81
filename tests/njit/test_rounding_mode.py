"""The names inside @njit, called by a thread that rounds in another direction: see promises/test_rounding_mode.py."""

from __future__ import annotations

import pytest

from ..policy.test_bits import plain
from ..promises.test_rounding_mode import DIRECTIONS, check, each_dtype, known_here
from . import test_njit, test_policy

numba = pytest.importorskip("numba")
pytestmark = [known_here, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

RUNS = {**test_njit.CASES, **test_policy.CASES}


@each_dtype
@pytest.mark.parametrize("name", RUNS)
def test_compiled_code(name, dtype):
    compiled = numba.njit(RUNS[name])
    if name in test_policy.CASES:
        arrays = test_policy.arrays(37, 5, dtype)
    else:
        arrays = [plain(k, (30, 7), dtype) for k in (1, 2)]
    compiled(*(array.copy() for array in arrays))  # is compiled in the default mode
    for direction in DIRECTIONS:
        check(compiled, arrays, direction)
