"""Models of both packages, alike, on an environment that costs nothing; and how two of them are compared."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

torch = pytest.importorskip("torch")
sb3 = pytest.importorskip("stable_baselines3")
ours = pytest.importorskip("fastopt.sb3")


class Anything(gymnasium.Env):
    """Observations at random; a reward for actions near a half; ends, and is cut off, at random."""

    def __init__(self, observations: Any, actions: Any):
        self.observation_space, self.action_space = observations, actions
        self._rng = np.random.default_rng(0)

    def _observe(self) -> Any:
        space, rng = self.observation_space, self._rng
        if isinstance(space, spaces.Discrete):
            return int(rng.integers(space.n))
        if isinstance(space, spaces.MultiDiscrete):
            return rng.integers(space.nvec)
        if isinstance(space, spaces.MultiBinary):
            return rng.integers(2, size=space.shape).astype(space.dtype)
        if np.issubdtype(space.dtype, np.integer):
            most = 256 if len(space.shape) == 3 else 4  # of images, which are divided by 255
            return rng.integers(0, most, space.shape).astype(space.dtype)
        return rng.standard_normal(space.shape).astype(space.dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        reward = float(self._rng.standard_normal() - np.square(np.asarray(action, float) - 0.5).sum())
        ended, cut = self._rng.random(2) < 0.1
        return self._observe(), reward, bool(ended), bool(cut and not ended), {}


VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
CONTINUOUS = spaces.Box(-1.0, 1.0, (2,), np.float32)


def environment(observations: Any = VECTOR, actions: Any = None) -> Any:
    return Anything(observations, spaces.Discrete(3) if actions is None else actions)


def model(package: Any, algorithm: str = "PPO", env: Any = None, **options: Any) -> Any:
    """A model of stable_baselines3 or fastopt.sb3 that learns from small rollouts."""
    small = {"n_steps": 16, "batch_size": 8, "n_epochs": 2} if algorithm == "PPO" else {"n_steps": 8}
    arch = {"policy_kwargs": {"net_arch": [8, 5]}}
    given = {"seed": 1, "device": "cpu", **small, **arch, **options}
    return getattr(package, algorithm)("MlpPolicy", environment() if env is None else env, **given)


def trained(package: Any, *args: Any, steps: int = 48, **options: Any) -> Any:
    return model(package, *args, **options).learn(steps)


def logged(m: Any) -> dict[str, float]:
    return {key: float(value) for key, value in m.logger.name_to_value.items() if not key.startswith("time/")}


def weights(m: Any) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in m.policy.parameters()]


def assert_alike(a: Any, b: Any, rtol: float = 1e-4, atol: float = 2e-6) -> None:
    """Parameters, states of the optimisers, gradients, the last rollout and logged values, to rounding."""
    np.testing.assert_array_equal(a.rollout_buffer.episode_starts, b.rollout_buffer.episode_starts)
    for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns"):
        one, other = getattr(a.rollout_buffer, name), getattr(b.rollout_buffer, name)
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-5, err_msg=name)
    for one, other in zip(a.policy.parameters(), b.policy.parameters(), strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), rtol=rtol, atol=atol)
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            np.testing.assert_allclose(one.grad, other.grad, rtol=1e-3, atol=1e-5)
    states = [m.policy.optimizer.state_dict()["state"] for m in (a, b)]
    assert states[0].keys() == states[1].keys()
    for index, own in states[0].items():
        assert own.keys() == states[1][index].keys()
        for key, value in own.items():
            other = states[1][index][key]
            assert value.dtype == other.dtype
            assert value.shape == other.shape
            np.testing.assert_allclose(value, other, rtol=1e-3, atol=1e-5)
    assert a._n_updates == b._n_updates
    assert a.logger.name_to_excluded == b.logger.name_to_excluded
    assert logged(a).keys() == logged(b).keys()
    for key, value in logged(a).items():
        assert logged(b)[key] == pytest.approx(value, rel=1e-3, abs=1e-5, nan_ok=True), key


def twin(m: Any, package: Any) -> Any:
    """A copy of a model, of the class of that name in the other package."""
    other = copy.deepcopy(m)
    other.__class__ = getattr(package, type(m).__name__)
    return other
