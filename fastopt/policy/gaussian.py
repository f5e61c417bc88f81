"""Diagonal Gaussian policies: divergence, log-density, entropy, sampling, and the gradient of the policy loss."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number, flag
from fastopt.random import DOMAIN_ACTION, give_back, resolve_rng

Array = NDArray[Any]

__all__ = [
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_prob",
    "gaussian_policy_gradient",
    "gaussian_sample",
]


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
        Exactly 0 where the two are equal and finite.

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

    - sum_k (t**2 / 2 + log_std) - log(2 pi) / 2 for each column, with t = (actions - mean) * exp(-log_std). The latter
    is applied in two factors where it leaves the range of the dtype, here and in the other functions.

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
    address = resolve_rng(rng)
    try:
        return _core.gaussian_sample(mean, log_std, out, *address, DOMAIN_ACTION)
    except MemoryError:
        give_back(rng, address[1])
        raise


def gaussian_policy_gradient(
    mean: Array,
    log_std: Array,
    actions: Array,
    advantages: Array,
    *,
    entropy_coef: float = 0.0,
    valid: NDArray[np.bool] | None = None,
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
    valid : ndarray of bool, shape (...), optional
        Which samples count: the others, whatever is in them, are in no mean, N among them, and have gradients of 0.
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
        If an array is of another kind, dtype or shape, the batch is empty or nothing in it is valid,
        `entropy_coef` is not finite, or an output is read-only or overlaps another array.

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
    return _core.gaussian_policy_gradient(mean, log_std, actions, advantages, coef, valid, out)
