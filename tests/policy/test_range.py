"""The ends of the range, against exact arithmetic: equal and neighbouring advantages, a far log_std, rare actions."""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from fastopt import policy
from fastopt.reference import policy as reference_policy
from fastopt.reference.random import normals, words

from ..support import DTYPES, assert_same_bits

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
EXACT = Context(prec=60)


# ---- advantages ------------------------------------------------------------------------------------------------------


def standardized(x, eps):
    """By exact arithmetic up to the last digits of 60."""
    exact = [Fraction(v) for v in x.ravel().tolist()]
    mean = sum(exact) / len(exact)
    variance = sum((v - mean) ** 2 for v in exact) / len(exact)

    def decimal(v):
        return Decimal(v.numerator) / Decimal(v.denominator)

    with localcontext(EXACT):
        divisor = decimal(variance).sqrt() + Decimal(eps)
        return np.array([float(decimal(v - mean) / divisor) for v in exact])


def assert_standardized(x, eps=1e-8, rtol=0.0):
    y = policy.normalize_advantage(x, eps=eps)
    assert_same_bits(y, reference_policy.normalize_advantage(x, eps=eps))
    accuracy = np.finfo(x.dtype).eps
    np.testing.assert_allclose(y.ravel(), standardized(x, eps), rtol=4 * accuracy + rtol, atol=4e-15)


@each_dtype
@pytest.mark.parametrize(
    "value", [0.0, -0.0, 0.1, 1000.1, -1e10 - 0.1, 1e30, 1e200, -1.7e308, 1e-30, 1e-160, 5e-324, 1e-310]
)
def test_equal_advantages_are_exactly_zero(value, dtype):
    value = dtype(value) if abs(value) < np.finfo(dtype).max else np.finfo(dtype).max
    for n in (*range(1, 40), 100, 4095, 4096, 4097, 70_001):
        for eps in (1e-8, 1e-300, 1e300):
            y = policy.normalize_advantage(np.full(n, value, dtype), eps=eps)
            assert not y.any()
    assert_same_bits(y, reference_policy.normalize_advantage(np.full(n, value, dtype), eps=eps))


@each_dtype
@pytest.mark.parametrize("value", [0.1, 0.43, -1000.1, 1e10 / 3, 1e-30])
def test_advantages_one_ulp_apart(value, dtype):
    value = dtype(value)
    ulps = np.random.default_rng(0).integers(0, 2, 999)
    for steps in (ulps, 3 * ulps, np.arange(999) == 0, np.arange(999) == 998, np.arange(2), np.arange(5)):
        x = (value + np.spacing(value) * steps.astype(dtype)).astype(dtype)
        assert_standardized(x, eps=1e-300, rtol=1e-14)
        assert_standardized(x)


@pytest.mark.parametrize("magnitude", [1e308, 1e200, 1e155, 1e-150, 1e-160, 1e-170, 1e-300, 1e-320])
def test_advantages_of_any_size(magnitude):
    x = np.random.default_rng(0).uniform(-1.7, 1.7, (33, 40)) * magnitude
    for eps in (1e-8, magnitude / 8, max(magnitude * 1e-8, 5e-324)):
        assert_standardized(x, eps=eps)
    y = x.copy()
    assert policy.normalize_advantage(y, out=y) is y
    assert_same_bits(y, policy.normalize_advantage(x))
    x[3, 7] = np.nan
    assert np.all(np.isnan(policy.normalize_advantage(x)))
    x[3, 7] = np.inf
    assert np.all(np.isnan(policy.normalize_advantage(x)))


@each_dtype
def test_advantages_far_from_zero_and_from_the_first(dtype):
    x = np.random.default_rng(0).standard_normal(5000).astype(dtype)
    far = dtype(1e5 if dtype is np.float32 else 1e14)
    assert_standardized(x)
    assert_standardized(x + far)
    x[0] = far  # an outlier in front; its lane of the sum of squares has 255 roundings of that size
    assert_standardized(x, rtol=255 * 2.0**-53)


@each_dtype
def test_booleans_of_any_byte_are_true(dtype):
    rewards = np.arange(1, 41, dtype=dtype).reshape(20, 2)
    bytes_ = np.random.default_rng(0).choice(np.array([0, 0, 0, 1, 2, 4, 128, 255], np.uint8), (2, 20, 2))
    odd, plain = bytes_.view(bool), bytes_ != 0
    for ops in (policy, reference_policy):
        for following in (None, rewards):
            assert_same_bits(
                ops.discounted_returns(rewards, *odd, 0.5, next_values=following),
                policy.discounted_returns(rewards, *plain, 0.5, next_values=following),
            )
        for got, wanted in zip(
            ops.gae(rewards, rewards, rewards, *odd, 0.5, 0.5),
            policy.gae(rewards, rewards, rewards, *plain, 0.5, 0.5),
            strict=True,
        ):
            assert_same_bits(got, wanted)


# ---- Gaussian policies with a log_std far from 0 ---------------------------------------------------------------------

LOG_STDS = {
    np.float32: [-140, -104, -100, -95, -90, -89, -88, -80, -65, -64, -63, 63, 64, 65, 80, 88, 89, 95, 104, 140],
    np.float64: [-1060, -750, -745, -720, -710, -709, -600, -513, -512, -511, 511, 512, 513, 600, 709, 710, 745, 1060],
}
RANGE = [(dtype, log_std + 0.25) for dtype, all_of_them in LOG_STDS.items() for log_std in all_of_them]
each_log_std = pytest.mark.parametrize(("dtype", "log_std"), RANGE, ids=str)


def as_number(x, dtype):
    """A Decimal rounded to the dtype; what is beyond its range is infinite."""
    return float(np.asarray(float(x)).astype(dtype))


def close(got, exact, dtype):
    """Within 64 units in the last place, or of the smallest number."""
    info = np.finfo(dtype)
    expected = np.array([as_number(x, dtype) for x in exact])
    np.testing.assert_allclose(
        np.asarray(got, np.float64).ravel(), expected, rtol=64 * float(info.eps), atol=float(info.smallest_subnormal)
    )


def policies(dtype, log_std):
    """A column of that log_std beside one of 0; actions some standard deviations from the mean, if there are such."""
    std = math.exp(min(max(log_std, -745), 709))
    mean = np.zeros((6, 2), dtype)
    spread = np.array([log_std, 0], dtype)
    z = np.array([0, 1, -1.5, 3, 0.25, -0.5])
    with np.errstate(all="ignore"):
        actions = np.stack([np.nan_to_num((z * std).astype(dtype)), z.astype(dtype)], axis=1)
    return mean, spread, actions


@each_log_std
def test_the_divergence_of_a_policy_from_itself_is_zero(dtype, log_std):
    mean, spread, actions = policies(dtype, log_std)
    every = np.broadcast_to(spread, mean.shape)
    for old, new in ((spread, spread), (every, every), (spread, every), (every, spread)):
        for of in (mean, actions):
            assert policy.gaussian_kl(of, old, of, new) == 0
    for beyond in (-1e4, 1e4, -1e30, 1e30):
        assert policy.gaussian_kl(actions, spread + dtype(beyond), actions, spread + dtype(beyond)) == 0


@each_log_std
def test_log_probabilities_and_divergences_there(dtype, log_std):
    mean, spread, actions = policies(dtype, log_std)
    with localcontext(EXACT):
        log_2pi = (2 * Decimal("3.14159265358979323846264338327950288419716939937510582097494459")).ln()
        t2 = [
            [(Decimal(float(a)) * (-Decimal(float(s))).exp()) ** 2 for a, s in zip(row, spread, strict=True)]
            for row in actions
        ]
        log_prob = [
            -sum(x / 2 + Decimal(float(s)) + log_2pi / 2 for x, s in zip(row, spread, strict=True)) for row in t2
        ]
        kl = [sum(row) / 2 for row in t2]
    for of_rows in (spread, np.broadcast_to(spread, mean.shape)):
        close(policy.gaussian_log_prob(mean, of_rows, actions), log_prob, dtype)
        close(policy.gaussian_kl(actions, of_rows, mean, of_rows, per_sample=True), kl, dtype)
        assert_same_bits(
            policy.gaussian_log_prob(mean, of_rows, actions), reference_policy.gaussian_log_prob(mean, of_rows, actions)
        )


@each_log_std
def test_gradients_there(dtype, log_std):
    mean, spread, actions = policies(dtype, log_std)
    advantages = np.array([1, -2, 0.5, 3, -0.25, 1], dtype)
    weight = [Decimal(float(a)) * Decimal(float(dtype(1 / 6))) for a in advantages]
    with localcontext(EXACT):
        by_mean, by_log_std = [], []
        for row, w in zip(actions, weight, strict=True):
            for a, s in zip(row, spread, strict=True):
                t = Decimal(float(a)) * (-Decimal(float(s))).exp()
                by_mean.append(-w * t * (-Decimal(float(s))).exp())
                by_log_std.append(w * (1 - t**2))
    every = np.ascontiguousarray(np.broadcast_to(spread, mean.shape))
    _, dmean, dlog_std = policy.gaussian_policy_gradient(mean, every, actions, advantages)
    close(dmean, by_mean, dtype)
    exact = np.array([as_number(x, dtype) for x in by_log_std]).reshape(6, 2)
    np.testing.assert_allclose(dlog_std, exact, rtol=64 * np.finfo(dtype).eps, atol=64 * np.finfo(dtype).eps)
    _, dmean, dlog_std = policy.gaussian_policy_gradient(mean, spread, actions, advantages)
    close(dmean, by_mean, dtype)
    np.testing.assert_allclose(dlog_std, exact.sum(axis=0), rtol=1e-5, atol=256 * np.finfo(dtype).eps)
    for of_rows in (spread, every):
        got = policy.gaussian_policy_gradient(mean, of_rows, actions, advantages, entropy_coef=0.1)
        wanted = reference_policy.gaussian_policy_gradient(mean, of_rows, actions, advantages, entropy_coef=0.1)
        for one, other in zip(got, wanted, strict=True):
            assert_same_bits(one, other)


@each_log_std
def test_samples_there(dtype, log_std):
    spread = np.array([log_std, 0], dtype)
    z = normals(dtype, 7, 0, 0, 200, domain=8).reshape(100, 2)
    with localcontext(EXACT):
        exact = [Decimal(float(v)) * Decimal(float(spread[0])).exp() for v in z[:, 0]]
    for mean in (np.zeros((100, 2), dtype),):
        for of_rows in (spread, np.broadcast_to(spread, mean.shape)):
            samples = policy.gaussian_sample(mean, of_rows, (7, 0))
            close(samples[:, 0], exact, dtype)
            assert_same_bits(samples, reference_policy.gaussian_sample(mean, of_rows, (7, 0)))


@each_dtype
@pytest.mark.parametrize("columns", [1, 2, 5, 32, 33, 70])
def test_kernels_have_the_bits_of_the_definition_there(columns, dtype):
    # Some columns, or some rows, are at the ends and the others are not.
    rng, far = np.random.default_rng(0), 4 * (64 if dtype is np.float32 else 512)
    for rows in (1, 3, 64, 65, 130):
        x, y = (rng.standard_normal((rows, columns)).astype(dtype) for _ in range(2))
        b = rng.standard_normal(rows).astype(dtype)
        every = (rng.uniform(-far, far, (rows, columns)) * (rng.random((rows, columns)) < 0.1)).astype(dtype)
        every[rows // 2 :] = 0
        for spread in (every, every[0].copy(), np.full(columns, far / 3, dtype)):
            for run in (
                lambda ops, x=x, y=y, s=spread: ops.gaussian_kl(x, s, y, s, per_sample=True),
                lambda ops, x=x, y=y, s=spread, e=every: ops.gaussian_kl(x, e, y, s, per_sample=True),
                lambda ops, x=x, y=y, s=spread: ops.gaussian_log_prob(x, s, y),
                lambda ops, x=x, s=spread: ops.gaussian_sample(x, s, (7, 0)),
            ):
                assert_same_bits(run(policy), run(reference_policy), f"{rows} rows")
            got, wanted = (
                ops.gaussian_policy_gradient(x, spread, y, b, entropy_coef=0.1) for ops in (policy, reference_policy)
            )
            for one, other in zip(got, wanted, strict=True):
                assert_same_bits(one, other, f"{rows} rows")


# ---- rare actions ----------------------------------------------------------------------------------------------------

# (stream, row) under the key 0 whose word is this one, next to either end of the range.
NEXT_TO_0 = {3: (31046, 2613), 15: (23091, 1431), 52: (5676, 2380)}
NEXT_TO_1 = {2**32 - 9: (83319, 66), 2**32 - 25: (116875, 919), 2**32 - 47: (115941, 4063)}


def sampled(logits, stream, row):
    """The action of that row of float32 logits."""
    batch = np.zeros((row + 1, len(logits)), np.float32)
    batch[row] = logits
    action = policy.categorical_sample(batch, (0, stream))[row]
    assert action == reference_policy.categorical_sample(batch, (0, stream))[row]
    return int(action)


@pytest.mark.parametrize("word", [*NEXT_TO_0, *NEXT_TO_1])
def test_a_rare_action_is_sampled_with_its_probability(word):
    # The probability of so many words of 2**32 takes exactly those words whose middle is below it.
    stream, row = (NEXT_TO_0 | NEXT_TO_1)[word]
    assert words(0, stream, 8, row, 1) == [word]
    rank = min(word, 2**32 - 1 - word)  # from its end
    for count in (0.25, 1, 4, rank - 1, rank, rank + 0.25, rank + 0.75, rank + 1, 2 * rank + 2, 1000):
        log_p = np.float32(math.log(count / 2**32) if count else -np.inf)
        weight = Fraction(float(reference_policy.exponential(np.array([log_p]))[0]))
        taken = weight * 2**33 > (2 * rank + 1) * (weight + 1)
        assert taken == (count > rank + 0.5)
        if word == rank:
            assert (sampled([log_p, 0], stream, row) == 0) == taken
            assert (sampled([-np.inf, log_p, 0], stream, row) == 1) == taken
        else:
            assert (sampled([0, log_p], stream, row) == 1) == taken
            assert (sampled([0, log_p, -np.inf], stream, row) == 1) == taken


def test_rare_actions_in_wide_rows():
    # 100,000 actions, each with a probability of its own 2**-17 or so: sums of float32 would have lost the last ones.
    columns, rows = 100_000, 400
    logits = np.zeros((rows, columns), np.float32)
    u = (words(5, 1, 8, 0, rows) + 0.5) * 2.0**-32
    np.testing.assert_array_equal(policy.categorical_sample(logits, (5, 1)), np.floor(u * columns))
