"""Random numbers by address: Philox words, and what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt import random as _random
from fastopt.reference.core import Array, horner, natural_log

__all__ = [
    "COSINE_FLOAT32",
    "COSINE_FLOAT64",
    "SINE_FLOAT32",
    "SINE_FLOAT64",
    "Philox4x32",
    "normals",
    "philox4x32",
    "sine_cosine",
    "uniforms",
    "values16",
    "words",
    "words64",
]


def philox4x32(counter: NDArray[np.uint32], key: NDArray[np.uint32], rounds: int = 10) -> NDArray[np.uint32]:
    """Philox4x32 of counters, shape (..., 4), under one key, shape (2,). Salmon, Moraes, Dror and Shaw, SC11."""
    x0, x1, x2, x3 = (counter[..., k].astype(np.uint64) for k in range(4))
    k0, k1 = int(key[0]), int(key[1])
    low = np.uint64(0xFFFFFFFF)
    for _ in range(rounds):
        p0 = np.uint64(0xD2511F53) * x0
        p1 = np.uint64(0xCD9E8D57) * x2
        x0, x1 = p1 >> np.uint64(32) ^ x1 ^ np.uint64(k0), p1 & low
        x2, x3 = p0 >> np.uint64(32) ^ x3 ^ np.uint64(k1), p0 & low
        k0 = k0 + 0x9E3779B9 & 0xFFFFFFFF
        k1 = k1 + 0xBB67AE85 & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], axis=-1).astype(np.uint32)


def words(seed: int, stream: int, domain: int, first: int, count: int) -> NDArray[np.uint32]:
    """32-bit words first, first + 1, ...: word e is word e % 4 of block e // 4."""
    blocks = np.arange((first % 4 + count + 3) // 4, dtype=np.uint64) + np.uint64(first // 4)
    counter = np.empty((len(blocks), 4), np.uint32)
    counter[:, 0] = blocks & np.uint64(0xFFFFFFFF)
    counter[:, 1] = blocks >> np.uint64(32)
    counter[:, 2] = stream & 0xFFFFFFFF
    counter[:, 3] = stream >> 32 | domain << 24
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    return philox4x32(counter, key).ravel()[first % 4 : first % 4 + count]


def words64(seed: int, stream: int, domain: int, first: int, count: int) -> NDArray[np.uint64]:
    """64-bit words first, first + 1, ...: words 2e (low) and 2e + 1 (high)."""
    pair = words(seed, stream, domain, 2 * first, 2 * count).reshape(-1, 2).astype(np.uint64)
    return pair[:, 1] << np.uint64(32) | pair[:, 0]


def uniforms(dtype: Any, seed: int, stream: int, first: int, count: int, domain: int = _random.DOMAIN_UNIFORM) -> Array:
    """Uniform in [0, 1): 24 bits of word e for float32; 53 bits of words 2e (low) and 2e + 1 (high) for float64."""
    if dtype == np.float32:
        top = words(seed, stream, domain, first, count) >> np.uint32(8)
        return top.astype(np.float32) * np.float32(2**-24)
    bits = words64(seed, stream, domain, first, count)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def values16(seed: int, stream: int, domain: int, count: int) -> NDArray[np.uint16]:
    """16-bit values 0, 1, ...: the low half of word e // 2 when e is even, the high half when odd."""
    pairs = words(seed, stream, domain, 0, (count + 1) // 2)
    low_high = np.stack([pairs & np.uint32(0xFFFF), pairs >> np.uint32(16)], axis=-1)
    return low_high.ravel()[:count].astype(np.uint16)


def normals(dtype: Any, seed: int, stream: int, first: int, count: int, domain: int = _random.DOMAIN_NORMAL) -> Array:
    """Standard normal numbers: elements j and j + 16 of an aligned group of 32 are sqrt(-2 ln u1) times the cosine and
    the sine of 2 pi u2, with u1 from the words of element j and u2 from those of element j + 16."""
    dtype = np.dtype(dtype)
    width = dtype.itemsize // 4  # words an element
    group = first // 32
    groups = (first + count + 31) // 32 - group if count else 0
    w = words(seed, stream, domain, group * 32 * width, groups * 32 * width)
    w = w.reshape(groups, 2, 16, width)
    high = w[..., width - 1]
    quarter = high[:, 1] + np.uint32(0x20000000) >> np.uint32(30)  # of the turn u2
    rest = (high[:, 1] - (quarter << np.uint32(30))).view(np.int32).astype(dtype) * dtype.type(2**-32)
    if width == 1:
        u1 = (high[:, 0].astype(dtype) + dtype.type(1)) * dtype.type(2**-32)
        below_one = (~high[:, 0]).astype(dtype) * dtype.type(2**-32)
    else:
        low = (w[..., 0] >> np.uint32(11)).astype(dtype) * 2.0**-53
        u1 = (high[:, 0].astype(dtype) * 2.0**-32 + low[:, 0]) + 2.0**-53
        rest, below_one = rest + low[:, 1], 1 - u1
    radius = np.sqrt(dtype.type(-2) * natural_log(u1, below_one))
    sine, cosine = sine_cosine(rest)
    odd = quarter & np.uint32(1) != 0
    x, y = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    x = np.where(quarter + np.uint32(1) & np.uint32(2) != 0, -x, x)
    y = np.where(quarter & np.uint32(2) != 0, -y, y)
    z = np.stack([radius * x, radius * y], axis=1).ravel()
    return z[first % 32 : first % 32 + count]


def sine_cosine(t: Array) -> tuple[Array, Array]:
    """sin and cos of 2 pi t for t in [-1/8, 1/8]."""
    single = t.dtype == np.float32
    q = t * t
    return horner(q, SINE_FLOAT32 if single else SINE_FLOAT64) * t, horner(
        q, COSINE_FLOAT32 if single else COSINE_FLOAT64
    )


# Chebyshev fits of sin(2 pi t) / t and cos(2 pi t) against t**2, for |t| <= 1/8.
SINE_FLOAT32 = (-75.4016127, 81.5925429, -41.3416626, 6.28318529)
COSINE_FLOAT32 = (59.2201690, -85.4428447, 64.9393161, -19.7392087, 1.0)
SINE_FLOAT64 = (
    *(-0.71163580907816659965, 3.8197881201632114229, -15.094640403891545649, 42.058693928988783438),
    *(-76.70585975299812673, 81.605249276074930668, -41.341702240399760142, 6.2831853071795864769),
)
COSINE_FLOAT64 = (
    *(-1.6968494702918826806, 7.9030916877516976361, -26.426250908622135959, 60.24464132886729332),
    *(-85.456817206522712487, 64.939394022667957529, -19.739208802178716989, 1.0),
)


class Philox4x32(_random.Philox4x32):
    __slots__ = ()

    def _fill_raw(self, out: NDArray[np.uint32], stream: int, offset: int) -> None:
        out[...] = words(self.seed, stream, _random.DOMAIN_RAW, offset, out.size).reshape(out.shape)

    def _fill_uniform(self, out: Array, stream: int, offset: int) -> None:
        out[...] = uniforms(out.dtype, self.seed, stream, offset, out.size).reshape(out.shape)

    def _fill_normal(self, out: Array, stream: int, offset: int) -> None:
        out[...] = normals(out.dtype, self.seed, stream, offset, out.size).reshape(out.shape)

    def _fill_integers(self, out: NDArray[np.int64], stream: int, offset: int, low: int, count: int) -> None:
        u = words64(self.seed, stream, _random.DOMAIN_INTEGERS, offset, out.size)
        numbers = [low + (int(bits) * (count or 2**64) >> 64) for bits in u]
        out[...] = np.array([(number + 2**63) % 2**64 - 2**63 for number in numbers], np.int64).reshape(out.shape)

    def _fill_permutation(self, out: NDArray[np.int64], stream: int) -> None:
        u = words64(self.seed, stream, _random.DOMAIN_PERMUTATION, 0, out.size)
        out[...] = np.arange(out.size)
        for i in range(1, out.size):
            other = int(u[i]) * (i + 1) >> 64
            out[i], out[other] = out[other], out[i]
