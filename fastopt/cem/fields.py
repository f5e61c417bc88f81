"""What a run shows of itself: names that can be read and not set."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, NoReturn, TypeVar, overload

import numpy as np

T = TypeVar("T")
HINT = (
    "a run is made with its settings, CEM(...); maxiter and maxfev alone may change, of one that goes on from a state, "
    "CEM.from_dict(cem.to_dict(), maxiter=...)"
)


class Settings(Mapping[str, Any]):
    """The settings of a run, by name; arrays are copies. They are fixed when it is made."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        return value.copy() if isinstance(value, np.ndarray) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError(f"settings[{key!r}]: expected to stay as it is; {HINT}")

    def __delitem__(self, key: Any) -> NoReturn:
        raise TypeError(f"settings[{key!r}]: expected to stay as it is; {HINT}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values})"


class Field(Generic[T]):
    """A field of a run: what `read` finds, or the slot of its name with a ``_`` before it. Arrays are copied.

    The slots themselves are set without a call, so that what changes together is assigned without one in between.
    """

    def __init__(self, doc: str, read: Callable[[Any], T] | None = None) -> None:
        self.__doc__, self._read = doc, read

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._read = self._read or operator.attrgetter(f"_{name}")

    @overload
    def __get__(self, run: None, owner: type) -> Field[T]: ...
    @overload
    def __get__(self, run: object, owner: type) -> T: ...
    def __get__(self, run: object | None, owner: type) -> Field[T] | T:
        if run is None:
            return self
        assert self._read is not None
        value = self._read(run)
        return value.copy() if isinstance(value, np.ndarray) else value

    def __set__(self, run: object, value: Any) -> NoReturn:
        refuse(run, self._name, "expected to be read only, since the run determines it")


class Setting:
    """The name of a setting, of which a run has no attribute: setting one would do nothing."""

    def __init__(self, name: str, hint: str = HINT) -> None:
        self._name, self._hint = name, hint

    def __get__(self, run: object | None, owner: type) -> Any:
        if run is None:
            return self
        where = f"no attribute; it is settings[{self._name!r}]"
        raise AttributeError(f"{owner.__name__}.{self._name}: {where}", name=self._name, obj=run)

    def __set__(self, run: object, value: Any) -> NoReturn:
        refuse(run, self._name, "expected to stay as it was made", self._hint)


def refuse(run: object, name: str, why: str, hint: str = HINT) -> NoReturn:
    raise AttributeError(f"{type(run).__name__}.{name}: {why}; {hint}", name=name, obj=run)
