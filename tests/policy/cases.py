"""The family's golden outputs. Its bits in every mode, shape and layout are in test_bits.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastopt
from fastopt import policy

from ..support import GOLDEN_ADDRESS


def golden(x: np.ndarray, grad: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Of rows of six actions; (time, environments) for advantages."""
    n = len(x) // 6
    x, y, b, k = x[: 6 * n].reshape(n, 6), grad[: 6 * n].reshape(n, 6), x[:n], grad[:6]
    actions, over, cut, valid = np.arange(n) * 5 % 6, x > 6, y > 6, b > -4
    batch, clipped = (b, b / 8, grad[6 : n + 6], x[:, 0].copy()), {"clip_range_vf": 0.5, "old_values": y[:, 0].copy()}
    wide = np.resize(x, (1, 70_001))  # which threads share

    def shared() -> Any:
        with fastopt.num_threads(2):
            return policy.categorical_entropy(wide)

    leaky = {"activation": "leaky_relu", "negative_slope": 0.125}

    def networks() -> tuple[Any, Any]:
        """Of 6 inputs, with hidden layers of 70 and 5; an actor of 6 outputs and a critic."""
        hidden = [(y[:70] / 8, b[:70]), (np.resize(grad, (5, 70)) / 8, k[:5])]
        return [*hidden, (np.resize(x, (6, 5)), k)], [*hidden, (k[None, :5], k[:1])]

    def backward() -> Any:
        actor, _ = networks()
        return policy.perceptron_backward(y, x, policy.perceptron(x, actor, **leaky), actor, **leaky)

    return {
        "policy.perceptron": lambda: policy.perceptron(x, networks()[0], **leaky),
        "policy.perceptron_backward": lambda: [a for pair in backward() for a in pair],
        "policy.categorical_act": lambda: policy.categorical_act(
            x, *networks(), np.abs(y) + 1, choices=(2, 4), **leaky
        ),
        "policy.gaussian_act": lambda: policy.gaussian_act(x, *networks(), k / 8, y, **leaky),
        "policy.categorical_kl": lambda: [policy.categorical_kl(x, y), policy.categorical_kl(x, y, per_sample=True)],
        "policy.categorical_log_prob": lambda: policy.categorical_log_prob(x, actions),
        "policy.categorical_entropy": lambda: policy.categorical_entropy(x),
        "policy.categorical_entropy wide": shared,
        "policy.categorical_sample": lambda: policy.categorical_sample(x, GOLDEN_ADDRESS),
        "policy.categorical_sample many actions": lambda: policy.categorical_sample(
            np.resize(x, (300, 1001)), GOLDEN_ADDRESS
        ),
        "policy.categorical_policy_gradient": lambda: policy.categorical_policy_gradient(
            x, actions, b, entropy_coef=0.125
        ),
        "policy.categorical_ppo_loss": lambda: [
            policy.categorical_ppo_loss(x, actions, *batch),
            policy.categorical_ppo_loss(
                [x, y[:, :2]],
                np.stack([actions, actions % 2], axis=-1),
                *batch,
                **clipped,
                entropy_coef=0.125,
                valid=valid,
            ),
        ],
        "policy.gaussian_kl": lambda: [policy.gaussian_kl(x, k, y, k / 2), policy.gaussian_kl(x, y, y, x)],
        "policy.gaussian_log_prob": lambda: policy.gaussian_log_prob(x, k, y),
        "policy.gaussian_entropy": lambda: policy.gaussian_entropy(x),
        "policy.gaussian_sample": lambda: policy.gaussian_sample(x, k, GOLDEN_ADDRESS),
        "policy.gaussian_policy_gradient": lambda: policy.gaussian_policy_gradient(x, k, y, b, entropy_coef=0.125),
        "policy.gaussian_ppo_loss": lambda: [
            policy.gaussian_ppo_loss(x, k, y, *batch),
            policy.gaussian_ppo_loss(x, y / 4, y, *batch, **clipped, entropy_coef=0.125, valid=valid),
        ],
        "policy.discounted_returns": lambda: policy.discounted_returns(x, over, cut, 0.875, next_values=y),
        "policy.gae": lambda: policy.gae(x, y, x / 2, over, cut, 0.875, 0.9375),
        "policy.vtrace": lambda: policy.vtrace(x / 4, x, y, x / 2, over, cut, 0.875, lam=0.9375, rho_clip=2.0),
        "policy.normalize_advantage": lambda: policy.normalize_advantage(x),
    }
