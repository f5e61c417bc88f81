"""The kernels of the cross-entropy method against their definition: candidates, elites, refit; bits and threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastopt
from fastopt import _core, reference
from fastopt._core import Distribution
from fastopt.reference import cem as reference_cem

from ..support import DTYPES, assert_same_bits

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def distribution(
    n, dtype, *, full=False, bounds=False, antithetic=False, reflect=False, population=70, seed=1, weights="log"
):
    rng = np.random.default_rng(seed)
    mean, std = rng.standard_normal(n).astype(dtype), np.abs(rng.standard_normal(n)).astype(dtype)
    std[n // 2] = 0  # a dimension that no longer moves
    factor = np.triu(rng.standard_normal((n, n)))
    factor = (factor / np.sqrt(np.square(factor).sum(axis=0))).astype(dtype) if full else None
    lower, upper = (mean - dtype(0.5), mean + dtype(0.75)) if bounds else (None, None)
    path = rng.standard_normal(n) if weights == "log" else None
    return Distribution(
        mean, std, factor, lower, upper, 2**63 + 12345, 3 | 2 << 32, population, antithetic, reflect, path
    )


KINDS = [
    dict(zip(("full", "bounds", "antithetic", "reflect"), flags, strict=True))
    for flags in itertools.product((False, True), repeat=4)
    if flags[1] or not flags[3]
]


@each_dtype
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(k for k, v in kind.items() if v) or "plain")
def test_kernels_have_the_bits_of_their_definition(kind, dtype):
    elites = np.array([30, 4, 64, 1, 31, 9])
    # Of a last group with up to 12 dimensions only those are computed.
    for n in (1, 5, 13, 31, 32, 33, 100) if kind["full"] else (1, 5, 12, 13, 31, 32, 33, 44, 100, 257, 600, 1100):
        d = distribution(n, dtype, **kind)
        x = reference_cem.cem_candidates(d, 0, 71)
        assert_same_bits(_core.cem_candidates(d, 3, 68), x[3:], f"n {n}")
        assert_same_bits(x[70], d.mean)
        some = np.array([33, 0, 70, 1, 7])
        assert_same_bits(_core.cem_candidates(d, 0, 0, some), x[some], f"n {n}")
        for about_new_mean, std_lr, extra_variance in ((False, 0.3, 0.0), (True, 0.0, 0.0), (False, 1.0, 0.01)):
            options = (about_new_mean, 0.7, std_lr, extra_variance, 1e-3)
            for each in (d, d.replaced(path=None)):
                ours, theirs = _core.cem_refit(each, elites, *options), reference_cem.cem_refit(each, elites, *options)
                assert ours.largest_std == ours.std.max()
                assert ours.largest_mean == np.abs(ours.mean).max()
                assert ours.stream == theirs.stream == d.stream + 1
                assert (ours.path is None) == (each.path is None)
                for name in ("mean", "std", "factor", "path"):
                    if getattr(theirs, name) is not None:
                        assert_same_bits(getattr(ours, name), getattr(theirs, name), f"n {n}, {options}: {name}")


@each_dtype
def test_long_candidates_with_a_factor(dtype):
    d = distribution(530, dtype, full=True, antithetic=True)  # longer than what the kernel keeps to itself
    assert_same_bits(_core.cem_candidates(d, 0, 9), reference_cem.cem_candidates(d, 0, 9))


@each_dtype
def test_kernels_on_threads_and_in_other_cuts(dtype):
    for kind in ({}, {"antithetic": True, "bounds": True}, {"full": True}):
        n = 150 if kind.get("full") else 2000
        d = distribution(n, dtype, population=300, **kind)
        with fastopt.num_threads(1):
            x = _core.cem_candidates(d, 0, 301)
        elites = np.arange(0, 300, 7)
        after = []
        for threads in (1, 2, 3):
            with fastopt.num_threads(threads):
                assert_same_bits(_core.cem_candidates(d, 0, 301), x)
                pieces = [_core.cem_candidates(d, a, min(a + 37, 301) - a) for a in range(0, 301, 37)]
                assert_same_bits(np.concatenate(pieces), x)
                with _core.CandidatesAhead(d, 0, 301) as ahead:
                    pieces = [ahead[a : min(a + 37, 301)].copy() for a in range(0, 301, 37)]
                assert_same_bits(np.concatenate(pieces), x)
                after.append(_core.cem_refit(d, elites, False, 1.0, 0.5, 0.0, 0.0))
        for other in after[1:]:
            for name in ("mean", "std", "path"):
                assert_same_bits(getattr(other, name), getattr(after[0], name), name)


def test_candidates_are_normal_numbers_of_their_address():
    d = distribution(40, np.float32)
    z = reference.normals(np.float32, d.seed, d.stream, 7 * 64, 40, domain=3)
    assert_same_bits(_core.cem_candidates(d, 7, 1)[0], d.mean + d.std * z)


def test_antithetic_candidates_come_in_mirrored_pairs():
    d = distribution(40, np.float64, antithetic=True).replaced(mean=np.zeros(40))
    x = _core.cem_candidates(d, 0, 70)
    assert_same_bits(x[1::2], -x[0::2] + 0.0 if (x[0::2] == 0).any() else -x[0::2])
    assert len(np.unique(x[0::2], axis=0)) == 35


def test_elites():
    rng = np.random.default_rng(1)
    for n, maximize in itertools.product((1, 2, 10, 1000), (False, True)):
        scores = rng.integers(0, max(2, n // 3), n).astype(float)  # many ties
        for bad in (np.nan, np.inf, -np.inf):
            scores[rng.random(n) < 0.1] = bad
        for wanted in (1, 2, n // 3 + 1, n, n + 5):
            elites = _core.cem_elites(scores, wanted, maximize)
            assert elites.tolist() == reference_cem.cem_elites(scores, wanted, maximize).tolist()
            assert np.isfinite(scores[elites]).all()


def test_equal_scores_go_by_their_number():
    assert _core.cem_elites(np.zeros(9), 4, False).tolist() == [0, 1, 2, 3]
    assert _core.cem_elites(np.array([0.0, 1.0, -0.0, 1.0, 1.0]), 4, True).tolist() == [1, 3, 4, 0]
    assert _core.cem_elites(np.full(3, np.inf), 2, False).tolist() == []
