"""Adam and AdamW: updated in place, one compiled pass over all parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastopt._checks import finite_number, flag
from fastopt._tree import ArrayTree
from fastopt.optimizers.base import Base, Rule
from fastopt.optimizers.groups import WeightDecay


class Adam(Base):
    """Adam: gradient descent with a step of its own for each parameter, in place.

    For step t of a parameter p with gradient g::

        m += (1 - b1) * (g - m)                m = g - b1 * (g - m) when b1 < 1/2
        v  = b2 * v + (1 - b2) * (g * g)
        p -= lr_t * (m / (sqrt(v) + eps_t))    lr_t = lr * sqrt(1 - b2**t) / (1 - b1**t)
                                               eps_t = eps * sqrt(1 - b2**t)

    Parameters
    ----------
    params : array, or arrays in lists, tuples and dicts, nested to any depth
        float32 or float64, all of one dtype; any shape and layout. Or a list of groups, each a dict with the key
        ``"params"`` and the hyper-parameters in which the group differs from the arguments; other keys are kept there.
    lr : float
        Learning rate, >= 0.
    betas : tuple of two floats
        Decay rates of the averages of the gradient and of its square, in [0, 1).
    eps : float
        Added to the root of the second average, after its bias correction; at least 2**-87 for float32 (6.5e-27) and
        2**-564 for float64: a smaller one changes no denominator.
    weight_decay : float, or function
        >= 0. Coupled, the L2 penalty: weight_decay * p is added to the gradient (see :func:`l2_penalty`). A function
        of a parameter's path, as in the keys of :meth:`state_dict`, and the array returns that of each:
        ``lambda path, p: 0.01 if p.ndim > 1 else 0.0``. It is called once for each, when the optimiser takes hold of
        them; those of one number are then a group in `param_groups`, in the order in which the numbers came.
    amsgrad : bool
        Divide by the largest second average so far instead of the present one (Reddi, Kale and Kumar, ICLR 2018).
    maximize : bool
        Ascend instead of descend.
    decoupled_weight_decay : bool
        Decay the parameter itself, p *= 1 - lr * weight_decay, as AdamW does.
    max_grad_norm : float, optional
        Scale all gradients by min(1, max_grad_norm / (norm + 1e-6)) where their common norm, that of
        :func:`grad_norm`, is larger. It costs one more pass over the gradients, as `skip_nonfinite` does. A norm that
        is NaN makes everything NaN, as in torch, unless `skip_nonfinite`.
    skip_nonfinite : bool
        Skip the step when a gradient has a NaN or infinity: nothing changes but `skipped_steps`.
    ema_decay : float, optional
        Keep an average of the parameters from a copy of them on, as :func:`ema_update` moves it; 0 <= ema_decay <= 1.
    state_dtype : "bfloat16" or "8bit", optional
        Keep the averages in 16 or 8 bits a number: 4 or 2.01 bytes a parameter instead of 8 for float32. They are
        rounded by chance, in proportion, so that slow decay is not lost; zero stays exactly zero. In 8 bits each block
        of 256 parameters shares an exponent, that of its largest average. Next to 0 exp_avg goes in steps of 2**-17 of
        it, right on average down to 2**-33; exp_avg_sq is held at 2**-31 of it at least, unless it is 0. So a gradient
        10**5 times its neighbours' leaves them as they are, and one of 10**7 times makes their steps shorter for about
        1 / (1 - beta2) steps. An infinite one spoils its block for long: use `skip_nonfinite` where there may be one.
    rng : Philox4x32, int, (seed, stream), or NumPy source, optional
        Where the rounding takes its chance from, once: the same seed gives the same bits. None takes fresh entropy.

    Attributes
    ----------
    param_groups : tuple of ParamGroup
        Settable by key: ``optimizer.param_groups[0]["weight_decay"] = 0.0``. :meth:`add_param_group` adds one.
    lr : float
        Settable.
    params
        As given.
    step_count : int
        Steps taken. Each parameter counts its own too, which its bias correction uses.
    skipped_steps : int
        Steps that `skip_nonfinite` skipped.
    grad_norm : float or None
        Norm of the last step's gradients before clipping, with `max_grad_norm` or `skip_nonfinite`.
    ema_params
        The averages in the form of `params`.

    Raises
    ------
    TypeError, ValueError
        If an array or hyper-parameter is of the wrong kind or value, or two parameters overlap.

    Notes
    -----
    Algorithm 1 of Kingma and Ba, ICLR 2015 (arXiv:1412.6980), and torch.optim.Adam: bias-corrected, eps outside the
    root. Scalars are computed in float64 and rounded once to the arrays' dtype; b**t is a power of this package's own,
    with the same bits on every machine, and 1 - b**t the difference, as torch takes it.

    No state is ever subnormal, so that idle parameters do not slow the step: m below the smallest normal number
    (1.2e-38 for float32) is stored as 0; v, by whose root is divided, as twice that number at least, unless it is 0. So
    gradients below some 1e-18 move a parameter by less than in exact arithmetic, and never by more: an eps below 2**-75
    / sqrt(1 - b2) (float64: 2**-537), 8e-22 for float32 and the default, counts as that, since the square of a smaller
    gradient adds 0.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> params = {"w": np.ones(3), "b": np.zeros(1)}
    >>> optimizer = fastopt.Adam(params, lr=0.1)
    >>> optimizer.step({"w": np.array([1.0, -1.0, 2.0]), "b": None})
    >>> params["w"]
    array([0.9, 1.1, 0.9])

    Decay for the weights alone, whatever the form of the parameters:

    >>> optimizer = fastopt.Adam(params, weight_decay=lambda path, p: 0.0 if path == "b" else 0.01)
    >>> [group["weight_decay"] for group in optimizer.param_groups]
    [0.01, 0.0]
    """

    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: WeightDecay = 0.0,
        *,
        amsgrad: bool = False,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = None,
    ) -> None:
        options = {
            "amsgrad": flag("amsgrad", amsgrad),
            "decoupled_weight_decay": flag("decoupled_weight_decay", decoupled_weight_decay),
        }
        states = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if amsgrad else ("exp_avg", "exp_avg_sq")
        self._set_up(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay},
            Rule("adam", checked_adam, states, options, (float(decoupled_weight_decay),)),
            maximize=maximize,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay, in place: p *= 1 - lr * weight_decay before the step of :class:`Adam`.

    Loshchilov and Hutter, ICLR 2019 (arXiv:1711.05101), as torch.optim.AdamW: the decay is multiplied by lr.
    Parameters, attributes and errors are those of :class:`Adam`; weight_decay is 1e-2 unless given.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> w = np.ones(1)
    >>> fastopt.AdamW(w, lr=0.1, weight_decay=0.5).step(np.zeros(1))
    >>> w
    array([0.95])
    """

    _implied = ("rule", "decoupled_weight_decay")

    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: WeightDecay = 1e-2,
        *,
        amsgrad: bool = False,
        maximize: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )


def checked_adam(values: dict[str, Any]) -> dict[str, Any]:
    betas = values["betas"]
    if not isinstance(betas, tuple | list | np.ndarray) or len(betas) != 2:
        raise TypeError(f"betas: expected two floats, got {betas!r}")
    return {
        "lr": finite_number("lr", values["lr"], 0),
        "betas": (finite_number("betas[0]", betas[0], 0, below=1), finite_number("betas[1]", betas[1], 0, below=1)),
        "eps": finite_number("eps", values["eps"], above=0),
        "weight_decay": finite_number("weight_decay", values["weight_decay"], 0),
    }
