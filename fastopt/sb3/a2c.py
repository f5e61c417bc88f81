"""Advantage actor-critic."""

from __future__ import annotations

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.utils import explained_variance

from fastopt import policy as ops
from fastopt.sb3.rollouts import CompiledRollouts
from fastopt.sb3.updates import Losses, Rollout


class A2C(CompiledRollouts, stable_baselines3.A2C):
    """`stable_baselines3.A2C`, whose rollouts and updates are compiled: see :class:`PPO`."""

    def train(self) -> None:
        """As Stable-Baselines3's: one step over the rollout buffer."""
        network = self._network()
        if network is None:
            super().train()
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        step, losses = network.optimizer_step(self.policy.optimizer, self.max_grad_norm), Losses(network)
        rollout = Rollout(network, self.rollout_buffer)
        rollout.shuffle(np.random.permutation(rollout.size))
        batch = rollout.minibatch(0, rollout.size)
        advantages = batch[2]
        if self.normalize_advantage:
            ops.normalize_advantage(advantages, ddof=1, out=advantages)
        policy_loss, stats = losses.of_actor_critic(batch, entropy_coef=self.ent_coef, value_coef=self.vf_coef)
        losses.backward()
        step()
        network.clip_gradients(self.max_grad_norm)
        self._n_updates += 1
        buffer = self.rollout_buffer
        record = self.logger.record
        record("train/n_updates", self._n_updates)
        record("train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten()))
        record("train/entropy_loss", stats.entropy_loss)
        record("train/policy_loss", policy_loss)
        record("train/value_loss", stats.value_loss)
        if network.log_std is not None:
            record("train/std", torch.exp(self.policy.log_std).mean().item())
