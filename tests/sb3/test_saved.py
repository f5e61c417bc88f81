"""Saved models are Stable-Baselines3's, and what broke off leaves whole minibatches."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from .models import assert_alike, environment, model, ours, sb3, torch, trained, weights

EACH = pytest.mark.parametrize("algorithm", ["PPO", "A2C"])


@EACH
@pytest.mark.parametrize(("saves", "loads"), [(ours, sb3), (sb3, ours)], ids=["to", "from"])
def test_a_saved_model_goes_on_there(algorithm, saves, loads, tmp_path):
    m = trained(saves, algorithm)
    m.save(tmp_path / "model")
    goes_on = [
        getattr(package, algorithm).load(tmp_path / "model", env=environment(), device="cpu")
        for package in (saves, loads)
    ]
    for again in goes_on:
        again.set_random_seed(3)
        again.learn(32)
    assert_alike(*goes_on)


def test_nothing_of_ours_is_in_a_model():
    m = trained(ours)
    assert vars(m).keys() == vars(trained(sb3)).keys()
    assert not [key for key, value in vars(m).items() if type(value).__module__.startswith("fastopt")]
    assert not [key for key, value in vars(m.policy).items() if type(value).__module__.startswith("fastopt")]
    assert not [key for key, value in vars(m.policy.optimizer).items() if type(value).__module__.startswith("fastopt")]
    pickle.dumps(m.policy)


def test_a_copy_learns_by_itself():
    m = trained(ours)
    before = weights(m)
    other = copy.deepcopy(m)
    other.learn(32)
    for mine, was in zip(weights(m), before, strict=True):
        np.testing.assert_array_equal(mine, was)
    assert any(not np.array_equal(one, was) for one, was in zip(weights(other), before, strict=True))


def test_set_parameters_and_predict():
    m, other = trained(ours), model(ours, seed=2)
    other.set_parameters(copy.deepcopy(m.get_parameters()))  # torch takes over the very tensors of the states
    obs = np.ones((4, 3), np.float32)
    np.testing.assert_array_equal(m.predict(obs, deterministic=True)[0], other.predict(obs, deterministic=True)[0])
    runs = []
    for again in (m, other):
        again.set_random_seed(3)
        runs.append(again.learn(16))
    for one, other in zip(*map(weights, runs), strict=True):
        np.testing.assert_array_equal(one, other)


class Enough(Exception):
    pass


def broken_off(monkeypatch, minibatches):
    """A model of whose update an exception comes after so many minibatches; and the same update of that many alone."""
    from fastopt.sb3 import updates

    m = model(ours, n_epochs=1)
    _, callback = m._setup_learn(16)
    m.collect_rollouts(m.env, callback, m.rollout_buffer, 16)
    whole = copy.deepcopy(m)
    backward, calls = updates.Losses.backward, []

    def some(self):
        if len(calls) == minibatches:
            raise Enough
        calls.append(1)
        backward(self)

    monkeypatch.setattr(updates.Losses, "backward", some)
    np.random.seed(0)
    with pytest.raises(Enough):
        m.train()
    monkeypatch.undo()
    return m, whole


def test_an_update_that_breaks_off_leaves_whole_minibatches(monkeypatch):
    m, _ = broken_off(monkeypatch, 1)
    m.learn(32)  # goes on
    steps = {float(state["step"]) for state in m.policy.optimizer.state.values()}
    assert steps == {1 + 2 * 2.0}


def test_what_a_broken_update_has_done(monkeypatch):
    m, whole = broken_off(monkeypatch, 1)
    np.random.seed(0)
    order = np.random.permutation(16)
    whole.__class__ = sb3.PPO
    np.random.seed(0)
    monkeypatch.setattr(whole.rollout_buffer, "get", lambda size: iter([samples(whole, order[:8])]))
    whole.train()
    for one, other in zip(weights(m), weights(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def samples(m, order):
    buffer = m.rollout_buffer
    for name in ("observations", "actions", "values", "log_probs", "advantages", "returns"):
        setattr(buffer, name, buffer.swap_and_flatten(getattr(buffer, name)))
    return buffer._get_samples(order)


def test_an_error_of_the_environment_leaves_a_model_that_learns():
    m = model(ours)
    step = m.env.envs[0].unwrapped.step
    calls = []

    def breaks(action):
        calls.append(1)
        if len(calls) == 21:
            raise Enough
        return step(action)

    m.env.envs[0].unwrapped.step = breaks
    with pytest.raises(Enough):
        m.learn(64)
    before = weights(m)
    m.learn(32)
    assert any(not np.array_equal(one, was) for one, was in zip(weights(m), before, strict=True))


def test_gradients_are_there():
    m = trained(ours)
    norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in m.policy.parameters()]))
    assert 0 < norm <= m.max_grad_norm * (1 + 1e-5)
