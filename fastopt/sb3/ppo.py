"""Proximal policy optimisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import stable_baselines3

from fastopt import policy as ops
from fastopt.sb3.network import Network
from fastopt.sb3.rollouts import CompiledRollouts
from fastopt.sb3.updates import Losses, Rollout


class PPO(CompiledRollouts, stable_baselines3.PPO):
    """`stable_baselines3.PPO`, whose rollouts and updates are compiled.

    For `MlpPolicy` with tanh, ReLU or leaky ReLU, of Discrete, MultiDiscrete and Box actions. Everything else runs on
    Stable-Baselines3's own code, which a warning says once. The same seed is its own run, to rounding.
    """

    def _compiled_ranges(self) -> dict[str, float]:
        progress = self._current_progress_remaining
        schedules: dict[str, Any] = {"clip_range": self.clip_range, "clip_range_vf": self.clip_range_vf}
        return {name: schedule(progress) for name, schedule in schedules.items() if schedule is not None}

    def _compiled_update(self, network: Network, rollout: Rollout, ranges: dict[str, float]) -> dict[str, Any]:
        """`n_epochs` passes over the rollout buffer, in minibatches."""
        losses = Losses(network, entropy_coef=self.ent_coef, value_coef=self.vf_coef, **ranges)
        step, found = None, []
        continue_training = True
        size = rollout.size if self.batch_size is None else self.batch_size  # as RolloutBuffer.get
        for epoch in range(self.n_epochs):
            approx_kls = []
            for batch in rollout.minibatches(np.random.permutation(rollout.size), size):
                advantages = batch[2]
                if self.normalize_advantage and len(advantages) > 1:
                    ops.normalize_advantage(advantages, ddof=1, out=advantages)
                loss, stats = losses(batch)
                found.append(stats)
                approx_kls.append(stats.approx_kl)
                if self.target_kl is not None and stats.approx_kl > 1.5 * self.target_kl:
                    continue_training = False
                    if self.verbose >= 1:
                        print(f"Early stopping at step {epoch} due to reaching max kl: {stats.approx_kl:.2f}")
                    break
                losses.backward()
                if step is None:  # which gives the parameters gradients
                    step = network.optimizer_step(self.policy.optimizer, self.max_grad_norm)
                step()
            self._n_updates += 1
            if not continue_training:
                break
        policy_loss, value_loss, entropy_loss, _, clip_fraction = np.mean(found, axis=0)
        return {
            "entropy_loss": entropy_loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "approx_kl": np.mean(approx_kls),
            "clip_fraction": clip_fraction,
            "loss": loss,
            **ranges,
        }
