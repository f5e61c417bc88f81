"""The line search moves parameters to where surrogate and KL were measured to be good, or leaves every bit in place."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import fastopt
from fastopt._tree import leaves
from fastopt.policy import LineSearchResult, kl_line_search

from ..support import assert_same_bits


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


class LinearPolicy:
    """Categorical actions from linear logits, with the surrogate of a batch, its gradient and the exact KL."""

    def __init__(self, seed=0, dtype=np.float64, states=200, actions=3):
        rng = np.random.default_rng(seed)
        self.x = rng.standard_normal((states, 4)).astype(dtype)
        self.params = {
            "w": rng.standard_normal((4, actions)).astype(dtype),
            "b": rng.standard_normal(actions).astype(dtype),
        }
        self.advantages = rng.standard_normal(states)
        self.old = self.log_probs()
        self.actions = np.array([rng.choice(actions, p=p) for p in np.exp(self.old)])
        self.calls = 0

    def log_probs(self):
        return log_softmax((self.x @ self.params["w"] + self.params["b"]).astype(np.float64))

    def evaluate(self):
        self.calls += 1
        difference = self.log_probs() - self.old
        ratio = np.exp(difference[np.arange(len(self.x)), self.actions])
        return np.mean(ratio * self.advantages), np.mean(np.sum(np.exp(self.old) * -difference, axis=1))

    def gradient(self, scale=1.0):
        """Of the surrogate, where new and old agree."""
        one_hot = np.eye(self.old.shape[1])[self.actions]
        g = scale * (one_hot - np.exp(self.old)) * self.advantages[:, None] / len(self.x)
        return {"w": (self.x.T @ g).astype(self.x.dtype), "b": g.sum(axis=0).astype(self.x.dtype)}


def copied(tree):
    return [a.copy(order="K") for _, a in leaves(tree)]


def assert_moved(params, before, direction, step):
    for (name, a), b, (_, d) in zip(leaves(params), before, leaves(direction), strict=True):
        assert_same_bits(a, b if d is None else b + a.dtype.type(step) * d, name)


def assert_unmoved(params, before):
    for (name, a), b in zip(leaves(params), before, strict=True):
        assert a.tobytes() == b.tobytes(), name  # NaN, too


# ---- success ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_kl", [1e-4, 0.01, 0.3])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_limit_is_nearly_reached_whatever_the_length_of_the_direction(dtype, max_kl, scale):
    policy = LinearPolicy(dtype=dtype)
    before, direction = copied(policy.params), policy.gradient(scale)
    start, _ = policy.evaluate()
    policy.calls = 0
    result = kl_line_search(policy.params, direction, policy.evaluate, max_kl=max_kl)
    assert result.success
    assert result.status == "accepted"
    assert 0.6 * max_kl < result.kl <= max_kl
    assert result.evaluations == policy.calls <= 12
    assert_moved(policy.params, before, direction, result.step)
    surrogate, kl = policy.evaluate()
    assert (result.gain, result.kl) == (surrogate - start, kl)
    assert result.gain > 0
    assert f"{result.kl:.3g} of {max_kl:g}" in result.message


def test_the_last_step_saves_evaluations():
    policy = LinearPolicy()
    cold = kl_line_search(policy.params, policy.gradient(1e-3), policy.evaluate)
    policy = LinearPolicy()
    warm = kl_line_search(policy.params, policy.gradient(1e-3), policy.evaluate, initial_step=cold.step)
    assert warm.step == cold.step
    assert warm.evaluations == 2 < cold.evaluations


def test_against_the_search_of_the_paper():
    """Backtracking from sqrt(2 max_kl / d . A d) with A by differences of the KL: as far, and within the limit."""
    for seed in range(20):
        policy = LinearPolicy(seed)
        before, direction = copied(policy.params), policy.gradient()
        start, _ = policy.evaluate()

        def at(step, policy=policy, before=before, direction=direction):
            for (key, a), b in zip(policy.params.items(), before, strict=True):
                a[...] = b + step * direction[key]
            return policy.evaluate()

        curvature = (at(1e-3)[1] + at(-1e-3)[1]) / 1e-6
        step = math.sqrt(2 * 0.01 / curvature)
        while (found := at(step))[1] > 0.01 or found[0] <= start:
            step /= 2
        at(0)
        result = kl_line_search(policy.params, direction, policy.evaluate)
        assert result.success
        assert result.kl <= 0.01
        assert result.gain >= 0.85 * (found[0] - start)


def trees():
    a, b, c = np.arange(6.0).reshape(2, 3), np.array(2.0), np.arange(4.0).astype(np.float32)
    strided = np.arange(12.0)[::3]
    yield "array", a
    yield "0-d", b
    yield "list", [a, b, c]
    yield "tuple", (a, strided)
    yield "dict", {"a": a, "b": b}
    yield "nested", {"layers": [{"w": a, "b": c}, [strided]], "log_std": (b,)}
    yield "fortran and reversed", [np.asfortranarray(a), strided[::-1]]
    yield "empty beside", [a, np.zeros((0, 3))]


@pytest.mark.parametrize(("params", "ones"), [pytest.param(t, np.ones, id=name) for name, t in trees()])
def test_forms_of_params(params, ones):
    def form(tree):
        if isinstance(tree, dict):
            return {key: form(value) for key, value in reversed(tree.items())}  # keys count, not their order
        return [form(value) for value in tree] if isinstance(tree, list | tuple) else ones(tree.shape, tree.dtype)

    before = copied(params)
    first = next(a for _, a in leaves(params))
    direction = form(params)

    def evaluate():
        moved = float(first.flat[0] - before[0].flat[0])
        return moved, moved**2

    result = kl_line_search(params, direction, evaluate, max_kl=0.25, initial_step=0.01)
    assert result.success
    assert 0.4 <= result.step <= 0.5
    for (_, a), b in zip(leaves(params), before, strict=True):
        assert_same_bits(a, b + a.dtype.type(result.step))


def test_none_leaves_a_parameter_alone():
    params = [np.zeros(2), np.array([-0.0, 1.0])]
    before = copied(params)
    result = kl_line_search(params, [np.ones(2), None], lambda: (params[0][0], params[0][0] ** 2))
    assert result.success
    assert_moved(params, before, [np.ones(2), None], result.step)


# ---- the steps that are tried ----------------------------------------------------------------------------------------


class Line:
    """One parameter on a line: `curve(step)` gives surrogate and KL. Keeps the steps that were tried."""

    def __init__(self, curve):
        self.p, self.tried, self.curve = np.zeros(1), [], curve

    def evaluate(self):
        self.tried.append(float(self.p[0]))
        return self.curve(self.tried[-1])

    def search(self, **options):
        return kl_line_search([self.p], [np.ones(1)], self.evaluate, **options)


def test_the_measured_kl_picks_the_next_step():
    line = Line(lambda t: (t, 0.04 * t**2))
    result = line.search(max_kl=0.01)
    assert line.tried == pytest.approx([0, 1, 0.9 * math.sqrt(0.01 / 0.04)])  # and then it is near enough
    assert (result.step, result.gain) == (line.tried[-1], line.tried[-1])


def test_a_step_is_lengthened():
    line = Line(lambda t: (t, 0.04 * t**2))
    result = line.search(max_kl=0.01, initial_step=0.1)
    assert line.tried == pytest.approx([0, 0.1, 0.45])
    assert result.step == line.tried[-1]


@pytest.mark.parametrize(("kl_of_one", "factor"), [(1e12, 0.1), (1e-12, 10)])
def test_changes_of_the_step_are_bounded(kl_of_one, factor):
    line = Line(lambda t: (t, kl_of_one * t**2))
    assert line.search(max_kl=0.01, max_evaluations=30).success
    ratios = np.array(line.tried[2:]) / line.tried[1:-1]
    assert ratios[:-1] == pytest.approx([factor] * (len(ratios) - 1))
    assert 0.1 < ratios[-1] < 10
    assert 0.8 * 0.01 < kl_of_one * line.p[0] ** 2 <= 0.01


def test_lengthening_stops_beyond_the_top_and_the_best_is_kept():
    line = Line(lambda t: (t - t**2, 1e-6 * t**2))  # the top is at 0.5, far below the limit
    result = line.search(initial_step=0.5)
    accepted = [t for t in line.tried[1:] if t - t**2 > 0]
    assert max(line.tried) > 1
    assert result.step == max(accepted, key=lambda t: t - t**2) == line.p[0]
    assert result.step != line.tried[-1]


def test_a_lengthened_step_that_breaks_the_limit_is_taken_back():
    line = Line(lambda t: (t, 1e-6 * t**2 if t < 0.5 else 1.0))  # a cliff
    result = line.search(initial_step=0.3)
    assert max(line.tried) > 0.5
    assert result.success
    assert result.kl == 1e-6 * result.step**2
    assert 0.3 <= result.step == line.p[0] < 0.5


def test_a_step_too_short_to_change_anything_is_lengthened():
    line = Line(lambda t: (float(np.float32(1) + np.float32(t)), float(np.float32(t) ** 2) if t > 1e-6 else 0.0))
    result = line.search(initial_step=1e-12, max_evaluations=20)
    assert result.success
    assert line.tried[1:6] == pytest.approx([1e-12, 1e-11, 1e-10, 1e-9, 1e-8])
    assert result.kl > 0.005


@pytest.mark.parametrize("limit", [2, 3, 4, 7])
@pytest.mark.parametrize("curve", [(1, 1e9), (1, 1e-30), (-1, 1e-9), (1, math.nan)], ids=str)
def test_evaluations_are_bounded(limit, curve):
    line = Line(lambda t: (curve[0] * t, curve[1] * t**2 if t else 0.0))
    result = line.search(max_evaluations=limit)
    assert result.evaluations == len(line.tried) <= limit


def test_whatever_is_measured_the_result_is_true():
    """Curves at random, NaN and infinity among their values."""
    outcomes = set()
    for seed in range(500):
        rng = np.random.default_rng(seed)
        seen = []

        p = rng.standard_normal(3)
        before, direction = p.copy(), rng.standard_normal(3)

        def evaluate(rng=rng, seen=seen, p=p):
            surrogate, kl = rng.standard_normal(), 10 ** rng.uniform(-6, 1)
            if seen and rng.random() < 0.2:
                surrogate = rng.choice([math.nan, math.inf, -math.inf])
            if seen and rng.random() < 0.2:
                kl = rng.choice([math.nan, math.inf, -math.inf, 0.0, -kl])
            seen.append((p.copy(), surrogate, kl if seen else 0.0))
            return seen[-1][1:]

        result = kl_line_search(p, direction, evaluate)
        outcomes.add(result.status)
        assert result.evaluations == len(seen) <= 12
        good = [(s, k, at) for at, s, k in seen[1:] if seen[0][1] < s < math.inf and abs(k) <= 0.01]
        assert result.success == bool(good)
        if good:
            best, kl, at = max(good, key=lambda row: row[0])
            assert (result.gain, result.kl) == (best - seen[0][1], kl)
            assert_same_bits(p, at)
            assert_moved(p, [before], direction, result.step)
        else:
            assert (result.step, result.kl, result.gain) == (0, 0, 0)
            assert_unmoved(p, [before])
    assert outcomes == {"accepted", "nonfinite", "no_improvement", "kl_above_limit"}


# ---- failures: every bit stays ---------------------------------------------------------------------------------------


def awkward(dtype=np.float64):
    """Numbers that do not come back by adding and subtracting: negative zero, subnormal, a tenth."""
    return [np.array([-0.0, 5e-320, 0.1, 1e-300, 3e15]).astype(dtype), np.array(-0.0, dtype)]


def ones(dtype=np.float64):
    return [np.ones(5, dtype), np.ones((), dtype)]


FAILURES = {
    "surrogate falls": (lambda t: (-t, 1e-3 * t**2), "no_improvement", "direction one of ascent"),
    "surrogate is the same": (lambda t: (1.0, 1e-3 * t**2), "no_improvement", "differs by 0 from 1"),
    "nothing changes": (lambda t: (1.0, 0.0), "no_improvement", "differs by 0 from 1"),
    "surrogate NaN": (lambda t: (math.nan if t else 0, 0), "nonfinite", "surrogate nan"),
    "surrogate inf": (lambda t: (math.inf if t else 0, 0), "nonfinite", "surrogate inf"),
    "KL NaN": (lambda t: (t, math.nan if t else 0), "nonfinite", "KL nan"),
    "KL inf": (lambda t: (t, math.inf if t else 0), "nonfinite", "KL inf"),
    "KL -inf": (lambda t: (t, -math.inf if t else 0), "nonfinite", "KL -inf"),
    "KL above": (lambda t: (t, 0.02 if t else 0), "kl_above_limit", "KL 0.02, above max_kl 0.01"),
    "KL far below 0": (lambda t: (t, -0.02 if t else 0), "kl_above_limit", "KL -0.02, above max_kl 0.01"),
    "surrogate NaN at the start": (lambda t: (t if t else math.nan, 0), "nonfinite", "surrogate nan .*before any step"),
    "KL inf at the start": (lambda t: (t, 0 if t else math.inf), "nonfinite", "KL inf before any step"),
    "KL above at the start": (lambda t: (t, 0.02), "kl_above_limit", "before any step, above .* the same masks"),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("curve", "status", "message"), FAILURES.values(), ids=FAILURES.keys())
def test_failures_leave_every_bit(curve, status, message, dtype):
    params = [*awkward(dtype), np.zeros(1)]
    before = copied(params)
    calls = []

    def evaluate():
        calls.append(params[-1][0])
        return curve(calls[-1])

    result = kl_line_search(params, [*ones(dtype), np.ones(1)], evaluate)
    assert_unmoved(params, before)
    assert result == LineSearchResult(False, 0.0, result.kl, 0.0, len(calls), status, result.message)
    assert result.kl == curve(0)[1]  # that of the parameters as they are
    assert re.search(message, result.message)
    if "before any step" not in message:
        assert len(calls) > 2


@pytest.mark.parametrize(
    ("direction", "status"),
    [
        ([np.zeros(5), np.array(-0.0)], "zero_direction"),
        ([None, None], "zero_direction"),
        ([np.array([1, 1, math.nan, 1, 1]), np.ones(())], "nonfinite"),
        ([np.ones(5), np.array(-math.inf)], "nonfinite"),
    ],
    ids=str,
)
def test_a_direction_that_leads_nowhere(direction, status):
    params = awkward()
    before = copied(params)
    result = kl_line_search(params, direction, lambda: pytest.fail("called"))
    assert result == LineSearchResult(False, 0.0, 0.0, 0.0, 0, status, result.message)
    assert result.message.startswith("direction ")
    assert_unmoved(params, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_that_overflow_are_not_accepted(dtype):
    """Where evaluate would take them: the probabilities are right for infinite logits."""
    p, big = np.array([0.5, -1.0], dtype), np.finfo(dtype).max
    before = p.copy()
    result = kl_line_search(
        p, np.array([big, 1], dtype), lambda: (float(p[0] > 1), 0.0), initial_step=1e5, max_evaluations=3
    )
    assert (result.success, result.status, result.evaluations) == (False, "nonfinite", 1)
    assert_unmoved(p, [before])
    result = kl_line_search(p, np.array([big, 1], dtype), lambda: (float(p[0] > 1), 0.0), initial_step=100.0)
    assert result.success
    assert np.isfinite(p).all()


def test_parameters_that_are_not_finite_stay():
    p = np.array([math.nan, 1.0])
    before = p.copy()
    assert kl_line_search(p, np.ones(2), lambda: (p[1], 0.0)).status == "nonfinite"
    assert_unmoved(p, [before])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
@pytest.mark.parametrize("call", range(5))
def test_an_exception_leaves_every_bit(error, call):
    """Also after steps that were accepted, and when evaluate itself has spoilt the parameters."""
    params = [*awkward(), np.zeros(1)]
    before = copied(params)
    calls = 0

    def evaluate():
        nonlocal calls
        if calls == call:
            params[0].fill(7)
            raise error("from evaluate")
        calls += 1
        return params[-1][0], 1e-12 * params[-1][0] ** 2  # accepted and lengthened each time

    with pytest.raises(error, match="from evaluate"):
        kl_line_search(params, [*ones(), np.ones(1)], evaluate)
    assert calls == call
    assert_unmoved(params, before)


@pytest.mark.parametrize("call", range(3))
@pytest.mark.parametrize("value", [None, 1.0, (1.0,), (1.0, 2.0, 3.0), (1.0, None), ("high", 0.0), (1j, 0.0)], ids=str)
def test_what_evaluate_returns_is_checked(call, value):
    params = awkward()
    before = copied(params)
    values = iter([*[(0.0, 0.0), (1.0, 1e-9)][:call], value])
    with pytest.raises(TypeError, match=r"^evaluate: expected to get \(surrogate, kl\), two numbers, got "):
        kl_line_search(params, ones(), lambda: next(values))
    assert_unmoved(params, before)


def test_numpy_scalars_and_0d_arrays_are_numbers():
    p = np.zeros(1)
    result = kl_line_search(p, np.ones(1), lambda: (np.float32(p[0]), np.array(p[0] ** 2)))
    assert [type(x) for x in result] == [bool, float, float, float, int, str, str]


# ---- wrong arguments: nothing is called, nothing is written ----------------------------------------------------------

BUFFER = np.zeros(8)
WRONG = {
    "list of numbers": ([1.0], [np.ones(1)], TypeError, "^params/0: expected a numpy.ndarray, got float"),
    "params int": (np.zeros(2, int), np.ones(2), TypeError, "^params: expected float32 or float64"),
    "read-only": (np.broadcast_to(np.zeros(1), 3), np.ones(3), ValueError, "^params: expected a writeable array"),
    "tied": ([BUFFER, BUFFER], [np.ones(8), np.ones(8)], ValueError, "^params/1: .*memory of its own .*params/0"),
    "one more": ([np.zeros(2)], [np.ones(2), np.ones(2)], ValueError, "^direction: expected a list of 1 like params"),
    "other keys": ({"a": np.zeros(2)}, {"b": np.ones(2)}, ValueError, r"^direction: .*keys of params, \['a'\]"),
    "list for an array": (np.zeros(2), [np.ones(2)], TypeError, "^direction: expected a numpy.ndarray"),
    "dtype": ({"w": np.zeros(2)}, {"w": np.ones(2, "f4")}, TypeError, "^direction/w: expected float64 like params/w"),
    "shape": ([np.zeros((2, 3))], [np.ones((3, 2))], ValueError, r"^direction/0: .*shape \(2, 3\) like params/0"),
    "overlap": ([BUFFER[:4]], [BUFFER[2:6]], ValueError, r"^direction/0: expected memory apart from params/0"),
    "other's": ([np.zeros(4), BUFFER[:4]], [BUFFER[:4], np.ones(4)], ValueError, "^direction/0: .* from params/1"),
    "itself": (BUFFER, BUFFER, ValueError, r"^direction: expected memory apart from params, .*direction.copy\(\)"),
}


@pytest.mark.parametrize(("params", "direction", "error", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arrays(params, direction, error, message):
    with pytest.raises(error, match=message):
        kl_line_search(params, direction, lambda: pytest.fail("called"))
    assert not BUFFER.any()


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("max_kl", 0.0, ValueError, "^max_kl: expected a finite number > 0, got 0"),
        ("max_kl", math.inf, ValueError, "^max_kl: expected a finite number > 0, got inf"),
        ("max_kl", math.nan, ValueError, "^max_kl: "),
        ("max_kl", "0.01", TypeError, "^max_kl: expected a float, got str"),
        ("initial_step", 0.0, ValueError, "^initial_step: expected a finite number > 0"),
        ("initial_step", -1.0, ValueError, "^initial_step: expected a finite number > 0"),
        ("max_evaluations", 1, ValueError, "^max_evaluations: expected 2 <= max_evaluations"),
        ("max_evaluations", 5.0, TypeError, "^max_evaluations: expected an int, got float"),
        ("evaluate", (0.0, 0.0), TypeError, "^evaluate: expected a function of no arguments, got tuple"),
    ],
)
def test_wrong_options(option, value, error, message):
    p = np.zeros(2)
    arguments = {"params": p, "direction": np.ones(2), "evaluate": lambda: pytest.fail("called"), option: value}
    with pytest.raises(error, match=message):
        kl_line_search(**arguments)
    assert not p.any()


# ---- dropout in the policy -------------------------------------------------------------------------------------------


class DropoutPolicy:
    """A hidden layer with dropout; its decisions in the search are those of the batch, or new ones at each call."""

    def __init__(self, replay):
        rng = np.random.default_rng(5)
        self.x = rng.standard_normal((64, 4))
        self.params = [rng.standard_normal((4, 32)), rng.standard_normal((32, 2))]
        self.rng = fastopt.Philox4x32(1)
        self.old, self.mask = self.log_probs(self.rng)
        self.replay = replay

    def log_probs(self, rng):
        h, mask = fastopt.dropout(fastopt.leaky_relu(self.x @ self.params[0]), 0.25, rng=rng)
        return log_softmax(h @ self.params[1]), mask

    def evaluate(self):
        new, _ = self.log_probs(self.mask if self.replay else self.rng)
        return np.mean(np.exp(new[:, 1])), np.mean(np.sum(np.exp(self.old) * (self.old - new), axis=1))


def test_dropout_with_the_masks_of_the_old_policy():
    policy = DropoutPolicy(replay=True)
    assert policy.evaluate()[1] == 0.0  # exactly
    result = kl_line_search(policy.params, [np.zeros((4, 32)), np.ones((32, 2)) * [-1, 1]], policy.evaluate)
    assert result.success
    assert 0 < result.kl == policy.evaluate()[1] <= 0.01


def test_dropout_with_other_masks_is_noticed_before_any_step():
    policy = DropoutPolicy(replay=False)
    before = copied(policy.params)
    result = kl_line_search(policy.params, [np.zeros((4, 32)), np.ones((32, 2)) * [-1, 1]], policy.evaluate)
    assert (result.success, result.status, result.evaluations) == (False, "kl_above_limit", 1)
    assert "the same masks?" in result.message
    assert_unmoved(policy.params, before)
