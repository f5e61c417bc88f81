"""Tuples and lists of arrays, nested, inside ``@njit``: a table of what they hold, for kernels that take it all."""

from __future__ import annotations

import functools

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from fastopt._njit.checks import Refused, check_array, refuse

# A row of the table: addresses, size and element type of the arrays that go together (struct group of
# kernels/optimizers/njit.hpp); behind all rows is room for as many numbers as there are addresses.
ADDRESSES = 4
SIZE, ELEMENT_TYPE, ROW = ADDRESSES, ADDRESSES + 1, ADDRESSES + 2


# ---- checks at compile time ------------------------------------------------------------------------------------------


def is_list(kind):
    return isinstance(kind, types.List | types.ListType)


def form_of(kind):
    if isinstance(kind, types.BaseTuple):
        return f"a tuple of {len(kind)}"
    return "a list" if is_list(kind) else "an array"


def parts_of(kind):
    """The kinds in a container, one for all of a list; None of an array."""
    return list(kind) if isinstance(kind, types.BaseTuple) else [kind.dtype] if is_list(kind) else None


def check_arrays(name, kind, like=None, like_name="", *, or_none=False, written=False):
    """Refuse what is no nest of arrays that a kernel takes, in the form of `like`."""
    parts = parts_of(kind)
    if like is not None and form_of(kind) != form_of(like) and not isinstance(like, types.Array):
        raise refuse(name, f"{form_of(like)} like {like_name}", kind)
    if parts is None or isinstance(like, types.Array):
        if not (or_none and isinstance(kind, types.NoneType)):
            check_array(name, kind, like, like_name, written=written)
        return
    of_like = [None] * len(parts) if like is None else parts_of(like)
    for k, (part, other) in enumerate(zip(parts, of_like, strict=True)):
        check_arrays(f"{name}[{k}]", part, other, f"{like_name}[{k}]", or_none=or_none, written=written)


# ---- in compiled code ------------------------------------------------------------------------------------------------


def count_arrays(nest):
    """For compiled code only."""
    raise NotImplementedError


@overload(count_arrays)
def _count_arrays(nest):
    if isinstance(nest, types.Array):
        return lambda nest: 1
    if isinstance(nest, types.NoneType) or (isinstance(nest, types.BaseTuple) and len(nest) == 0):
        return lambda nest: 0
    if isinstance(nest, types.BaseTuple):
        return lambda nest: count_arrays(nest[0]) + count_arrays(nest[1:])

    def implementation(nest):
        count = 0
        for part in nest:
            count += count_arrays(part)
        return count

    return implementation


@functools.cache
def column_of(name, like_name):
    """Return what puts where the arrays of a nest of that name lie into a column of the table; it checks shapes.

    The names are part of its code: as arguments they would cost more than the rest.
    """

    def fill(table, row, column, nest, like):
        """From `row` on; returned is the row after them. For compiled code only."""
        raise NotImplementedError

    @overload(fill)
    def _fill(table, row, column, nest, like):
        if isinstance(nest, types.NoneType) or (isinstance(nest, types.BaseTuple) and len(nest) == 0):
            return lambda table, row, column, nest, like: row
        if isinstance(nest, types.BaseTuple):
            return lambda table, row, column, nest, like: fill(
                table, fill(table, row, column, nest[0], like[0]), column, nest[1:], like[1:]
            )
        return of_array(nest) if isinstance(nest, types.Array) else of_list

    def of_array(nest):
        element_type = 0 if nest.dtype == types.float32 else 1

        def implementation(table, row, column, nest, like):
            if nest.shape != like.shape:
                raise Refused("{}: expected shape {} like {}, got {}", name, like.shape, like_name, nest.shape)
            table[row * ROW + column] = nest.ctypes.data
            table[row * ROW + SIZE] = nest.size
            table[row * ROW + ELEMENT_TYPE] = element_type
            return row + 1

        return implementation

    def of_list(table, row, column, nest, like):
        if len(nest) != len(like):
            raise Refused("{}: expected {} arrays like {}, got {}", name, len(like), like_name, len(nest))
        for k in range(len(nest)):
            row = fill(table, row, column, nest[k], like[k])
        return row

    return fill


def table_of(*names):
    """Return what makes the table of nests of these names, in the form of the first; of four, the others are None."""
    rest = [""] * (ADDRESSES - len(names))
    fill_a, fill_b, fill_c, fill_d = (column_of(name, names[0]) for name in (*names, *rest))

    @register_jitable
    def table(a, b=None, c=None, d=None):
        result = np.zeros(count_arrays(a) * (ROW + ADDRESSES), np.int64)
        fill_a(result, 0, 0, a, a)
        fill_b(result, 0, 1, b, a)
        fill_c(result, 0, 2, c, a)
        fill_d(result, 0, 3, d, a)
        return result

    return table
