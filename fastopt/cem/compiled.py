"""An objective that Numba has compiled is called where the candidates are made, in every thread of the pool."""

from __future__ import annotations

import re
import weakref
from typing import Any

import numpy as np

from fastopt._core import CompiledScore

_compiled: weakref.WeakKeyDictionary[Any, dict[Any, CompiledScore | None]] = weakref.WeakKeyDictionary()


def is_njit(fun: Any) -> bool:
    """Whether fun is compiled by Numba, found out without importing it."""
    return type(fun).__module__.partition(".")[0] == "numba" and hasattr(fun, "py_func")


def score_function(fun: Any, dtype: Any, args: tuple[Any, ...]) -> CompiledScore | None:
    """Return fun as what the pool's threads call, or None if that cannot be.

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


def _compile(fun: Any, dtype: Any, args: tuple[Any, ...]) -> CompiledScore | None:
    import numba
    from numba import carray, types  # type: ignore[attr-defined]

    element = types.float32 if dtype == np.float32 else types.float64
    if not fun.signatures or fun._can_compile:  # else it was given its types, and takes no others
        # A function of its own: what is compiled must not hold fun, or fun would stay for ever.
        fun = numba.jit(**fun.targetoptions)(fun.py_func)

    @numba.njit
    def one(x):  # type: ignore[no-untyped-def]
        return fun(x, *args)

    @numba.njit
    def score(x_pointer, rows, dimensions, scores_pointer, at_pointer):  # type: ignore[no-untyped-def]
        x = carray(x_pointer, (rows, dimensions))
        scores = carray(scores_pointer, (rows,))
        at = carray(at_pointer, (1,))
        for i in range(rows):
            at[0] = i
            scores[i] = one(x[i])

    pointer: Any = types.CPointer
    signature = pointer(element), types.int64, types.int64, pointer(types.float64), pointer(types.int64)
    try:
        score.compile(signature)
    except numba.errors.NumbaError:
        return None  # called one candidate at a time, it says itself what is wrong
    # Called as Numba's own code calls it, by a convention that says what was raised. (A C callback prints that and goes
    # on, and compiled code that catches exceptions does not catch Python's.)
    compiled: Any = score.overloads[signature]
    library = compiled.library
    address = library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return CompiledScore(score, address, _calls_python(library.get_llvm_str()))


def _calls_python(code: str) -> bool:
    """Whether code of LLVM's takes the GIL: elsewhere than where Numba makes functions for Python and for C."""
    functions = (function.partition("\n}")[0] for function in code.split("\ndefine ")[1:])
    return any("numba_gil_ensure" in f and not re.match(r"[^@]*@\"?(cfunc|cpython)\.", f) for f in functions)
