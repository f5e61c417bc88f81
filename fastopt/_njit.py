"""What the overloads of fastopt/_numba.py are made of: functions of kernels/njit.cpp, and the checks of arguments."""

from __future__ import annotations

from inspect import Parameter, Signature
from math import inf

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload, register_jitable

from fastopt import _core
from fastopt.random import MAX_STREAM

int64, uint64, float64 = types.int64, types.uint64, types.float64

for _name, _address in _core.symbols().items():
    llvmlite.binding.add_symbol(_name, _address)


# ---- functions of kernels/njit.cpp -----------------------------------------------------------------------------------


def kernel(name, arrays, *scalars, contract=1, result=int64):
    """Return that function as one for compiled code, which takes so many arrays of one dtype, and scalars.

    An array is passed as a pointer, None as a null pointer, and the size of the first array after all of them.
    """

    def typed(context, *arguments):
        kinds = arguments[:arrays]
        symbol = f"fastopt_{contract}_{name}" + (f"_{kinds[0].dtype}" if kinds else "")

        def code(context, builder, signature, values):
            byte_pointer = ir.IntType(8).as_pointer()
            passed = []
            for kind, value in zip(kinds, values, strict=False):
                if isinstance(kind, types.Array):
                    passed.append(builder.bitcast(context.make_array(kind)(context, builder, value).data, byte_pointer))
                else:
                    passed.append(ir.Constant(byte_pointer, None))
            if kinds:
                passed.append(context.make_array(kinds[0])(context, builder, values[0]).nitems)
            passed += values[arrays:]
            function = ir.FunctionType(context.get_value_type(result), [value.type for value in passed])
            return builder.call(cgutils.get_or_insert_function(builder.module, function, symbol), passed)

        return result(*kinds, *scalars), code

    # Numba asks for the names of the arguments, and cannot call what takes any number of them.
    names = ["context", *(f"argument{k}" for k in range(arrays + len(scalars)))]
    typed.__signature__ = Signature([Parameter(n, Parameter.POSITIONAL_ONLY) for n in names])
    typed.__name__ = name
    return intrinsic(typed)


# What the functions with a status return beside 0 (kernels/njit.cpp).
EPS_IS_ZERO = 2


# ---- checks at compile time ------------------------------------------------------------------------------------------


def given(kind):
    """Whether the caller gave this argument: otherwise its type is the default itself, or says that it was omitted."""
    return isinstance(kind, types.Type) and not isinstance(kind, types.Omitted)


def is_none(kind):
    return not given(kind) or isinstance(kind, types.NoneType)


def refuse(name, expected, got, mend=""):
    return TypingError(f"{name}: expected {expected}, got {got}{mend and f'; {mend}'}")


def check_array(name, kind, like=None, like_name="", *, written=False):
    """Refuse what is not an array that a kernel takes, of the dtype and dimensions of `like`."""
    if not isinstance(kind, types.Array):
        raise refuse(name, "an array of float32 or float64", kind)
    if kind.dtype not in (types.float32, types.float64):
        raise refuse(name, "an array of float32 or float64", kind, f"{name}.astype(np.float32) converts it")
    if kind.layout != "C" or not kind.aligned:
        raise refuse(name, "a C-contiguous array", kind, f"np.ascontiguousarray({name}) makes one")
    if written and not kind.mutable:
        raise refuse(name, "a writeable array", kind, f"pass {name}.copy()")
    if like is not None and kind.dtype != like.dtype:
        raise refuse(name, f"{like.dtype} like {like_name}", kind.dtype, f"{name}.astype(np.{like.dtype}) converts it")
    if like is not None and kind.ndim != like.ndim:
        raise refuse(name, f"{like.ndim} dimensions like {like_name}", kind.ndim)


def check_output(name, kind, like, like_name):
    if not is_none(kind):
        check_array(name, kind, like, like_name, written=True)


def check_numbers(**kinds):
    for name, kind in kinds.items():
        if given(kind) and not isinstance(kind, types.Integer | types.Float):
            raise refuse(name, "a float", kind)


def check_integers(**kinds):
    for name, kind in kinds.items():
        if given(kind) and not isinstance(kind, types.Integer):
            raise refuse(name, "an int", kind)


def check_flags(**kinds):
    for name, kind in kinds.items():
        if given(kind) and not isinstance(kind, types.Boolean):
            raise refuse(name, "True or False", kind)


def check_rng(kind):
    pair = isinstance(kind, types.BaseTuple) and not isinstance(kind, types.BaseNamedTuple) and len(kind) == 2
    if not pair or not all(isinstance(part, types.Integer) for part in kind):
        raise refuse("rng", "a (seed, stream) pair of ints inside @njit", "None" if is_none(kind) else kind)


# ---- checks at run time ----------------------------------------------------------------------------------------------


class Refused(ValueError):
    """A ValueError whose message is put together when it is read. Compiled code that is cached refers to it by name."""

    def __str__(self):
        return str(self.args[0]).format(*self.args[1:])


def new_or_checked(out, like):
    """`out`, which must have the shape of `like`, or a new array when it is None. For compiled code only."""
    raise NotImplementedError


@overload(new_or_checked)
def _new_or_checked(out, like):
    if is_none(out):
        return lambda out, like: np.empty_like(like)

    def implementation(out, like):
        if out.shape != like.shape:
            raise Refused("out: expected shape {}, got {}", like.shape, out.shape)
        return out

    return implementation


@register_jitable
def check_address(seed, stream):
    if seed < 0:
        raise Refused("seed: expected 0 <= seed < 2**64, got {}", seed)
    if stream < 0 or stream >= MAX_STREAM:
        raise Refused("stream: expected 0 <= stream < 2**56, got {}", stream)


@register_jitable
def check_probability(p):
    if not 0 <= p <= 1:
        raise Refused("p: expected a number from 0 to 1, got {}", p)


@register_jitable
def check_finite(negative_slope):
    if not -inf < negative_slope < inf:
        raise Refused("negative_slope: expected a finite number, got {}", negative_slope)
