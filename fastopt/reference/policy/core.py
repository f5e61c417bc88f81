"""What the families of policies share: the exponential and the logarithm, and sums along rows and over the batch."""

from __future__ import annotations

import numpy as np

from fastopt.reference.core import Array, horner, natural_log, ordered_sum

__all__ = ["EXP_FLOAT32", "EXP_FLOAT64", "exponential", "logarithm"]

# Of (e**r - 1 - r) / r**2 for |r| <= ln(2) / 2: Chebyshev fits, relative errors of e**r below 1.1e-8 and 1.8e-17.
EXP_FLOAT32 = (0.001392621, 0.008363203, 0.041666556, 0.16666576, 0.5)
EXP_FLOAT64 = (
    *(2.5100424157005067e-08, 2.7620138719733994e-07, 2.7557268378684192e-06, 2.480152119021773e-05),
    *(0.00019841269863105968, 0.0013888888917281794, 0.008333333333330051, 0.04166666666662399),
    *(0.16666666666666669, 0.5000000000000001),
)


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


def as_rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def row_sum(x: Array) -> Array:
    total = np.zeros(len(x), x.dtype)
    for k in range(x.shape[1]):
        total = total + x[:, k]
    return total


def batch_mean(per_sample: Array) -> float:
    return ordered_sum(per_sample.astype(np.float64)) / per_sample.size
