"""An objective that Numba has compiled is called where the candidates are made, in every thread of the pool."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

_compiled: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def is_njit(fun: Any) -> bool:
    """Whether fun is compiled by Numba, found out without importing it."""
    return type(fun).__module__.partition(".")[0] == "numba" and hasattr(fun, "py_func")


def score_function(fun: Any, dtype: Any, args: tuple[Any, ...]) -> Any:
    """Return (``cem_score_args.score`` of kernels/fastopt.h made of fun, its address), or None if that cannot be.

    It cannot for a function that runs threads of its own, or whose result Numba does not know to be a number.
    """
    if fun.targetoptions.get("parallel") or not all(isinstance(value, int | float) for value in args):
        return None
    of_function = _compiled.setdefault(fun, {})
    # Numba compiles for types, and 3 == 3.0, True == 1 and 0.0 == -0.0.
    key = np.dtype(dtype).str, *((type(value), repr(value)) for value in args)
    if key not in of_function:
        of_function[key] = _compile(fun, dtype, args)
    return of_function[key]


def _compile(fun: Any, dtype: Any, args: tuple[Any, ...]) -> Any:
    import numba
    from numba import carray, types  # type: ignore[attr-defined]

    element = types.float32 if dtype == np.float32 else types.float64
    if not fun.signatures or fun._can_compile:  # else it was given its types, and takes no others
        # A function of its own: what is compiled must not hold fun, or fun would stay for ever.
        fun = numba.jit(**fun.targetoptions)(fun.py_func)

    @numba.njit
    def one(x):  # type: ignore[no-untyped-def]
        return fun(x, *args)

    def score(x_pointer, rows, dimensions, scores_pointer):  # type: ignore[no-untyped-def]
        x = carray(x_pointer, (rows, dimensions))
        scores = carray(scores_pointer, (rows,))
        try:
            for i in range(rows):
                scores[i] = one(x[i])
        except Exception:
            return 1
        return 0

    pointer: Any = types.CPointer
    signature = types.int64(pointer(element), types.int64, types.int64, pointer(types.float64))
    try:
        compiled = numba.cfunc(signature)(score)
    except numba.errors.NumbaError:
        return None  # called one candidate at a time, it says itself what is wrong
    return compiled, compiled.address
