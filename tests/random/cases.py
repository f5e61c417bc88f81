"""The family's golden outputs. Its bits at every size and address are in test_draws.py and test_normal.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastopt as fo

from ..support import GOLDEN_ADDRESS


def golden(x: np.ndarray, grad: np.ndarray) -> dict[str, Callable[[], Any]]:
    size, dtype = x.size, x.dtype.type
    seed, stream = GOLDEN_ADDRESS
    return {
        "Philox4x32.random_raw": lambda: fo.Philox4x32(seed).random_raw(size, stream=stream, offset=3),
        "Philox4x32.random": lambda: fo.Philox4x32(seed).random(size, dtype, stream=stream, offset=3),
        "Philox4x32.standard_normal": lambda: fo.Philox4x32(seed).standard_normal(size, dtype, offset=3),
        "Philox4x32.integers": lambda: fo.Philox4x32(seed).integers(-(2**40), 10**17, size, stream=stream, offset=3),
        "Philox4x32.permutation": lambda: fo.Philox4x32(seed).permutation(size, stream=stream),
        "Philox4x32.spawn": lambda: np.array([c.seed for c in fo.Philox4x32(seed).spawn(5)], np.uint64),
    }
