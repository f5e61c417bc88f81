"""The state of an optimiser as a dict of arrays and plain numbers, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastopt import _core
from fastopt._checks import integer
from fastopt._tree import label
from fastopt.optimizers.groups import ParamGroup


class Stateful(_core.OptimizerState):
    """What has a state to store and to take over: the compiled class gives its arrays and counts."""

    param_groups: tuple[ParamGroup, ...]
    _state_dtype: str | None
    _may_rest = False  # whether the states of a parameter may begin later than its steps

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the whole state: a flat dict of arrays and plain numbers, which ``np.savez`` can store.

        Keys are ``step_count`` and ``skipped_steps``; ``param_groups/<index>/<name>`` for the hyper-parameters; and for
        each parameter ``step/<path>`` and its states, such as ``exp_avg/<path>``, where the path is that of the array
        in `params`; :class:`SGD` has ``steps_before_momentum_buffer/<path>`` too, the number of steps before momentum
        was switched on. With `state_dtype` these are the codes (bfloat16 as uint16), their tag is ``state_dtype``, and
        ``rounding_key`` is there too. The parameters themselves are the caller's.

        Raises
        ------
        RuntimeError
            If a call of this optimiser is at work in another thread, or has called back.
        """
        return self._by_key(*self._snapshot("state_dict", True))

    def _by_key(
        self,
        counts: tuple[int, ...],
        groups: list[dict[str, Any]],
        steps: list[int],
        before: list[int],
        states: _core.States,
    ) -> dict[str, Any]:
        step_count, skipped_steps, rounding_key = counts
        state: dict[str, Any] = {"step_count": step_count, "skipped_steps": skipped_steps}
        if self._state_dtype is not None:
            state |= {"state_dtype": self._state_dtype, "rounding_key": rounding_key}
        for index, group in enumerate(groups):
            for key, value in group.items():
                state[f"param_groups/{index}/{key}"] = np.array(value) if isinstance(value, tuple) else value
        for k, name in enumerate(self._names):
            state[label("step", name)] = steps[k]
            if self._may_rest:
                state[label(self._before(states), name)] = before[k]
            for kind, arrays in states.items():
                state[label(kind, name)] = arrays[k]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state that :meth:`state_dict` returned, or the file that ``np.savez(file, **state)`` made of it.

        Going on from it gives the same bits as not having stopped.

        Raises
        ------
        TypeError, ValueError
            If a key is missing or unknown, or a value does not fit; nothing is changed then, and neither when memory
            runs out or the call is interrupted.
        RuntimeError
            If a call of this optimiser is at work in another thread, or has called back; nothing is changed then.
        """
        snapshot = self._snapshot("load_state_dict", False)
        own = self._by_key(*snapshot)
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected what state_dict() returned, got {type(state).__name__}")
        if state.keys() != own.keys():
            missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
            raise ValueError(f"state: expected the keys of state_dict(), got missing {missing} and unknown {unknown}")
        new = {key: _loaded(key, state[key], own[key]) for key in own}
        groups = [
            group._checked({key: new[f"param_groups/{index}/{key}"] for key in group})
            for index, group in enumerate(self.param_groups)
        ]
        states = snapshot[-1]
        steps = [new[label("step", name)] for name in self._names]
        before = [new.get(label(self._before(states), name), 0) for name in self._names]
        for name, number, most in zip(self._names, before, steps, strict=True):
            if number > most:
                key = label(self._before(states), name)
                raise ValueError(f"state[{key!r}]: expected at most {most}, the number of its steps, got {number}")
        self._install(
            (new["step_count"], new["skipped_steps"], new.get("rounding_key", 0)),
            groups,
            steps,
            before,
            {kind: [new[label(kind, name)] for name in self._names] for kind in states},
        )

    @staticmethod
    def _before(states: _core.States) -> str:
        """The key for how many steps a parameter had made before its states began."""
        return f"steps_before_{next(iter(states))}"


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
