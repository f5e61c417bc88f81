"""One step of one array, for those who keep the states themselves."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number, flag, integer
from fastopt.optimizers.adam import checked_adam
from fastopt.optimizers.rmsprop import checked_rmsprop
from fastopt.optimizers.sgd import checked_sgd


def adam_step(
    param: NDArray[Any],
    grad: NDArray[Any],
    exp_avg: NDArray[Any],
    exp_avg_sq: NDArray[Any],
    step: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
    grad_multiplier: float = 1.0,
) -> None:
    """Update one parameter array by one step of Adam; param, exp_avg and exp_avg_sq are written in place.

    With t = step::

        g = grad * grad_multiplier             -g when maximize
        g += weight_decay * p                  or, when decoupled, p *= 1 - lr * weight_decay
        m += (1 - b1) * (g - m)                m = g - b1 * (g - m) when b1 < 1/2
        v  = b2 * v + (1 - b2) * (g * g)
        p -= lr_t * (m / (sqrt(v) + eps_t))    lr_t = lr * sqrt(1 - b2**t) / (1 - b1**t)
                                               eps_t = eps * sqrt(1 - b2**t)

    This is algorithm 1 of Kingma and Ba (ICLR 2015, arXiv:1412.6980), the Adam of torch.optim, with the bias
    corrections in two scalars; eps stands outside the root. What is stored of very small numbers: see :class:`Adam`.

    Parameters
    ----------
    param, grad, exp_avg, exp_avg_sq : ndarray
        Of one shape and dtype, float32 or float64, none overlapping. The averages start as zeros. Or, in calls from
        Python, all uint16, the codes of bfloat16 (upper halves of float32, such as ``x.view(np.uint16)`` of ml_dtypes):
        the arithmetic is float32's then, and what is written is rounded once, to nearest.
    step : int
        Number of this step, from 1.
    lr, betas, eps, weight_decay, decoupled_weight_decay, maximize
        As :class:`Adam`.
    grad_multiplier : float
        Factor on the gradient, such as 1 / loss_scale.

    Raises
    ------
    TypeError, ValueError
        If an array or hyper-parameter is of the wrong kind or value; nothing is written then.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> p, m, v = np.ones(2), np.zeros(2), np.zeros(2)
    >>> fastopt.adam_step(p, np.array([3.0, -0.5]), m, v, step=1, lr=0.1)
    >>> p
    array([0.9, 1.1])
    """
    hyper = checked_adam({"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
    decoupled = flag("decoupled_weight_decay", decoupled_weight_decay)
    _core.step(
        "adam",
        [param, grad, exp_avg, exp_avg_sq],
        ["param", "grad", "exp_avg", "exp_avg_sq"],
        integer("step", step, 1, 2**63),
        (hyper["lr"], *hyper["betas"], hyper["eps"], hyper["weight_decay"], float(decoupled)),
        _grad_scale(maximize, grad_multiplier),
    )


def sgd_step(
    param: NDArray[Any],
    grad: NDArray[Any],
    momentum_buffer: NDArray[Any] | None,
    step: int,
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    grad_multiplier: float = 1.0,
) -> None:
    """Update one parameter array by one step of gradient descent; param and momentum_buffer are written in place.

    ::

        g = grad * grad_multiplier    -g when maximize;  + weight_decay * p
        b = g at step 1, then momentum * b + (1 - dampening) * g
        p -= lr * (g + momentum * b when nesterov, else b)

    as torch.optim.SGD defines it. With momentum = 0, p -= lr * g, and the buffer may be None.

    Parameters
    ----------
    param, grad, momentum_buffer : ndarray
        Of one shape and dtype, float32 or float64, none overlapping; or all codes of bfloat16, as in :func:`adam_step`.
    step : int
        Number of this step, from 1.
    lr, momentum, dampening, weight_decay, nesterov, maximize
        As :class:`SGD`.
    grad_multiplier : float
        Factor on the gradient.

    Raises
    ------
    TypeError, ValueError
        If an array or hyper-parameter is of the wrong kind or value; nothing is written then.
    """
    hyper = checked_sgd(
        {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
    )
    _check_buffer(momentum_buffer, hyper["momentum"])
    scale = _grad_scale(maximize, grad_multiplier)
    arrays, names = [param, grad], ["param", "grad"]
    if momentum_buffer is not None:
        arrays.append(momentum_buffer)
        names.append("momentum_buffer")
    _core.step("sgd", arrays, names, integer("step", step, 1, 2**63), tuple(hyper.values()), scale)


def rmsprop_step(
    param: NDArray[Any],
    grad: NDArray[Any],
    square_avg: NDArray[Any],
    momentum_buffer: NDArray[Any] | None = None,
    grad_avg: NDArray[Any] | None = None,
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    maximize: bool = False,
    grad_multiplier: float = 1.0,
) -> None:
    """Update one parameter array by one step of RMSprop; param, square_avg and what is given of the others in place.

    ::

        g = grad * grad_multiplier    -g when maximize;  + weight_decay * p
        v = alpha * v + (1 - alpha) * (g * g)
        d = sqrt(v) + eps
        p -= lr * (g / d)

        with grad_avg, centred:  m += (1 - alpha) * (g - m)      m = g - alpha * (g - m) when alpha < 1/2
                                 d = sqrt(v - m * m) + eps
        with momentum > 0:       b = momentum * b + g / d
                                 p -= lr * b

    as torch.optim.RMSprop defines it; v - m * m counts as 0 where rounding makes it less. What is stored of very small
    numbers: see :class:`Adam`.

    Parameters
    ----------
    param, grad, square_avg, momentum_buffer, grad_avg : ndarray
        Of one shape and dtype, float32 or float64, none overlapping; or all codes of bfloat16, as in :func:`adam_step`.
        The states start as zeros. momentum_buffer may be None, or is left alone, where momentum is 0.
    lr, alpha, eps, weight_decay, momentum, maximize
        As :class:`RMSprop`.
    grad_multiplier : float
        Factor on the gradient.

    Raises
    ------
    TypeError, ValueError
        If an array or hyper-parameter is of the wrong kind or value; nothing is written then.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> p, v = np.ones(2), np.zeros(2)
    >>> fastopt.rmsprop_step(p, np.array([1.0, -4.0]), v, lr=0.1, alpha=0.75)
    >>> p
    array([0.8, 1.2])
    """
    hyper = checked_rmsprop({"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum})
    _check_buffer(momentum_buffer, hyper["momentum"])
    states = {"momentum_buffer": momentum_buffer, "square_avg": square_avg, "grad_avg": grad_avg}
    given = [name for name, array in states.items() if array is not None or name == "square_avg"]
    _core.step(
        "rmsprop",
        [param, grad, *(states[name] for name in given)],
        ["param", "grad", *given],
        1,  # each step is alike
        tuple(hyper.values()),
        _grad_scale(maximize, grad_multiplier),
        tuple(list(states).index(name) for name in given),
    )


def _check_buffer(momentum_buffer: NDArray[Any] | None, momentum: float) -> None:
    if momentum_buffer is None:
        with _core.DefaultFloatMode():  # where a momentum that is subnormal is not 0, as for the kernel
            if momentum != 0:
                raise TypeError(f"momentum_buffer: expected an array for momentum {momentum}, got None")


def _grad_scale(maximize: bool, grad_multiplier: float) -> float:
    grad_multiplier = finite_number("grad_multiplier", grad_multiplier)
    return -grad_multiplier if flag("maximize", maximize) else grad_multiplier
