"""What several families share: polynomials of correctly rounded steps, sums in a fixed order, outputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

__all__ = [
    *("EXP_FLOAT32", "EXP_FLOAT64", "LOG_FLOAT32", "LOG_FLOAT64", "TANH_FLOAT32", "TANH_FLOAT64"),
    *("exponential", "hyperbolic_tangent", "logarithm", "natural_log"),
    *("ordered_sum", "power", "square_scale", "sum_squares"),
]


# ---- polynomials -----------------------------------------------------------------------------------------------------


def natural_log(u: Array, below_one: Array) -> Array:
    """ln u for 0 < u <= 1: u = m * 2**e with m in [sqrt(1/2), sqrt(2)), and a polynomial of correctly rounded steps.

    `below_one` is 1 - u to its own precision: next to 1 a float32 u has lost the last bits of the word it came from.
    """
    if u.dtype == np.float32:
        bits = u.view(np.int32)
        e = bits - np.int32(0x3F3504F3) >> np.int32(23)  # the bits of sqrt(1/2)
        f = np.where(e == 0, -below_one, (bits - (e << np.int32(23))).view(np.float32) - np.float32(1))
        ff, k = f * f, e.astype(np.float32)
        p = horner(f, LOG_FLOAT32)
        low = (f * ff) * p + k * np.float32(-2.12194440e-4)  # ln 2 in two parts, the first of 9 bits
        return k * np.float32(0.693359375) + (f - (np.float32(0.5) * ff - low))
    bits = u.view(np.int64)
    e = (bits >> np.int64(32)) - np.int64(0x3FE6A09E) >> np.int64(20)
    f = (bits - (e << np.int64(52))).view(np.float64) - 1.0
    s, k = f / (2.0 + f), e.astype(np.float64)
    z = s * s
    return k * 0.6931471803691238165 + (2.0 * s + (s * (z * horner(z, LOG_FLOAT64)) + k * 1.9082149292705877000e-10))


def exponential(x: Array) -> Array:
    """e**x = 2**k * e**r with k the integer nearest to x / ln 2, and a polynomial in r of correctly rounded steps.

    Adding 1.5 * 2**(mantissa bits) rounds to an integer. 2**k is applied in two factors, for results below the smallest
    normal number and above the largest.
    """
    single = x.dtype == np.float32
    f, unsigned = x.dtype.type, np.uint32 if single else np.uint64
    low, high = (-104, 89) if single else (-746, 710)  # 0 and infinity beyond
    mantissa, bias2 = (23, 256) if single else (52, 2048)
    ln2_high, ln2_low = (0.693359375, -2.12194440e-4) if single else (0.6931471803691238165, 1.9082149292705877e-10)
    x = np.where(x > f(high), f(high), x)
    x = np.where(x < f(low), f(low), x)
    magic = f(1.5 * 2**mantissa)
    shifted = x * f(1.4426950408889634) + magic
    k = shifted - magic
    r = (x - k * f(ln2_high)) - k * f(ln2_low)
    y = f(1) + (r + (r * r) * horner(r, EXP_FLOAT32 if single else EXP_FLOAT64))
    both = shifted.view(unsigned) - (magic.view(unsigned) - unsigned(bias2))  # k + 2 * bias + 2
    half = both >> unsigned(1)
    one, other = ((part - unsigned(1)) << unsigned(mantissa) for part in (half, both - half))
    return (y * one.view(x.dtype)) * other.view(x.dtype)


def logarithm(x: Array) -> Array:
    """ln x for positive normal numbers; NaN stays NaN."""
    return np.where(np.isnan(x), x, natural_log(x, x.dtype.type(1) - x))


def hyperbolic_tangent(x: Array) -> Array:
    """tanh x: of a = abs(x) below 0.75 a + a**3 P(a**2), else 1 - 2 / (e**2a + 1), with the sign of x."""
    f = x.dtype.type
    a = np.abs(x)
    z = a * a
    near = a + a * (z * horner(z, TANH_FLOAT32 if x.dtype == np.float32 else TANH_FLOAT64))
    far = f(1) - f(2) / (exponential(a + a) + f(1))
    return np.copysign(np.where(a < f(0.75), near, far), x)


def horner(x: Array, coefficients: tuple[float, ...]) -> Array:
    y = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        y = y * x + x.dtype.type(c)
    return y


# Chebyshev fits on the reduced ranges: of (ln(1 + f) - f + f**2 / 2) / f**3; of (2 artanh s - 2 s) / s**3 against s**2.
LOG_FLOAT32 = (
    *(0.0697161147, -0.114797338, 0.116854199, -0.124256873, 0.142490576, -0.166678023),
    *(0.200007157, -0.249999970, 0.333333312),
)
LOG_FLOAT64 = (
    *(0.1461644968504340586, 0.15331721600556041269, 0.1818288912526172208, 0.22222211134795079855),
    *(0.28571428625975484921, 0.3999999999989950449, 0.66666666666666696862),
)

# Of (e**r - 1 - r) / r**2 for |r| <= ln(2) / 2: Chebyshev fits, relative errors of e**r below 1.1e-8 and 1.8e-17.
EXP_FLOAT32 = (0.001392621, 0.008363203, 0.041666556, 0.16666576, 0.5)
EXP_FLOAT64 = (
    *(2.5100424157005067e-08, 2.7620138719733994e-07, 2.7557268378684192e-06, 2.480152119021773e-05),
    *(0.00019841269863105968, 0.0013888888917281794, 0.008333333333330051, 0.04166666666662399),
    *(0.16666666666666669, 0.5000000000000001),
)

# Of (tanh(a) / a - 1) / a**2 against a**2 for a <= 0.75: Chebyshev fits, errors of tanh(a) / a below 6e-9 and 6e-18.
TANH_FLOAT32 = (0.0019095024, -0.007933808, 0.02161532, -0.053935852, 0.1333318, -0.33333331)
TANH_FLOAT64 = (
    *(-1.6408599646831444e-06, 1.0048053928129499e-05, -3.449472469998217e-05, 9.42476297649358e-05),
    *(-0.00023809406936979282, 0.0005897469986953327, -0.0014557818253310693, 0.0035921213885060418),
    *(-0.008863234987439102, 0.021869488509711037, -0.05396825396758208, 0.13333333333332661),
    *(-0.3333333333333333,),
)


# ---- powers ----------------------------------------------------------------------------------------------------------


def power(x: float, n: int) -> float:
    """x**n for 0 <= x < 1 and n >= 1, by squaring; that of the C library has other last bits on other machines.

    A factor is significand * 2**(exponent - 128) with the top bit of 128 set. So only the last step rounds that counts:
    a product loses at most 2**-125 of itself, and n of them stay far below half a unit of float64 up to n = 2**63.
    """
    if x == 0:
        return 0.0
    fraction, exponent = math.frexp(x)
    square = int(math.ldexp(fraction, 53)) << 75, exponent
    result = 1 << 127, 1
    while True:
        if square[1] < -1100:  # of which at least one is still to be multiplied in
            return 0.0
        if n & 1:
            result = _product(*result, *square)
        if n == 1:
            return math.ldexp(float(result[0]), result[1] - 128)
        square = _product(*square, *square)
        n >>= 1


def _product(a: int, a_exponent: int, b: int, b_exponent: int) -> tuple[int, int]:
    """The upper 128 of 256 bits; that of the two lower halves is left out."""
    low = (1 << 64) - 1
    c = (a >> 64) * (b >> 64) + ((a >> 64) * (b & low) >> 64) + ((a & low) * (b >> 64) >> 64)
    exponent = a_exponent + b_exponent
    return (c, exponent) if c >> 127 else (c << 1, exponent - 1)


# ---- sums in a fixed order -------------------------------------------------------------------------------------------


def sum_squares(x: Array, scale: float = 1.0) -> float:
    """Sum of (x * scale)**2 in float64."""
    return ordered_sum(np.square(x.astype(np.float64) * scale))


LEAST_SQUARES = 2.0**-968


def square_scale(total: float, arrays: list[Array]) -> float:
    """What to multiply numbers by whose squares have the sum `total`: 1, unless it has lost what matters.

    It has where squares overflow, and where squares that are 2**-54 of it are below the smallest normal number. A power
    of two then, for which the largest magnitude becomes about 1.
    """
    if LEAST_SQUARES <= total < math.inf:
        return 1.0
    largest = max((float(np.max(np.abs(x), initial=0)) for x in arrays), default=0.0)
    if not 0 < largest < math.inf:
        return 1.0
    return math.ldexp(1.0, -max(-1022, min(math.frexp(largest)[1], 1022)))


def ordered_sum(terms: NDArray[np.float64]) -> float:
    """Sum in blocks of 4,096 elements in C order; in a block lane j of 16 adds j, j + 16, ..., then the lanes fold
    16 -> 8 -> 4 -> 2 -> 1 by adding the upper half; the block sums are added in order."""
    padded = np.zeros((-(-terms.size // 4096), 256, 16))
    padded.reshape(-1)[: terms.size] = terms.ravel()  # the zeros change nothing: no lane is ever -0.0
    lanes = np.zeros((len(padded), 16))
    for k in range(-(-min(terms.size, 4096) // 16)):
        lanes += padded[:, k]
    while lanes.shape[1] > 1:
        lanes = lanes[:, : lanes.shape[1] // 2] + lanes[:, lanes.shape[1] // 2 :]
    total = 0.0
    for block in lanes[:, 0].tolist():
        total += block
    return total


def column_sums(x: Array) -> Array:
    """Sums over all axes but the last, in float64: the rows of each block of 64 in order, then the blocks in order."""
    rows, columns = math.prod(x.shape[:-1]), x.shape[-1]
    height = max(1, min(64, rows))
    padded = np.zeros((-(-rows // height), height, columns))
    padded.reshape(-1)[: x.size] = x.ravel()
    blocks = np.cumsum(padded, axis=1)[:, -1]
    with np.errstate(over="ignore"):
        return np.cumsum([np.zeros(columns), *blocks], axis=0)[-1].astype(x.dtype)


# ---- results ---------------------------------------------------------------------------------------------------------


def into(out: Array | None, result: Array) -> Array:
    if out is None:
        return result
    out[...] = result
    return out


def flush_subnormal(x: Array) -> Array:
    """A stored state below the smallest normal number is +0.0: subnormal arithmetic is slow. NaN stays."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, x.dtype.type(0), x)


def raise_square(x: Array, dtype: Any) -> Array:
    """An average of squares stands in a denominator: stored in `dtype` it is 0 only where it is 0, else at least twice
    the smallest normal number, of which b2 >= 1/2 leaves a normal number too."""
    f, least = x.dtype.type, 2 * np.finfo(dtype).tiny
    return np.where(x == 0, f(0), np.where(x < f(least), f(least), x))
