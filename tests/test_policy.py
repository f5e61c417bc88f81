"""Policy gradients: what each helper means. That its bits are the reference's is in test_policy_bits.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from fastopt import policy, reference_policy

from .support import DTYPES, assert_same_bits

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def normal(seed, shape, dtype, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


# ---- exponential and logarithm ---------------------------------------------------------------------------------------

# The largest errors of 2**20 values, in units in the last place; policy's docstring states them.
LARGEST_ERROR = {"exponential": {np.float32: 1.1, np.float64: 1.1}, "logarithm": {np.float32: 0.9, np.float64: 2.0}}


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs a longer float than float64 to compare with")
@each_dtype
@pytest.mark.parametrize("function", LARGEST_ERROR)
def test_accuracy(function, dtype):
    rng = np.random.default_rng(3)
    info = np.finfo(dtype)
    if function == "exponential":
        low, high = math.log(info.smallest_subnormal), math.log(info.max)
        x = np.concatenate([rng.uniform(low, high, 2**19), rng.uniform(-20, 1, 2**19)]).astype(dtype)
    else:
        x = np.concatenate([np.exp(rng.uniform(-20, 20, 2**19)), rng.uniform(0.5, 2, 2**19)]).astype(dtype)
    exact = {"exponential": np.exp, "logarithm": np.log}[function](x.astype(np.longdouble))
    error = np.abs(getattr(reference_policy, function)(x) - exact) / np.spacing(np.abs(exact).astype(dtype))
    assert np.max(error) <= LARGEST_ERROR[function][dtype]


@each_dtype
def test_ends_of_the_exponential(dtype):
    info = np.finfo(dtype)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.smallest_subnormal], dtype)
    assert_same_bits(reference_policy.exponential(x), np.array([1, 1, np.inf, 0, np.nan, np.inf, 0, 1], dtype))
    top, bottom = math.log(info.max), math.log(info.smallest_subnormal) - math.log(2)
    around = np.array([top * (1 - 1e-6), top * (1 + 1e-6), bottom + 0.5, bottom - 0.01], dtype)
    largest, too_large, smallest, too_small = reference_policy.exponential(around)
    assert largest < np.inf
    assert too_large == np.inf
    assert smallest == info.smallest_subnormal
    assert too_small == 0


# ---- Kullback-Leibler divergences ------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("actions", [1, 2, 6, 18, 100])
def test_categorical_kl_against_scipy(actions, dtype):
    old, new = normal(1, (200, actions), dtype, 3), normal(2, (200, actions), dtype, 3)
    exact = stats.entropy(special.softmax(old.astype(float), -1), special.softmax(new.astype(float), -1), axis=-1)
    kl = policy.categorical_kl(old, new, per_sample=True)
    assert kl.shape == (200,)
    assert kl.dtype == dtype
    np.testing.assert_allclose(kl, exact, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)
    mean = policy.categorical_kl(old, new)
    assert type(mean) is float
    assert mean == pytest.approx(np.mean(kl.astype(float)), rel=1e-14)


@each_dtype
def test_the_direction_of_the_kl(dtype):
    # old = (1/2, 1/2), new = (1/4, 3/4): sum of old * log(old / new) = log 2 - log(3) / 2
    old, new = np.zeros((1, 2), dtype), np.array([[0, math.log(3)]], dtype)
    assert policy.categorical_kl(old, new) == pytest.approx(
        math.log(2) - math.log(3) / 2, rel=4 * float(np.finfo(dtype).eps)
    )
    # old = N(0, 1), new = N(1, 2**2): log 2 + (1 + 1) / 8 - 1/2
    zero, one, log_2 = np.zeros((1, 1), dtype), np.ones((1, 1), dtype), np.array([math.log(2)], dtype)
    kl = policy.gaussian_kl(zero, np.zeros(1, dtype), one, log_2)
    assert kl == pytest.approx(math.log(2) - 0.25, rel=4 * float(np.finfo(dtype).eps))


@each_dtype
def test_the_kl_of_a_policy_to_itself_is_exactly_zero(dtype):
    logits = normal(3, (1000, 7), dtype, 50)
    logits[::3, 2] = -np.inf
    assert policy.categorical_kl(logits, logits.copy()) == 0
    mean, log_std = normal(4, (1000, 7), dtype, 50), normal(5, (1000, 7), dtype, 3)
    assert policy.gaussian_kl(mean, log_std, mean.copy(), log_std.copy()) == 0
    assert policy.gaussian_kl(mean, log_std[0], mean.copy(), log_std[0].copy()) == 0


@each_dtype
def test_large_logits(dtype):
    large = dtype(1e30)
    old = np.array([[large, large, 0], [0, large, -large]], dtype)
    new = np.array([[large, large, large], [0, large, 0]], dtype)
    kl = policy.categorical_kl(old, new, per_sample=True)
    np.testing.assert_allclose(kl, [math.log(3 / 2), 0], rtol=4 * np.finfo(dtype).eps)
    assert policy.categorical_kl(old + dtype(0), old) == 0


@each_dtype
def test_masked_actions(dtype):
    inf, nan = np.inf, np.nan
    old = np.array([[0, 0, -inf], [0, 0, -inf], [0, 0, 0], [-inf, -inf, -inf], [0, inf, 0], [0, nan, 0]], dtype)
    new = np.array([[0, 0, -inf], [0, 0, 0], [0, 0, -inf], [0, 0, 0], [0, 0, 0], [0, 0, 0]], dtype)
    kl = policy.categorical_kl(old, new, per_sample=True)
    np.testing.assert_allclose(kl, [0, math.log(3 / 2), inf, nan, nan, nan], rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(
        policy.categorical_entropy(old), [math.log(2)] * 2 + [math.log(3)] + [nan] * 3, rtol=4 * np.finfo(dtype).eps
    )
    log_prob = policy.categorical_log_prob(old[:3], np.array([2, 0, 1]))
    np.testing.assert_allclose(log_prob, [-inf, -math.log(2), -math.log(3)], rtol=4 * np.finfo(dtype).eps)
    loss, grad = policy.categorical_policy_gradient(old[:2], np.array([0, 1]), np.ones(2, dtype), entropy_coef=0.5)
    assert math.isfinite(loss)
    np.testing.assert_array_equal(grad[:, 2], 0)  # no step moves a masked action's logit


@each_dtype
@pytest.mark.parametrize("shared", [True, False])
def test_gaussian_kl_against_its_formula(shared, dtype):
    shape = (300, 6)
    old, new = normal(1, shape, dtype), normal(2, shape, dtype)
    old_log_std, new_log_std = (normal(k, 6 if shared else shape, dtype) for k in (3, 4))
    m0, l0, m1, l1 = (a.astype(np.longdouble) for a in (old, old_log_std, new, new_log_std))
    exact = np.sum(l1 - l0 + (np.exp(2 * l0) + (m0 - m1) ** 2) / (2 * np.exp(2 * l1)) - 0.5, axis=-1)
    kl = policy.gaussian_kl(old, old_log_std, new, new_log_std, per_sample=True)
    np.testing.assert_allclose(kl, exact.astype(float), rtol=20 * np.finfo(dtype).eps)
    assert policy.gaussian_kl(old, old_log_std, new, new_log_std) == pytest.approx(kl.astype(float).mean(), rel=1e-14)
