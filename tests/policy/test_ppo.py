"""The losses of PPO: those of Stable-Baselines3, with the gradients of torch; and what counts in them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fastopt import policy
from fastopt.reference import policy as reference_policy

from ..support import DTYPES, assert_same_results

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_side = pytest.mark.parametrize("ops", [policy, reference_policy], ids=["fastopt", "reference"])

# Nothing clipped, everything clipped, both, and the values too.
SETTINGS: list[dict[str, Any]] = [
    {"clip_range": 0.2},
    {"clip_range": 0.0, "value_coef": 0.0},
    {"clip_range": 100.0, "entropy_coef": 0.01},
    {"clip_range": 0.3, "entropy_coef": -0.7, "clip_range_vf": 0.4, "value_coef": 0.7},
]
each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=str)


def normal(seed, shape, dtype=np.float64, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def batch(rows, dtype=np.float64):
    """advantages, old_log_prob (of any policy), values, returns; and old_values."""
    adv, old, values, returns, old_values = (normal(k, rows, dtype) for k in range(20, 25))
    return (adv, old / 4 - dtype(1.5), values, returns), values + old_values / 2


def options(setting, old_values):
    return setting | ({"old_values": old_values} if "clip_range_vf" in setting else {})


def torch_loss(torch, log_prob, entropy, arrays, values, setting, old_values, valid=None):
    """The loss of PPO.train() in Stable-Baselines3 2.9.2, and what it logs."""
    adv, old_log_prob, _, returns = (torch.from_numpy(a) for a in arrays)
    keep = slice(None) if valid is None else torch.from_numpy(valid)
    clip, vf = setting["clip_range"], setting.get("clip_range_vf")
    ratio = torch.exp(log_prob - old_log_prob)[keep]
    surrogate = torch.min(adv[keep] * ratio, adv[keep] * torch.clamp(ratio, 1 - clip, 1 + clip))
    predicted = values
    if vf is not None:
        old = torch.from_numpy(old_values)
        predicted = old + torch.clamp(values - old, -vf, vf)
    policy_loss = -surrogate.mean()
    value_loss = torch.nn.functional.mse_loss(returns[keep], predicted[keep])
    entropy_loss = -torch.mean(entropy.expand(log_prob.shape)[keep])
    loss = policy_loss + setting.get("entropy_coef", 0.0) * entropy_loss + setting.get("value_coef", 0.5) * value_loss
    log_ratio = (log_prob - old_log_prob)[keep]
    kl = torch.mean((torch.exp(log_ratio) - 1) - log_ratio)
    fraction = torch.mean((torch.abs(ratio - 1) > clip).double())
    return loss, [x.item() for x in (policy_loss, value_loss, entropy_loss, kl, fraction)]


def assert_close(got, expected, stats):
    """(loss, gradients ..., stats) and (loss, gradients ...): the error of sums of a hundred numbers of about 1."""
    np.testing.assert_allclose(got[0], expected[0].item(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(got[-1], stats, rtol=1e-12, atol=1e-13)
    for one, other in zip(got[1:-1], expected[1:], strict=True):
        for a, b in zip(*((x if isinstance(x, list) else [x]) for x in (one, other)), strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-12, atol=1e-14)


# ---- categorical -----------------------------------------------------------------------------------------------------


def categorical(widths, rows, dtype=np.float64):
    logits = normal(1, (rows, sum(widths)), dtype)
    lists = np.split(logits, np.cumsum(widths)[:-1], axis=-1)
    actions = np.stack([np.random.default_rng(k).integers(0, width, rows) for k, width in enumerate(widths)], axis=-1)
    return (lists, actions) if len(widths) > 1 else (logits, actions[:, 0])


@each_side
@each_setting
@pytest.mark.parametrize("widths", [(4,), (1,), (2, 3, 5), (1, 40)], ids=str)
def test_categorical_against_torch(ops, widths, setting):
    torch = pytest.importorskip("torch")
    arrays, old_values = batch(99)
    logits, actions = categorical(widths, 99)
    for valid in (None, np.random.default_rng(9).random(99) < 0.6):
        leaves = [torch.tensor(x, requires_grad=True) for x in (logits if len(widths) > 1 else [logits])]
        values = torch.tensor(arrays[2], requires_grad=True)
        chosen = torch.from_numpy(actions.reshape(99, -1))
        kinds = [torch.distributions.Categorical(logits=leaf) for leaf in leaves]
        log_prob = sum(kind.log_prob(chosen[:, k]) for k, kind in enumerate(kinds))
        entropy = sum(kind.entropy() for kind in kinds)
        loss, stats = torch_loss(torch, log_prob, entropy, arrays, values, setting, old_values, valid)
        loss.backward()
        got = ops.categorical_ppo_loss(logits, actions, *arrays, **options(setting, old_values), valid=valid)
        dlogits = [leaf.grad for leaf in leaves]
        assert_close(got, (loss.detach(), dlogits if len(widths) > 1 else dlogits[0], values.grad), stats)


def test_the_clipped_surrogate_by_hand():
    """One sample a row: below, within and above the range, with advantages of both signs."""
    ratios, advantages = np.array([0.5, 1.1, 2.0, 0.5, 1.1, 2.0]), np.array([1.0, 1, 1, -1, -1, -1])
    logits, zero = np.zeros((6, 2)), np.zeros(6)
    _, dlogits, _, stats = policy.categorical_ppo_loss(
        logits, np.zeros(6, int), advantages, np.log(0.5) - np.log(ratios), zero, zero
    )
    counted = [0.5, 1.1, 1.2, -0.8, -1.1, -2.0]
    moving = np.array([0.5, 1.1, 0, 0, -1.1, -2.0])
    assert stats.policy_loss == pytest.approx(-np.mean(counted), rel=1e-15)
    assert stats.clip_fraction == pytest.approx(4 / 6, rel=1e-15)
    np.testing.assert_allclose(dlogits, np.outer(moving, [-0.5, 0.5]) / 6, rtol=1e-14)


@each_dtype
def test_categorical_with_the_policy_that_sampled_is_the_policy_gradient(dtype):
    """All ratios are 1: the loss is that of the policy gradient, whose log p moves alone."""
    (adv, _, values, returns), _ = batch(500, dtype)
    logits, actions = categorical((5,), 500, dtype)
    old = policy.categorical_log_prob(logits, actions)
    _, dlogits, dvalues, stats = policy.categorical_ppo_loss(logits, actions, adv, old, values, returns, value_coef=1)
    assert (stats.approx_kl, stats.clip_fraction) == (0, 0)
    expected = policy.categorical_policy_gradient(logits, actions, adv)[1]
    np.testing.assert_array_equal(dlogits, expected)
    np.testing.assert_allclose(dvalues, 2 * (values - returns) / 500, rtol=4 * np.finfo(dtype).eps)


@each_dtype
def test_one_list_is_the_array(dtype):
    arrays, _ = batch(70, dtype)
    logits, actions = categorical((6,), 70, dtype)
    loss, dlogits, dvalues, stats = policy.categorical_ppo_loss(logits, actions, *arrays, entropy_coef=0.1)
    listed = policy.categorical_ppo_loss([logits], actions[:, None], *arrays, entropy_coef=0.1)
    assert_same_results(listed, (loss, [dlogits], dvalues, stats))


@each_dtype
@pytest.mark.parametrize("copied", [False, True], ids=["views", "apart"])
def test_gradients_of_lists_go_where_out_says(dtype, copied):
    arrays, _ = batch(130, dtype)
    lists, actions = categorical((3, 1, 4), 130, dtype)
    expected = reference_policy.categorical_ppo_loss(lists, actions, *arrays, entropy_coef=0.1)
    together = np.full((130, 8), 7, dtype)
    out = np.split(together, [3, 4], axis=-1), np.full(130, 7, dtype)
    if copied:
        lists, out = [x.copy("F") for x in lists], ([x.copy() for x in out[0]], out[1])
    got = policy.categorical_ppo_loss(lists, actions, *arrays, entropy_coef=0.1, out=out)
    assert_same_results(got, expected)
    assert all(a is b for a, b in zip(got[1], out[0], strict=True))
    assert got[2] is out[1]
    new = policy.categorical_ppo_loss(lists, actions, *arrays, entropy_coef=0.1)
    assert_same_results(new, expected)
    assert new[1][0].base is new[1][2].base  # the columns of one array


# ---- Gaussian --------------------------------------------------------------------------------------------------------


@each_side
@each_setting
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("columns", [1, 3, 40])
def test_gaussian_against_torch(ops, columns, shared, setting):
    torch = pytest.importorskip("torch")
    arrays, old_values = batch(99)
    arrays = (arrays[0], arrays[1] * columns, *arrays[2:])
    mean, actions = normal(1, (99, columns)), normal(2, (99, columns))
    log_std = normal(3, columns if shared else (99, columns), scale=0.3)
    for valid in (None, np.random.default_rng(9).random(99) < 0.6):
        leaves = [torch.tensor(x, requires_grad=True) for x in (mean, log_std, arrays[2])]
        kind = torch.distributions.Normal(leaves[0], torch.exp(leaves[1]))
        log_prob, entropy = kind.log_prob(torch.from_numpy(actions)).sum(dim=1), kind.entropy().sum(dim=1)
        loss, stats = torch_loss(torch, log_prob, entropy, arrays, leaves[2], setting, old_values, valid)
        loss.backward()
        got = ops.gaussian_ppo_loss(mean, log_std, actions, *arrays, **options(setting, old_values), valid=valid)
        assert_close(got, (loss.detach(), *(leaf.grad for leaf in leaves)), stats)


@each_dtype
@pytest.mark.parametrize("shared", [True, False])
def test_gaussian_with_the_policy_that_sampled_is_the_policy_gradient(shared, dtype):
    (adv, _, values, returns), _ = batch(500, dtype)
    mean, actions, log_std = normal(1, (500, 5), dtype), normal(2, (500, 5), dtype), normal(3, (500, 5), dtype, 0.3)
    log_std = log_std[0].copy() if shared else log_std
    old = policy.gaussian_log_prob(mean, log_std, actions)
    _, *gradients, _, stats = policy.gaussian_ppo_loss(mean, log_std, actions, adv, old, values, returns)
    assert (stats.approx_kl, stats.clip_fraction) == (0, 0)
    expected = policy.gaussian_policy_gradient(mean, log_std, actions, adv)[1:]
    for one, other in zip(gradients, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# ---- what counts -----------------------------------------------------------------------------------------------------


@each_dtype
def test_what_is_not_valid_counts_nowhere(dtype):
    (adv, old, values, returns), old_values = batch(200, dtype)
    logits, actions = categorical((5,), 200, dtype)
    valid = np.random.default_rng(3).random(200) < 0.5
    kept = [x[valid] for x in (logits, actions, adv, old, values, returns)]
    for x in (logits, adv, old, values, returns):
        x[~valid] = np.nan
    setting = {"clip_range_vf": 0.3, "entropy_coef": 0.1}
    loss, dlogits, dvalues, stats = policy.categorical_ppo_loss(
        logits, actions, adv, old, values, returns, **setting, old_values=old_values, valid=valid
    )
    assert not dlogits[~valid].any()
    assert not dvalues[~valid].any()
    alone = policy.categorical_ppo_loss(*kept, **setting, old_values=old_values[valid])
    assert_same_results((dlogits[valid], dvalues[valid]), alone[1:3])
    np.testing.assert_allclose([loss, *stats], [alone[0], *alone[3]], rtol=1e-12)  # sums in another order
    loss, grad = policy.categorical_policy_gradient(logits, actions, adv, entropy_coef=0.1, valid=valid)
    alone = policy.categorical_policy_gradient(*kept[:3], entropy_coef=0.1)
    assert not grad[~valid].any()
    assert_same_results(grad[valid], alone[1])
    assert loss == pytest.approx(alone[0], rel=1e-12)


@each_dtype
@pytest.mark.parametrize("shared", [True, False])
def test_what_is_not_valid_counts_nowhere_in_gaussian_policies(shared, dtype):
    (adv, old, values, returns), old_values = batch(200, dtype)
    mean, actions, log_std = normal(1, (200, 5), dtype), normal(2, (200, 5), dtype), normal(3, (200, 5), dtype, 0.3)
    valid = np.random.default_rng(3).random(200) < 0.5
    rows = [mean, *([] if shared else [log_std]), actions, adv, old, values, returns]
    kept = [x[valid] for x in rows]
    for x in rows:
        x[~valid] = np.nan
    if shared:
        rows, kept = [rows[0], log_std[0], *rows[1:]], [kept[0], log_std[0], *kept[1:]]
    setting = {"clip_range_vf": 0.3, "entropy_coef": 0.1}
    loss, dmean, dlog_std, dvalues, stats = policy.gaussian_ppo_loss(
        *rows, **setting, old_values=old_values, valid=valid
    )
    alone = policy.gaussian_ppo_loss(*kept, **setting, old_values=old_values[valid])
    gradient = policy.gaussian_policy_gradient(*rows[:4], entropy_coef=0.1, valid=valid)
    alone_gradient = policy.gaussian_policy_gradient(*kept[:4], entropy_coef=0.1)
    for got, expected in ((dmean, alone[1]), (dvalues, alone[3]), (gradient[1], alone_gradient[1])):
        assert not got[~valid].any()
        assert_same_results(got[valid], expected)
    for got, expected in ((dlog_std, alone[2]), (gradient[2], alone_gradient[2])):
        eps = 4 * np.finfo(dtype).eps  # a sum in another order, rounded once
        np.testing.assert_allclose(got if shared else got[valid], expected, rtol=eps, atol=eps)
    np.testing.assert_allclose([loss, *stats], [alone[0], *alone[4]], rtol=1e-12)
    assert gradient[0] == pytest.approx(alone_gradient[0], rel=1e-12)


@each_dtype
def test_masked_actions_get_no_gradient(dtype):
    logits = np.array([[0, 0, -np.inf], [1, -np.inf, 2]], dtype)
    arrays, _ = batch(2, dtype)
    loss, dlogits, _, stats = policy.categorical_ppo_loss(logits, np.array([0, 2]), *arrays, entropy_coef=0.1)
    assert math.isfinite(loss)
    assert all(map(math.isfinite, stats))
    assert dlogits[0, 2] == dlogits[1, 1] == 0


# ---- errors ----------------------------------------------------------------------------------------------------------

X, B, A = np.zeros((6, 4)), np.zeros(6), np.zeros(6, int)
GOOD = {"logits": X, "actions": A, "advantages": B, "old_log_prob": B, "values": B, "returns": B}
SEVERAL = {"logits": [X, X[:, :2]], "actions": np.zeros((6, 2), int)}
WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"values": B[:5]}, ValueError, r"values: expected shape \(6,\), one for each row of logits, got \(5,\)"),
    (
        {"returns": B.astype(np.float32)},
        TypeError,
        r"returns: expected float64 like logits, got float32; returns.astype",
    ),
    ({"old_log_prob": B.tolist()}, TypeError, r"old_log_prob: expected a numpy.ndarray, got list"),
    ({"actions": A + 4}, ValueError, r"actions: expected numbers from 0 to 3, one of the 4 columns of logits, got 4"),
    ({"clip_range": -0.1}, ValueError, r"clip_range: expected a finite number >= 0, got -0.1"),
    ({"clip_range_vf": 0.1}, TypeError, r"old_values: expected an array, since clip_range_vf is given, got None"),
    (
        {"clip_range_vf": math.inf, "old_values": B},
        ValueError,
        r"clip_range_vf: expected a finite number >= 0, got inf",
    ),
    ({"old_values": B[:5]}, ValueError, r"old_values: expected shape \(6,\)"),
    ({"entropy_coef": math.nan}, ValueError, r"entropy_coef: expected a finite number, got nan"),
    ({"value_coef": "1"}, TypeError, r"value_coef: expected a float, got str"),
    ({"valid": B}, TypeError, r"valid: expected bool, got float64; valid.astype\(bool\) converts it"),
    ({"valid": B[:5] == 0}, ValueError, r"valid: expected shape \(6,\) like advantages, got \(5,\)"),
    ({"valid": B != 0}, ValueError, r"valid: expected at least one that is True, got none"),
    ({"out": [X, B]}, TypeError, r"out: expected a tuple \(dlogits, dvalues\) of arrays, got list"),
    ({"out": (X[:5], B)}, ValueError, r"out\[0\]: expected shape \(6, 4\) like logits, got \(5, 4\)"),
    ({"logits": []}, ValueError, r"logits: expected at least one array, got none"),
    ({"logits": [X, X[:5]]}, ValueError, r"logits\[1\]: expected float64 and shape \(6, \.\.\.\) like logits\[0\]"),
    (SEVERAL | {"actions": A}, ValueError, r"actions: expected shape \(6, 2\), one for each row of each of the logits"),
    (
        SEVERAL | {"actions": np.full((6, 2), 3)},
        ValueError,
        r"actions: expected numbers from 0 to 1 in column 1, one of the 2 columns of logits\[1\], got 3",
    ),
    (SEVERAL | {"out": (X, B)}, TypeError, r"out\[0\]: expected a list of 2 arrays like logits, got ndarray"),
    (
        {key: x[:0] for key, x in GOOD.items()},
        ValueError,
        r"logits: expected a batch of at least one, got shape \(0, 4\)",
    ),
]


@pytest.mark.parametrize(("changed", "error", "message"), WRONG, ids=[message[:40] for *_, message in WRONG])
def test_refused(changed, error, message):
    with pytest.raises(error, match=f"^{message}"):
        policy.categorical_ppo_loss(**GOOD | changed)


def test_gaussian_refused():
    good = {"mean": X, "log_std": X[0], "actions": X, **dict.fromkeys(list(GOOD)[2:], B)}
    for changed, error, message in (
        ({"values": B[:5]}, ValueError, r"values: expected shape \(6,\), one for each row of mean, got \(5,\)"),
        ({"log_std": B}, ValueError, r"log_std: expected shape \(6, 4\) like mean, or \(4,\) for all, got \(6,\)"),
        ({"valid": B != 0}, ValueError, "valid: expected at least one that is True, got none"),
        ({"clip_range_vf": 0.1}, TypeError, "old_values: expected an array, since clip_range_vf is given, got None"),
        ({"out": (X, B)}, TypeError, r"out: expected a tuple \(dmean, dlog_std, dvalues\) of arrays, got tuple"),
        ({"out": (np.ones((6, 4)), X[0], np.ones(6))}, ValueError, r"mean: expected memory apart from out\[1\]"),
    ):
        with pytest.raises(error, match=f"^{message}"):
            policy.gaussian_ppo_loss(**good | changed)


def test_outputs_overlap_nothing():
    given = {key: np.array(x) for key, x in GOOD.items()}
    dlogits, dvalues = np.full((6, 4), 7.0), np.full(6, 7.0)
    for name in ("advantages", "old_log_prob", "returns", "values"):
        with pytest.raises(ValueError, match=rf"{name}: expected memory apart from out\[1\], got arrays that overlap"):
            policy.categorical_ppo_loss(**given, out=(dlogits, given[name]))
    with pytest.raises(ValueError, match=r"out\[.\]: expected memory of its own to be written"):
        policy.categorical_ppo_loss(**given, out=(dlogits, dlogits.ravel()[:6]))
    buffer = np.zeros(28)
    shifted = given | {"logits": buffer[:24].reshape(6, 4)}
    with pytest.raises(ValueError, match=r"logits: expected memory apart from out\[0\].* in part"):
        policy.categorical_ppo_loss(**shifted, out=(buffer[4:].reshape(6, 4), dvalues))
    assert (dlogits == 7).all()
    assert (dvalues == 7).all()
    own = given["logits"]
    expected = reference_policy.categorical_ppo_loss(**given)
    assert_same_results(policy.categorical_ppo_loss(**given, out=(own, dvalues)), expected)
