"""What all rules share: groups, options, the step and the averages of the parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from fastopt import _core
from fastopt import random as _random
from fastopt._checks import finite_number, flag
from fastopt._tree import label, rebuilt
from fastopt.optimizers.groups import Groups, ParamGroup, ParamGroups, by_decay, in_groups, named, own_options
from fastopt.optimizers.state import Stateful


class Rule(NamedTuple):
    """A rule of kernels/optimizers/optimizers.h as an optimiser uses it."""

    name: str
    check: Callable[[dict[str, Any]], dict[str, Any]]  # of a group's hyper-parameters
    states: tuple[str, ...]
    options: dict[str, bool]  # what no group changes, by name
    fixed: tuple[float, ...]  # those of them that the kernel takes


class Base(Stateful, _core.Optimizer):
    """What all rules share in Python; the compiled class has the arrays, the states and the step."""

    _alone: Any  # the nest as it was given; None where it came in groups
    _made_with: dict[str, Any]
    _implied: tuple[str, ...] = ("rule",)  # options that the name of the class says

    def _set_up(
        self,
        params: Any,
        defaults: dict[str, Any],
        rule: Rule,
        *,
        maximize: bool,
        max_grad_norm: float | None,
        skip_nonfinite: bool,
        ema_decay: float | None,
        state_dtype: str | None,
        rng: Any,
        taken: Groups | None = None,
    ) -> None:
        self._defaults = checked_defaults(rule, defaults)
        if state_dtype not in (None, "bfloat16", "8bit"):
            raise ValueError(f'state_dtype: expected None, "bfloat16" or "8bit", got {state_dtype!r}')
        max_norm = math.inf if max_grad_norm is None else finite_number("max_grad_norm", max_grad_norm, above=0)
        decay = None if ema_decay is None else finite_number("ema_decay", ema_decay, 0, most=1)
        flag("maximize", maximize)
        flag("skip_nonfinite", skip_nonfinite)
        nest, nested, groups, group_of, parameters = taken or in_groups(params, self._defaults)
        self._bind(
            nest,
            ParamGroups(ParamGroup(own, rule.check, rule.fixed) for own in groups),
            group_of,
            [name for name, _ in parameters],
            [array for _, array in parameters],
            rule.states,
            rule=rule.name,
            maximize=maximize,
            max_grad_norm=max_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=decay,
            state_dtype=state_dtype,
        )
        self._alone = None if nested else nest
        self._group_options = {"rule": rule.name, **rule.options, "maximize": bool(maximize)}
        self._run_options = {"max_grad_norm": max_norm, "skip_nonfinite": bool(skip_nonfinite)}
        if decay is not None:
            self._run_options["ema_decay"] = decay
        if state_dtype is not None:
            self._run_options["state_dtype"] = state_dtype
            self._rounding_key = _random.run_key(rng)
        self._made_with = {
            "rule": rule,
            "maximize": maximize,
            "max_grad_norm": max_grad_norm,
            "skip_nonfinite": skip_nonfinite,
            "ema_decay": ema_decay,
            "state_dtype": state_dtype,
        }

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
            If the structure, a shape or a dtype differs, a gradient overlaps what is written, or a parameter has been
            replaced by another array in its list or dict, or given another shape, dtype or strides; nothing is changed
            then.
        RuntimeError
            If a call of this optimiser is at work in another thread, or has called back; nothing is changed then.
        """
        self._step(grads, finite_number("grad_multiplier", grad_multiplier), flag("zero_grads", zero_grads))

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Take hold of further parameters, with hyper-parameters of their own, as torch's method of this name does.

        It is as if the optimiser had been made with this group too, and the parameters had had no gradient so far:
        their states begin with zeros and their own steps with 0, an average with a copy; `step_count` goes on, and
        nothing changes for the others. `params` is a list of the groups' nests from then on, which gradients have the
        form of, and so the keys of :meth:`state_dict` begin with the group's number: ``exp_avg/0/w``. A state from
        before is not one of this optimiser any more.

        Parameters
        ----------
        group : dict
            ``"params"``, arrays in lists, tuples and dicts of the dtype of the others, and the hyper-parameters that
            are not those the optimiser was made with.

        Raises
        ------
        TypeError, ValueError
            If `group` is no such dict, a value is wrong, or an array overlaps another parameter, or one is there
            already; nothing is changed then.
        RuntimeError
            If a call of this optimiser is at work in another thread, or has called back; nothing is changed then.

        Examples
        --------
        >>> import numpy as np, fastopt
        >>> body, head = np.ones(2), np.ones(1)
        >>> optimizer = fastopt.SGD({"w": body}, lr=0.5)
        >>> optimizer.step({"w": np.ones(2)})
        >>> optimizer.add_param_group({"params": head, "lr": 0.25})
        >>> optimizer.step([{"w": np.ones(2)}, np.ones(1)])
        >>> body, head
        (array([0., 0.]), array([0.75]))
        """
        if not isinstance(group, dict) or "params" not in group:
            got = f"keys {list(group)}" if isinstance(group, dict) else type(group).__name__
            raise TypeError(f'group: expected a dict with the key "params", got {got}')
        rule = self._made_with["rule"]
        own = own_options("group", group, self._defaults)
        while True:  # until no other thread has added another one in between
            before, nests, names = self.param_groups, self.params, self._names
            if nests is self._alone:
                nests, names = [nests], [label("0", name) for name in names]
            parameters = named(group["params"], str(len(nests)))
            groups, group_of = by_decay(own, parameters)
            if self._extend(
                before,
                [*nests, group["params"]],
                ParamGroups((*before, *(ParamGroup(some, rule.check, rule.fixed) for some in groups))),
                [len(before) + number for number in group_of],
                names + [name for name, _ in parameters],
                [array for _, array in parameters],
            ):
                return

    @property
    def ema_params(self) -> Any:
        """Averages of the parameters in the form of `params`, the same arrays each time; None without `ema_decay`."""
        return None if self._averages is None else rebuilt(self.params, iter(self._averages))

    @property
    def lr(self) -> float:
        """Learning rate of the first group. Setting it sets that of every group."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, lr: float) -> None:
        finite_number("lr", lr, 0)
        while True:  # until no other thread has set another value in between
            old = [group._held for group in self.param_groups]
            new = [group._changed(held, {"lr": lr}) for group, held in zip(self.param_groups, old, strict=True)]
            if self._replace_groups("lr", old, new):
                return

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] != "_" and name != "lr" and type(self).__module__.startswith("fastopt."):
            raise AttributeError(
                f"{type(self).__name__}.{name}: expected lr, the one attribute that can be set; the values of a group "
                f"({', '.join(self.param_groups[0])}) are set by key, optimizer.param_groups[0]['lr'] = ..., "
                "other options when the optimiser is made",
                name=name,
                obj=self,
            )
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        values = [dict(group) for group in self.param_groups]
        taken = Groups(self.params, self.params is not self._alone, values, self._group_of, [])
        own = {name: value for name, value in self.__dict__.items() if name not in _SET_UP}
        return _made_again, (type(self), taken, self._defaults, self._made_with), (self.state_dict(), values, own)

    def __setstate__(self, state: tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]) -> None:
        self.load_state_dict(state[0])
        for group, values in zip(self.param_groups, state[1], strict=True):
            group.update(values)  # with what a state does not hold
        self.__dict__.update(state[2])

    def __copy__(self) -> Base:
        """A copy owns copies of the parameters, as copy.deepcopy makes them: two optimisers would train one array."""
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        sizes = [array.size for array in next(iter(self._states.values()))]
        options = {**self._group_options, **self._run_options}
        chosen = (
            f"{k}={v!r}" for k, v in options.items() if v is not False and v != math.inf and k not in self._implied
        )
        parts = f"{len(sizes)} arrays", f"{sum(sizes)} parameters", f"step {self.step_count}"
        return f"{type(self).__name__}({', '.join((*parts, *chosen, *map(repr, self.param_groups)))})"


_SET_UP = {"_alone", "_defaults", "_group_options", "_run_options", "_made_with"}


def _made_again(cls: type[Base], taken: Groups, defaults: dict[str, Any], made_with: dict[str, Any]) -> Base:
    """What is pickled, but for its state. Not by __init__, which a subclass may have changed."""
    optimizer = cls.__new__(cls)
    taken = taken._replace(parameters=named(taken.nest))
    optimizer._set_up(taken.nest, defaults, **made_with, rng=0, taken=taken)
    return optimizer


def checked_defaults(rule: Rule, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return what a group has that does not say otherwise; a decay that is a function stays one."""
    if callable(decay := defaults["weight_decay"]):
        return {**rule.check({**defaults, "weight_decay": 0.0}), "weight_decay": decay}
    return rule.check(defaults)
