"""Arrays of bfloat16, which NumPy does not have: uint16 arrays of its codes, each the upper half of a float32."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt.reference.core import Array


def widened(x: Array) -> Array:
    """The float32 values of codes, exactly; other arrays as they are."""
    if x.dtype != np.uint16:
        return x
    return np.asarray((x.astype(np.uint32) << np.uint32(16)).view(np.float32))


def rounded(x: Array) -> Array:
    """The codes nearest to float32 values, even ones of two as near; one code for all NaN."""
    bits = x.view(np.uint32)
    code = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)) >> np.uint32(16)
    return np.asarray(np.where(np.isnan(x), 0x7FC0, code).astype(np.uint16))


def of_codes(update: Callable[..., bool]) -> Callable[..., bool]:
    """An update that takes codes too: its arithmetic is in float32 then, and what it writes is rounded once."""

    @functools.wraps(update)
    def update_of_any(param: Array, grad: Array, states: list[Array], *rest: Any, **hyper: Any) -> bool:
        if param.dtype != np.uint16:
            return update(param, grad, states, *rest, **hyper)
        written = [widened(x) for x in (param, *states)]
        moved = update(written[0], widened(grad), written[1:], *rest, **hyper)
        for codes, values in zip((param, *states), written, strict=True):
            codes[...] = rounded(values)
        return moved

    return update_of_any
