"""Returns and advantages of the steps of episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number, integer

Array = NDArray[Any]

__all__ = [
    "discounted_returns",
    "gae",
    "normalize_advantage",
    "vtrace",
]


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
    *,
    valid: NDArray[np.bool] | None = None,
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
        Whether the episode ended with this step: in a terminal state, or cut off. True is each byte that is not 0.
    gamma, lam : float
        Discount, and the weight of longer estimates, both from 0 to 1.
    valid : ndarray of bool, shape of `rewards`, optional
        Which steps there are: the others (what pads episodes, or a step that only resets an environment) have 0 in both
        results, whatever is in them, and nothing goes on from them to the step before.

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
    return _core.gae(rewards, values, next_values, terminated, truncated, gamma, lam, valid)


def vtrace(
    log_ratios: Array,
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: NDArray[np.bool],
    truncated: NDArray[np.bool],
    gamma: float,
    *,
    lam: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
) -> tuple[Array, Array]:
    """Return the V-trace targets of the values, and the advantages of steps that another policy has taken.

    With ratio = exp(log_ratios), rho = min(rho_clip, ratio) and c = lam * min(c_clip, ratio):

    delta[t] = rho[t] * (rewards[t] + gamma * next_values[t] - values[t])
    targets[t] = values[t] + delta[t] + gamma * c[t] * (targets[t + 1] - values[t + 1])
    advantages[t] = rho[t] * (rewards[t] + gamma * targets[t + 1] - values[t])

    The value of the next step is next_values[t]: where an episode was cut off, and in the last row, no correction is
    added to it, and where it was terminated it is 0.

    Parameters
    ----------
    log_ratios : ndarray of float32 or float64, shape (time, environments) or (time,)
        log p(actions) of the policy that is trained, less that of the one that sampled.
    rewards, values : ndarray of that dtype and shape
        `values` are those of the observations that the actions were taken from.
    next_values : ndarray of that dtype and shape
        Values of the observations after the steps, before a reset. Where terminated it may be anything, also NaN.
    terminated, truncated : ndarray of bool, shape of `rewards`
        Whether the episode ended with this step: in a terminal state, or cut off.
    gamma, lam : float
        Discount, and the weight of longer estimates, both from 0 to 1.
    rho_clip, c_clip : float
        Positive: the largest weights of a step, and of what goes on from it to those before.

    Returns
    -------
    targets, advantages : ndarray, shape of `rewards`

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, or a number is out of range.

    Notes
    -----
    Espeholt et al., "IMPALA: scalable distributed deep-RL with importance weighted actor-learner architectures", 2018,
    equation 1 and section 4.2; `lam` is that of its remark 2. With log_ratios of 0, lam = 1 and no clipping the targets
    are the returns of :func:`gae` with lam = 1. gamma * lam is formed in float64 and rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> end = np.array([False, True])
    >>> policy.vtrace(np.log([2.0, 0.5]), np.ones(2), np.zeros(2), np.zeros(2), end, np.zeros(2, bool), 1.0)
    (array([1.5, 0.5]), array([1.5, 0.5]))
    """
    gamma, lam = finite_number("gamma", gamma, 0, most=1), finite_number("lam", lam, 0, most=1)
    clips = finite_number("rho_clip", rho_clip, above=0), finite_number("c_clip", c_clip, above=0)
    return _core.vtrace(log_ratios, rewards, values, next_values, terminated, truncated, gamma, lam, *clips)


def normalize_advantage(advantages: Array, *, eps: float = 1e-8, ddof: int = 0, out: Array | None = None) -> Array:
    """Return (advantages - mean) / (std + eps), over the whole array; zeros where all are equal.

    Parameters
    ----------
    advantages : ndarray of float32 or float64, any shape and layout, at least one element
    eps : float
        Positive; what divides when the standard deviation is 0.
    ddof : int
        The variance is divided by the size less so many: 0 as np.std, 1 as torch's and Stable-Baselines3's.
    out : ndarray, optional
        Array of the shape and dtype of `advantages` to write to. It may be `advantages` itself.

    Returns
    -------
    ndarray
        `out`, or a new array in the memory order of `advantages`.

    Raises
    ------
    TypeError, ValueError
        If `advantages` or `out` is of another kind, dtype or shape, `advantages` has no
        more than `ddof` elements, `out` is read-only or
        overlaps `advantages` in part, or `eps` is not positive.

    Notes
    -----
    Everything is float64 up to the one rounding of
    the result, and the sums are in a fixed order. The mean is taken of the differences from the first number, and what
    its rounding leaves is taken off too: equal numbers give exactly 0, neighbouring ones what they should. Numbers
    whose squares are beyond the range of float64 are scaled first by a power of two.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> policy.normalize_advantage(np.array([1.0, 3.0]), eps=1e-12)
    array([-1.,  1.])
    """
    if ddof != 0 or type(ddof) is not int:
        ddof = integer("ddof", ddof, 0, 2**62)
    return _core.normalize_advantage(advantages, eps, ddof, out)
