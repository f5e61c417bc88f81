"""Checks of arguments: of kinds, dtypes and layouts when an op is compiled, of shapes and numbers when it runs."""

from __future__ import annotations

from math import inf

import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload, register_jitable

from fastopt.random import MAX_STREAM

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
        codes = kind.dtype == types.uint16  # which astype would take for integers
        mend = "codes of bfloat16 are for calls from Python" if codes else f"{name}.astype(np.float32) converts it"
        raise refuse(name, "an array of float32 or float64", kind, mend)
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


def check_no_output(out):
    if not is_none(out):
        raise refuse("out", "None inside @njit", out)


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

    __module__ = "fastopt._njit"

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
def check_shape(name, x, wanted, like_name):
    if x.shape != wanted:
        raise Refused("{}: expected shape {} like {}, got {}", name, wanted, like_name, x.shape)


@register_jitable
def check_finite(name, number):
    if not -inf < number < inf:
        raise Refused("{}: expected a finite number, got {}", name, number)


@register_jitable
def check_positive(name, number):
    """Or 0."""
    if not 0 <= number < inf:
        raise Refused("{}: expected a finite number >= 0, got {}", name, number)
