"""Policy gradients: what is refused, with what message, and that nothing is written then."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastopt import policy

X, B, K = np.zeros((6, 4)), np.zeros(6), np.zeros(4)
A, F = np.zeros(6, np.int64), np.zeros((6, 4), bool)
ADDRESS = (1, 2)

# Each op with the names of its arrays, those of one float dtype and shape first.
CALLS = {
    "categorical_kl": (policy.categorical_kl, {"old_logits": X, "new_logits": X}),
    "categorical_log_prob": (policy.categorical_log_prob, {"logits": X, "actions": A}),
    "categorical_entropy": (policy.categorical_entropy, {"logits": X}),
    "categorical_sample": (lambda logits: policy.categorical_sample(logits, ADDRESS), {"logits": X}),
    "categorical_policy_gradient": (
        policy.categorical_policy_gradient,
        {"logits": X, "actions": A, "advantages": B},
    ),
    "categorical_ppo_loss": (
        policy.categorical_ppo_loss,
        {"logits": X, "actions": A, "advantages": B, "old_log_prob": B, "values": B, "returns": B},
    ),
    "gaussian_kl": (policy.gaussian_kl, {"old_mean": X, "old_log_std": K, "new_mean": X, "new_log_std": X}),
    "gaussian_log_prob": (policy.gaussian_log_prob, {"mean": X, "log_std": K, "actions": X}),
    "gaussian_entropy": (policy.gaussian_entropy, {"log_std": X}),
    "gaussian_sample": (
        lambda mean, log_std: policy.gaussian_sample(mean, log_std, ADDRESS),
        {"mean": X, "log_std": K},
    ),
    "gaussian_policy_gradient": (
        policy.gaussian_policy_gradient,
        {"mean": X, "log_std": X, "actions": X, "advantages": B},
    ),
    "gaussian_ppo_loss": (
        policy.gaussian_ppo_loss,
        {"mean": X, "log_std": X, "actions": X, "advantages": B, "old_log_prob": B, "values": B, "returns": B},
    ),
    "vtrace": (
        lambda rewards, log_ratios, values, next_values, terminated, truncated: policy.vtrace(
            log_ratios, rewards, values, next_values, terminated, truncated, 0.9
        ),
        {"rewards": X, "log_ratios": X, "values": X, "next_values": X, "terminated": F, "truncated": F},
    ),
    "discounted_returns": (
        lambda rewards, terminated, truncated, next_values: policy.discounted_returns(
            rewards, terminated, truncated, 0.9, next_values=next_values
        ),
        {"rewards": X, "terminated": F, "truncated": F, "next_values": X},
    ),
    "gae": (
        lambda rewards, values, next_values, terminated, truncated: policy.gae(
            rewards, values, next_values, terminated, truncated, 0.9, 0.9
        ),
        {"rewards": X, "values": X, "next_values": X, "terminated": F, "truncated": F},
    ),
    "normalize_advantage": (policy.normalize_advantage, {"advantages": X}),
}
ARGUMENTS = [(name, argument) for name, (_, arrays) in CALLS.items() for argument in arrays]


def assert_refused(name, changed, error, message):
    call, arrays = CALLS[name]
    given = {key: value.copy() for key, value in arrays.items()} | changed
    with pytest.raises(error, match=message):
        call(**given)


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_wrong_kind(name, argument):
    good = CALLS[name][1][argument]
    for wrong in (good.tolist(), 1.0, "1.0", None, np.ma.array(good)):
        if name == "discounted_returns" and argument == "next_values" and wrong is None:
            continue  # which is allowed
        if (name, argument) == ("categorical_ppo_loss", "logits") and isinstance(wrong, list):
            continue  # one of arrays is allowed
        assert_refused(name, {argument: wrong}, TypeError, f"^{argument}: expected a numpy.ndarray, got .*; pass ")


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_wrong_dtype(name, argument):
    good = CALLS[name][1][argument]
    for dtype in (np.float16, np.complex128, np.dtype(">f8"), object):
        message = rf"^{argument}: expected (float32 or float64|integers|bool).*, got .*; .*astype\(.*\) converts"
        assert_refused(name, {argument: good.astype(dtype)}, TypeError, message)
    if good.dtype == np.float64 and len(CALLS[name][1]) > 1 and argument != next(iter(CALLS[name][1])):
        message = rf"^{argument}: expected float64 like \w+, got float32; {argument}.astype\(np.float64\) converts it"
        assert_refused(name, {argument: good.astype(np.float32)}, TypeError, message)


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
@pytest.mark.parametrize("shape", [(6, 5), (5, 4), (4, 6), (6, 4, 1), (7,), (24,)], ids=str)
def test_wrong_shape(name, argument, shape):
    others = [*(key for key in CALLS[name][1] if key != argument), None]
    fits = (shape == (6, 5) and others[0] == "actions") or (shape == (5, 4) and others == ["log_std", None])
    if others != [None] and not fits:
        wrong = np.zeros(shape, CALLS[name][1][argument].dtype)
        assert_refused(name, {argument: wrong}, ValueError, r"expected shape \(.*\).*, got \(.*\)")


@pytest.mark.parametrize("name", [n for n in CALLS if n.startswith(("categorical", "gaussian"))])
def test_no_actions(name):
    call, arrays = CALLS[name]
    empty = {key: a[..., :0] if a.ndim == 2 or len(a) == 4 else a for key, a in arrays.items()}
    with pytest.raises(ValueError, match=r"expected shape \(\.\.\., actions\) with at least one action, got \(6, 0\)"):
        call(**empty)
    with pytest.raises(ValueError, match=r"expected shape \(\.\.\., actions\) with at least one action, got \(\)"):
        call(**{key: np.zeros(()) for key in arrays})


@pytest.mark.parametrize("name", ["categorical_kl", "categorical_policy_gradient", "gaussian_kl"])
def test_no_mean_of_an_empty_batch(name):
    call, arrays = CALLS[name]
    empty = {key: a[:0] if len(a) == 6 else a for key, a in arrays.items()}
    with pytest.raises(ValueError, match=r"\w+: expected a batch of at least one, got shape \(0, 4\)"):
        call(**empty)
    if name.endswith("kl"):
        assert call(**empty, per_sample=True).shape == (0,)


def test_an_empty_batch_of_samples_is_fine():
    empty = np.zeros((0, 3))
    assert policy.categorical_sample(empty, ADDRESS).shape == (0,)
    assert policy.gaussian_sample(empty, np.zeros(3), ADDRESS).shape == (0, 3)
    assert policy.categorical_entropy(empty).shape == (0,)
    with pytest.raises(ValueError, match="advantages: expected a batch of at least one"):
        policy.normalize_advantage(np.zeros(0))


@pytest.mark.parametrize("wrong", [-1, 4, 2**40, np.iinfo(np.int64).min])
@pytest.mark.parametrize("name", ["categorical_log_prob", "categorical_policy_gradient"])
def test_an_action_that_is_no_column(name, wrong):
    actions = A.copy()
    actions[3] = wrong
    assert_refused(name, {"actions": actions}, ValueError, f"^actions: expected numbers from 0 to 3, .*, got {wrong}$")


LAYERS = [(np.zeros((1, 4)), np.zeros(1))]
NUMBERS = {
    "negative_slope": (lambda v: policy.perceptron(X, LAYERS, negative_slope=v), (-1e-9,)),
    "negative_slope ": (lambda v: policy.perceptron_backward(X[:, :1], X, [B], LAYERS, negative_slope=v), (-1e-9,)),
    "negative_slope  ": (lambda v: policy.categorical_act(X, LAYERS, LAYERS, X[:, :1], negative_slope=v), (-1e-9,)),
    "negative_slope   ": (
        lambda v: policy.gaussian_act(X, LAYERS, LAYERS, B[:1], X[:, :1], negative_slope=v),
        (-1e-9,),
    ),
    "entropy_coef": (lambda v: policy.categorical_policy_gradient(X, A, B, entropy_coef=v), ()),
    "entropy_coef ": (lambda v: policy.gaussian_policy_gradient(X, K, X, B, entropy_coef=v), ()),
    "gamma": (lambda v: policy.gae(X, X, X, F, F, v, 0.9), (-1e-9, 1 + 1e-9)),
    "gamma ": (lambda v: policy.discounted_returns(X, F, F, v), (-1e-9, 1 + 1e-9)),
    "lam": (lambda v: policy.gae(X, X, X, F, F, 0.9, v), (-1e-9, 1 + 1e-9)),
    "eps": (lambda v: policy.normalize_advantage(X, eps=v), (0.0, -1.0)),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name):
    call, out_of_range = NUMBERS[name]
    for value in (math.nan, math.inf, -math.inf, *out_of_range):
        with pytest.raises(ValueError, match=f"^{name.strip()}: expected a finite number.*, got {value}"):
            call(value)
    for value in ("0.5", None, True, [0.5]):
        with pytest.raises(TypeError, match=f"^{name.strip()}: expected a float, got "):
            call(value)


@pytest.mark.parametrize("call", [policy.categorical_kl, lambda *a, **k: policy.gaussian_kl(X, *a, X, **k)])
def test_per_sample_is_a_flag(call):
    with pytest.raises(TypeError, match="per_sample: expected True or False, got 'no'"):
        call(X, X, per_sample="no")


def test_outputs():
    read_only = np.zeros((6, 4))
    read_only.flags.writeable = False
    buffer = np.zeros(40)
    inputs = buffer[:24].reshape(6, 4), buffer[24:30]
    shifted = buffer[1:25].reshape(6, 4)
    calls = {
        "gradient": lambda out: policy.categorical_policy_gradient(inputs[0], A, inputs[1], out=out),
        "sample": lambda out: policy.gaussian_sample(inputs[0], K, ADDRESS, out=out),
        "normalize": lambda out: policy.normalize_advantage(inputs[0], out=out),
    }
    for call in calls.values():
        for out, error, message in (
            (read_only, ValueError, "out: expected a writeable array"),
            (np.zeros((4, 6)), ValueError, r"out: expected shape \(6, 4\)"),
            (np.zeros((6, 4), np.float32), TypeError, "out: expected float64"),
            ([0.0], TypeError, "out: expected a numpy.ndarray"),
            (shifted, ValueError, "expected memory apart from out, got arrays that overlap in part"),
        ):
            with pytest.raises(error, match=message):
                call(out)
    with pytest.raises(ValueError, match="advantages: expected memory apart from out"):
        policy.categorical_policy_gradient(X, A, inputs[1], out=buffer[16:].reshape(6, 4))
    with pytest.raises(ValueError, match="log_std: expected memory apart from out"):
        policy.gaussian_sample(X, inputs[1][:4], ADDRESS, out=buffer[16:].reshape(6, 4))
    assert not buffer.any()


def test_outputs_of_the_gaussian_gradient():
    def call(*out):
        return policy.gaussian_policy_gradient(X, K, X, B, out=out if len(out) != 1 else out[0])

    with pytest.raises(TypeError, match=r"out: expected a pair \(dmean, dlog_std\) of arrays, got ndarray"):
        call(np.zeros((6, 4)))
    with pytest.raises(TypeError, match=r"out: expected a pair \(dmean, dlog_std\) of arrays, got tuple"):
        call(np.zeros((6, 4)), np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match=r"out\[0\]: expected shape \(6, 4\) like mean, got \(4,\)"):
        call(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match=r"out\[1\]: expected shape \(4,\) like log_std, got \(6, 4\)"):
        call(np.zeros((6, 4)), np.zeros((6, 4)))
    with pytest.raises(ValueError, match=r"mean: expected memory apart from out\[0\]"):
        call(X, np.zeros(4))
    out = np.zeros((6, 4))
    with pytest.raises(ValueError, match=r"out\[1\]: expected memory apart from out\[0\]"):
        call(out, out[0])
