"""The loss of proximal policy optimisation, with its gradients by the policy's outputs and the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number

Array = NDArray[Any]

__all__ = [
    "PPOStats",
    "categorical_ppo_loss",
    "gaussian_ppo_loss",
]


class PPOStats(NamedTuple):
    """What a loss of PPO is made of, and how far the policy has moved: means over the samples that count.

    loss = policy_loss + entropy_coef * entropy_loss + value_coef * value_loss
    """

    policy_loss: float
    value_loss: float
    entropy_loss: float
    approx_kl: float
    clip_fraction: float


@overload
def categorical_ppo_loss(
    logits: Array,
    actions: NDArray[Any],
    advantages: Array,
    old_log_prob: Array,
    values: Array,
    returns: Array,
    *,
    clip_range: float = 0.2,
    clip_range_vf: float | None = None,
    old_values: Array | None = None,
    entropy_coef: float = 0.0,
    value_coef: float = 0.5,
    valid: NDArray[np.bool] | None = None,
    out: tuple[Array, Array] | None = None,
) -> tuple[float, Array, Array, PPOStats]: ...
@overload
def categorical_ppo_loss(
    logits: Sequence[Array],
    actions: NDArray[Any],
    advantages: Array,
    old_log_prob: Array,
    values: Array,
    returns: Array,
    *,
    clip_range: float = 0.2,
    clip_range_vf: float | None = None,
    old_values: Array | None = None,
    entropy_coef: float = 0.0,
    value_coef: float = 0.5,
    valid: NDArray[np.bool] | None = None,
    out: tuple[Sequence[Array], Array] | None = None,
) -> tuple[float, list[Array], Array, PPOStats]: ...
def categorical_ppo_loss(
    logits: Array | Sequence[Array],
    actions: NDArray[Any],
    advantages: Array,
    old_log_prob: Array,
    values: Array,
    returns: Array,
    *,
    clip_range: float = 0.2,
    clip_range_vf: float | None = None,
    old_values: Array | None = None,
    entropy_coef: float = 0.0,
    value_coef: float = 0.5,
    valid: NDArray[np.bool] | None = None,
    out: tuple[Any, Array] | None = None,
) -> tuple[float, Any, Array, PPOStats]:
    """Return the clipped loss of PPO for categorical policies, its gradients by logits and values, and statistics.

    With ratio = exp(log p(actions) - old_log_prob) and means over a batch of N samples:

    policy_loss = - mean(min(advantages * ratio, advantages * clip(ratio, 1 - clip_range, 1 + clip_range)))
    value_loss = mean((predicted - returns)**2), entropy_loss = - mean(entropy)
    loss = policy_loss + entropy_coef * entropy_loss + value_coef * value_loss

    `predicted` is `values`, or with `clip_range_vf` old_values + clip(values - old_values, -clip_range_vf,
    clip_range_vf). Of the statistics approx_kl = mean((ratio - 1) - log ratio), and clip_fraction is the share of
    samples with abs(ratio - 1) > clip_range.

    Parameters
    ----------
    logits : ndarray of float32 or float64, shape (..., actions), or a list of them
        A list is of policies with several actions at once, of any numbers of columns: log p and entropy are their sums.
        Lists that are views of the columns of one array, as of ``np.split(x, ends, axis=-1)``, are not copied.
    actions : ndarray of integers, shape (...), or (..., number of lists)
        Each from 0 to the number of actions - 1.
    advantages, old_log_prob, values, returns : ndarray of that dtype, shape (...)
        Advantages are taken as they are: see :func:`normalize_advantage`. `old_log_prob` is of the policy that sampled.
    clip_range, clip_range_vf : float
        At least 0. None leaves the values alone.
    old_values : ndarray of that dtype, shape (...)
        Needed where `clip_range_vf` is given, and used there alone.
    entropy_coef, value_coef : float
        What a nat of entropy lowers the loss by, and what a squared error of the values adds to it.
    valid : ndarray of bool, shape (...), optional
        Which samples count: the others, whatever is in their floats, are in no mean, N among them, and have gradients
        of 0. (Their actions still are numbers of columns.)
    out : pair, optional
        Arrays like `logits` (a list of them like a list) and like `values` for the gradients. The first may be `logits`
        itself. With lists that are views of one array, nothing is allocated but what is small.

    Returns
    -------
    loss : float
    dlogits : ndarray, or a list of them
        That of `out`, or new ones: of a list they are views of the columns of one array.
    dvalues : ndarray
    stats : PPOStats

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, an action is none of the columns, the batch is empty or nothing
        in it is valid, a number is out of range, `old_values` is missing, or an output is read-only or overlaps another
        array.

    Notes
    -----
    Schulman, Wolski, Dhariwal, Radford and Klimov, "Proximal policy optimization algorithms", 2017, with the statistics
    and the clipped values of Stable-Baselines3 (there clip_range_vf takes the value's loss within the range alone, not
    the larger one). A log-probability's gradient is - advantages * ratio / N, or 0 where the clipped surrogate is the
    smaller one. Sums over the batch are float64: blocks of 64 samples, in order.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> logits, actions, advantages = np.zeros((2, 2)), np.array([0, 1]), np.array([1.0, -1.0])
    >>> old_log_prob = np.log([0.5, 0.25])  # the second ratio is 2, and a negative advantage is not clipped there
    >>> loss, dlogits, dvalues, stats = policy.categorical_ppo_loss(
    ...     logits, actions, advantages, old_log_prob, np.zeros(2), np.ones(2)
    ... )
    >>> dlogits
    array([[-0.25,  0.25],
           [-0.5 ,  0.5 ]])
    >>> dvalues, stats.policy_loss, stats.clip_fraction
    (array([-0.5, -0.5]), 0.5, 0.5)
    """
    batch = advantages, old_log_prob, values, returns, old_values
    numbers = _numbers(clip_range, clip_range_vf, old_values, entropy_coef, value_coef)
    out = _outputs(out, "dlogits, dvalues")
    return _core.categorical_ppo_loss(logits, actions, batch, valid, numbers, out, PPOStats)


def gaussian_ppo_loss(
    mean: Array,
    log_std: Array,
    actions: Array,
    advantages: Array,
    old_log_prob: Array,
    values: Array,
    returns: Array,
    *,
    clip_range: float = 0.2,
    clip_range_vf: float | None = None,
    old_values: Array | None = None,
    entropy_coef: float = 0.0,
    value_coef: float = 0.5,
    valid: NDArray[np.bool] | None = None,
    out: tuple[Array, Array, Array] | None = None,
) -> tuple[float, Array, Array, Array, PPOStats]:
    """Return the clipped loss of PPO for diagonal Gaussian policies, its gradients, and statistics.

    The loss is that of :func:`categorical_ppo_loss`, with the log-densities of :func:`gaussian_log_prob`.

    Parameters
    ----------
    mean, actions : ndarray of float32 or float64, shape (..., actions)
        `actions` as they were sampled, before an environment's limits.
    log_std : ndarray of that dtype, shape (..., actions) or (actions,)
    advantages, old_log_prob, values, returns : ndarray of that dtype, shape (...)
    clip_range, clip_range_vf, old_values, entropy_coef, value_coef, valid
        As for :func:`categorical_ppo_loss`.
    out : triple of ndarrays, optional
        Arrays like `mean`, `log_std` and `values` for the gradients, apart from all inputs.

    Returns
    -------
    loss : float
    dmean, dlog_std, dvalues : ndarray
        Those of `out`, or new arrays. A dlog_std for all is a float64 sum: blocks of 64 samples, in order.
    stats : PPOStats

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, the batch is empty or nothing in it is valid, a number is out of
        range, `old_values` is missing, or an output is read-only or overlaps another array.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> mean, log_std, actions, one = np.zeros((1, 1)), np.zeros(1), np.array([[2.0]]), np.ones(1)
    >>> old_log_prob = policy.gaussian_log_prob(mean, log_std, actions)
    >>> loss, dmean, dlog_std, dvalues, stats = policy.gaussian_ppo_loss(
    ...     mean, log_std, actions, one, old_log_prob, one, one
    ... )
    >>> dmean, dlog_std, stats.policy_loss
    (array([[-2.]]), array([-3.]), -1.0)
    """
    batch = advantages, old_log_prob, values, returns, old_values
    numbers = _numbers(clip_range, clip_range_vf, old_values, entropy_coef, value_coef)
    out = _outputs(out, "dmean, dlog_std, dvalues")
    return _core.gaussian_ppo_loss(mean, log_std, actions, batch, valid, numbers, out, PPOStats)


def _numbers(
    clip_range: float, clip_range_vf: float | None, old_values: Array | None, entropy_coef: float, value_coef: float
) -> tuple[float, float | None, float, float]:
    if clip_range_vf is not None:
        clip_range_vf = finite_number("clip_range_vf", clip_range_vf, 0)
        if old_values is None:
            raise TypeError("old_values: expected an array, since clip_range_vf is given, got None")
    coefs = finite_number("entropy_coef", entropy_coef), finite_number("value_coef", value_coef)
    return finite_number("clip_range", clip_range, 0), clip_range_vf, *coefs


def _outputs(out: Any, names: str) -> Any:
    if out is not None and not (isinstance(out, tuple) and len(out) == names.count(",") + 1):
        raise TypeError(f"out: expected a tuple ({names}) of arrays, got {type(out).__name__}")
    return out
