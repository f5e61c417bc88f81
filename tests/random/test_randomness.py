"""The short battery: the numbers behave as random ones should, and the battery notices when numbers do not.

A test draws from many seeds and has a result for each, independent of the others, whose distribution is known exactly
(binomial; normal and chi-square for sums over normal numbers) or in the limit of large numbers (Pearson, Kolmogorov and
Smirnov, sums of products). `verdict` makes one p-value of them, and the test fails when it is below ALPHA. So with new
seeds each of the 36 tests would raise a false alarm in one of a million runs, and the battery in one of 28,000. The
seeds here are fixed: a test that passes will always pass.

The long battery is `benchmarks/studies/dieharder.py`. scipy comes with the test extra, through scikit-learn.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import fastopt
from fastopt import Philox4x32, _core, reference
from fastopt.random import DOMAIN_DROPOUT, DOMAIN_NORMAL, DOMAIN_RAW

from ..support import DTYPES

special, stats = pytest.importorskip("scipy.special"), pytest.importorskip("scipy.stats")

ALPHA = 1e-6
SEEDS = range(32)  # such as people choose
SEED, STREAM = 0x9BDF13572468ACE0, 0x5A5A5A5A5A5A5A  # for the neighbours of one address
N = 2**16


# ---- what a result says ----------------------------------------------------------------------------------------------
#
# Of a statistic with a known distribution: the probability of a smaller one, and of one that is not larger. A point
# drawn between the two is uniform, also where the statistic is a count.


def verdict(results):
    """One p-value for many: from the nearest to 0 or 1, and from how far all are from the uniform distribution."""
    smaller, not_larger = np.concatenate([np.reshape(some, (-1, 2)) for some in results]).T
    u = smaller + (not_larger - smaller) * np.random.default_rng(0).random(smaller.size)
    extreme = 2 * min(u.min(), 1 - u.max(), 0.5 - 1e-16)
    return min(1, -2 * math.expm1(u.size * math.log1p(-extreme)), 2 * stats.kstest(u, "uniform").pvalue)


def binomial(count, n, p):
    return np.stack([stats.binom.cdf(np.subtract(count, 1), n, p), stats.binom.cdf(count, n, p)], axis=-1)


def continuous(probability):
    return np.stack([probability, probability], axis=-1)


def normal(z):
    return continuous(special.ndtr(z))


def chi_square(x, freedom):
    return continuous(special.chdtr(freedom, x))


def equal_shares(cells, count):
    """Pearson's test that each of `count` cells is as likely as any other."""
    expected = cells.size / count
    return chi_square(np.sum((np.bincount(cells.ravel(), minlength=count) - expected) ** 2) / expected, count - 1)


def uniform(u):
    return continuous(1 - stats.kstest(u, "uniform", method="asymp").pvalue)


def one_bits(words):
    """The count of ones in each of the 32 places."""
    ones = np.unpackbits(words.view(np.uint8).reshape(-1, 4), axis=1).sum(axis=0, dtype=np.int64)
    return binomial(ones, len(words), 0.5)


def apart(x, distance):
    """Pairs of elements that far apart, each element in one pair only."""
    pairs = x.reshape(-1, 2, distance)
    return pairs[:, 0].ravel(), pairs[:, 1].ravel()


def sum_product(a, b):
    return np.einsum("i,i", a, b)  # BLAS would wake threads


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def raw_words(seed, stream=0, domain=DOMAIN_RAW, block=0):
    out = np.empty(N, np.uint32)
    _core.fill_random_raw(out, seed, stream, domain, 4 * block)
    return out


def uniforms(dtype):
    return lambda seed: Philox4x32(seed).random(N, dtype)


def normals(dtype):
    return lambda seed: Philox4x32(seed).standard_normal(2 * N, dtype)


def kept(p, seed, stream):
    return fastopt.dropout(np.ones(8 * N, np.float32), p, rng=(seed, stream))[0] != 0


# ---- tests of words --------------------------------------------------------------------------------------------------

ALL_BITS = {"seed": 64, "stream": 56, "block": 62}  # 2**62 blocks can be reached: offsets count words in 64 bits


def ones(draw):
    return [one_bits(draw(seed)) for seed in SEEDS]


def byte_shares(draw):
    return [equal_shares(draw(seed).view(np.uint8), 256) for seed in SEEDS]


def dropout_values(draw):
    values = [draw(seed, domain=DOMAIN_DROPOUT).view(np.uint16) for seed in SEEDS]
    return [equal_shares(np.concatenate(values[k : k + 8]), 2**16) for k in range(0, len(SEEDS), 8)]


def serial_bits(draw):
    """Each bit against the same bit of a word that comes later."""
    return [one_bits(np.bitwise_xor(*apart(draw(11 * seed + k), 2**k))) for seed in SEEDS for k in range(11)]


def serial_correlation(draw):
    """Each word as a number against a word that comes later."""
    centred = [draw(seed) * 2.0**-32 - 0.5 for seed in SEEDS]
    lags = (*range(1, 9), 16, 32, 1024)
    return [normal(12 / (N - k) ** 0.5 * sum_product(u[:-k], u[k:])) for u in centred for k in lags]


def neighbour(name):
    """Streams whose seed, stream or block number differ in one bit, bit by bit."""

    def differences(draw):
        address = {"seed": SEED, "stream": STREAM, "block": 0}
        for k in range(ALL_BITS[name]):
            other = {**address, name: address[name] ^ 1 << k}
            if name != "block" or 4 << k >= N:  # the others overlap
                yield one_bits(draw(**address) ^ draw(**other))

    return lambda draw: list(differences(draw))


def domains(draw):
    pairs = [(a, a ^ k) for k in range(1, 16) for a in range(16) if a < a ^ k]
    return [one_bits(draw(SEED + (a ^ b), domain=a) ^ draw(SEED + (a ^ b), domain=b)) for a, b in pairs]


WORDS = {
    "ones": ones,
    "bytes": byte_shares,
    "dropout's values": dropout_values,
    "serial bits": serial_bits,
    "serial correlation": serial_correlation,
    **{f"neighbouring {name}s": neighbour(name) for name in ALL_BITS},
    "domains": domains,
}


# ---- tests of uniform numbers ----------------------------------------------------------------------------------------


def distribution(draw):
    return [uniform(draw(seed)) for seed in SEEDS]


def both_ends(draw):
    for seed in SEEDS:
        u = draw(seed)
        yield binomial(np.count_nonzero(u < 2**-8), N, 2**-8)
        yield binomial(np.count_nonzero(u >= 1 - 2**-8), N, 2**-8)


def last_bits(draw):
    """The 8 bits that are shifted in last."""
    places = 24 if draw(0).dtype == np.float32 else 53
    return [equal_shares(np.ldexp(draw(seed), places).astype(np.int64) % 256, 256) for seed in SEEDS]


UNIFORMS = {"distribution": distribution, "both ends": both_ends, "last bits": last_bits}

# ---- tests of normal numbers -----------------------------------------------------------------------------------------


def normal_distribution(draw):
    return [uniform(special.ndtr(draw(seed).astype(np.float64))) for seed in SEEDS]


def mean_and_variance(draw):
    for seed in SEEDS:
        z = draw(seed).astype(np.float64)
        yield normal(z.sum() / z.size**0.5)
        yield chi_square(sum_product(z, z), z.size)


def tails(draw):
    for seed in SEEDS:
        for z in (draw(seed), -draw(seed)):
            yield binomial(np.count_nonzero((z > 2) & (z < 3)), z.size, special.ndtr(-2) - special.ndtr(-3))
            yield binomial(np.count_nonzero(z >= 3), z.size, special.ndtr(-3))


def far_tail(draw):
    """Radii of 2**25 pairs: P(radius > r) = exp(-r**2 / 2); 17 are expected above 5.4 and 0.5 above 6."""
    edges = np.array([4, 4.2, 4.4, 4.6, 4.8, 5, 5.2, 5.4, math.inf])
    share = -np.diff(np.exp(-0.5 * edges**2))
    squares = [np.square(draw(seed)).reshape(-1, 2, 16).sum(axis=1) for seed in range(2**25 // N)]
    counts = np.histogram(np.concatenate([s[s >= 16] for s in squares]), edges**2)[0]
    return [binomial(counts, 2**25, share)]


def radius_and_turn(z):
    """Box and Muller's two uniforms from what they became: elements j and j + 16 of each group of 32."""
    x, y = apart(z.astype(np.float64), 16)
    return np.exp(-0.5 * (x * x + y * y)), np.arctan2(y, x) / (2 * np.pi) + 0.5


def radii(draw):
    return [uniform(radius_and_turn(draw(seed))[0]) for seed in SEEDS]


def turns(draw):
    return [uniform(radius_and_turn(draw(seed))[1]) for seed in SEEDS]


def radius_with_turn(draw):
    for seed in SEEDS:
        radius, turn = ((16 * u).astype(int).clip(0, 15) for u in radius_and_turn(draw(seed)))
        yield equal_shares(16 * radius + turn, 256)


def correlation(a, b):
    """The sum of products of independent normal numbers; and that of their squares, less one."""
    n = a.size**0.5
    return normal(sum_product(a, b) / n), normal(sum_product(a * a - 1, b * b - 1) / (2 * n))


def normals_apart(draw):
    z = [draw(seed).astype(np.float64) for seed in SEEDS]
    return [correlation(*apart(one, distance)) for one in z for distance in (1, 2, 4, 8, 16, 32, 64, 1024)]


def normals_of_two_seeds(draw):
    z = [draw(seed).astype(np.float64) for seed in SEEDS]
    return [correlation(a, b) for a, b in zip(z[::2], z[1::2], strict=True)]


NORMALS = {
    "distribution": normal_distribution,
    "mean and variance": mean_and_variance,
    "tails": tails,
    "far tail": far_tail,
    "radii": radii,
    "turns": turns,
    "radius with turn": radius_with_turn,
    "correlation": normals_apart,
    "two seeds": normals_of_two_seeds,
}

# ---- tests of dropout's decisions ------------------------------------------------------------------------------------

KEEP = {p: 1 - min(max(round(65536 * p), 1), 65535) / 65536 for p in (1e-9, 1e-4, 0.01, 0.1, 0.3, 0.5, 0.9, 1 - 1e-9)}


def keep_rates(draw):
    for stream, (p, q) in enumerate(KEEP.items()):
        for seed in SEEDS:
            yield binomial(np.count_nonzero(draw(p, seed, stream)), 8 * N, q)


def decisions_apart(draw):
    """Two decisions of one word, of two words and of two blocks."""
    for stream, (p, distance) in enumerate(itertools.product((0.1, 0.5, 0.9), (1, 2, 8, 64))):
        for seed in SEEDS:
            a, b = apart(draw(p, seed, stream), distance)
            yield binomial(np.count_nonzero(a == b), a.size, KEEP[p] ** 2 + (1 - KEEP[p]) ** 2)


def two_layers(draw):
    """The masks of two calls, one after the other."""
    for call, p in enumerate((0.1, 0.5, 0.9)):
        for seed in SEEDS:
            same = draw(p, seed, 2 * call) == draw(p, seed, 2 * call + 1)
            yield binomial(np.count_nonzero(same), same.size, KEEP[p] ** 2 + (1 - KEEP[p]) ** 2)


DECISIONS = {"keep rates": keep_rates, "decisions apart": decisions_apart, "two layers": two_layers}

# ---- the battery -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", WORDS.values(), ids=WORDS.keys())
def test_words(test):
    assert verdict(test(raw_words)) >= ALPHA


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("test", UNIFORMS.values(), ids=UNIFORMS.keys())
def test_uniforms(test, dtype):
    assert verdict(test(uniforms(dtype))) >= ALPHA


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("test", NORMALS.values(), ids=NORMALS.keys())
def test_normals(test, dtype):
    assert verdict(test(normals(dtype))) >= ALPHA


@pytest.mark.parametrize("test", DECISIONS.values(), ids=DECISIONS.keys())
def test_decisions(test):
    assert verdict(test(kept)) >= ALPHA


# ---- the battery can fail --------------------------------------------------------------------------------------------


def copying(to, source, draw=raw_words):
    """Of each 64 words (or decisions) one is a copy of another."""

    def copied(*args, **address):
        x = draw(*args, **address)
        x.reshape(-1, 64)[:, to] = x.reshape(-1, 64)[:, source]
        return x

    return copied


def three_rounds(seed, stream=0, domain=DOMAIN_RAW, block=0):
    """Philox with three rounds of its ten."""
    counter = np.zeros((N // 4, 4), np.uint32)
    counter[:, :2] = (np.arange(N // 4, dtype=np.uint64) + np.uint64(block)).view(np.uint32).reshape(-1, 2)
    counter[:, 2] = stream & 0xFFFFFFFF
    counter[:, 3] = stream >> 32 | domain << 24
    return reference.philox4x32(counter, np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32), 3).ravel()


def box_muller(seed, u1_bits=53, turns=1.0, same=False):
    """Normal numbers in the layout of fastopt's, from fewer bits, a part of the circle, or one uniform for both."""
    u = Philox4x32(seed).random((N // 16, 2, 16))
    u1, u2 = 1 - np.floor(np.ldexp(u[:, 0], u1_bits)) * 2.0**-u1_bits, turns * u[:, 0 if same else 1]
    return (np.sqrt(-2 * np.log(u1))[:, None] * np.stack([np.cos(2 * np.pi * u2), np.sin(2 * np.pi * u2)], 1)).ravel()


BAD_WORDS = {
    "ones: a bit that is always 1": lambda seed: raw_words(seed) | np.uint32(1 << 9),
    "bytes: one that never comes": lambda seed: np.where(raw_words(seed) & 255 == 7, 8, raw_words(seed)),
    "dropout's values: 15 bits": lambda seed, domain: raw_words(seed, domain=domain) & np.uint32(0xFFFEFFFE),
    "serial bits: copies from 8 words before": copying(40, 32),
    "serial correlation: copies from 3 words before": copying(40, 37),
    "neighbouring seeds: 48 bits of the seed": lambda seed, **rest: raw_words(seed % 2**48, **rest),
    "neighbouring streams: 32 bits of the stream": lambda stream, **rest: raw_words(stream=stream % 2**32, **rest),
    "neighbouring blocks: 32 bits of the block": lambda block, **rest: raw_words(block=block % 2**32, **rest),
    "domains: left out": lambda seed, domain: raw_words(seed),
    "neighbouring seeds: three rounds": three_rounds,
    "neighbouring streams: three rounds": three_rounds,
    "neighbouring blocks: three rounds": three_rounds,
}
BAD_UNIFORMS = {
    "distribution: 2 % off the uniform": lambda seed: Philox4x32(seed).random(N) ** 1.02,
    "both ends: never above 0.999": lambda seed: Philox4x32(seed).random(N) * 0.999,
    "last bits: 32 of 53 bits": lambda seed: raw_words(seed) * 2.0**-32,
}
BAD_NORMALS = {
    "distribution: the sum of twelve uniforms": lambda seed: Philox4x32(seed).random((12, 2 * N)).sum(axis=0) - 6,
    "mean and variance: a standard deviation of 1.01": lambda seed: 1.01 * normals(np.float64)(seed),
    "mean and variance: a mean of 0.01": lambda seed: 0.01 + normals(np.float64)(seed),
    "tails: Student's distribution": lambda seed: np.random.default_rng(seed).standard_t(50, 2 * N) * 0.96**0.5,
    "far tail: cut off at 4.2": lambda seed: normals(np.float32)(seed).clip(-4.2, 4.2),
    "radii: from 6 bits": lambda seed: box_muller(seed, u1_bits=6),
    "turns: 1 % of the circle missing": lambda seed: box_muller(seed, turns=0.99),
    "radius with turn: one uniform for both": lambda seed: box_muller(seed, same=True),
    "correlation: copies from 8 numbers before": copying(40, 32, normals(np.float64)),
    "two seeds: 2k and 2k + 1 alike": lambda seed: normals(np.float64)(seed // 2),
}
BAD_DECISIONS = {
    "keep rates: p off by 0.002": lambda p, seed, stream: kept(min(p + 0.002, 1 - 1e-9), seed, stream),
    "keep rates: p rounded to 8 bits": lambda p, seed, stream: kept(round(256 * p) / 256, seed, stream),
    "decisions apart: copies of the neighbour": copying(41, 40, kept),
    "decisions apart: copies from the block before": copying(40, 32, kept),
    "two layers: the mask of the one before": lambda p, seed, stream: kept(p, seed, stream // 2),
}
BAD = [
    pytest.param(tests[name.partition(":")[0]], draw, id=name)
    for tests, bad in (
        *((WORDS, BAD_WORDS), (UNIFORMS, BAD_UNIFORMS), (NORMALS, BAD_NORMALS), (DECISIONS, BAD_DECISIONS)),
    )
    for name, draw in bad.items()
]


@pytest.mark.parametrize(("test", "draw"), BAD)
def test_a_bad_generator_is_caught(test, draw):
    assert verdict(test(draw)) < ALPHA


# ---- the end of the tail ---------------------------------------------------------------------------------------------


def test_the_largest_normal_number():
    # The first radius of seed 0 that is made of the word 0, of 2**32: nothing can be further out.
    at = 10_819_105_290
    assert reference.words(0, 0, DOMAIN_NORMAL, at, 1)[0] == 0
    x, y = (Philox4x32(0).standard_normal(dtype=np.float32, stream=0, offset=at + k) for k in (0, 16))
    assert math.hypot(x, y) == pytest.approx(math.sqrt(64 * math.log(2)), rel=1e-6)  # 6.66
