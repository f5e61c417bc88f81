"""The policy gradients inside @njit: the bits of Python, whatever is given, and messages for what is refused."""

from __future__ import annotations

import numpy as np
import pytest

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


def samples(x, y, k, b, actions, flags):
    pair = ADDRESS
    return (
        policy.categorical_sample(x, pair),
        policy.gaussian_sample(x, k, pair),
        policy.gaussian_sample(x, y, rng=pair),
    )


def single_observations(x, y, k, b, actions, flags):
    return policy.categorical_sample(x[0], ADDRESS), policy.gaussian_sample(x[0], k, ADDRESS)


def advantages(x, y, k, b, actions, flags):
    flat = policy.gae(x[:, 0].copy(), y[:, 0].copy(), y[:, 0].copy(), flags[:, 0].copy(), flags[:, 0].copy(), 0.9, 1)
    return policy.gae(x, y, x, flags, ~flags, 0.99, 0.95), flat


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
        ends_of_the_range,
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
        "advantages: expected one for each of the 6",
    ),
    "entropy_coef": (
        lambda: policy.gaussian_policy_gradient(X, K, X, B, entropy_coef=np.inf),
        "entropy_coef: expected a",
    ),
    "out": (
        lambda: policy.categorical_policy_gradient(X, A, B, out=np.zeros((5, 4))),
        r"out: expected shape \(6, 4\), got \(5, 4\)",
    ),
    "stream": (lambda: policy.categorical_sample(X, (1, -1)), "stream: expected 0 <= stream < 2"),
    "gamma": (lambda: policy.gae(X, X, X, F, F, 1.5, 0.9), "gamma: expected a number from 0 to 1, got 1.5"),
    "flags": (lambda: policy.gae(X, X, X, F, F[:5], 0.9, 0.9), r"truncated: expected shape \(6, 4\) like rewards"),
}
WHEN_COMPILED = {
    "kind": (lambda: policy.categorical_kl(X, 1.0), "new_logits: expected an array of float32 or float64"),
    "dtype": (lambda: policy.categorical_kl(X, X.astype(np.float32)), "new_logits: expected float64 like old_logits"),
    "actions": (lambda: policy.categorical_policy_gradient(X, B, B), "actions: expected an array of int64"),
    "flags": (lambda: policy.gae(X, X, X, F, X, 0.9, 0.9), "truncated: expected an array of bool"),
    "rng": (lambda: policy.categorical_sample(X, 5), "rng: expected a .seed, stream. pair of ints inside @njit"),
    "out": (lambda: policy.gaussian_sample(X, K, (1, 2), out=X.copy()), "out: expected None inside @njit"),
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
