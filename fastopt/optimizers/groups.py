"""Parameters in groups, each with hyper-parameters of its own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number
from fastopt._tree import label, leaves

WeightDecay = float | Callable[[str, NDArray[Any]], float]  # of all parameters, or of each


class ParamGroup(_core.Group, Mapping[str, Any]):
    """Hyper-parameters of a group: ``group["lr"] = 1e-4`` checks the value, which holds from the next step on.

    Other keys, such as the ``initial_lr`` of a scheduler, are kept and change nothing. A name that may be meant for an
    option, ``learning_rate`` or ``weight_decy``, is refused.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> group = fastopt.SGD([np.ones(2)], lr=0.5).param_groups[0]
    >>> group.setdefault("initial_lr", group["lr"])
    0.5
    >>> group.update(lr=0.25, momentum=0.9)
    >>> group["lr"], group["initial_lr"]
    (0.25, 0.5)
    """

    __slots__ = ("_check", "_fixed")
    _check: Callable[[dict[str, Any]], dict[str, Any]]
    _fixed: tuple[float, ...]

    def __init__(
        self,
        values: dict[str, Any],
        check: Callable[[dict[str, Any]], dict[str, Any]],
        fixed: tuple[float, ...] = (),
    ) -> None:
        object.__setattr__(self, "_check", check)
        object.__setattr__(self, "_fixed", fixed)
        self._replace(None, self._checked(values))

    def _checked(self, values: dict[str, Any]) -> _core._Held:
        """Return what the compiled class holds: the options by name and as the rule takes them, and the other keys."""
        checked = self._check(values)
        # What the rule takes (kernels/scalars.h): all numbers in order, both betas apart, and what no group changes.
        numbers = [x for v in checked.values() for x in (v if isinstance(v, tuple) else (v,))]
        others = {key: value for key, value in values.items() if key not in checked}
        return checked, (*numbers, *self._fixed), others

    def _changed(self, held: _core._Held, values: dict[str, Any]) -> _core._Held:
        wrong = misnamed(values, held[0])
        if wrong:
            raise KeyError(f"expected one of {', '.join(held[0])}, got {', '.join(wrong)}")
        return self._checked({**held[0], **held[2], **values})

    @property
    def _values(self) -> dict[str, Any]:
        options, _, others = self._held
        return {**options, **others} if others else options

    @property
    def scalars(self) -> tuple[float, ...]:
        """The numbers that the rule takes, in order."""
        return self._held[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._values, self._check, self._fixed)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f'ParamGroup.{name}: expected a key, group["{name}"] = ...', name=name, obj=self)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def update(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **more: Any) -> None:
        """Set several values at once, all or none: ``group.update(lr=0.1, weight_decay=0.0)``, or a dict of them."""
        new = dict(values, **more)
        while not self._replace(held := self._held, self._changed(held, new)):
            pass  # another thread has set another value in between

    def setdefault(self, key: str, default: Any = None, /) -> Any:
        """Return the value of a key, which is set to `default` if there is none."""
        while True:
            held = self._held
            for values in (held[0], held[2]):
                if key in values:
                    return values[key]
            if self._replace(held, self._changed(held, {key: default})):
                return default

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self._values.items())})"


class ParamGroups(tuple[ParamGroup, ...]):
    """The groups of an optimiser: which there are is fixed but for `add_param_group`, their values are set by key."""

    __slots__ = ()

    def __getattr__(self, name: str) -> NoReturn:
        fixed = f"; {_FIXED}" if hasattr(list, name) else ""
        raise AttributeError(f"param_groups: no attribute {name!r}{fixed}", name=name, obj=self)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(f"param_groups[{index!r}]: expected no new group; {_FIXED}")

    def __delitem__(self, index: Any) -> NoReturn:
        raise TypeError(f"param_groups[{index!r}]: expected to stay; {_FIXED}")


_FIXED = (
    "the groups are fixed but for optimizer.add_param_group: make a new one for others, "
    'or set a value by its key, param_groups[0]["lr"] = 1e-4'
)

# ---- keys that no rule takes -----------------------------------------------------------------------------------------

_OPTIONS = {
    *("lr", "alpha", "betas", "eps", "weight_decay", "momentum", "dampening", "nesterov", "centered"),
    *("amsgrad", "maximize", "decoupled_weight_decay", "max_grad_norm", "skip_nonfinite", "ema_decay", "state_dtype"),
    *("rng", "params", "rule"),
}
# What other packages call them.
_SYNONYMS = {
    *("learning_rate", "step_size", "eta", "b1", "b2", "beta1", "beta2", "beta_1", "beta_2", "epsilon"),
    *("rate", "lrs", "rl", "decay", "wd", "l2", "clip", "clip_norm", "grad_clip", "ema"),
}
_MEANT = sorted(name.replace("_", "") for name in _OPTIONS | _SYNONYMS)


def misnamed(keys: Iterable[Any], options: Iterable[str]) -> list[str]:
    """Those keys that are no option and may be meant for one: of this rule, of another, or of the whole optimiser."""
    unknown = [key for key in keys if key not in options]
    return sorted(str(key) for key in unknown if not isinstance(key, str) or not key.isidentifier() or _meant(key))


def _meant(key: str) -> bool:
    plain = key.lower().replace("_", "")
    # 0.86 is above "max_momentum", which schedulers keep there, and below "momentun".
    return key in _OPTIONS or bool(difflib.get_close_matches(plain, _MEANT, 1, 0.86))


def storable(value: Any) -> Any:
    """Return a number or text as Python's own, and None for what a state does not hold."""
    array = np.asarray(value) if isinstance(value, int | float | str | np.generic | np.ndarray) else np.empty(0)
    return array.item() if array.shape == () and array.dtype.kind in "biufU" else None


# ---- what an optimiser is given --------------------------------------------------------------------------------------


class Groups(NamedTuple):
    """Parameters as an optimiser takes hold of them."""

    nest: Any  # of all: as it was given, or the list of the groups' nests
    nested: bool  # whether it is that list
    options: list[dict[str, Any]]  # of each group
    group_of: list[int]  # the number of each parameter's group, in the order of the nest
    parameters: list[tuple[str, Any]]  # (path, array) of each


def in_groups(params: Any, defaults: dict[str, Any]) -> Groups:
    """Take `params` apart: a nest of arrays, or a list of groups as they are given.

    Such a group is a dict with the key ``"params"`` and the hyper-parameters in which it differs from `defaults`.
    """
    nested = isinstance(params, list | tuple) and params and all(isinstance(g, dict) and "params" in g for g in params)
    nests = [group["params"] for group in params] if nested else [params]
    options: list[dict[str, Any]] = []
    group_of: list[int] = []
    parameters: list[tuple[str, Any]] = []
    for k, nest in enumerate(nests):
        own = own_options(f"params[{k}]", params[k], defaults) if nested else dict(defaults)
        own_parameters = named(nest, str(k) if nested else "")
        some, of = by_decay(own, own_parameters)
        group_of += [len(options) + number for number in of]
        options += some
        parameters += own_parameters
    return Groups(nests if nested else params, bool(nested), options, group_of, parameters)


def own_options(name: str, group: Mapping[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters of a group as it was given; what it does not say is that of `defaults`."""
    own = {key: value for key, value in group.items() if key != "params"}
    wrong = misnamed(own, defaults)
    if wrong:
        raise ValueError(f"{name}: expected hyper-parameters among {', '.join(defaults)}, got {', '.join(wrong)}")
    return {**defaults, **own}


def by_decay(own: dict[str, Any], parameters: list[tuple[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the options of the groups that a nest's parameters are in, and the number of each parameter's.

    It is one group, unless weight_decay is a function: then one for each number that it returns, in order.
    """
    decay = own["weight_decay"]
    if not callable(decay):
        return [own], [0] * len(parameters)
    decays = [
        finite_number(f"weight_decay of {label('params', path)}", decay(path, array), 0)
        for path, array in parameters
        if isinstance(array, np.ndarray)  # what else there is will be refused
    ]
    different = list(dict.fromkeys(decays)) or [0.0]
    return [{**own, "weight_decay": number} for number in different], [different.index(number) for number in decays]


_ENDLESS = "params: expected arrays in lists, tuples and dicts, got a nest that contains itself"


def named(nest: Any, path: str = "") -> list[tuple[str, Any]]:
    """Return (path, array) for each parameter, in order."""
    try:
        found = list(leaves(nest, path))
    except RecursionError:
        raise ValueError(_ENDLESS) from None
    for name, _ in found:
        if "\0" in name or name.endswith(".npy"):
            raise ValueError(f"params: expected keys that an npz file can hold, got {name!r}; rename it")
    return found
