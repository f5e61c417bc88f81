"""What PPO and A2C share: rollouts on the compiled ops, and which models they are for."""

from __future__ import annotations

import math
import warnings
import weakref
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv

from fastopt import policy as ops
from fastopt.sb3.network import Network
from fastopt.sb3.supported import looks, why_not
from fastopt.sb3.updates import Rollout

# By model, and not in it: what is in a model's __dict__ is saved with it.
_networks: weakref.WeakKeyDictionary[Any, Network] = weakref.WeakKeyDictionary()
_told: weakref.WeakSet[Any] = weakref.WeakSet()


class CompiledRollouts(OnPolicyAlgorithm):
    """The base of PPO and A2C here."""

    _last_obs: Any
    _last_episode_starts: Any

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """As Stable-Baselines3's; a callback finds the same local variables."""
        network = network_of(self)
        if network is None or type(rollout_buffer) is not type(self.rollout_buffer):
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        assert self._last_obs is not None, "No previous observation was provided"
        network.set_training_mode(False)
        box = isinstance(self.action_space, spaces.Box)
        discrete = isinstance(self.action_space, spaces.Discrete)
        watched = type(callback) is not ConvertCallback or callback.callback is not None
        n_steps = 0
        rollout_buffer.reset()
        callback.on_rollout_start()
        if type(callback) is not ConvertCallback:  # which does nothing yet
            network = network_of(self)
        while n_steps < n_rollout_steps:
            actions, value_rows, log_prob_rows = _act(self, network, self._last_obs)
            clipped_actions = actions
            if box:  # in two thirds of np.clip's time
                clipped_actions = np.minimum(np.maximum(actions, self.action_space.low), self.action_space.high)
            new_obs, rewards, dones, infos = env.step(clipped_actions)
            self.num_timesteps += env.num_envs
            if watched:
                obs_tensor = torch.from_numpy(self._last_obs)
                values, log_probs = torch.from_numpy(value_rows[:, None]), torch.from_numpy(log_prob_rows)
                callback.update_locals(locals())
            if not callback.on_step():
                return False
            if watched and (network is None or not network.is_of(self.policy)):  # a callback may do anything
                network = network_of(self)
            self._update_info_buffer(infos, dones)
            n_steps += 1
            if discrete:
                actions = actions.reshape(-1, 1)
            for idx, done in enumerate(np.asarray(dones).tolist()):
                if (
                    done
                    and infos[idx].get("terminal_observation") is not None
                    and infos[idx].get("TimeLimit.truncated", False)
                ):
                    terminal_obs = self.policy.obs_to_tensor(infos[idx]["terminal_observation"])[0]
                    terminal_value = _values(self, network, terminal_obs)[0]
                    rewards[idx] += self.gamma * terminal_value
            rows = self._last_obs, actions, rewards, self._last_episode_starts
            if network is None:
                rollout_buffer.add(*rows, values, log_probs)
            else:
                _add(rollout_buffer, *rows, value_rows, log_prob_rows)
            self._last_obs = new_obs
            self._last_episode_starts = dones
        values = _values(self, network, torch.from_numpy(new_obs))
        if network is None:
            rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        else:
            _compute_returns_and_advantage(rollout_buffer, values.numpy()[:, 0], dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """As Stable-Baselines3's."""
        network = network_of(self)
        if network is None:
            super().train()
            return
        network.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        ranges = self._compiled_ranges()
        rates = [group["lr"] for group in self.policy.optimizer.param_groups]
        wrong = [number for number in (*rates, *ranges.values()) if not 0 <= number < math.inf]
        if wrong:
            if not min(wrong) < 0:  # as a schedule ends where the steps are no multiple of a rollout's
                _say_once(self, f"a learning rate or clip range is {wrong[0]}", stacklevel=3)
            super().train()
            return
        found = self._compiled_update(network, Rollout(network, self.rollout_buffer), ranges)
        network.clip_gradients(self.max_grad_norm)
        buffer = self.rollout_buffer
        found["explained_variance"] = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        if hasattr(self.policy, "log_std"):
            found["std"] = torch.exp(self.policy.log_std).mean().item()
        for name, value in found.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _compiled_ranges(self) -> dict[str, float]:
        """What is scheduled besides the learning rate."""
        return {}

    def _compiled_update(self, network: Network, rollout: Rollout, ranges: dict[str, float]) -> dict[str, Any]:
        """Learn from a rollout; return what is logged of it."""
        raise NotImplementedError


def network_of(model: Any) -> Network | None:
    """The networks of a model as arrays, or None where it is for Stable-Baselines3's own code."""
    network = _networks.get(model)
    if (
        network is not None
        and type(model.policy) is ActorCriticPolicy
        and network.looks == looks(model, network.modules)
    ):
        return network
    reason = why_not(model)
    if reason is not None:
        _say_once(model, reason, stacklevel=4)
        return None
    network = _networks[model] = Network(model.policy)
    network.looks = looks(model, network.modules)
    return network


def _say_once(model: Any, reason: str, stacklevel: int) -> None:
    if model not in _told:
        _told.add(model)
        warnings.warn(f"fastopt.sb3: {reason}; it runs on Stable-Baselines3's own code", stacklevel=stacklevel)


def _act(model: Any, network: Network | None, obs: Any) -> tuple[Any, Any, Any]:
    """Actions, values and log-probabilities, a row for each environment."""
    if network is not None:
        actions, values, log_probs = network.act(obs)
        if math.isfinite(sum(log_probs.tolist())):
            shape = model.action_space.shape
            return actions if len(shape) == 1 else actions.reshape(-1, *shape), values, log_probs
    with torch.no_grad():  # of a NaN it makes an error
        actions, values, log_probs = model.policy(torch.from_numpy(obs))
    return actions.numpy(), values.numpy()[:, 0], log_probs.numpy()


def _values(model: Any, network: Network | None, obs: torch.Tensor) -> torch.Tensor:
    if network is not None:
        return torch.from_numpy(network.values(obs.numpy())[:, None])
    with torch.no_grad():
        return model.policy.predict_values(obs)  # type: ignore[no-any-return]


def _add(buffer: Any, obs: Any, actions: Any, rewards: Any, starts: Any, values: Any, log_probs: Any) -> None:
    """As RolloutBuffer.add."""
    here, observations = buffer.pos, buffer.observations
    observations[here] = obs if obs.ndim == observations.ndim - 1 else obs.reshape(observations.shape[1:])
    buffer.actions[here] = actions if actions.ndim == 2 else actions.reshape(buffer.n_envs, buffer.action_dim)
    buffer.rewards[here] = rewards
    buffer.episode_starts[here] = starts
    buffer.values[here] = values
    buffer.log_probs[here] = log_probs
    buffer.pos += 1
    if buffer.pos == buffer.buffer_size:
        buffer.full = True


def _compute_returns_and_advantage(buffer: Any, last_values: Any, dones: Any) -> None:
    """As RolloutBuffer.compute_returns_and_advantage: where an episode was cut off, its value is in the rewards."""
    next_values = np.concatenate([buffer.values[1:], last_values[None]])
    ended = np.concatenate([buffer.episode_starts[1:] != 0, np.asarray(dones, bool)[None]])
    buffer.advantages, buffer.returns = ops.gae(
        buffer.rewards, buffer.values, next_values, ended, np.zeros_like(ended), buffer.gamma, buffer.gae_lambda
    )
