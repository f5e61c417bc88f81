"""The policy gradients inside @njit: the bits of Python, whatever is given, and messages for what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt import policy

from ..support import DTYPES, assert_same_results

numba = pytest.importorskip("numba")

ADDRESS = (2**62 + 7, 2**40 + 3)


def divergences(x, y, k, b, actions, flags):
    shared = policy.gaussian_kl(x, k, y, k * 2), policy.gaussian_kl(x, k, y, x), policy.gaussian_kl(x, y, y, k)
    samples = policy.categorical_kl(x, y, per_sample=True), policy.gaussian_kl(x, y, y, x, per_sample=True)
    return shared, samples, policy.categorical_kl(x, y), policy.categorical_kl(x, y, per_sample=False)


def categorical_gradients(x, y, k, b, actions, flags):
    out = np.empty_like(x)
    loss, grad = policy.categorical_policy_gradient(x, actions, b, entropy_coef=0.1, out=out)
    return loss, out, grad, policy.categorical_policy_gradient(x, actions, b)


def gaussian_gradients(x, y, k, b, actions, flags):
    return policy.gaussian_policy_gradient(x, k, y, b, entropy_coef=0.1), policy.gaussian_policy_gradient(x, y, y, b)


def valid_gradients(x, y, k, b, actions, flags):
    valid = flags[:, 0] | ~flags[0, 0]
    valid[0] = True
    categorical = policy.categorical_policy_gradient(x, actions, b, entropy_coef=0.1, valid=valid)
    shared = policy.gaussian_policy_gradient(x, k, y, b, entropy_coef=0.1, valid=valid)
    return categorical, shared, policy.gaussian_policy_gradient(x, y, y, b, valid=valid)


def ppo_losses(x, y, k, b, actions, flags):
    v, r, old = b * 2, y[:, 0].copy(), b / 4
    valid = flags[:, 0].copy()
    valid[-1] = True
    few = actions.astype(np.int32)
    categorical = policy.categorical_ppo_loss(x, actions, b, old, v, r)
    clipped = policy.categorical_ppo_loss(
        x,
        few,
        b,
        old,
        v,
        r,
        clip_range=0.3,
        clip_range_vf=0.5,
        old_values=r,
        entropy_coef=0.1,
        value_coef=1,
        valid=valid,
    )
    shared = policy.gaussian_ppo_loss(x, k, y, b, old, v, r, entropy_coef=0.1, clip_range_vf=0.5, old_values=r)
    return categorical, clipped, shared, policy.gaussian_ppo_loss(x, y, y, b, old, v, r, old_values=r, valid=valid)


def samples(x, y, k, b, actions, flags):
    pair = ADDRESS
    return (
        policy.categorical_sample(x, pair),
        policy.gaussian_sample(x, k, pair),
        policy.gaussian_sample(x, y, rng=pair),
    )


def single_observations(x, y, k, b, actions, flags):
    action = policy.categorical_sample(x[0], ADDRESS)
    drawn = np.zeros(3, np.int64)
    drawn[1] = action  # as into the buffer of an episode
    loss = policy.categorical_policy_gradient(x[0], action, np.array(b[0]))
    log_probs = policy.categorical_log_prob(x[0], action), policy.gaussian_log_prob(x[0], k, y[0])
    return (
        action,
        drawn,
        np.full(1, x[0][action]),
        loss,
        log_probs,
        policy.categorical_entropy(x[0]),
        policy.gaussian_sample(x[0], k, ADDRESS),
    )


def log_probabilities(x, y, k, b, actions, flags):
    categorical = policy.categorical_log_prob(x, actions), policy.categorical_entropy(x)
    gaussian = policy.gaussian_log_prob(x, k, y), policy.gaussian_log_prob(x, y, y)
    return categorical, gaussian, policy.gaussian_entropy(y), policy.gaussian_entropy(k)


def small_integers(x, y, k, b, actions, flags):
    few = actions.astype(np.int32), actions.astype(np.uint8)
    log_probs = policy.categorical_log_prob(x, few[0]), policy.categorical_log_prob(x, few[1])
    return log_probs, policy.categorical_policy_gradient(x, few[0], b), policy.categorical_log_prob(x[:0], few[1][:0])


def masked(x, y, k, b, actions, flags):
    """Rows with masked actions, of which one may be all, and a NaN."""
    logits = np.where(flags, x.dtype.type(-np.inf), x)
    logits[-1, -1] = np.nan
    return policy.categorical_log_prob(logits, actions), policy.categorical_entropy(logits)


def returns(x, y, k, b, actions, flags):
    terminated, truncated = flags[:, 0].copy(), ~flags[:, 0]
    flat = policy.discounted_returns(b, terminated, truncated, 1, next_values=b)
    both = (
        policy.discounted_returns(x, flags, ~flags, 0.9, next_values=y),
        policy.discounted_returns(x, flags, flags, 0),
    )
    return both, flat, policy.discounted_returns(x[:0], flags[:0], flags[:0], 0.5)


def normalized(x, y, k, b, actions, flags):
    into, own = np.empty_like(x), x.copy()
    policy.normalize_advantage(x, eps=1e-3, out=into)
    policy.normalize_advantage(own, out=own)
    equal = np.full(5, x.dtype.type(0.1))
    return (
        policy.normalize_advantage(x),
        into,
        own,
        policy.normalize_advantage(b, eps=1),
        policy.normalize_advantage(x, ddof=min(1, x.size - 1)),
        policy.normalize_advantage(equal),
    )


def normalized_at_the_ends(x, y, k, b, actions, flags):
    """Numbers whose squares overflow, or underflow, and those that are no numbers."""
    huge, tiny = x * x.dtype.type(2.0**100), x * x.dtype.type(2.0**-110)  # no product is subnormal
    far = x.astype(np.float64) * 2.0**1000, x.astype(np.float64) * 2.0**-600
    own = far[0].copy()
    policy.normalize_advantage(own, out=own)
    infinite = np.where(flags, x.dtype.type(np.inf), x)
    ends = policy.normalize_advantage(far[0]), policy.normalize_advantage(far[1]), own
    return (
        ends,
        policy.normalize_advantage(huge),
        policy.normalize_advantage(tiny),
        policy.normalize_advantage(infinite),
    )


def advantages(x, y, k, b, actions, flags):
    flat = policy.gae(x[:, 0].copy(), y[:, 0].copy(), y[:, 0].copy(), flags[:, 0].copy(), flags[:, 0].copy(), 0.9, 1)
    valid = policy.gae(x, y, x, flags, ~flags, 0.99, 0.95, valid=flags)
    return policy.gae(x, y, x, flags, ~flags, 0.99, 0.95), flat, valid


def off_policy_advantages(x, y, k, b, actions, flags):
    no = np.zeros_like(flags)
    return policy.vtrace(x, y, y, x, flags, no, 0.99), policy.vtrace(
        x, y, x, y, no, flags, 1, lam=0.9, rho_clip=2, c_clip=0.5
    )


def ends_of_the_range(x, y, k, b, actions, flags):
    far = 256 * k  # exact: the rounding of this code is its own
    return (
        policy.gaussian_kl(x, far, x, far),
        policy.gaussian_kl(x, far, y, far, per_sample=True),
        policy.gaussian_policy_gradient(x, far, x, b)[1:],
        policy.gaussian_sample(x, far, ADDRESS),
    )


CASES = {
    case.__name__: case
    for case in (
        *(divergences, categorical_gradients, gaussian_gradients, samples, single_observations, advantages),
        *(valid_gradients, ppo_losses, off_policy_advantages),
        *(log_probabilities, small_integers, masked, returns, normalized, normalized_at_the_ends, ends_of_the_range),
    )
}


def arrays(rows, columns, dtype):
    rng = np.random.default_rng(rows)
    x, y = (rng.standard_normal((rows, columns)).astype(dtype) for _ in range(2))
    k, b = rng.standard_normal(columns).astype(dtype), rng.standard_normal(rows).astype(dtype)
    return x, y, k, b, rng.integers(0, columns, rows), rng.random((rows, columns)) < 0.2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_compiled_code_has_the_bits_of_python(name, dtype):
    compiled = numba.njit(CASES[name])
    for rows, columns in ((1, 1), (5, 2), (130, 6), (4099, 3), (70, 40)):
        given = arrays(rows, columns, dtype)
        assert_same_results(compiled(*given), CASES[name](*given), f"{name} {rows} x {columns}")
    assert len(compiled.signatures) == 1


def test_booleans_of_any_byte_are_true():
    x = np.arange(8.0)
    odd = np.array([0, 2, 0, 0, 4, 0, 255, 0], np.uint8).view(bool)
    compiled = numba.njit(lambda x, over, cut: policy.gae(x, x, x, over, cut, 0.9, 0.8))
    for over, cut in ((odd, ~odd[::-1].copy()), (odd[::-1].copy(), odd)):
        plain = over.view(np.uint8) != 0, cut.view(np.uint8) != 0
        assert_same_results(compiled(x, over, cut), policy.gae(x, x, x, *plain, 0.9, 0.8))


X, K, B, A, F = np.zeros((6, 4)), np.zeros(4), np.zeros(6), np.zeros(6, np.int64), np.zeros((6, 4), bool)

AT_RUN_TIME = {
    "kl shape": (
        lambda: policy.categorical_kl(X, X[:5]),
        r"new_logits: expected shape \(6, 4\) like old_logits, got \(5",
    ),
    "kl empty": (lambda: policy.categorical_kl(X[:0], X[:0]), "old_logits: expected a batch of at least one"),
    "kl no actions": (lambda: policy.categorical_kl(X[:0].reshape(6, 0), X[:0].reshape(6, 0)), "at least one action"),
    "log_std": (lambda: policy.gaussian_kl(X, K[:3], X, K), "old_log_std: expected 4 actions, got shape"),
    "action": (lambda: policy.categorical_policy_gradient(X, A + 4, B), "actions: expected numbers from 0 to 3"),
    "advantages": (
        lambda: policy.categorical_policy_gradient(X, A, B[:5]),
        r"advantages: expected shape \(6,\), one for each row of logits, got \(5",
    ),
    "log_prob action": (lambda: policy.categorical_log_prob(X, A - 1), "actions: expected numbers from 0 to 3"),
    "large action": (
        lambda: policy.categorical_log_prob(X, np.full(6, 2**64 - 1, np.uint64)),
        "actions: expected numbers from 0 to 3",
    ),
    "log_prob shape": (
        lambda: policy.categorical_log_prob(np.zeros((2, 3, 4)), np.zeros((3, 2), np.int64)),
        r"actions: expected shape \(2, 3\), one for each row of logits, got \(3, 2",
    ),
    "log_prob no actions": (lambda: policy.categorical_log_prob(X[:0].reshape(6, 0), A), "at least one action"),
    "entropy": (lambda: policy.gaussian_entropy(X[:0].reshape(6, 0)), "log_std: .* at least one action"),
    "gaussian actions": (
        lambda: policy.gaussian_log_prob(X, K, X[:5]),
        r"actions: expected shape \(6, 4\) like mean, got \(5",
    ),
    "log_std shape": (
        lambda: policy.gaussian_log_prob(np.zeros((2, 3, 4)), np.zeros((3, 2, 4)), np.zeros((2, 3, 4))),
        r"log_std: expected shape \(2, 3, 4\) like mean, got \(3, 2, 4",
    ),
    "eps": (lambda: policy.normalize_advantage(B, eps=0.0), "eps: expected a finite number > 0, got 0.0"),
    "no advantages": (lambda: policy.normalize_advantage(B[:0]), "advantages: expected a batch of at least one"),
    "discount": (lambda: policy.discounted_returns(X, F, F, -0.5), "gamma: expected a number from 0 to 1, got -0.5"),
    "next_values": (
        lambda: policy.discounted_returns(X, F, F, 0.5, next_values=X[1:]),
        r"next_values: expected shape \(6, 4\) like rewards, got \(5",
    ),
    "entropy_coef": (
        lambda: policy.gaussian_policy_gradient(X, K, X, B, entropy_coef=np.inf),
        "entropy_coef: expected a",
    ),
    "out": (
        lambda: policy.categorical_policy_gradient(X, A, B, out=np.zeros((5, 4))),
        r"out: expected shape \(6, 4\), got \(5, 4\)",
    ),
    "valid": (
        lambda: policy.categorical_policy_gradient(X, A, B, valid=F[:, 0].copy()),
        "valid: expected at least one that is True, got none",
    ),
    "valid shape": (
        lambda: policy.gaussian_policy_gradient(X, K, X, B, valid=F[0]),
        r"valid: expected shape \(6,\) like advantages, got \(4",
    ),
    "ppo action": (lambda: policy.categorical_ppo_loss(X, A + 4, B, B, B, B), "actions: expected numbers from 0 to 3"),
    "ppo valid": (
        lambda: policy.gaussian_ppo_loss(X, K, X, B, B, B, B, valid=F[:, 0].copy()),
        "valid: expected at least one that is True, got none",
    ),
    "ppo values": (
        lambda: policy.categorical_ppo_loss(X, A, B, B, B[:5], B),
        r"values: expected shape \(6,\), one for each row of logits, got \(5",
    ),
    "clip_range": (
        lambda: policy.categorical_ppo_loss(X, A, B, B, B, B, clip_range=-1.0),
        "clip_range: expected a finite number >= 0, got -1.0",
    ),
    "clip_range_vf": (
        lambda: policy.gaussian_ppo_loss(X, K, X, B, B, B, B, clip_range_vf=-1.0, old_values=B),
        "clip_range_vf: expected a finite number >= 0, got -1.0",
    ),
    "rho_clip": (
        lambda: policy.vtrace(X, X, X, X, F, F, 0.9, rho_clip=0.0),
        "rho_clip: expected a finite number > 0, got 0.0",
    ),
    "ddof": (
        lambda: policy.normalize_advantage(B[:1], ddof=1),
        "advantages: expected more than ddof = 1 elements, got shape",
    ),
    "stream": (lambda: policy.categorical_sample(X, (1, -1)), "stream: expected 0 <= stream < 2"),
    "gamma": (lambda: policy.gae(X, X, X, F, F, 1.5, 0.9), "gamma: expected a number from 0 to 1, got 1.5"),
    "flags": (lambda: policy.gae(X, X, X, F, F[:5], 0.9, 0.9), r"truncated: expected shape \(6, 4\) like rewards"),
}
WHEN_COMPILED = {
    "kind": (lambda: policy.categorical_kl(X, 1.0), "new_logits: expected an array of float32 or float64"),
    "dtype": (lambda: policy.categorical_kl(X, X.astype(np.float32)), "new_logits: expected float64 like old_logits"),
    "actions": (lambda: policy.categorical_policy_gradient(X, B, B), "actions: expected an array of integers"),
    "flags as actions": (
        lambda: policy.categorical_log_prob(X, F[:, 0].copy()),
        "actions: expected an array of integers",
    ),
    "one action": (lambda: policy.categorical_log_prob(K, 1), "actions: expected an array of integers"),
    "dimensions": (lambda: policy.categorical_log_prob(X, F.astype(np.int32)), "actions: expected 1 dimensions, got 2"),
    "returns": (lambda: policy.discounted_returns(X, F, F, 0.5, 1.0), "next_values: expected an array of float32 or"),
    "in order": (lambda: policy.normalize_advantage(X.T), "advantages: expected a C-contiguous array"),
    "flags": (lambda: policy.gae(X, X, X, F, X, 0.9, 0.9), "truncated: expected an array of bool"),
    "rng": (lambda: policy.categorical_sample(X, 5), "rng: expected a .seed, stream. pair of ints inside @njit"),
    "out": (lambda: policy.gaussian_sample(X, K, (1, 2), out=X.copy()), "out: expected None inside @njit"),
    "lists": (
        lambda: policy.categorical_ppo_loss((X, X), A, B, B, B, B),
        "logits: expected one array of float32 or float64 inside @njit",
    ),
    "old_values": (
        lambda: policy.categorical_ppo_loss(X, A, B, B, B, B, clip_range_vf=0.2),
        "old_values: expected an array, since clip_range_vf is given",
    ),
    "valid": (lambda: policy.gae(X, X, X, F, F, 0.9, 0.9, valid=X), "valid: expected an array of bool"),
    "layout": (lambda: policy.gaussian_kl(X.T, K, X.T, K), "old_mean: expected a C-contiguous array"),
}


@pytest.mark.parametrize("name", AT_RUN_TIME)
def test_refused_at_run_time(name):
    call, message = AT_RUN_TIME[name]
    with pytest.raises(ValueError, match=message):
        numba.njit(call)()


@pytest.mark.parametrize("name", WHEN_COMPILED)
def test_refused_when_compiled(name):
    call, message = WHEN_COMPILED[name]
    with pytest.raises(numba.core.errors.TypingError, match=message):
        numba.njit(call)()


def test_per_sample_must_be_known_when_compiled():
    compiled = numba.njit(lambda x, flag: policy.categorical_kl(x, x, per_sample=flag))
    with pytest.raises(numba.core.errors.TypingError, match="per_sample: expected True or False written out"):
        compiled(X, True)


def test_an_out_that_overlaps_in_part_is_refused():
    buffer = np.arange(9.0)
    compiled = numba.njit(lambda x, y: policy.normalize_advantage(x, out=y))
    with pytest.raises(ValueError, match="out: expected advantages itself or memory apart"):
        compiled(buffer[:8], buffer[1:])
    assert_same_results(buffer, np.arange(9.0))


# ---- the README's loop -----------------------------------------------------------------------------------------------


def objective(weights, states, actions, advantages, old, logits):
    """What the README's `evaluate` returns."""
    new = np.dot(states, weights)
    ratio = np.exp(policy.categorical_log_prob(new, actions) - old)
    return np.mean(ratio * advantages), policy.categorical_kl(logits, new)


def experience(weights, states, seed, stream):
    logits = np.dot(states, weights)
    actions = policy.categorical_sample(logits, (seed, stream))
    rewards = ((states[:, 0] > 0) == actions).astype(np.float32)
    advantages = policy.normalize_advantage(rewards)
    old = policy.categorical_log_prob(logits, actions)
    _, dlogits = policy.categorical_policy_gradient(logits, actions, advantages)
    return logits, actions, advantages, old, -np.dot(states.T, dlogits), rewards.mean()


def test_the_policy_loop_of_the_readme_compiles():
    """All but its line search, whose `evaluate` may be compiled."""
    pytest.importorskip("scipy")  # np.dot asks for its BLAS
    gather, score = numba.njit(experience), numba.njit(objective)
    states = fastopt.Philox4x32(seed=0).standard_normal((2000, 4), dtype="float32", stream=0)
    weights = np.zeros((4, 2), np.float32)
    for update in range(20):
        *batch, direction, reward = gather(weights, states, 0, update + 1)
        logits, actions, advantages, old = batch
        same = experience(weights, states, 0, update + 1)
        assert_same_results((actions, advantages), same[1:3])
        result = policy.kl_line_search(
            [weights],
            [direction],
            lambda: score(weights, states, actions, advantages, old, logits),  # noqa: B023
            max_kl=0.01,
        )
        assert result.kl <= 0.01
    assert reward > 0.9
