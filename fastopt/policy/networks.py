"""Perceptrons of a few layers, forward and backward, and one call from observations to actions by two of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import integer

Array = NDArray[Any]
Layers = Sequence[tuple[Array, Array]]

__all__ = [
    "categorical_act",
    "gaussian_act",
    "perceptron",
    "perceptron_backward",
]


def perceptron(
    x: Array,
    layers: Layers,
    *,
    activation: str = "tanh",
    negative_slope: float = 0.0,
    out: Sequence[Array] | None = None,
) -> list[Array]:
    """Return the outputs of all layers of a perceptron, of which the last has no activation.

    outputs[k] = f(outputs[k - 1] @ weight.T + bias) for (weight, bias) = layers[k], where outputs[-1] stands for `x`.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (batch, inputs)
    layers : sequence of (weight, bias)
        Arrays of that dtype and shapes (outputs, inputs) and (outputs,), as `torch.nn.Linear` has them; at most 32.
    activation : "tanh" or "leaky_relu"
        Of all layers but the last.
    negative_slope : float
        Of the leaky ReLU, finite and at least 0; 0 is the ReLU.
    out : sequence of ndarray, optional
        A C-contiguous array for each layer's outputs, apart from one another and from what is read.

    Returns
    -------
    list of ndarray, shapes (batch, outputs of the layer)

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, the slope is out of its range, or `out` overlaps. Nothing is
        written then.

    Notes
    -----
    A product of matrices adds 64 products in order, and such sums in order: the same bits for every number of rows,
    instruction set and number of threads, which no BLAS promises. It is made for layers of tens to hundreds of units,
    where it takes about as long as a BLAS; from a thousand on a BLAS is faster.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> layers = [(np.ones((3, 2)), np.zeros(3)), (np.ones((1, 3)), np.ones(1))]
    >>> policy.perceptron(np.array([[0.5, -0.5]]), layers)[-1]
    array([[1.]])
    """
    return _core.perceptron(x, layers, activation, negative_slope, out)


def perceptron_backward(
    grad: Array,
    x: Array,
    outputs: Sequence[Array],
    layers: Layers,
    *,
    activation: str = "tanh",
    negative_slope: float = 0.0,
    out: Sequence[tuple[Array, Array]] | None = None,
) -> list[tuple[Array, Array]]:
    """Return the gradients of the weights and biases of a perceptron.

    Parameters
    ----------
    grad : ndarray of the dtype of `x`, shape of the last layer's outputs
        The gradient of a loss with respect to these.
    x : ndarray of float32 or float64, shape (batch, inputs), a batch of at least one
    outputs : sequence of ndarray
        What :func:`perceptron` returned.
    layers, activation, negative_slope
        As there.
    out : sequence of (ndarray, ndarray), optional
        C-contiguous arrays like the weights and biases, apart from one another and from what is read.

    Returns
    -------
    list of (ndarray, ndarray)
        Gradients like the weights and biases.

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, the slope is out of its range, the batch is empty, or `out`
        overlaps. Nothing is written then.

    Notes
    -----
    The activation's derivative is taken from its output: 1 - y**2 for tanh, `negative_slope` where y <= 0 for the leaky
    ReLU. Sums over the batch are in blocks of 64 samples; those of the biases are float64, rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> layers = [(np.ones((1, 2)), np.zeros(1))]
    >>> x = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> policy.perceptron_backward(np.ones((2, 1)), x, policy.perceptron(x, layers), layers)
    [(array([[4., 6.]]), array([2.]))]
    """
    return _core.perceptron_backward(grad, x, outputs, layers, activation, negative_slope, out)


def categorical_act(
    observations: Array,
    actor: Layers,
    critic: Layers,
    noise: Array,
    *,
    choices: Sequence[int] | None = None,
    activation: str = "tanh",
    negative_slope: float = 0.0,
) -> tuple[NDArray[np.int64], Array, Array]:
    """Return actions, their log-probabilities and the values of observations, by two perceptrons.

    The action is the k whose p[k] / noise[k] is largest, p = softmax(actor's outputs): the first to come in of a race
    whose times are exponentially distributed, so a sample of p when the noise is. `torch.multinomial` draws so too.

    Parameters
    ----------
    observations : ndarray of float32 or float64, shape (batch, inputs)
    actor, critic : sequence of (weight, bias)
        As in :func:`perceptron`; the actor's outputs are logits, the critic has one.
    noise : ndarray of that dtype, shape (batch, actor's outputs)
        Standard exponential numbers; ones choose the most likely action.
    choices : sequence of int, optional
        The numbers of actions of several choices at once, for which the actor's outputs stand one after the other.
    activation, negative_slope
        As in :func:`perceptron`.

    Returns
    -------
    actions : ndarray of int64, shape (batch,) or (batch, number of choices)
        -1 where a row of logits is no distribution.
    log_prob : ndarray, shape (batch,)
        The sum over the choices; NaN where an action is -1.
    values : ndarray, shape (batch,)

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, or a number is out of its range.

    Notes
    -----
    Maddison, Tarlow and Minka, "A* sampling", 2014, in its exponential form.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> actor, critic = [(np.eye(2), np.zeros(2))], [(np.ones((1, 2)), np.zeros(1))]
    >>> actions, log_prob, values = policy.categorical_act(np.array([[0.0, 1.0]]), actor, critic, np.ones((1, 2)))
    >>> actions, log_prob.round(3), values
    (array([1]), array([-0.313]), array([1.]))
    """
    if choices is not None:
        if not isinstance(choices, Iterable):
            raise TypeError(f"choices: expected a sequence of ints, got {type(choices).__name__}")
        choices = [integer(f"choices[{k}]", n, 1, 2**31) for k, n in enumerate(choices)]
    return _core.categorical_act(observations, actor, critic, noise, choices, activation, negative_slope)


def gaussian_act(
    observations: Array,
    actor: Layers,
    critic: Layers,
    log_std: Array,
    noise: Array,
    *,
    activation: str = "tanh",
    negative_slope: float = 0.0,
) -> tuple[Array, Array, Array]:
    """Return actions, their log-probabilities and the values of observations, by two perceptrons.

    actions = mean + exp(log_std) * noise, of which the mean is the actor's outputs. As in :func:`gaussian_sample` the
    product is within the range where exp(log_std) is not.

    Parameters
    ----------
    observations : ndarray of float32 or float64, shape (batch, inputs)
    actor, critic : sequence of (weight, bias)
        As in :func:`perceptron`; the critic has one output.
    log_std : ndarray of that dtype, shape (actor's outputs,)
    noise : ndarray of that dtype, shape (batch, actor's outputs)
        Standard normal numbers; zeros choose the mean.
    activation, negative_slope
        As in :func:`perceptron`.

    Returns
    -------
    actions : ndarray, shape (batch, actor's outputs)
    log_prob, values : ndarray, shape (batch,)

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind, dtype or shape, or a number is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import policy
    >>> actor, critic = [(np.eye(2), np.zeros(2))], [(np.ones((1, 2)), np.zeros(1))]
    >>> x, noise = np.array([[0.0, 1.0]]), np.array([[0.5, -0.5]])
    >>> policy.gaussian_act(x, actor, critic, np.zeros(2), noise)[0]
    array([[0.5, 0.5]])
    """
    return _core.gaussian_act(observations, actor, critic, log_std, noise, activation, negative_slope)
