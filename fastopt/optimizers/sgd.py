"""Gradient descent with one learning rate for all parameters, and with momentum if asked."""

from __future__ import annotations

from typing import Any

from fastopt._checks import finite_number, flag
from fastopt._tree import ArrayTree
from fastopt.optimizers.base import Base, Rule
from fastopt.optimizers.groups import WeightDecay


class SGD(Base):
    """Stochastic gradient descent with one learning rate for all parameters, in place; with momentum if asked.

    ::

        g = grad + weight_decay * p
        b = g at the first step with momentum, then momentum * b + (1 - dampening) * g
        p -= lr * (g + momentum * b when nesterov, else b)        without momentum: p -= lr * g

    Parameters
    ----------
    params
        As for :class:`Adam`.
    lr : float
        Learning rate, >= 0.
    momentum : float
        Share of the last direction that is kept, >= 0.
    dampening : float
        Share of the gradient that is left out of the new direction.
    weight_decay : float, or function
        L2 penalty, >= 0; a function of path and array as for :class:`Adam`.
    nesterov : bool
        Nesterov's momentum; needs momentum > 0 and dampening = 0.
    maximize, max_grad_norm, skip_nonfinite, ema_decay, state_dtype, rng
        As for :class:`Adam`.

    Attributes and errors are those of :class:`Adam`. The definition is that of torch.optim.SGD, after Sutskever,
    Martens, Dahl and Hinton, ICML 2013.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.ones(2)
    >>> fastopt.SGD([w], lr=0.5).step([np.array([1.0, -1.0])])
    >>> w
    array([0.5, 1.5])
    """

    _may_rest = True

    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: WeightDecay = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = None,
    ) -> None:
        self._set_up(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
            Rule("sgd", checked_sgd, ("momentum_buffer",), {}, ()),
            maximize=maximize,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )


def checked_sgd(values: dict[str, Any]) -> dict[str, Any]:
    momentum = finite_number("momentum", values["momentum"], 0)
    dampening = finite_number("dampening", values["dampening"])
    nesterov = flag("nesterov", values["nesterov"])
    if nesterov and (momentum == 0 or dampening != 0):
        raise ValueError(
            f"nesterov: expected momentum > 0 and dampening = 0, got momentum {momentum} and dampening {dampening}"
        )
    return {
        "lr": finite_number("lr", values["lr"], 0),
        "momentum": momentum,
        "dampening": dampening,
        "weight_decay": finite_number("weight_decay", values["weight_decay"], 0),
        "nesterov": nesterov,
    }
