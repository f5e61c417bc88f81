"""Tuples and lists of arrays, nested, inside ``@njit``: a table of what they hold, for kernels that take it all."""

from __future__ import annotations

import re

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


@register_jitable
def check_same(name, got, like_name, wanted, what):
    if got != wanted:
        raise Refused("{}: expected {} {} like {}, got {}", name, what, wanted, like_name, got)


def table_of(*names):
    """Return what makes the table of nests of these names, in the form of the first; shapes and lengths are checked.

    It takes four nests: None where there are fewer. Its code is written for their kinds, line after line: functions
    for parts of a nest take ten seconds to compile for six arrays, and count the references to each part when they run.
    """

    def table(a, b, c, d):
        """For compiled code only."""
        raise NotImplementedError

    @overload(table)
    def _table(a, b, c, d):
        present = [
            letter for letter, kind in zip("abcd", (a, b, c, d), strict=True) if not isinstance(kind, types.NoneType)
        ]
        name_of = dict(zip("abcd", names, strict=False))

        def checks(path, attribute, what):
            place = re.sub(r"k\d+", "...", path)
            for letter in present[1:]:
                got, wanted = (attribute.format(one + path) for one in (letter, "a"))
                yield f"check_same('{name_of[letter]}{place}', {got}, '{names[0]}{place}', {wanted}, '{what}')"

        def fill(path, kind):
            yield from checks(path, "{}.shape", "shape")
            for letter in present:
                yield f"table[place + {'abcd'.index(letter)}] = {letter}{path}.ctypes.data"
            yield f"table[place + {SIZE}] = a{path}.size"
            yield f"table[place + {ELEMENT_TYPE}] = {0 if kind.dtype == types.float32 else 1}"
            yield f"place += {ROW}"

        lines = [
            "count = 0",
            *written(a, "", lambda path, kind: ["count += 1"]),
            f"table, place = np.zeros(count * {ROW + ADDRESSES}, np.int64), 0",
            *written(a, "", fill, lambda path: checks(path, "len({})", "length")),
            "return table",
        ]
        code = {"np": np, "check_same": check_same}
        exec("\n    ".join(["def table(a, b, c, d):", *lines]), code)
        return code["table"]

    return table


def written(kind, path, of_array, of_list=lambda path: ()):
    """The lines of code that `of_array` writes for each array of a nest `a`, and `of_list` before each of its lists."""
    if is_list(kind):
        index = f"k{path.count('[')}"
        yield from of_list(path)
        yield f"for {index} in range(len(a{path})):"
        for line in written(kind.dtype, f"{path}[{index}]", of_array, of_list):
            yield f"    {line}"
    elif isinstance(kind, types.BaseTuple):
        for k, part in enumerate(kind):
            yield from written(part, f"{path}[{k}]", of_array, of_list)
    elif isinstance(kind, types.Array):
        yield from of_array(path, kind)
