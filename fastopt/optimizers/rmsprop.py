"""RMSprop: gradients divided by the root of an average of their squares."""

from __future__ import annotations

from typing import Any

from fastopt._checks import finite_number, flag
from fastopt._tree import ArrayTree
from fastopt.optimizers.base import Base, Rule
from fastopt.optimizers.groups import WeightDecay


class RMSprop(Base):
    """RMSprop: gradients divided by the root of an average of their squares, in place; with momentum if asked.

    ::

        g = grad + weight_decay * p
        v = alpha * v + (1 - alpha) * (g * g)
        d = sqrt(v) + eps
        p -= lr * (g / d)

        centered:      m += (1 - alpha) * (g - m)      m = g - alpha * (g - m) when alpha < 1/2
                       d = sqrt(v - m * m) + eps
        momentum > 0:  b = momentum * b + g / d
                       p -= lr * b

    Parameters
    ----------
    params
        As for :class:`Adam`.
    lr : float
        Learning rate, >= 0.
    alpha : float
        Decay rate of the averages of the squares and, when centred, of the gradients, in [0, 1).
    eps : float
        Added to the root; at least 2**-87 for float32 and 2**-564 for float64, as for :class:`Adam`.
    weight_decay : float, or function
        L2 penalty, >= 0; a function of path and array as for :class:`Adam`.
    momentum : float
        Share of the last direction that is kept, >= 0. While it is 0 its buffer is neither read nor written, and its
        memory no more than reserved; switched on later, it begins at 0.
    centered : bool
        Divide by an estimate of the gradient's standard deviation: the average of the gradients is kept too. Where a
        gradient is always the same this is 0, and a step as long as lr * g / eps. Not with `state_dtype`.
    maximize, max_grad_norm, skip_nonfinite, ema_decay, rng
        As for :class:`Adam`.
    state_dtype : "bfloat16" or "8bit", optional
        As for :class:`Adam`: momentum_buffer is kept as its exp_avg, square_avg as its exp_avg_sq. When centred it is
        refused: the difference of two averages that are rounded so coarsely is often 0 where it should not be.

    Attributes and errors are those of :class:`Adam`.

    Notes
    -----
    Hinton, Srivastava and Swersky, lecture 6e of "Neural networks for machine learning" (2012), as torch.optim.RMSprop,
    where the averages begin at 0 and are not corrected for it, and eps stands outside the root. v - m * m is never
    below 0 but by rounding, and then counts as 0, where torch's step is NaN. What is stored of very small numbers, and
    the least eps that counts, with alpha in the place of b2: see :class:`Adam`.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.ones(2)
    >>> fastopt.RMSprop([w], lr=0.1, alpha=0.75).step([np.array([1.0, -4.0])])
    >>> w
    array([0.8, 1.2])
    """

    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: WeightDecay = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = None,
    ) -> None:
        options = {"centered": flag("centered", centered)}
        if centered and state_dtype is not None:
            raise ValueError(
                f"state_dtype: expected None when centered, whose difference of two averages needs all of their bits, "
                f"got {state_dtype!r}"
            )
        states = ("momentum_buffer", "square_avg", "grad_avg") if centered else ("momentum_buffer", "square_avg")
        self._set_up(
            params,
            {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum},
            Rule("rmsprop", checked_rmsprop, states, options, ()),
            maximize=maximize,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )


def checked_rmsprop(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "lr": finite_number("lr", values["lr"], 0),
        "alpha": finite_number("alpha", values["alpha"], 0, below=1),
        "eps": finite_number("eps", values["eps"], above=0),
        "weight_decay": finite_number("weight_decay", values["weight_decay"], 0),
        "momentum": finite_number("momentum", values["momentum"], 0),
    }
