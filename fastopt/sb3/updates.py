"""One minibatch: forward, loss, backward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastopt import policy as ops
from fastopt.sb3.network import Network

Array = NDArray[Any]


class Rollout:
    """What was collected, one row for each step of an environment, in the order of RolloutBuffer.get."""

    def __init__(self, network: Network, buffer: Any):
        assert buffer.full, ""
        if not buffer.generator_ready:
            for name in ("observations", "actions", "values", "log_probs", "advantages", "returns"):
                setattr(buffer, name, buffer.swap_and_flatten(getattr(buffer, name)))
            buffer.generator_ready = True
        self.size = buffer.buffer_size * buffer.n_envs
        actions = buffer.actions
        if network.log_std is not None:
            actions = actions.astype(np.float32, copy=False)
        elif network.choices is None:
            actions = actions[:, 0]
        columns = [a[:, 0] for a in (buffer.advantages, buffer.log_probs, buffer.values, buffer.returns)]
        self._features = network.features
        self._arrays = [buffer.observations, actions, *columns]
        self._shuffled = [np.empty_like(a) for a in self._arrays]
        self._minibatches: dict[int, list[list[Array]]] = {}

    def minibatches(self, order: NDArray[np.int64], size: int) -> Iterator[list[Array]]:
        """Observations as features, actions, advantages, log-probabilities, values, returns: in room for one order."""
        for array, shuffled in zip(self._arrays, self._shuffled, strict=True):
            np.take(array, order, axis=0, out=shuffled, mode="clip")  # which has no room of its own
        if size not in self._minibatches:  # the same views for every order
            firsts = range(0, self.size, size)
            self._minibatches[size] = [[a[first : first + size] for a in self._shuffled] for first in firsts]
        for observations, *rest in self._minibatches[size]:
            yield [self._features(observations), *rest]


class Losses:
    """The loss of minibatches, and its gradients by what the networks return."""

    def __init__(self, network: Network, **options: Any):
        self._network = network
        self._options = options  # of the ops
        self._dlog_std: Any = None if network.log_std is None else np.empty_like(network.log_std)

    def __call__(self, batch: list[Array]) -> tuple[float, Any]:
        """(loss, statistics) of PPO; :meth:`backward` goes on with it."""
        observations, actions, advantages, old_log_prob, old_values, returns = batch
        self._forward(observations)
        return self._ppo(actions, advantages, old_log_prob, old_values, returns)

    def of_actor_critic(self, batch: list[Array]) -> tuple[float, Any]:
        """(loss of the policy, statistics) of A2C: PPO's with the policy as it is for the old one, whose ratio is 1."""
        observations, actions, advantages, _, old_values, returns = batch
        self._forward(observations)
        network, scores = self._network, self._scores
        if network.log_std is not None:
            log_prob = ops.gaussian_log_prob(scores, network.log_std, actions)
        elif network.choices is None:
            log_prob = ops.categorical_log_prob(scores, actions)
        else:
            parts = zip(network.parts(scores), actions.T, strict=True)
            log_prob = np.sum([ops.categorical_log_prob(part, chosen) for part, chosen in parts], axis=0)
        _, stats = self._ppo(actions, advantages, log_prob, old_values, returns)
        return -float(np.mean(advantages * log_prob)), stats

    def _forward(self, observations: Array) -> None:
        self._observations = observations
        self._scores, self._values, self._dscores, self._dvalues = self._network.layers.forward(observations)

    def _ppo(
        self, actions: Array, advantages: Array, old_log_prob: Array, old_values: Array, returns: Array
    ) -> tuple[float, Any]:
        network, scores, dscores = self._network, self._scores, self._dscores
        batch = actions, advantages, old_log_prob, self._values, returns
        options = {"old_values": old_values, **self._options}
        if network.log_std is not None:
            out = dscores, self._dlog_std, self._dvalues
            loss, *_, stats = ops.gaussian_ppo_loss(scores, network.log_std, *batch, out=out, **options)
        else:
            parts = network.parts(dscores), self._dvalues
            loss, *_, stats = ops.categorical_ppo_loss(network.parts(scores), *batch, out=parts, **options)
        if not (math.isfinite(loss) and math.isfinite(stats.approx_kl)):
            self._have_torch_look()
        return loss, stats

    def _have_torch_look(self) -> None:
        """Raise torch's error where the actor's outputs are no distribution's."""
        policy = self._network.policy
        latent = policy.mlp_extractor.forward_actor(torch.from_numpy(self._observations))
        policy._get_action_dist_from_latent(latent)

    def backward(self) -> None:
        """Fill in the gradients of the parameters by the last loss. Until then those of the one before stay."""
        if self._dlog_std is not None:
            np.copyto(self._network.log_std_grad, self._dlog_std)
        self._network.layers.backward(self._observations)
