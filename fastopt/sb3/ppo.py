"""Proximal policy optimisation."""

from __future__ import annotations

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.utils import explained_variance

from fastopt import policy as ops
from fastopt.sb3.rollouts import CompiledRollouts
from fastopt.sb3.updates import Losses, Rollout


class PPO(CompiledRollouts, stable_baselines3.PPO):
    """`stable_baselines3.PPO`, whose rollouts and updates are compiled.

    For `MlpPolicy` with tanh, ReLU or leaky ReLU, of Discrete, MultiDiscrete and Box actions. Everything else runs on
    Stable-Baselines3's own code, which a warning says once. The same seed is its own run, to rounding.
    """

    def train(self) -> None:
        """As Stable-Baselines3's: `n_epochs` passes over the rollout buffer, in minibatches."""
        network = self._network()
        if network is None:
            super().train()
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)
        clip_range_vf = None
        if self.clip_range_vf is not None:
            clip_range_vf = self.clip_range_vf(self._current_progress_remaining)
        options = {
            "clip_range": clip_range,
            "clip_range_vf": clip_range_vf,
            "entropy_coef": self.ent_coef,
            "value_coef": self.vf_coef,
        }
        step, losses = network.optimizer_step(self.policy.optimizer, self.max_grad_norm), Losses(network)
        rollout, found = Rollout(network, self.rollout_buffer), []
        continue_training = True
        for epoch in range(self.n_epochs):
            approx_kls = []
            rollout.shuffle(np.random.permutation(rollout.size))
            for first in range(0, rollout.size, self.batch_size):
                batch = rollout.minibatch(first, self.batch_size)
                advantages = batch[2]
                if self.normalize_advantage and len(advantages) > 1:
                    ops.normalize_advantage(advantages, ddof=1, out=advantages)
                loss, stats = losses(batch, **options)
                found.append(stats)
                approx_kls.append(stats.approx_kl)
                if self.target_kl is not None and stats.approx_kl > 1.5 * self.target_kl:
                    continue_training = False
                    if self.verbose >= 1:
                        print(f"Early stopping at step {epoch} due to reaching max kl: {stats.approx_kl:.2f}")
                    break
                losses.backward()
                step()
            self._n_updates += 1
            if not continue_training:
                break
        network.clip_gradients(self.max_grad_norm)
        buffer = self.rollout_buffer
        policy_loss, value_loss, entropy_loss, _, clip_fraction = np.mean(found, axis=0)
        record = self.logger.record
        record("train/entropy_loss", entropy_loss)
        record("train/policy_gradient_loss", policy_loss)
        record("train/value_loss", value_loss)
        record("train/approx_kl", np.mean(approx_kls))
        record("train/clip_fraction", clip_fraction)
        record("train/loss", loss)
        record("train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten()))
        if network.log_std is not None:
            record("train/std", torch.exp(self.policy.log_std).mean().item())
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        record("train/clip_range", clip_range)
        if clip_range_vf is not None:
            record("train/clip_range_vf", clip_range_vf)
