"""Parameters in groups, each with hyper-parameters of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from fastopt import _core


class ParamGroup(_core.Group, Mapping[str, Any]):
    """Hyper-parameters of a group: ``group["lr"] = 1e-4`` checks the value, which holds from the next step on."""

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

    def _checked(self, values: dict[str, Any]) -> _core.Held:
        """Return the pair that the compiled class holds: the values by name, and as the rule takes them."""
        checked = self._check(values)
        # What the rule takes (kernels/fastopt.h): all numbers in order, both betas apart, and what no group changes.
        numbers = [x for v in checked.values() for x in (v if isinstance(v, tuple) else (v,))]
        return checked, (*numbers, *self._fixed)

    def _changed(self, held: _core.Held, values: dict[str, Any]) -> _core.Held:
        unknown = values.keys() - held[0].keys()
        if unknown:
            raise KeyError(f"expected one of {', '.join(held[0])}, got {', '.join(sorted(unknown))}")
        return self._checked({**held[0], **values})

    @property
    def _values(self) -> dict[str, Any]:
        return self._held[0]

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

    def update(self, values: dict[str, Any]) -> None:
        """Set several values at once, all or none."""
        while not self._replace(held := self._held, self._changed(held, values)):
            pass  # another thread has set another value in between

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self._values.items())})"


class ParamGroups(tuple[ParamGroup, ...]):
    """The groups of an optimiser: which there are is fixed, their values can be set by key."""

    __slots__ = ()

    def __getattr__(self, name: str) -> NoReturn:
        fixed = f"; {_FIXED}" if hasattr(list, name) else ""
        raise AttributeError(f"param_groups: no attribute {name!r}{fixed}", name=name, obj=self)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(f"param_groups[{index!r}]: expected no new group; {_FIXED}")

    def __delitem__(self, index: Any) -> NoReturn:
        raise TypeError(f"param_groups[{index!r}]: expected to stay; {_FIXED}")


_FIXED = (
    "the groups are fixed when the optimiser is made: make a new one for others, "
    'or set a value by its key, param_groups[0]["lr"] = 1e-4'
)


def group_dicts(params: Any, defaults: dict[str, Any]) -> tuple[Any, list[tuple[Any, dict[str, Any]]]]:
    """Return (the nest of all parameters, a list of (the group's parameters, the group's hyper-parameters)).

    `params` is a nest of arrays, or a list of dicts that each have a key ``"params"`` and the hyper-parameters in which
    the group differs from `defaults`. The nest of grouped parameters is the list of the groups' nests.
    """
    grouped = isinstance(params, list | tuple) and params and all(isinstance(g, dict) and "params" in g for g in params)
    if not grouped:
        return params, [(params, dict(defaults))]
    groups = []
    for index, group in enumerate(params):
        own = {key: value for key, value in group.items() if key != "params"}
        unknown = own.keys() - defaults.keys()
        if unknown:
            known = ", ".join(defaults)
            raise ValueError(
                f"params[{index}]: expected hyper-parameters among {known}, got {', '.join(sorted(unknown))}"
            )
        groups.append((group["params"], {**defaults, **own}))
    return [tree for tree, _ in groups], groups
