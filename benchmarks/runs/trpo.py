"""TRPO by `policy.kl_line_search` on the rollouts of fastopt.sb3, beside sb3-contrib's: return, KL and seconds.

    python benchmarks/runs/trpo.py                 CartPole-v1 and Pendulum-v1, one seed
    python benchmarks/runs/trpo.py --steps 4096

The direction is a natural gradient: conjugate gradients (SciPy's) with products of the Fisher matrix, J^T M J v, where
J is the derivative of the policy's outputs. How far it goes is measured, not inferred. For tanh layers.
"""

from __future__ import annotations

import argparse
from time import perf_counter
from typing import Any

import numpy as np
import sb3_contrib
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

import fastopt.sb3
from fastopt import policy
from fastopt.sb3.rollouts import network_of
from fastopt.sb3.updates import Rollout

Array = NDArray[Any]
MAX_KL, DAMPING, CRITIC_STEPS, CRITIC_BATCH = 0.01, 0.1, 10, 128


class TRPO(fastopt.sb3.PPO):
    """Rollouts as PPO's; an update is a line search for the actor and minibatches for the critic."""

    def train(self) -> None:
        network = network_of(self)
        assert network is not None
        self.policy.set_training_mode(True)
        rollout = Rollout(network, self.rollout_buffer)
        ((x, actions, advantages, old_log_prob, _, _),) = rollout.minibatches(np.arange(rollout.size), rollout.size)
        policy.normalize_advantage(advantages, ddof=1, out=advantages)
        outputs = policy.perceptron(x, network.actor)
        old, n, log_std = outputs[-1], len(x), network.log_std
        params = [*network.actor] if log_std is None else [*network.actor, log_std]
        shapes = [a.shape for pair in network.actor for a in pair] + ([] if log_std is None else [log_std.shape])
        old_std = None if log_std is None else log_std.copy()

        def nested(flat: Array) -> list[Any]:
            ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1]
            arrays = [a.reshape(s).astype(np.float32) for a, s in zip(np.split(flat, ends), shapes, strict=True)]
            pairs = list(zip(arrays[: 2 * len(outputs) : 2], arrays[1 : 2 * len(outputs) : 2], strict=True))
            return [*pairs, *arrays[2 * len(outputs) :]]

        def pulled_back(dscores: Array, dlog_std: Array | None) -> Array:
            pairs = policy.perceptron_backward(np.ascontiguousarray(dscores, np.float32), x, outputs, network.actor)
            arrays = [a for pair in pairs for a in pair] + ([] if dlog_std is None else [dlog_std])
            return np.concatenate([a.ravel() for a in arrays]).astype(np.float64)

        def fisher(flat: Array) -> Array:
            v, h, dh, dz = nested(flat), x, None, None
            for k, (weight, _) in enumerate(network.actor):
                dz = h @ v[k][0].T + v[k][1] + (0 if dh is None else dh @ weight.T)
                h = outputs[k]
                dh = dz * (1 - h * h)
            if log_std is not None:
                return pulled_back(dz * np.exp(-2 * log_std) / n, 2 * v[-1]) + DAMPING * flat
            return pulled_back(p * (dz - (p * dz).sum(axis=1, keepdims=True)) / n, None) + DAMPING * flat

        if log_std is None:
            p = np.exp(old - old.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            gradient = pulled_back(policy.categorical_policy_gradient(old, actions, -advantages)[1], None)
        else:
            gradient = pulled_back(*policy.gaussian_policy_gradient(old, log_std, actions, -advantages)[1:])
        direction, _ = cg(LinearOperator((gradient.size,) * 2, matvec=fisher, dtype=float), gradient, maxiter=15)

        def evaluate() -> tuple[float, float]:
            scores = policy.perceptron(x, network.actor)[-1]
            if log_std is None:
                log_prob, kl = policy.categorical_log_prob(scores, actions), policy.categorical_kl(old, scores)
            else:
                log_prob = policy.gaussian_log_prob(scores, log_std, actions)
                kl = policy.gaussian_kl(old, old_std, scores, log_std)
            return float(np.mean(np.exp(log_prob - old_log_prob, dtype=np.float64) * advantages)), kl

        found = policy.kl_line_search(params, nested(direction), evaluate, max_kl=MAX_KL)
        self.kls = [*getattr(self, "kls", []), found.kl if found.success else 0.0]
        critic = fastopt.Adam([a for pair in network.critic for a in pair], lr=1e-3)
        for _ in range(CRITIC_STEPS):
            order = np.random.permutation(rollout.size)  # noqa: NPY002 (the generator that SB3 seeds)
            for observations, *_, returns in rollout.minibatches(order, CRITIC_BATCH):
                values = policy.perceptron(observations, network.critic)
                error = (values[-1] - returns[:, None]) * np.float32(2 / len(returns))
                grads = policy.perceptron_backward(error, observations, values, network.critic)
                critic.step([a for pair in grads for a in pair])
        self._n_updates += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=61_440)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    for env in ("CartPole-v1", "Pendulum-v1"):
        for name, algorithm, options in (
            ("sb3-contrib", sb3_contrib.TRPO, {}),
            ("ours", TRPO, {"gae_lambda": 0.95}),
        ):
            model = algorithm("MlpPolicy", env, seed=0, device="cpu", **options)
            start = perf_counter()
            model.learn(steps)
            seconds = perf_counter() - start
            returns = float(np.mean([episode["r"] for episode in model.ep_info_buffer]))
            kl = f"KL at most {max(model.kls):.4f}" if hasattr(model, "kls") else f"KL at most {MAX_KL} by its rule"
            print(f"{env}, {steps} steps, {name}: return {returns:.1f}, {kl}, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
