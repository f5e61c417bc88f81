"""Categorical policies: divergence, log-probability, entropy, sampling, and the gradient of the policy loss."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number, flag
from fastopt.random import DOMAIN_ACTION, give_back, resolve_rng

Array = NDArray[Any]

__all__ = [
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "categorical_policy_gradient",
    "categorical_sample",
]


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
        The first k with e_0 + ... + e_k > u * (e_0 + e_1 + ...), where e = exp(logits - largest), the sums are float64
        and u is uniform between 0 and 1: (word + 1/2) * 2**-32 of one 32-bit word for float32, so that each action's
        probability is kept to 2**-32, and 53 bits for float64. -1 where a row is no distribution. Of one row of logits
        it is one action, without axes, which serves as an index.

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
    address = resolve_rng(rng)
    try:
        return _core.categorical_sample(logits, *address, DOMAIN_ACTION)
    except MemoryError:
        give_back(rng, address[1])
        raise


def categorical_policy_gradient(
    logits: Array,
    actions: NDArray[Any],
    advantages: Array,
    *,
    entropy_coef: float = 0.0,
    valid: NDArray[np.bool] | None = None,
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
    valid : ndarray of bool, shape (...), optional
        Which samples count: the others, whatever is in their floats, are in no mean, N among them, and have a gradient
        of 0. (Their actions still are numbers of columns.)
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
        If an array is of another kind, dtype or shape, an action is none of the columns, the batch is empty
        or nothing in it is valid, `entropy_coef` is not finite, or `out` is read-only or overlaps an input.

    Notes
    -----
    To be minimised. Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
    learning", 1992.

    With labels as actions and advantages of 1 it is softmax cross-entropy, the mean of -log p(label), and its gradient:
    ``categorical_policy_gradient(logits, labels, np.ones(len(labels)))`` trains a classifier.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> loss, dlogits = policy.categorical_policy_gradient(np.zeros((1, 2)), np.array([1]), np.array([2.0]))
    >>> dlogits
    array([[ 1., -1.]])
    """
    coef = finite_number("entropy_coef", entropy_coef)
    return _core.categorical_policy_gradient(logits, actions, advantages, coef, valid, out)
