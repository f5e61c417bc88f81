"""Parameters in groups, each with hyper-parameters of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


class ParamGroup(Mapping[str, Any]):
    """Hyper-parameters of a group: ``group["lr"] = 1e-4`` checks the value, which holds from the next step on."""

    __slots__ = ("_check", "_fixed", "_values", "scalars")

    def __init__(
        self,
        values: dict[str, Any],
        check: Callable[[dict[str, Any]], dict[str, Any]],
        fixed: tuple[float, ...] = (),
    ) -> None:
        self._check, self._fixed = check, fixed
        self._set(check(values))

    def _set(self, checked: dict[str, Any]) -> None:
        self._values = checked
        # What the rule takes (kernels/fastopt.h): all numbers in order, both betas apart, and what no group changes.
        numbers = (x for v in checked.values() for x in (v if isinstance(v, tuple) else (v,)))
        self.scalars = (*numbers, *self._fixed)

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
