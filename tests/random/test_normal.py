"""Standard normal numbers: how exact the transform is, that it never ends, and that it is normal.

Their bits, at any address and size, are in test_draws.py with the other draws.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastopt import Philox4x32, reference
from fastopt.random import DOMAIN_NORMAL

from ..support import DTYPES, assert_same_bits

# The largest errors of 2**20 numbers, in units in the last place of the result; the docstring states them.
LARGEST_ERROR = {np.float32: 4.5, np.float64: 3.5}


def exact_normals(seed, count, dtype):
    """The transform of the same words in NumPy's longer floats, which have 64 bits here."""
    width = np.dtype(dtype).itemsize // 4
    words = reference.words(seed, 0, DOMAIN_NORMAL, 0, count * width).reshape(-1, 2, 16, width).astype(np.longdouble)
    if width == 1:
        u = words[..., 0] * np.longdouble(2) ** -32
        u1 = u[:, 0] + np.longdouble(2) ** -32
    else:
        u = (words[..., 1] * 2**21 + np.floor(words[..., 0] / 2**11)) * np.longdouble(2) ** -53
        u1 = u[:, 0] + np.longdouble(2) ** -53
    angle = 2 * np.longdouble("3.14159265358979323846264338327950288") * u[:, 1]
    radius = np.sqrt(-2 * np.log(u1))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs a longer float than float64 to compare with")
@pytest.mark.parametrize("dtype", DTYPES)
def test_accuracy(dtype):
    z = Philox4x32(7).standard_normal(2**20, dtype)
    exact = exact_normals(7, 2**20, dtype)
    # In units in the last place of the result; of 1/64 where it is smaller: next to a zero of the sine the longer
    # float has a rounding of the angle of its own.
    unit = np.spacing(np.maximum(np.abs(z), dtype(1 / 64)))
    assert np.max(np.abs(z - exact) / unit) <= LARGEST_ERROR[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_and_the_smallest_word(dtype):
    # u1 is at least 2**-32 (2**-53), so the radius is finite; and at most 1, where it is zero.
    smallest = np.array([2.0**-32 if dtype == np.float32 else 2.0**-53, 1.0], dtype)
    radius = np.sqrt(-2 * reference.natural_log(smallest, 1 - smallest))
    bound = math.sqrt(2 * (32 if dtype == np.float32 else 53) * math.log(2))
    assert radius[0] == pytest.approx(bound, rel=1e-6)
    assert_same_bits(np.abs(radius[1]), dtype(0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_and_tails(dtype):
    # Bounds of 5 standard deviations of each count or mean: one false alarm in 2 million for each.
    n = 2**20
    z = Philox4x32(11).standard_normal(n, dtype).astype(np.float64)
    assert np.all(np.isfinite(z))
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(z**power) - mean) < 5 * math.sqrt(variance / n)
    for limit in (0.5, 1, 2, 3, 4):
        p = math.erfc(limit / math.sqrt(2))
        assert abs(np.count_nonzero(np.abs(z) > limit) - n * p) < 5 * math.sqrt(n * p * (1 - p))
    halves = z.reshape(-1, 2, 16)  # the two that share a radius and an angle
    assert abs(np.mean(halves[:, 0] * halves[:, 1])) < 5 / math.sqrt(n / 2)
    assert abs(np.mean(z[1:] * z[:-1])) < 5 / math.sqrt(n)


def test_out_and_dtype():
    rng = Philox4x32(3)
    out = np.empty((3, 5), np.float32)
    assert rng.standard_normal(dtype=np.float32, out=out) is out
    assert_same_bits(out.ravel(), rng.standard_normal(15, np.float32, stream=0))
    assert isinstance(rng.standard_normal(), float)
    assert rng.state["stream"] == 2
    with pytest.raises(TypeError, match=r"out: expected an ndarray of float64 \(the dtype argument\), got float32"):
        rng.standard_normal(out=out)
