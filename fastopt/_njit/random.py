"""Random numbers inside ``@njit``: a Philox4x32 is its seed alone there, and each draw names its stream."""

from __future__ import annotations

import numpy as np
from numba.core import cgutils, types
from numba.core.typing.npydecl import parse_dtype
from numba.extending import (
    NativeValue,
    intrinsic,
    make_attribute_wrapper,
    models,
    overload,
    overload_method,
    register_jitable,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.numpy_support import as_dtype

from fastopt._njit.checks import Refused, check_address, check_array, check_integers, given, is_none, refuse
from fastopt._njit.kernel import float64, int64, kernel, uint64
from fastopt.random import (
    DOMAIN_INTEGERS,
    DOMAIN_NORMAL,
    DOMAIN_PERMUTATION,
    DOMAIN_RAW,
    DOMAIN_UNIFORM,
    MAX_STREAM,
    Philox4x32,
)

random_raw = kernel("random_raw", 1, uint64, uint64, uint64, int64)
random_uniform = kernel("random_uniform", 1, uint64, uint64, uint64, int64)
random_normal = kernel("random_normal", 1, uint64, uint64, uint64, int64)
random_integers = kernel("random_integers", 1, uint64, uint64, uint64, int64, int64, uint64)
random_permutation = kernel("random_permutation", 1, uint64, uint64, int64)

LAST_WORD = 2**64 - 1


class PhiloxType(types.Type):
    def __init__(self):
        super().__init__("fastopt.Philox4x32")


@register_model(PhiloxType)
class PhiloxModel(models.StructModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, [("seed", uint64)])


make_attribute_wrapper(PhiloxType, "seed", "seed")


@typeof_impl.register(Philox4x32)
def _typeof_philox(value, context):
    return PhiloxType()


@unbox(PhiloxType)
def _unbox_philox(kind, value, c):
    seed = c.pyapi.object_getattr_string(value, "seed")
    generator = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    generator.seed = c.pyapi.long_as_ulonglong(seed)
    c.pyapi.decref(seed)
    return NativeValue(generator._getvalue(), is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


@intrinsic
def new_philox(context, seed):
    def code(context, builder, signature, values):
        generator = cgutils.create_struct_proxy(signature.return_type)(context, builder)
        generator.seed = values[0]
        return generator._getvalue()

    return PhiloxType()(uint64), code


@overload(Philox4x32)
def _philox(seed=None):
    if not isinstance(seed, types.Integer):
        raise refuse("seed", "an int inside @njit", "None" if is_none(seed) else seed)

    def implementation(seed=None):
        check_address(seed, 0)
        return new_philox(seed)

    return implementation


def check_draw(size, stream, offset):
    sizes = size if isinstance(size, types.BaseTuple) else () if is_none(size) else (size,)
    if not all(isinstance(n, types.Integer) for n in sizes):
        raise refuse("size", "an int or a tuple of ints", size)
    if not isinstance(stream, types.Integer):
        raise refuse("stream", "an int: inside @njit each draw names its stream", "None" if is_none(stream) else stream)
    check_integers(offset=offset)


@register_jitable
def check_elements(count, stream, offset, last):
    """Of a stream whose elements are numbered up to `last`."""
    if stream < 0 or stream >= MAX_STREAM:
        raise Refused("stream: expected 0 <= stream < 2**56, got {}", stream)
    if offset < 0 or (count > 0 and np.uint64(offset) > np.uint64(last) - np.uint64(count - 1)):
        raise Refused("offset: expected one whose elements are within the 2**64 words of a stream, got {}", offset)


@register_jitable
def filled(fill, out, seed, stream, offset, domain, last):
    check_elements(out.size, stream, offset, last)
    fill(out, seed, stream, offset, domain)
    return out


@overload_method(PhiloxType, "random_raw")
def _random_raw(self, size=None, stream=None, offset=0):
    check_draw(size, stream, offset)
    if is_none(size):
        return lambda self, size=None, stream=None, offset=0: int(self.random_raw(1, stream, offset)[0])

    def implementation(self, size=None, stream=None, offset=0):
        return filled(random_raw, np.empty(size, np.uint32), self.seed, stream, offset, DOMAIN_RAW, LAST_WORD)

    return implementation


def overload_draw(name, fill, domain):
    @overload_method(PhiloxType, name)
    def draw(self, size=None, dtype=np.float64, out=None, stream=None, offset=0):
        check_draw(size, stream, offset)
        element = parse_dtype(dtype) if given(dtype) else float64
        if element not in (types.float32, float64):
            raise refuse("dtype", "np.float32 or np.float64", dtype)
        number, last = as_dtype(element).type, LAST_WORD // (element.bitwidth // 32)
        if not is_none(out):
            check_array("out", out, written=True)
            if out.dtype != element:
                raise refuse("out", f"an array of {element} (the dtype argument)", out)
            if not is_none(size):
                raise refuse("size", "None beside out inside @njit", size)

            def implementation(self, size=None, dtype=np.float64, out=None, stream=None, offset=0):
                return filled(fill, out, self.seed, stream, offset, domain, last)

        elif is_none(size):

            def implementation(self, size=None, dtype=np.float64, out=None, stream=None, offset=0):
                return float(filled(fill, np.empty(1, number), self.seed, stream, offset, domain, last)[0])

        else:

            def implementation(self, size=None, dtype=np.float64, out=None, stream=None, offset=0):
                return filled(fill, np.empty(size, number), self.seed, stream, offset, domain, last)

        return implementation


overload_draw("random", random_uniform, DOMAIN_UNIFORM)
overload_draw("standard_normal", random_normal, DOMAIN_NORMAL)


@overload_method(PhiloxType, "integers")
def _integers(self, low, high=None, size=None, stream=None, offset=0):
    check_draw(size, stream, offset)
    check_integers(low=low)
    if is_none(high):
        return lambda self, low, high=None, size=None, stream=None, offset=0: self.integers(
            0, low, size, stream, offset
        )
    check_integers(high=high)
    if is_none(size):
        return lambda self, low, high=None, size=None, stream=None, offset=0: self.integers(
            low, high, 1, stream, offset
        )[0]

    def implementation(self, low, high=None, size=None, stream=None, offset=0):
        if high <= low:
            raise Refused("high: expected more than low, {}, got {}", low, high)
        out = np.empty(size, np.int64)
        check_elements(out.size, stream, offset, LAST_WORD // 2)
        random_integers(out, self.seed, stream, offset, DOMAIN_INTEGERS, low, np.uint64(high) - np.uint64(low))
        return out

    return implementation


@overload_method(PhiloxType, "permutation")
def _permutation(self, x, stream=None):
    check_draw(None, stream, 0)
    if isinstance(x, types.Array) and x.ndim > 0:
        return lambda self, x, stream=None: x[self.permutation(len(x), stream)]
    check_integers(x=x)

    def implementation(self, x, stream=None):
        if x < 0:
            raise Refused("x: expected an array or 0 <= x, got {}", x)
        order = np.empty(x, np.int64)
        check_elements(order.size, stream, 0, LAST_WORD // 2)
        random_permutation(order, self.seed, stream, DOMAIN_PERMUTATION)
        return order

    return implementation
