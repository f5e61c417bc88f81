"""Policy gradients on NumPy arrays: KL divergences, log-probabilities, entropies, sampling, gradients and advantages.

A batch of categorical policies is an array of `logits`, shape (..., actions); a batch of diagonal Gaussian ones is a
`mean` of that shape and a `log_std` of the same shape, or one for all, (actions,). The leading axes are the batch, of
any number: (time, environments), or none for a single observation. Arrays are float32 or float64, all of a call
alike, of any layout, and an array of another kind, dtype or shape is a TypeError or ValueError before anything is
written.

Exponential and logarithm are polynomials, the same in :mod:`fastopt.reference_policy`, so the bits are the same on
every machine; the largest errors of 2**20 values were 1.04 units in the last place for the exponential, and 0.82
(float32) and 1.97 (float64) for the logarithm. What one sample gives is computed in the arrays' dtype; means over the
batch are float64 sums in a fixed order.

A logit of minus infinity masks an action: its probability is 0, it is never sampled, 0 log 0 counts as 0, and it gets
no gradient. A row with a NaN, with plus infinity or with every action masked is no distribution: its results are NaN,
and the action sampled from it is -1.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number, flag
from fastopt._line_search import LineSearchResult, kl_line_search
from fastopt.random import DOMAIN_ACTION, resolve_rng

__all__ = [
    "LineSearchResult",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "categorical_policy_gradient",
    "categorical_sample",
    "discounted_returns",
    "gae",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_prob",
    "gaussian_policy_gradient",
    "gaussian_sample",
    "kl_line_search",
    "normalize_advantage",
]

Array = NDArray[Any]

# ---- categorical policies --------------------------------------------------------------------------------------------


@overload
def categorical_kl(old_logits: Array, new_logits: Array, *, per_sample: Literal[False] = False) -> float: ...
@overload
def categorical_kl(old_logits: Array, new_logits: Array, *, per_sample: bool) -> Any: ...
def categorical_kl(old_logits: Array, new_logits: Array, *, per_sample: bool = False) -> Any:
    """Return KL(old || new) of categorical policies: the mean over the batch of sum_k p_old (log p_old - log p_new).

    Parameters
    ----------
    old_logits, new_logits : ndarray of float32 or float64, shape (..., actions)
        Unnormalised log-probabilities of the policy that sampled, and of the one that is to replace it. Any size: each
        row's largest is taken off first.
    per_sample : bool
        If True, return the divergence of each sample instead of the mean.

    Returns
    -------
    float, or ndarray of shape (...)
        Never negative but for rounding, and exactly 0 where the two are equal. Infinite where an action that the old
        policy may take is masked in the new one.

    Raises
    ------
    TypeError, ValueError
        If the arrays are not of one float dtype and shape, or the batch has no sample to take the mean of.

    Notes
    -----
    With e = exp(logits - largest) and s their sum: sum_k e_old (x_old - x_new) / s_old + log(s_new / s_old), x being
    the logits less their largest. Its error is a few units in the last place of 1, whatever its size: to tell float32
    divergences below 1e-5 apart, pass float64.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> round(policy.categorical_kl(np.array([[0.0, 0.0]]), np.array([[0.0, 1.0]])), 6)
    0.120115
    """
    return _core.categorical_kl(old_logits, new_logits, flag("per_sample", per_sample))


def categorical_log_prob(logits: Array, actions: NDArray[Any]) -> Array:
    """Return log p(action) of categorical policies, one for each sample.

    Parameters
    ----------
    logits : ndarray of float32 or float64, shape (..., actions)
    actions : ndarray of integers, shape (...)
        Each from 0 to the number of actions - 1.

    Returns
    -------
    ndarray of shape (...)

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, or an action is none of the columns.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> policy.categorical_log_prob(np.zeros((2, 4)), np.array([0, 3]))
    array([-1.38629436, -1.38629436])
    """
    return _core.categorical_log_prob(logits, actions)


def categorical_entropy(logits: Array) -> Array:
    """Return the entropy - sum_k p log p of categorical policies, in nats, one for each sample.

    Parameters
    ----------
    logits : ndarray of float32 or float64, shape (..., actions)

    Returns
    -------
    ndarray of shape (...)

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> policy.categorical_entropy(np.array([[0.0, 0.0], [0.0, -np.inf]]))
    array([0.69314718, 0.        ])
    """
    return _core.categorical_entropy(logits)


def categorical_sample(logits: Array, rng: Any = None) -> NDArray[np.int64]:
    """Sample an action from each of a batch of categorical policies, by the inverse of the cumulative distribution.

    Parameters
    ----------
    logits : ndarray of float32 or float64, shape (..., actions)
    rng : Philox4x32, optional
        Where the numbers come from; a :class:`~fastopt.Philox4x32` gives its next stream, of which sample i (C order)
        has element i. None takes fresh entropy; a NumPy SeedSequence, BitGenerator or Generator gives a 64-bit key at
        each call. A (seed, stream) pair gives the same actions again. An int is refused: it would give the same
        decisions at every call.

    Returns
    -------
    ndarray of int64, shape (...)
        The first k with e_0 + ... + e_k > u * (e_0 + e_1 + ...), where e = exp(logits - largest) and u is uniform in
        [0, 1) with 24 bits (float32) or 53 (float64). -1 where a row is no distribution.

    Raises
    ------
    TypeError, ValueError
        If `logits` or `rng` is of another kind. No stream is taken then.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> from fastopt import policy
    >>> policy.categorical_sample(np.zeros((8, 3)), fastopt.Philox4x32(seed=7))
    array([0, 2, 0, 0, 1, 1, 0, 1])
    """
    _core.check_logits(logits)
    return _core.categorical_sample(logits, *resolve_rng(rng), DOMAIN_ACTION)


def categorical_policy_gradient(
    logits: Array,
    actions: NDArray[Any],
    advantages: Array,
    *,
    entropy_coef: float = 0.0,
    out: Array | None = None,
) -> tuple[float, Array]:
    """Return the policy-gradient loss of categorical policies and its gradient with respect to the logits.

    loss = - mean(advantages * log p(actions)) - entropy_coef * mean(entropy), over a batch of N samples;
    dloss/dlogits = (advantages * (p - onehot(actions)) + entropy_coef * p * (log p + entropy)) / N.

    Parameters
    ----------
    logits : ndarray of float32 or float64, shape (..., actions)
    actions : ndarray of integers, shape (...)
        Each from 0 to the number of actions - 1.
    advantages : ndarray of the dtype of `logits`, shape (...)
        Taken as constants.
    entropy_coef : float
        How much each nat of entropy lowers the loss.
    out : ndarray, optional
        Array of the shape and dtype of `logits` for the gradient. It may be `logits` itself.

    Returns
    -------
    loss : float
    dlogits : ndarray
        `out`, or a new array in the memory order of `logits`.

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, an action is none of the columns, the batch is empty,
        `entropy_coef` is not finite, or `out` is read-only or overlaps an input.

    Notes
    -----
    To be minimised. Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
    learning", 1992.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> loss, dlogits = policy.categorical_policy_gradient(np.zeros((1, 2)), np.array([1]), np.array([2.0]))
    >>> dlogits
    array([[ 1., -1.]])
    """
    coef = finite_number("entropy_coef", entropy_coef)
    return _core.categorical_policy_gradient(logits, actions, advantages, coef, out)


# ---- Gaussian policies -----------------------------------------------------------------------------------------------


@overload
def gaussian_kl(
    old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array, *, per_sample: Literal[False] = False
) -> float: ...
@overload
def gaussian_kl(
    old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array, *, per_sample: bool
) -> Any: ...
def gaussian_kl(
    old_mean: Array, old_log_std: Array, new_mean: Array, new_log_std: Array, *, per_sample: bool = False
) -> Any:
    """Return KL(old || new) of diagonal Gaussian policies, the mean over the batch.

    Of a sample: sum_k 1/2 (exp(2 d) - 1 - 2 d + ((old_mean - new_mean) / new_std)**2), d = old_log_std - new_log_std.

    Parameters
    ----------
    old_mean, new_mean : ndarray of float32 or float64, shape (..., actions)
    old_log_std, new_log_std : ndarray of that dtype, shape (..., actions) or (actions,)
        Natural logarithms of the standard deviations: of each sample, or one row for all, each as it may be.
    per_sample : bool
        If True, return the divergence of each sample instead of the mean.

    Returns
    -------
    float, or ndarray of shape (...)
        Exactly 0 where the two are equal.

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, or the batch has no sample to take the mean of.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> policy.gaussian_kl(np.zeros((5, 2)), np.zeros(2), np.ones((5, 2)), np.zeros(2))
    1.0
    """
    return _core.gaussian_kl(old_mean, old_log_std, new_mean, new_log_std, flag("per_sample", per_sample))


def gaussian_log_prob(mean: Array, log_std: Array, actions: Array) -> Array:
    """Return the log-density of actions under diagonal Gaussian policies, one for each sample.

    - sum_k (t**2 / 2 + log_std) - log(2 pi) / 2 for each column, with t = (actions - mean) * exp(-log_std).

    Parameters
    ----------
    mean, actions : ndarray of float32 or float64, shape (..., actions)
    log_std : ndarray of that dtype, shape (..., actions) or (actions,)

    Returns
    -------
    ndarray of shape (...)

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> policy.gaussian_log_prob(np.zeros((1, 2)), np.zeros(2), np.array([[0.0, 1.0]]))
    array([-2.33787707])
    """
    return _core.gaussian_log_prob(mean, log_std, actions)


def gaussian_entropy(log_std: Array) -> Array:
    """Return the entropy of diagonal Gaussian policies, in nats: sum_k (log_std + log(2 pi e) / 2).

    Parameters
    ----------
    log_std : ndarray of float32 or float64, shape (..., actions)

    Returns
    -------
    ndarray of shape (...)
        Of one value, without axes, where `log_std` is one row for all samples.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> float(policy.gaussian_entropy(np.zeros(1)))
    1.4189385332046727
    """
    return _core.gaussian_entropy(log_std)


def gaussian_sample(mean: Array, log_std: Array, rng: Any = None, *, out: Array | None = None) -> Array:
    """Sample actions mean + exp(log_std) * z from diagonal Gaussian policies.

    Parameters
    ----------
    mean : ndarray of float32 or float64, shape (..., actions)
    log_std : ndarray of that dtype, shape (..., actions) or (actions,)
    rng : Philox4x32, optional
        As for :func:`categorical_sample`; element e (C order) takes the standard normal number of element e, made as
        in :meth:`fastopt.Philox4x32.standard_normal`.
    out : ndarray, optional
        Array of the shape and dtype of `mean` to write to. It may be `mean` itself.

    Returns
    -------
    ndarray
        `out`, or a new array in the memory order of `mean`.

    Raises
    ------
    TypeError, ValueError
        If an array or `rng` is of another kind, dtype or shape, or `out` is read-only or overlaps an input. No stream
        is taken then.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> from fastopt import policy
    >>> actions = policy.gaussian_sample(np.zeros((1000, 2)), np.log([0.5, 2.0]), fastopt.Philox4x32(seed=7))
    >>> np.round(actions.std(axis=0), 1)
    array([0.5, 2. ])
    """
    out = _core.gaussian_output(mean, log_std, out)
    return _core.gaussian_sample(mean, log_std, out, *resolve_rng(rng), DOMAIN_ACTION)


def gaussian_policy_gradient(
    mean: Array,
    log_std: Array,
    actions: Array,
    advantages: Array,
    *,
    entropy_coef: float = 0.0,
    out: tuple[Array, Array] | None = None,
) -> tuple[float, Array, Array]:
    """Return the policy-gradient loss of diagonal Gaussian policies and its gradients by mean and log_std.

    loss = - mean(advantages * log p(actions)) - entropy_coef * mean(entropy), over a batch of N samples. With
    t = (actions - mean) * exp(-log_std) and w = advantages / N: dloss/dmean = - w * t * exp(-log_std), and
    dloss/dlog_std = w * (1 - t**2) - entropy_coef / N, summed over the batch where one log_std is for all.

    Parameters
    ----------
    mean, actions : ndarray of float32 or float64, shape (..., actions)
    log_std : ndarray of that dtype, shape (..., actions) or (actions,)
    advantages : ndarray of that dtype, shape (...)
        Taken as constants.
    entropy_coef : float
        How much each nat of entropy lowers the loss.
    out : pair of ndarrays, optional
        Arrays like `mean` and like `log_std` for the gradients, apart from all inputs.

    Returns
    -------
    loss : float
    dmean, dlog_std : ndarray
        Those of `out`, or new arrays. A dlog_std for all is a float64 sum: blocks of 64 samples, in order.

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, the batch is empty, `entropy_coef` is not finite, or an output
        is read-only or overlaps another array.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> loss, dmean, dlog_std = policy.gaussian_policy_gradient(
    ...     np.zeros((1, 1)), np.zeros(1), np.array([[2.0]]), np.array([1.0])
    ... )
    >>> dmean, dlog_std
    (array([[-2.]]), array([-3.]))
    """
    coef = finite_number("entropy_coef", entropy_coef)
    if out is not None and not (isinstance(out, tuple) and len(out) == 2):
        raise TypeError(f"out: expected a pair (dmean, dlog_std) of arrays, got {type(out).__name__}")
    return _core.gaussian_policy_gradient(mean, log_std, actions, advantages, coef, out)


# ---- returns and advantages ------------------------------------------------------------------------------------------


def discounted_returns(
    rewards: Array,
    terminated: NDArray[np.bool],
    truncated: NDArray[np.bool],
    gamma: float,
    *,
    next_values: Array | None = None,
) -> Array:
    """Return the discounted sum of the rewards from each step to the end of its episode.

    G[t] = rewards[t] where terminated, else rewards[t] + gamma * F, where F is next_values[t] where truncated or in the
    last row, else G[t + 1]. Without `next_values`, G[t] = rewards[t] there too.

    Parameters
    ----------
    rewards : ndarray of float32 or float64, shape (time, environments) or (time,)
    terminated, truncated : ndarray of bool, shape of `rewards`
        Whether the episode ended with this step: in a terminal state, or cut off.
    gamma : float
        Discount, 0 <= gamma <= 1.
    next_values : ndarray of the dtype and shape of `rewards`, optional
        Value of the observation after each step, before a reset. Where it is not needed it may be anything, also NaN.

    Returns
    -------
    ndarray, shape of `rewards`

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, or `gamma` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> terminated = np.array([False, True, False])
    >>> policy.discounted_returns(np.ones(3), terminated, np.zeros(3, bool), 0.5)
    array([1.5, 1. , 1. ])
    """
    gamma = finite_number("gamma", gamma, 0, most=1)
    return _core.discounted_returns(rewards, terminated, truncated, gamma, next_values)


def gae(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: NDArray[np.bool],
    truncated: NDArray[np.bool],
    gamma: float,
    lam: float,
) -> tuple[Array, Array]:
    """Return generalised advantage estimates, and the returns advantages + values as targets for the values.

    delta[t] = rewards[t] + gamma * next_values[t] * (1 - terminated[t]) - values[t]
    A[t] = delta[t] + gamma * lam * (1 - (terminated[t] | truncated[t])) * A[t + 1], with A = 0 after the last row

    Parameters
    ----------
    rewards, values : ndarray of float32 or float64, shape (time, environments) or (time,)
        `values` are those of the observations that the actions were taken from.
    next_values : ndarray of that dtype and shape
        Values of the observations after the steps, before a reset: of an episode that was cut off the last one counts,
        so truncation bootstraps rightly. Where terminated it may be anything, also NaN: it is selected away.
    terminated, truncated : ndarray of bool, shape of `rewards`
        Whether the episode ended with this step: in a terminal state, or cut off.
    gamma, lam : float
        Discount, and the weight of longer estimates, both from 0 to 1.

    Returns
    -------
    advantages, returns : ndarray, shape of `rewards`

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, or a number is out of range.

    Notes
    -----
    Schulman, Moritz, Levine, Jordan and Abbeel, "High-dimensional continuous control using generalized advantage
    estimation", 2016. gamma * lam is formed in float64 and rounded once to the arrays' dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> end = np.array([False, True])
    >>> policy.gae(np.ones(2), np.zeros(2), np.array([0.0, np.nan]), end, np.zeros(2, bool), 1.0, 0.5)
    (array([1.5, 1. ]), array([1.5, 1. ]))
    """
    gamma, lam = finite_number("gamma", gamma, 0, most=1), finite_number("lam", lam, 0, most=1)
    return _core.gae(rewards, values, next_values, terminated, truncated, gamma, lam)


def normalize_advantage(advantages: Array, *, eps: float = 1e-8, out: Array | None = None) -> Array:
    """Return (advantages - mean) / (std + eps), over the whole array; zeros where all are equal.

    Parameters
    ----------
    advantages : ndarray of float32 or float64, any shape and layout, at least one element
    eps : float
        Positive; what divides when the standard deviation is 0.
    out : ndarray, optional
        Array of the shape and dtype of `advantages` to write to. It may be `advantages` itself.

    Returns
    -------
    ndarray
        `out`, or a new array in the memory order of `advantages`.

    Raises
    ------
    TypeError, ValueError
        If `advantages` or `out` is of another kind, dtype or shape, `advantages` is empty, `out` is read-only or
        overlaps `advantages` in part, or `eps` is not positive.

    Notes
    -----
    `std` is that of the array itself (divided by its size, as np.std). Everything is float64 up to the one rounding of
    the result, and the sums are in a fixed order.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> policy.normalize_advantage(np.array([1.0, 3.0]), eps=1e-12)
    array([-1.,  1.])
    """
    return _core.normalize_advantage(advantages, eps, out)
