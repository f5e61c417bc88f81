"""Policy gradients: what each helper means. That its bits are the reference's is in test_bits.py."""

from __future__ import annotations

import doctest
import inspect
import math

import numpy as np
import pytest

from fastopt import Philox4x32, policy, reference
from fastopt.reference import policy as reference_policy

from ..support import DTYPES, assert_same_bits

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


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
    with np.errstate(all="ignore"):
        y = reference_policy.exponential(x)
    assert_same_bits(y, np.array([1, 1, np.inf, 0, np.nan, np.inf, 0, 1], dtype))
    top, bottom = math.log(info.max), math.log(info.smallest_subnormal) - math.log(2)
    around = np.array([top * (1 - 1e-6), top * (1 + 1e-6), bottom + 0.5, bottom - 0.01], dtype)
    with np.errstate(over="ignore"):
        largest, too_large, smallest, too_small = reference_policy.exponential(around)
    assert largest < np.inf
    assert too_large == np.inf
    assert smallest == info.smallest_subnormal
    assert too_small == 0


# ---- Kullback-Leibler divergences ------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("actions", [1, 2, 6, 18, 100])
def test_categorical_kl_against_scipy(actions, dtype):
    special = pytest.importorskip("scipy.special")
    stats = pytest.importorskip("scipy.stats")
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


# ---- log-probabilities, entropies and gradients ----------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("actions", [1, 2, 6, 18, 100])
def test_categorical_log_prob_and_entropy_against_scipy(actions, dtype):
    special = pytest.importorskip("scipy.special")
    logits, eps = normal(1, (200, actions), dtype, 3), np.finfo(dtype).eps
    chosen = np.random.default_rng(0).integers(0, actions, 200)
    exact = special.log_softmax(logits.astype(float), -1)
    np.testing.assert_allclose(
        policy.categorical_log_prob(logits, chosen), exact[np.arange(200), chosen], rtol=8 * eps, atol=8 * eps
    )
    entropy = -np.sum(np.exp(exact) * exact, axis=-1)
    np.testing.assert_allclose(policy.categorical_entropy(logits), entropy, rtol=8 * eps, atol=8 * eps)


@each_dtype
@pytest.mark.parametrize("shared", [True, False])
def test_gaussian_log_prob_and_entropy_against_scipy(shared, dtype):
    stats = pytest.importorskip("scipy.stats")
    shape, eps = (300, 6), np.finfo(dtype).eps
    mean, taken = normal(1, shape, dtype), normal(2, shape, dtype)
    log_std = normal(3, 6 if shared else shape, dtype)
    std = np.exp(log_std.astype(float))
    exact = stats.norm.logpdf(taken.astype(float), mean.astype(float), std)
    log_prob = policy.gaussian_log_prob(mean, log_std, taken)
    np.testing.assert_allclose(log_prob, exact.sum(axis=-1), rtol=8 * eps, atol=8 * eps)
    exact = np.sum(np.broadcast_to(stats.norm.entropy(0, std), log_std.shape), axis=-1)
    entropy = policy.gaussian_entropy(log_std)
    assert entropy.shape == log_std.shape[:-1]
    np.testing.assert_allclose(entropy, exact, rtol=8 * eps, atol=8 * eps)


def differences(loss, x, step=1e-6):
    """The gradient of loss() by central differences in each element of x."""
    grad = np.empty_like(x)
    for i in np.ndindex(x.shape):
        before = x[i]
        x[i] = before + step
        above = loss()
        x[i] = before - step
        grad[i] = (above - loss()) / (2 * step)
        x[i] = before
    return grad


@pytest.mark.parametrize("entropy_coef", [0.0, 0.3, -0.1])
@pytest.mark.parametrize("actions", [1, 2, 6, 40])
def test_categorical_gradient_against_differences(actions, entropy_coef):
    special = pytest.importorskip("scipy.special")
    logits, advantages = normal(1, (5, actions), float), normal(2, 5, float)
    chosen = np.random.default_rng(0).integers(0, actions, 5)

    def loss():
        log_p = special.log_softmax(logits, -1)
        entropy = -np.sum(np.exp(log_p) * log_p, axis=-1)
        return -np.mean(advantages * log_p[np.arange(5), chosen]) - entropy_coef * np.mean(entropy)

    value, grad = policy.categorical_policy_gradient(logits, chosen, advantages, entropy_coef=entropy_coef)
    assert value == pytest.approx(loss(), rel=1e-13, abs=1e-15)
    np.testing.assert_allclose(grad, differences(loss, logits), rtol=1e-7, atol=1e-9)


def test_with_labels_and_ones_it_is_softmax_cross_entropy():
    special = pytest.importorskip("scipy.special")
    logits, labels = normal(1, (50, 7), float), np.random.default_rng(0).integers(0, 7, 50)
    loss, grad = policy.categorical_policy_gradient(logits, labels, np.ones(len(labels)))
    assert loss == pytest.approx(-np.mean(special.log_softmax(logits, -1)[np.arange(50), labels]), rel=1e-13)
    np.testing.assert_allclose(grad, (special.softmax(logits, -1) - np.eye(7)[labels]) / 50, rtol=0, atol=1e-16)


@each_dtype
def test_the_negative_of_advantages_and_entropy_gives_the_direction_of_ascent(dtype):
    x, log_std, taken, advantages = (normal(k, (9, 4)[: 2 - (k == 3)], dtype) for k in range(4))
    arrays = (x, np.arange(9) % 4), (x, log_std, taken)
    for function, of_policy in zip(
        (policy.categorical_policy_gradient, policy.gaussian_policy_gradient), arrays, strict=True
    ):
        down = function(*of_policy, advantages, entropy_coef=0.3)
        up = function(*of_policy, -advantages, entropy_coef=-0.3)
        assert all(np.array_equal(a, -b) for a, b in zip(up, down, strict=True))


@pytest.mark.parametrize("entropy_coef", [0.0, 0.3])
@pytest.mark.parametrize("shared", [True, False])
def test_gaussian_gradient_against_differences(shared, entropy_coef):
    stats = pytest.importorskip("scipy.stats")
    mean, taken, advantages = normal(1, (7, 3), float), normal(2, (7, 3), float), normal(3, 7, float)
    log_std = normal(4, 3 if shared else (7, 3), float, 0.5)

    def loss():
        log_prob = stats.norm.logpdf(taken, mean, np.exp(log_std)).sum(axis=-1)
        entropy = np.broadcast_to(stats.norm.entropy(0, np.exp(log_std)), mean.shape).sum(axis=-1)
        return -np.mean(advantages * log_prob) - entropy_coef * np.mean(entropy)

    value, dmean, dlog_std = policy.gaussian_policy_gradient(
        mean, log_std, taken, advantages, entropy_coef=entropy_coef
    )
    assert value == pytest.approx(loss(), rel=1e-13)
    np.testing.assert_allclose(dmean, differences(loss, mean), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(dlog_std, differences(loss, log_std), rtol=1e-7, atol=1e-9)


@each_dtype
def test_gradients_go_where_out_says(dtype):
    logits, advantages, chosen = normal(1, (9, 4), dtype), normal(2, 9, dtype), np.arange(9, dtype=np.uint8) % 4
    loss, grad = policy.categorical_policy_gradient(logits, chosen, advantages)
    out = np.empty_like(logits)
    same_loss, result = policy.categorical_policy_gradient(logits, chosen, advantages, out=out)
    assert result is out
    assert same_loss == loss
    assert_same_bits(out, grad)
    taken, log_std = normal(3, (9, 4), dtype), normal(4, 4, dtype)
    _, dmean, dlog_std = policy.gaussian_policy_gradient(logits, log_std, taken, advantages)
    outs = np.empty((4, 9), dtype).T, np.empty(4, dtype)
    _, *results = policy.gaussian_policy_gradient(logits, log_std, taken, advantages, out=outs)
    assert results[0] is outs[0]
    assert results[1] is outs[1]
    assert_same_bits(results[0], dmean)
    assert_same_bits(results[1], dlog_std)


# ---- sampling --------------------------------------------------------------------------------------------------------


@each_dtype
def test_sampled_actions_have_their_probabilities(dtype):
    # Each count is a binomial's: 5 standard deviations are one false alarm in 2 million.
    special = pytest.importorskip("scipy.special")
    n, logits = 2**18, np.array([0.5, -1.0, 2.0, -np.inf, 0.0, -9.0], dtype)
    actions = policy.categorical_sample(np.broadcast_to(logits, (n, 6)), (7, 0))
    assert actions.dtype == np.int64
    counts = np.bincount(actions, minlength=6)
    p = special.softmax(logits.astype(float))
    assert counts[3] == 0
    assert np.all(np.abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p)))


@each_dtype
def test_the_action_is_the_first_whose_cumulative_weight_exceeds_the_uniform(dtype):
    # Weights 1, 1, 2 of 4: the action is 0 below 1/4, 1 below 1/2, 2 above, for the uniforms of domain 8.
    logits = np.tile(np.array([0, 0, math.log(2)], dtype), (1000, 1))
    seed, stream = 2**64 - 5, 2**56 - 1
    u = reference.uniforms(dtype, seed, stream, 0, 1000, domain=8)
    expected = (u >= 0.25).astype(int) + (u >= 0.5)
    assert policy.categorical_sample(logits, (seed, stream)).tolist() == expected.tolist()


@each_dtype
def test_no_masked_action_is_sampled_next_to_the_ends(dtype):
    # The first column masked while u is 0, the last while u is just below 1, which rounding could carry to the sum.
    logits = np.full((2**16, 3), -np.inf, dtype)
    logits[:, 1] = normal(1, 2**16, dtype)
    assert np.all(policy.categorical_sample(logits, (1, 2)) == 1)


@each_dtype
def test_a_row_without_a_distribution_gives_no_action(dtype):
    logits = np.zeros((5, 3), dtype)
    logits[1, 2], logits[2], logits[3, 0] = np.nan, -np.inf, np.inf
    actions = policy.categorical_sample(logits, (1, 2))
    assert actions[1:4].tolist() == [-1, -1, -1]
    assert np.all(actions[[0, 4]] >= 0)


@each_dtype
def test_gaussian_samples_are_scaled_normal_numbers(dtype):
    n, mean, log_std = 2**18, np.array([3.0, -1.0], dtype), np.array([-1.0, 2.0], dtype)
    actions = policy.gaussian_sample(np.broadcast_to(mean, (n, 2)), log_std, (7, 0))
    z = (actions - mean.astype(float)) / np.exp(log_std.astype(float))
    assert np.all(np.abs(z.mean(axis=0)) < 5 / math.sqrt(n))
    assert np.all(np.abs(z.var(axis=0) - 1) < 5 * math.sqrt(2 / n))
    own = reference.normals(dtype, 7, 0, 0, 2 * n, domain=8).reshape(n, 2)
    np.testing.assert_allclose(z, own, atol=1e-6)


def test_a_call_takes_one_stream_and_a_wrong_one_none():
    rng = Philox4x32(5)
    logits, mean, log_std = np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(2)
    first, second = policy.categorical_sample(logits, rng), policy.categorical_sample(logits, rng)
    policy.gaussian_sample(mean, log_std, rng)
    assert rng.state["stream"] == 3
    assert_same_bits(policy.categorical_sample(logits, (5, 0)), first)
    assert_same_bits(policy.categorical_sample(logits, (5, 1)), second)
    for wrong in (
        lambda: policy.categorical_sample([[0.0]], rng),
        lambda: policy.categorical_sample(np.zeros((3, 0)), rng),
        lambda: policy.gaussian_sample(mean, np.zeros(3), rng),
        lambda: policy.gaussian_sample(mean, log_std, rng, out=np.zeros((3, 3))),
    ):
        with pytest.raises((TypeError, ValueError)):
            wrong()
    assert rng.state["stream"] == 3
    with pytest.raises(TypeError, match="rng: expected a Philox4x32, got the int 5"):
        policy.categorical_sample(logits, 5)


# ---- returns and advantages ------------------------------------------------------------------------------------------


def episodes(seed, time, environments, dtype):
    """rewards, values, next_values (NaN where terminated, which must not count), terminated, truncated."""
    rng = np.random.default_rng(seed)
    rewards, values, following = (normal(seed + k, (time, environments), dtype) for k in range(3))
    terminated, truncated = (rng.random((time, environments)) < 0.1 for _ in range(2))
    following[terminated] = np.nan
    return rewards, values, following, terminated, truncated


@pytest.mark.parametrize("lam", [0.0, 0.9, 1.0])
def test_gae_is_a_double_sum(lam):
    gamma = 0.97
    rewards, values, following, terminated, truncated = episodes(1, 40, 3, float)
    advantages, returns = policy.gae(rewards, values, following, terminated, truncated, gamma, lam)
    for t, e in np.ndindex(rewards.shape):
        # A = sum_k (gamma lam)**k delta[t + k], and each delta by its own definition, up to the end of the episode
        total = 0.0
        for k in range(t, 40):
            bootstrap = 0.0 if terminated[k, e] else gamma * following[k, e]
            total += (gamma * lam) ** (k - t) * (rewards[k, e] + bootstrap - values[k, e])
            if terminated[k, e] or truncated[k, e]:
                break
        assert advantages[t, e] == pytest.approx(total, rel=1e-12, abs=1e-13)
    np.testing.assert_array_equal(returns, advantages + values)


def test_gae_with_lam_1_is_the_discounted_return_less_the_value():
    rewards, values, following, terminated, truncated = episodes(2, 50, 4, float)
    # lam = 1 telescopes where the next value is that of the next observation.
    consistent = following.copy()
    inside = ~(terminated | truncated)
    inside[-1] = False
    consistent[inside] = np.roll(values, -1, axis=0)[inside]
    _, returns = policy.gae(rewards, values, consistent, terminated, truncated, 0.9, 1.0)
    discounted = policy.discounted_returns(rewards, terminated, truncated, 0.9, next_values=following)
    np.testing.assert_allclose(returns, discounted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bootstrap", [True, False])
def test_discounted_returns_are_sums_to_the_end_of_the_episode(bootstrap):
    rewards, _, following, terminated, truncated = episodes(3, 40, 3, float)
    given = {"next_values": following} if bootstrap else {}
    returns = policy.discounted_returns(rewards, terminated, truncated, 0.9, **given)
    for t, e in np.ndindex(rewards.shape):
        total = 0.0
        for k in range(t, 40):
            total += 0.9 ** (k - t) * rewards[k, e]
            if terminated[k, e]:
                break
            if truncated[k, e] or k == 39:
                total += 0.9 ** (k - t + 1) * following[k, e] if bootstrap else 0.0
                break
        assert returns[t, e] == pytest.approx(total, rel=1e-12, abs=1e-13)


@each_dtype
def test_one_environment_without_its_axis(dtype):
    arrays = episodes(4, 100, 1, dtype)
    flat = [a[:, 0].copy() for a in arrays]
    for with_axis, without in zip(policy.gae(*arrays, 0.99, 0.95), policy.gae(*flat, 0.99, 0.95), strict=True):
        assert_same_bits(without, with_axis[:, 0])


@each_dtype
def test_no_steps_and_no_environments(dtype):
    for shape in ((0,), (0, 3), (5, 0)):
        x, flags = np.zeros(shape, dtype), np.zeros(shape, bool)
        for result in (*policy.gae(x, x, x, flags, flags, 0.9, 0.9), policy.discounted_returns(x, flags, flags, 0.9)):
            assert result.shape == shape
            assert result.dtype == dtype


@each_dtype
def test_normalize_advantage(dtype):
    x = (5 + 3 * np.random.default_rng(0).standard_normal((100, 7))).astype(dtype)
    y = policy.normalize_advantage(x)
    exact = (x.astype(float) - x.mean(dtype=float)) / (x.std(dtype=float) + 1e-8)
    np.testing.assert_allclose(y, exact, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)
    for value in (0.0, 0.1, 1e30):
        same = policy.normalize_advantage(np.full(1000, value, dtype), eps=1e-3)
        assert np.all(np.abs(same) <= abs(value) * 1e-9)
    assert policy.normalize_advantage(np.array([3.0], dtype)).tolist() == [0]


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(policy.__all__) & set(vars(reference_policy))))
def test_names_have_twins_with_the_same_signature(name):
    mine, twin = getattr(policy, name), getattr(reference_policy, name)
    parameters = [[(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()] for f in (mine, twin)]
    assert parameters[0] == parameters[1]
    assert inspect.getdoc(mine).splitlines()[0].endswith(".")


def test_every_op_has_a_twin():
    without = {"kl_line_search", "LineSearchResult", "PPOStats"}  # which has no kernel, and what is returned
    assert set(policy.__all__) - set(vars(reference_policy)) == without


def test_examples_in_docstrings():
    modules = {inspect.getmodule(getattr(policy, name)) for name in policy.__all__}
    results = [doctest.testmod(module) for module in modules]
    assert sum(result.attempted for result in results) >= 13
    assert not any(result.failed for result in results)
