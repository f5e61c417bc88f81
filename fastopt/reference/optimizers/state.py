"""Optimiser states in few bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastopt.reference.core import Array, flush_subnormal, raise_square
from fastopt.reference.optimizers.bfloat16 import widened


class _State:
    """One state of one parameter: in the parameter's dtype, or as codes of 16 or 8 bits.

    A code keeps the top bits of a float32's magnitude; 16 bits of chance are added to what is cut off first, so that it
    goes up in proportion. bfloat16 keeps 16 bits with the sign. 8 bits are a small float relative to the largest
    exponent in each block of 256 elements in C order. With a sign it has 4 bits of exponent and 3 of mantissa, and its
    values below the second exponent are evenly spaced down to 0, like subnormal numbers: 0 or the least value is a
    chance in proportion too. Without a sign it has 5 and 3 bits; code 0 is zero, and a value that is not zero has a
    code of at least 1: an exp_avg_sq of 0 would let its exp_avg through undivided.
    """

    def __init__(self, param: Array, state_dtype: str | None, signed: bool):
        self.kind, self.dtype, self.signed = state_dtype, widened(np.empty(0, param.dtype)).dtype, signed
        codes = {None: param.dtype, "bfloat16": np.dtype(np.uint16), "8bit": np.dtype(np.uint8)}
        self.array = np.zeros(param.shape, codes[state_dtype])
        self.exponents = np.zeros(-(-param.size // 256), np.uint8)

    def load(self) -> Array:
        if self.kind is None:
            return self.array
        if self.kind == "bfloat16":
            return np.asarray((self.array.astype(np.uint32) << 16).view(np.float32).astype(self.dtype))
        codes = self.array.astype(np.int64)
        magnitude = codes & 0x7F if self.signed else codes
        value = _floats(np.where(magnitude != 0, (magnitude << 20) + self._base(), 0))
        if self.signed:
            value = np.where(magnitude < 8, magnitude.astype(np.float32) / np.float32(8) * self._even_below(), value)
            value = np.where(codes >= 0x80, -value, value)
        return np.asarray(value.astype(self.dtype))

    def store(self, value: Array, chance: Array) -> None:
        if self.signed:
            value = flush_subnormal(value.astype(np.float32))
        else:
            value = raise_square(value, np.float32).astype(np.float32)
        bits = value.view(np.uint32).astype(np.int64)
        magnitude, negative = bits & 0x7FFFFFFF, value < 0
        nan = magnitude > 0x7F800000
        if self.kind == "bfloat16":
            code = np.where(nan, 0x7FC0, magnitude + chance >> 16)
            self.array[...] = code | np.where(negative & self.signed, 0x8000, 0)
            return
        magnitude = np.where(nan, 0, magnitude)
        largest = [block.max() for block in np.split(magnitude.ravel(), range(256, magnitude.size, 256)) if block.size]
        self.exponents[...] = np.maximum(np.array(largest, np.int64) + 0xFFFFF >> 23, 32)
        if self.signed:
            even_below = self._even_below()
            shifted = np.minimum(_floats(magnitude), even_below) + even_below  # among floats that are evenly spaced
            evenly = shifted.view(np.uint32).astype(np.int64) - (1 << 23)
            magnitude = np.where(_floats(magnitude) < even_below, evenly, magnitude)
        codes = magnitude - self._base() + (chance << 4) >> 20
        codes = codes if self.signed else np.maximum(codes, magnitude > 0)
        self.array[...] = codes | np.where(negative & self.signed, 0x80, 0)

    def _base(self) -> NDArray[np.int64]:
        """Bits of the float whose code would be 0: the exponent of the block is the top exponent of a code."""
        exponents = np.maximum(self.exponents.astype(np.int64), 32) - (15 if self.signed else 31)
        return (np.repeat(exponents, 256)[: self.array.size] << 23).reshape(self.array.shape)

    def _even_below(self) -> NDArray[np.float32]:
        """The second exponent of a code, as a float: below it the values with a sign are evenly spaced."""
        return _floats(self._base() + (1 << 23))


def _floats(bits: NDArray[np.int64]) -> NDArray[np.float32]:
    return bits.astype(np.uint32).view(np.float32)
