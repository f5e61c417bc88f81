"""The state of an optimiser as a dict of arrays and plain numbers, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt._checks import integer
from fastopt._tree import label
from fastopt.optimizers.groups import ParamGroup


class Stateful:
    """What has a state to store and to take over: the compiled class gives its arrays and counts."""

    param_groups: list[ParamGroup]
    step_count: int
    skipped_steps: int
    _names: list[str]
    _states: dict[str, list[NDArray[Any]]]
    _steps: NDArray[np.int64]
    _rounding_key: int
    _state_dtype: str | None

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
            state[label("step", name)] = int(self._steps[k])
            for kind, arrays in self._states.items():
                state[label(kind, name)] = arrays[k].copy()
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
            self._steps[k] = new[label("step", name)]
            for kind, arrays in self._states.items():
                arrays[k][...] = new[label(kind, name)]


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
