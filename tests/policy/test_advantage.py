"""V-trace by its definition, steps that are not valid, and the standard deviation's divisor."""

from __future__ import annotations

import numpy as np
import pytest

from fastopt import policy

from ..support import DTYPES, assert_same_results

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def experience(seed, time, environments, dtype=np.float64):
    """log_ratios, rewards, values, next_values (those of the next step within an episode), terminated, truncated."""
    rng = np.random.default_rng(seed)
    log_ratios, rewards, values, after = rng.standard_normal((4, time, environments)).astype(dtype)
    terminated, truncated = rng.random((2, time, environments)) < 0.15
    within = ~(terminated | truncated)
    within[-1] = False
    next_values = np.where(within, np.roll(values, -1, axis=0), after)
    return log_ratios, rewards, values, next_values, terminated, truncated


def vtrace_sums(log_ratios, rewards, values, next_values, terminated, truncated, gamma, lam, rho_clip, c_clip):
    """Equation 1 of the IMPALA paper for one environment, each sum written out."""
    rho = np.minimum(rho_clip, np.exp(log_ratios))
    c = lam * np.minimum(c_clip, np.exp(log_ratios))
    bootstrap = np.where(terminated, 0, next_values)
    delta = rho * (rewards + gamma * bootstrap - values)
    over, time = terminated | truncated, len(rewards)
    targets = values.copy()
    for s in range(time):
        for t in range(s, time):
            targets[s] += gamma ** (t - s) * np.prod(c[s:t]) * delta[t]
            if over[t]:
                break
    following = [targets[t + 1] if t + 1 < time and not over[t] else bootstrap[t] for t in range(time)]
    return targets, rho * (rewards + gamma * np.array(following) - values)


@pytest.mark.parametrize(("gamma", "lam"), [(0.9, 1.0), (0.99, 0.8), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize(("rho_clip", "c_clip"), [(1.0, 1.0), (2.5, 0.5)])
def test_vtrace_is_its_definition(gamma, lam, rho_clip, c_clip):
    steps = experience(1, 40, 9)
    got = policy.vtrace(*steps, gamma, lam=lam, rho_clip=rho_clip, c_clip=c_clip)
    for environment in range(9):
        alone = vtrace_sums(*(x[:, environment] for x in steps), gamma, lam, rho_clip, c_clip)
        for one, other in zip(got, alone, strict=True):
            np.testing.assert_allclose(one[:, environment], other, rtol=1e-12, atol=1e-13)


def test_vtrace_of_the_policy_that_sampled_is_gae():
    _, *steps = experience(2, 50, 4)
    targets, advantages = policy.vtrace(np.zeros((50, 4)), *steps, 0.9)
    np.testing.assert_allclose(targets, policy.gae(*steps, 0.9, 1.0)[1], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(advantages, targets - steps[1], rtol=1e-12, atol=1e-13)


@each_dtype
def test_the_next_value_of_a_terminal_state_is_not_looked_at(dtype):
    steps = [*experience(3, 60, 20, dtype)]
    expected = policy.vtrace(*steps, 0.9)
    steps[3][steps[4]] = np.nan
    assert_same_results(policy.vtrace(*steps, 0.9), expected)


@each_dtype
def test_steps_that_are_not_valid_end_nothing_but_themselves(dtype):
    """What pads an episode behind its end changes nothing before it."""
    _, rewards, values, next_values, terminated, truncated = experience(4, 30, 3, dtype)
    lengths = np.array([30, 17, 1])
    valid = np.arange(30)[:, None] < lengths
    for x in (rewards, values, next_values):
        x[~valid] = np.nan
    advantages, returns = policy.gae(rewards, values, next_values, terminated, truncated, 0.9, 0.8, valid=valid)
    assert not advantages[~valid].any()
    assert not returns[~valid].any()
    for environment, n in enumerate(lengths):
        steps = [x[:n, environment].copy() for x in (rewards, values, next_values, terminated, truncated)]
        alone = policy.gae(*steps, 0.9, 0.8)
        assert_same_results((advantages[:n, environment].copy(), returns[:n, environment].copy()), alone)


@each_dtype
@pytest.mark.parametrize("ddof", [0, 1, 3])
def test_the_standard_deviation_divides_by_the_size_less_ddof(ddof, dtype):
    x = np.random.default_rng(5).standard_normal(64).astype(dtype)
    exact = (x.astype(float) - x.astype(float).mean()) / (x.astype(float).std(ddof=ddof) + 1e-8)
    eps = 16 * np.finfo(dtype).eps  # NumPy's sums in float64 are no more exact than ours
    np.testing.assert_allclose(policy.normalize_advantage(x, ddof=ddof), exact, rtol=eps, atol=eps)


def test_refused():
    x, no = np.zeros((5, 2)), np.zeros((5, 2), bool)
    for call, message in (
        (lambda: policy.normalize_advantage(np.ones(1), ddof=1), r"advantages: expected more than ddof = 1 elements"),
        (lambda: policy.normalize_advantage(np.ones(3), ddof=-1), r"ddof: expected 0 <= ddof"),
        (lambda: policy.gae(x, x, x, no, no, 0.9, 0.9, valid=no[:4]), r"valid: expected shape \(5, 2\) like rewards"),
        (lambda: policy.vtrace(x[:4], x, x, x, no, no, 0.9), r"log_ratios: expected shape \(5, 2\) like rewards"),
        (lambda: policy.vtrace(x, x, x, x, no, no, 0.9, rho_clip=0), r"rho_clip: expected a finite number > 0, got 0"),
        (lambda: policy.vtrace(x, x, x, x, no, no, 1.1), r"gamma: expected a finite number >= 0 and <= 1, got 1.1"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            call()
    with pytest.raises(TypeError, match="ddof: expected an int, got float"):
        policy.normalize_advantage(np.ones(3), ddof=1.0)  # type: ignore[arg-type]
