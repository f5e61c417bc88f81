"""What the tests of options share: numbers that do not overflow, and everything that a step may change."""

from __future__ import annotations

import numpy as np
import pytest

from fastopt._tree import leaves

from ..support import DTYPES, assert_same_bits, values

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
STATE_DTYPES = (None, "bfloat16", "8bit")
each_state_dtype = pytest.mark.parametrize("state_dtype", STATE_DTYPES)


def finite(seed, shape, dtype=np.float64):
    """Numbers of which no square or sum overflows: signed zeros and subnormal ones among them."""
    x = values(seed, shape, dtype)
    return np.where(np.abs(x) < 2**10, x, dtype(0.75))


def snapshot(optimizer, params):
    """Everything that a step may change, copied: parameters, states, averages and counts."""
    state = {key: np.array(value) for key, value in optimizer.state_dict().items() if key != "state_dtype"}
    return state | {f"params/{path}": array.copy() for path, array in leaves(params)}


def assert_same_snapshots(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert_same_bits(one[key], other[key], key)
