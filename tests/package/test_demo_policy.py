"""The demo of policy gradients: its gradients, its masks, its episodes, and the limit that every update keeps."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

import fastopt
from fastopt import cli
from fastopt import policy as pg
from fastopt.demo import policy_gradient as demo_policy
from fastopt.demo.policy_gradient import Environments, Network, Recipe, Update

for name in ("gymnasium", "threadpoolctl", "tqdm"):
    pytest.importorskip(name)

SMALL = {"environments": 16, "horizon": 8, "updates": 4, "value_epochs": 1}


def networks(seed=0):
    rng = fastopt.Philox4x32(seed)
    return Network(rng, (4, 32, 2), 0.01), Network(rng, (4, 64, 1), 0.01)


def test_gradients():
    """In float64, against differences of the loss; dropout makes the same decisions each time."""
    policy, _ = networks()
    policy.params = {key: p.astype(np.float64) + 0.01 for key, p in policy.params.items()}
    rng = np.random.default_rng(0)
    x, actions, advantages = rng.standard_normal((12, 4)), rng.integers(0, 2, 12), rng.standard_normal(12)
    masks = policy.forward(x, 0.3, [fastopt.Philox4x32(1)] * 3)[2]

    def loss_and_grad():
        hidden, logits, _ = policy.forward(x, 0.3, masks)
        loss, grad = pg.categorical_policy_gradient(logits, actions, advantages)
        return loss, policy.backward(x, hidden, grad, masks)

    _, grads = loss_and_grad()
    assert grads.keys() == policy.params.keys()
    for key, p in policy.params.items():
        for index in np.ndindex(*p.shape):
            losses = []
            for step in (1e-6, -2e-6):
                p[index] += step
                losses.append(loss_and_grad()[0])
            p[index] += 1e-6
            assert grads[key][index] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-7)


def test_the_masks_of_acting_are_replayed():
    policy, value = networks()
    recipe = Recipe(True, dropout=0.25, **SMALL)
    batch = Environments(recipe, recipe.environments, 0).collect(policy, value)
    assert len(batch.masks) == recipe.horizon == len(set(batch.masks))
    once, again = (policy.forward(batch.x, 0.25, batch.masks)[1] for _ in range(2))
    assert pg.categorical_kl(once, again) == 0.0  # exactly
    others = policy.forward(batch.x, 0.25, [fastopt.Philox4x32(5)] * recipe.horizon)[1]
    assert pg.categorical_kl(once, others) > 1e-3
    of_first_time = policy.forward(batch.x[:16], 0.25, batch.masks[:1])[1]
    assert np.allclose(once[:16], of_first_time, atol=1e-6)


def test_steps_that_only_reset_are_not_valid():
    policy, value = networks()
    recipe = Recipe(False, environments=16, horizon=200)
    environments = Environments(recipe, 16, 0)
    batch = environments.collect(policy, value)
    resets = np.flatnonzero(~batch.valid)
    ended = len(environments.returns) - np.count_nonzero(environments.over)  # reset by the last step
    assert len(resets) == ended > 50
    following = resets[resets + 16 < len(batch.x)] + 16
    assert np.abs(batch.x[following]).max() <= 0.05  # what comes after a reset is a start
    assert np.abs(batch.x[resets]).max(axis=1).min() > 0.2  # and before it stands the end of an episode
    played = np.count_nonzero(batch.valid) - environments.current.sum()
    assert sum(environments.returns) == played
    for of_valid in (batch.actions, batch.advantages, batch.value_targets):
        assert of_valid.shape == (np.count_nonzero(batch.valid),)


def test_the_exam_counts_one_episode_of_each():
    policy, _ = networks()
    policy.negative_slope = 1.0  # linear
    policy.params["w1"][:] = np.array([0.5, 1, 10, 3], np.float32)[:, None] / 32
    policy.params["w2"][:] = np.array([-50, 50], np.float32)
    assert demo_policy.examine(Recipe(False), policy, 0) == 500
    policy.params["w2"][:] *= -1
    assert 8 <= demo_policy.examine(Recipe(False), policy, 0) < 12


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_it_learns_within_the_limit(dropout):
    run = demo_policy.train_alone(Recipe(True, dropout=dropout, updates=20))
    assert len(run.returns) == len(run.kl) == 20
    assert 0.004 < max(run.kl) <= 0.01
    assert run.returns[-1] > 2.5 * run.returns[0]
    assert run.steps == 20 * 2048


def test_an_update_beyond_the_limit_is_noticed(monkeypatch):
    """The KL is measured anew after the search, from the parameters as they are."""

    def search(params, direction, evaluate, **options):
        for key, p in params.items():
            p += 100 * direction[key]
        return pg.LineSearchResult(True, 100.0, 0.001, 1.0, 2, "accepted", "")

    monkeypatch.setattr(pg, "kl_line_search", search)
    with pytest.raises(AssertionError, match=r"an update changed the policy by a KL of .* expected at most 0.01"):
        demo_policy.train_alone(Recipe(True, **SMALL))


def test_the_kl_of_an_update_by_the_definition():
    policy, value = networks(3)
    recipe = Recipe(True, dropout=0.2, environments=64, horizon=16)
    batch = Environments(recipe, 64, 3).collect(policy, value)

    def log_probs():
        logits = policy.forward(batch.x, 0.2, batch.masks)[1][batch.valid].astype(np.float64)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    old = log_probs()
    moved, kl = Update(recipe, policy)(batch)
    assert moved
    assert kl == pytest.approx(np.mean(np.sum(np.exp(old) * (old - log_probs()), axis=1)), rel=1e-4)
    assert 0.005 < kl <= 0.01


def test_a_plain_update_is_adams_step():
    policy, value = networks(4)
    recipe = Recipe(False, lr=0.02)
    before = {key: p.copy() for key, p in policy.params.items()}
    moved, kl = Update(recipe, policy)(Environments(recipe, 64, 4).collect(policy, value))
    assert moved
    assert kl > 0
    for key, p in policy.params.items():
        assert np.abs(p - before[key]).max() == pytest.approx(0.02, rel=1e-3)  # the first step has the length lr


def test_results_do_not_depend_on_the_number_of_processes():
    recipes = [Recipe(True, seed=seed, **SMALL) for seed in (0, 1)]
    with fastopt.num_threads(1):
        alone = demo_policy.train_all(recipes)
    with fastopt.num_threads(2):
        together = demo_policy.train_all(recipes)
    assert alone[0].kl != alone[1].kl
    for a, b in zip(alone, together, strict=True):
        assert (a.kl, a.returns, a.exam) == (b.kl, b.returns, b.exam)


def test_the_demo(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "policy.png"
    with fastopt.num_threads(1):
        assert demo_policy.cartpole(seeds=2, updates=2, plot=path) == 1  # not solved by so little
    out, err = capsys.readouterr()
    assert "several minutes" in err.splitlines()[0]
    assert out.splitlines()[-1] == "solved: 0 of 2"
    assert len(re.findall(r"^(?:plain|line search), lr .* 0 of 2 .*$", out, re.MULTILINE)) == 6
    assert "line search: 12 updates" in out
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_command(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(demo_policy, "cartpole", lambda *arguments: calls.append(arguments) or 0)
    assert cli.main(["demo", "--task", "policy-gradient", "--seed", "3", "--dropout", "0.1"]) == 0
    assert calls == [(3, None, 0.1)]
    assert cli.main(["demo", "--task", "policy-gradient", "--lr", "1", "--compare"]) == 2
    assert "--task policy-gradient has recipes of its own and does not take --compare, --lr" in capsys.readouterr().err


def test_without_gymnasium(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with fastopt.num_threads(1):
        assert cli.main(["demo", "--task", "policy-gradient"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == 'fastopt demo needs gymnasium: pip install "fastopt[demo]"'
