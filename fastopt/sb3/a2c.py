"""Advantage actor-critic."""

from __future__ import annotations

from typing import Any

import numpy as np
import stable_baselines3

from fastopt import policy as ops
from fastopt.sb3.network import Network
from fastopt.sb3.rollouts import CompiledRollouts
from fastopt.sb3.updates import Losses, Rollout


class A2C(CompiledRollouts, stable_baselines3.A2C):
    """`stable_baselines3.A2C`, whose rollouts and updates are compiled: see :class:`PPO`."""

    def _compiled_update(self, network: Network, rollout: Rollout, ranges: dict[str, float]) -> dict[str, Any]:
        """One step over the rollout buffer."""
        losses = Losses(network, entropy_coef=self.ent_coef, value_coef=self.vf_coef)
        (batch,) = rollout.minibatches(np.random.permutation(rollout.size), rollout.size)
        advantages = batch[2]
        if self.normalize_advantage:
            ops.normalize_advantage(advantages, ddof=1, out=advantages)
        policy_loss, stats = losses.of_actor_critic(batch)
        losses.backward()
        network.optimizer_step(self.policy.optimizer, self.max_grad_norm)()
        self._n_updates += 1
        return {"entropy_loss": stats.entropy_loss, "policy_loss": policy_loss, "value_loss": stats.value_loss}
