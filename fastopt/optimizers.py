"""Adam, AdamW and SGD: updated in place, one compiled pass over all parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt import random as _random
from fastopt._checks import finite_number, flag, integer
from fastopt._tree import ArrayTree, SparseRows, group_dicts, leaves, rebuilt


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
        m += (1 - b1) * (g - m)
        v  = b2 * v + (1 - b2) * (g * g)
        p -= lr_t * (m / (sqrt(v) + eps_t))    lr_t = lr * sqrt(1 - b2**t) / (1 - b1**t)
                                               eps_t = eps * sqrt(1 - b2**t)

    This is algorithm 1 of Kingma and Ba (ICLR 2015, arXiv:1412.6980), the Adam of torch.optim, with the bias
    corrections in two scalars; eps stands outside the root.

    Parameters
    ----------
    param, grad, exp_avg, exp_avg_sq : ndarray
        Of one shape and dtype, float32 or float64, none overlapping. The averages start as zeros.
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
    hyper = _checked_adam({"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
    _core.adam_step(
        param,
        grad,
        exp_avg,
        exp_avg_sq,
        integer("step", step, 1, 2**63),
        (hyper["lr"], *hyper["betas"], hyper["eps"], hyper["weight_decay"]),
        flag("decoupled_weight_decay", decoupled_weight_decay),
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
        Of one shape and dtype, float32 or float64, none overlapping.
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
    hyper = _checked_sgd(
        {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
    )
    if momentum_buffer is None and hyper["momentum"] != 0:
        raise TypeError(f"momentum_buffer: expected an array for momentum {momentum}, got None")
    scale = _grad_scale(maximize, grad_multiplier)
    _core.sgd_step(param, grad, momentum_buffer, integer("step", step, 1, 2**63), tuple(hyper.values()), scale)


class ParamGroup(Mapping[str, Any]):
    """Hyper-parameters of a group: ``group["lr"] = 1e-4`` checks the value, which holds from the next step on."""

    __slots__ = ("_check", "_values", "scalars")

    def __init__(self, values: dict[str, Any], check: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._check = check
        self._set(check(values))

    def _set(self, checked: dict[str, Any]) -> None:
        self._values = checked
        # What the compiled step takes: all numbers in order, both betas among them.
        self.scalars = tuple(x for v in checked.values() for x in (v if isinstance(v, tuple) else (v,)))

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def update(self, values: dict[str, Any]) -> None:
        """Set several values at once, all or none."""
        unknown = values.keys() - self._values.keys()
        if unknown:
            raise KeyError(f"expected one of {', '.join(self._values)}, got {', '.join(sorted(unknown))}")
        self._set(self._check({**self._values, **values}))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self._values.items())})"


class _OptimizerMixin:
    """What Adam and SGD share in Python; mixed into the compiled classes, which have the arrays and the step."""

    params: ArrayTree
    param_groups: list[ParamGroup]
    step_count: int
    _names: list[str]
    _states: dict[str, list[NDArray[Any]]]
    _steps: NDArray[np.int64]
    _step: Callable[..., None]
    _bind: Callable[..., None]
    skipped_steps: int
    _rounding_key: int
    _state_dtype: str | None

    def _set_up(
        self,
        params: Any,
        defaults: dict[str, Any],
        check: Callable[[dict[str, Any]], dict[str, Any]],
        state_names: tuple[str, ...],
        *,
        maximize: bool,
        max_grad_norm: float | None,
        skip_nonfinite: bool,
        ema_decay: float | None,
        state_dtype: str | None,
        rng: Any,
    ) -> None:
        check(defaults)
        if state_dtype not in (None, "bfloat16", "8bit"):
            raise ValueError(f'state_dtype: expected None, "bfloat16" or "8bit", got {state_dtype!r}')
        max_norm = math.inf if max_grad_norm is None else finite_number("max_grad_norm", max_grad_norm, above=0)
        options = {
            "maximize": flag("maximize", maximize),
            "max_grad_norm": max_norm,
            "skip_nonfinite": flag("skip_nonfinite", skip_nonfinite),
            "ema_decay": None if ema_decay is None else finite_number("ema_decay", ema_decay, 0, most=1),
            "state_dtype": state_dtype,
        }
        tree, groups = group_dicts(params, defaults)
        group_of = [index for index, (group_tree, _) in enumerate(groups) for _ in leaves(group_tree)]
        names, arrays = [], []
        for name, array in leaves(tree):
            names.append(name)
            arrays.append(array)
        param_groups = [ParamGroup(own, check) for _, own in groups]
        self._bind(tree, param_groups, group_of, names, arrays, state_names, **options)
        self._state_dtype = state_dtype
        if state_dtype is not None:
            self._rounding_key = _random.run_key(rng)

    def step(self, grads: Any, *, grad_multiplier: float = 1.0, zero_grads: bool = False) -> None:
        """Update the parameters in place by one step.

        Parameters
        ----------
        grads : arrays in the form of `params`
            Each of the shape and dtype of its parameter, or :class:`SparseRows`. None in the place of an array leaves
            that parameter alone, and its own step count too. With groups: a list of the groups' gradients.
        grad_multiplier : float
            Factor on all gradients, such as 1 / loss_scale. Clipping sees the product.
        zero_grads : bool
            Set the gradients to +0.0 in the same pass, for the next accumulation; also when the step is skipped.

        Raises
        ------
        TypeError, ValueError
            If the structure, a shape or a dtype differs, a gradient overlaps what is written, or a parameter of a list
            or dict has been replaced by another array; nothing is changed then.
        """
        self._step(grads, finite_number("grad_multiplier", grad_multiplier), flag("zero_grads", zero_grads))

    @property
    def ema_params(self) -> Any:
        """Averages of the parameters in the form of `params`, the arrays themselves; None without `ema_decay`."""
        return rebuilt(self.params, iter(self._states["ema"])) if "ema" in self._states else None

    @property
    def lr(self) -> float:
        """Learning rate of the first group. Setting it sets that of every group."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, lr: float) -> None:
        finite_number("lr", lr, 0)
        for group in self.param_groups:
            group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the whole state: a flat dict of arrays and plain numbers, which ``np.savez`` can store.

        Keys are ``step_count`` and ``skipped_steps``; ``param_groups/<index>/<name>`` for the hyper-parameters; and for
        each parameter ``step/<path>`` and its states, such as ``exp_avg/<path>``, where the path is that of the array
        in `params`. With `state_dtype` these are the codes (bfloat16 as uint16), their tag is ``state_dtype``, and
        ``rounding_key`` is there too. The parameters themselves are the caller's.
        """
        state: dict[str, Any] = {"step_count": self.step_count, "skipped_steps": self.skipped_steps}
        if self._state_dtype is not None:
            state |= {"state_dtype": self._state_dtype, "rounding_key": self._rounding_key}
        for index, group in enumerate(self.param_groups):
            for key, value in group.items():
                state[f"param_groups/{index}/{key}"] = np.array(value) if isinstance(value, tuple) else value
        for k, name in enumerate(self._names):
            state[_key("step", name)] = int(self._steps[k])
            for kind, arrays in self._states.items():
                state[_key(kind, name)] = arrays[k].copy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state that :meth:`state_dict` returned, or the file that ``np.savez(file, **state)`` made of it.

        Going on from it gives the same bits as not having stopped.

        Raises
        ------
        TypeError, ValueError
            If a key is missing or unknown, or a value does not fit; nothing is changed then.
        """
        own = self.state_dict()
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected what state_dict() returned, got {type(state).__name__}")
        if state.keys() != own.keys():
            missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
            raise ValueError(f"state: expected the keys of state_dict(), got missing {missing} and unknown {unknown}")
        new = {key: _loaded(key, state[key], own[key]) for key in own}
        groups = [
            group._check({key: new[f"param_groups/{index}/{key}"] for key in group})
            for index, group in enumerate(self.param_groups)
        ]
        for group, checked in zip(self.param_groups, groups, strict=True):
            group._set(checked)
        self.step_count, self.skipped_steps = new["step_count"], new["skipped_steps"]
        self._rounding_key = new.get("rounding_key", 0)
        for k, name in enumerate(self._names):
            self._steps[k] = new[_key("step", name)]
            for kind, arrays in self._states.items():
                arrays[k][...] = new[_key(kind, name)]

    def __repr__(self) -> str:
        sizes = [array.size for array in next(iter(self._states.values()))]
        groups = ", ".join(repr(group) for group in self.param_groups)
        return f"{type(self).__name__}({len(sizes)} arrays, {sum(sizes)} parameters, step {self.step_count}, {groups})"


class Adam(_OptimizerMixin, _core.AdamOptimizer):
    """Adam: gradient descent with a step of its own for each parameter, in place.

    For step t of a parameter p with gradient g::

        m += (1 - b1) * (g - m)
        v  = b2 * v + (1 - b2) * (g * g)
        p -= lr_t * (m / (sqrt(v) + eps_t))    lr_t = lr * sqrt(1 - b2**t) / (1 - b1**t)
                                               eps_t = eps * sqrt(1 - b2**t)

    Parameters
    ----------
    params : array, or arrays in lists, tuples and dicts, nested to any depth
        float32 or float64, all of one dtype; any shape and layout. Or a list of groups, each a dict with the key
        ``"params"`` and the hyper-parameters in which the group differs from the arguments.
    lr : float
        Learning rate, >= 0.
    betas : tuple of two floats
        Decay rates of the averages of the gradient and of its square, in [0, 1).
    eps : float
        Added to the root of the second average, after its bias correction; > 0.
    weight_decay : float
        >= 0. Coupled, the L2 penalty: weight_decay * p is added to the gradient (see :func:`l2_penalty`).
    amsgrad : bool
        Divide by the largest second average so far instead of the present one (Reddi, Kale and Kumar, ICLR 2018).
    maximize : bool
        Ascend instead of descend.
    decoupled_weight_decay : bool
        Decay the parameter itself, p *= 1 - lr * weight_decay, as AdamW does.
    max_grad_norm : float, optional
        Scale all gradients by min(1, max_grad_norm / (norm + 1e-6)) where their common norm, that of
        :func:`grad_norm`, is larger. It costs one more pass over the gradients, as `skip_nonfinite` does.
    skip_nonfinite : bool
        Skip the step when a gradient has a NaN or infinity: nothing changes but `skipped_steps`.
    ema_decay : float, optional
        Keep an average of the parameters, a += (1 - ema_decay) * (p - a), from a copy of them on; 0 <= ema_decay <= 1.
    state_dtype : "bfloat16" or "8bit", optional
        Keep the averages in 16 or 8 bits a number: 4 or 2.01 bytes a parameter instead of 8 for float32. They are
        rounded by chance, in proportion, so that slow decay is not lost; zero stays exactly zero. In 8 bits an infinite
        gradient spoils its block of 256 parameters for long: use `skip_nonfinite` where there may be one.
    rng : Philox4x32, int, (seed, stream), or NumPy source, optional
        Where the rounding takes its chance from, once: the same seed gives the same bits. None takes fresh entropy.

    Attributes
    ----------
    param_groups : list of ParamGroup
        Settable by key: ``optimizer.param_groups[0]["weight_decay"] = 0.0``.
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
    root. Scalars are computed in float64 and rounded once to the arrays' dtype. A stored average below the smallest
    normal number is stored as 0, so that idle parameters do not slow the step.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> params = {"w": np.ones(3), "b": np.zeros(1)}
    >>> optimizer = fastopt.Adam(params, lr=0.1)
    >>> optimizer.step({"w": np.array([1.0, -1.0, 2.0]), "b": None})
    >>> params["w"]
    array([0.9, 1.1, 0.9])
    """

    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
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
        decoupled = flag("decoupled_weight_decay", decoupled_weight_decay)
        self._set_up(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay},
            _checked_adam,
            ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if flag("amsgrad", amsgrad) else ("exp_avg", "exp_avg_sq"),
            maximize=maximize,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )
        self._decoupled_weight_decay = decoupled


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

    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True, **options)


class SGD(_OptimizerMixin, _core.SGDOptimizer):
    """Stochastic gradient descent with one learning rate for all parameters, in place; with momentum if asked.

    ::

        g = grad + weight_decay * p
        b = g at the first step, then momentum * b + (1 - dampening) * g
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
    weight_decay : float
        L2 penalty, >= 0.
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

    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
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
            _checked_sgd,
            ("momentum_buffer",),
            maximize=maximize,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )


def l2_penalty(params: ArrayTree, weight_decay: float) -> float:
    """Return weight_decay / 2 times the sum of the squares of all parameters, in float64.

    Its gradient is what coupled weight decay adds, weight_decay * p, so that the loss printed is the loss minimised.

    Parameters
    ----------
    params : array, or arrays in lists, tuples and dicts, nested to any depth
        float32 or float64; dtypes may differ.
    weight_decay : float
        >= 0.

    Raises
    ------
    TypeError, ValueError
        If an array or `weight_decay` is of the wrong kind or value.

    Notes
    -----
    The sum has a fixed order, so its bits do not depend on threads or CPU.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> fastopt.l2_penalty({"w": np.array([3.0, 4.0])}, 0.1)
    1.25
    """
    weight_decay = finite_number("weight_decay", weight_decay, 0)
    return _core.l2_penalty([_core.sum_squares(a, _key("params", name)) for name, a in leaves(params)], weight_decay)


def ema_update(average: NDArray[Any], value: NDArray[Any], decay: float) -> None:
    """Move an average towards a value, in place: average += (1 - decay) * (value - average).

    Parameters
    ----------
    average, value : ndarray
        Of one shape and dtype, float32 or float64, not overlapping; `average` is written.
    decay : float
        0 <= decay <= 1; 1 leaves the average as it is.

    Raises
    ------
    TypeError, ValueError
        If an array or `decay` is of the wrong kind or value; nothing is written then.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> a = np.zeros(2)
    >>> fastopt.ema_update(a, np.array([1.0, 2.0]), 0.75)
    >>> a
    array([0.25, 0.5 ])
    """
    _core.ema_update(average, value, 1 - finite_number("decay", decay, 0, most=1))


def grad_norm(grads: Any) -> float:
    """Return the root of the sum of the squares of all gradients, in float64 and in a fixed order.

    Parameters
    ----------
    grads : array or :class:`SparseRows`, or these in lists, tuples and dicts, nested to any depth
        float32 or float64; None is passed over.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> fastopt.grad_norm({"w": np.array([3.0]), "b": np.array([4.0], "float32")})
    5.0
    """
    sums = []
    for name, grad in leaves(grads):
        if grad is not None:
            path = _key("grads", name)
            dense = _core.coalesce(grad, path)[1] if isinstance(grad, SparseRows) else grad
            sums.append(_core.sum_squares(dense, path))
    return _core.norm(sums)


def clip_grad_norm_(grads: Any, max_norm: float) -> float:
    """Scale gradients in place so that their common norm is at most max_norm, and return the norm before.

    The factor is min(1, max_norm / (norm + 1e-6)), as in torch.nn.utils.clip_grad_norm_. A norm that is NaN changes
    nothing; an infinite one makes zeros of finite gradients and NaN of infinite ones.

    Parameters
    ----------
    grads
        As :func:`grad_norm`; written.
    max_norm : float
        > 0.

    Raises
    ------
    TypeError, ValueError
        If an array or `max_norm` is of the wrong kind or value; nothing is written then.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> g = np.array([3.0, 4.0])
    >>> fastopt.clip_grad_norm_([g], 1.0)
    5.0
    >>> round(fastopt.grad_norm(g), 5)
    1.0
    """
    max_norm = finite_number("max_norm", max_norm, above=0)
    present = [(_key("grads", name), grad) for name, grad in leaves(grads) if grad is not None]
    arrays = [grad.values if isinstance(grad, SparseRows) else grad for _, grad in present]
    _core.check_disjoint(arrays, [name for name, _ in present])
    norm = grad_norm(grads)
    factor = _core.clip_factor(norm, max_norm)
    if factor < 1:
        for array in arrays:
            _core.scale(array, factor)
    return norm


def _checked_adam(values: dict[str, Any]) -> dict[str, Any]:
    betas = values["betas"]
    if not isinstance(betas, tuple | list | np.ndarray) or len(betas) != 2:
        raise TypeError(f"betas: expected two floats, got {betas!r}")
    return {
        "lr": finite_number("lr", values["lr"], 0),
        "betas": tuple(finite_number(f"betas[{k}]", betas[k], 0, below=1) for k in range(2)),
        "eps": finite_number("eps", values["eps"], above=0),
        "weight_decay": finite_number("weight_decay", values["weight_decay"], 0),
    }


def _checked_sgd(values: dict[str, Any]) -> dict[str, Any]:
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


def _grad_scale(maximize: bool, grad_multiplier: float) -> float:
    grad_multiplier = finite_number("grad_multiplier", grad_multiplier)
    return -grad_multiplier if flag("maximize", maximize) else grad_multiplier


def _key(kind: str, name: str) -> str:
    return f"{kind}/{name}" if name else kind


def _loaded(key: str, value: Any, own: Any) -> Any:
    """Return `value` in the type of this optimiser's own entry for `key`; what came from a file is all arrays."""
    array = np.asarray(value)
    if isinstance(own, str):
        if str(value) != own:
            raise ValueError(f"state[{key!r}]: expected {own!r}, that of this optimiser, got {str(value)!r}")
        return own
    if isinstance(own, np.ndarray):
        if array.dtype != own.dtype:
            raise TypeError(f"state[{key!r}]: expected {own.dtype}, got {array.dtype}")
        if array.shape != own.shape:
            raise ValueError(f"state[{key!r}]: expected shape {own.shape}, got {array.shape}")
        return tuple(array.tolist()) if key.startswith("param_groups/") else array
    if array.shape != () or array.dtype.kind not in "biuf" or (isinstance(own, int) and array.dtype.kind == "f"):
        raise TypeError(f"state[{key!r}]: expected {type(own).__name__}, got {value!r}")
    if isinstance(own, int) and not isinstance(own, bool):
        return integer(f"state[{key!r}]", array.item(), 0, 2**64 if key == "rounding_key" else 2**63 - 1)
    return type(own)(array)
