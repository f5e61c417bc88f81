"""Policy gradients on NumPy arrays: KL divergences, log-probabilities, entropies, sampling, gradients and advantages.

A batch of categorical policies is an array of `logits`, shape (..., actions); a batch of diagonal Gaussian ones is a
`mean` of that shape and a `log_std` of the same shape, or one for all, (actions,). The leading axes are the batch, of
any number: (time, environments), or none for a single observation. Arrays are float32 or float64, all of a call
alike, of any layout, and an array of another kind, dtype or shape is a TypeError or ValueError before anything is
written.

Exponential and logarithm are polynomials, the same in :mod:`fastopt.reference.policy`, so the bits are the same on
every machine; the largest errors of 2**20 values were 1.04 units in the last place for the exponential, and 0.82
(float32) and 1.97 (float64) for the logarithm. What one sample gives is computed in the arrays' dtype; means over the
batch are float64 sums in a fixed order.

A logit of minus infinity masks an action: its probability is 0, it is never sampled, 0 log 0 counts as 0, and it gets
no gradient. A row with a NaN, with plus infinity or with every action masked is no distribution: its results are NaN,
and the action sampled from it is -1.
"""

from fastopt.policy.advantage import (
    discounted_returns,
    gae,
    normalize_advantage,
    vtrace,
)
from fastopt.policy.categorical import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    categorical_policy_gradient,
    categorical_sample,
)
from fastopt.policy.gaussian import (
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
    gaussian_policy_gradient,
    gaussian_sample,
)
from fastopt.policy.line_search import (
    LineSearchResult,
    kl_line_search,
)
from fastopt.policy.networks import (
    categorical_act,
    gaussian_act,
    perceptron,
    perceptron_backward,
)
from fastopt.policy.ppo import (
    PPOStats,
    categorical_ppo_loss,
    gaussian_ppo_loss,
)

__all__ = [
    "LineSearchResult",
    "PPOStats",
    "categorical_act",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "categorical_policy_gradient",
    "categorical_ppo_loss",
    "categorical_sample",
    "discounted_returns",
    "gae",
    "gaussian_act",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_prob",
    "gaussian_policy_gradient",
    "gaussian_ppo_loss",
    "gaussian_sample",
    "kl_line_search",
    "normalize_advantage",
    "perceptron",
    "perceptron_backward",
    "vtrace",
]
