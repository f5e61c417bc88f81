"""The state of an optimiser as a dict of arrays and plain numbers, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastopt import _core
from fastopt._checks import integer
from fastopt._tree import label
from fastopt.optimizers.groups import ParamGroup, misnamed, storable


class Stateful(_core.OptimizerState):
    """What has a state to store and to take over: the compiled class gives its arrays and counts."""

    param_groups: tuple[ParamGroup, ...]
    _run_options: dict[str, Any]
    _group_options: dict[str, Any]
    _may_rest = False  # whether the states of a parameter may begin later than its steps

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the whole state: a flat dict of arrays and plain numbers, which ``np.savez`` can store.

        Keys are ``format``, 1; ``step_count`` and ``skipped_steps``; the options of the whole optimiser, such as
        ``skip_nonfinite``; ``param_groups/<index>/<name>`` for the rule, its options, the hyper-parameters, and what
        else is kept in a group if it is a number or text; and for each parameter ``step/<path>`` and its states, such
        as ``exp_avg/<path>``, where the path is that of the array in `params`; where there are several groups,
        ``group/<path>``, the number of its group; :class:`SGD` has ``steps_before_momentum_buffer/<path>`` too, the
        number of steps before momentum was switched on. With `state_dtype` these are the codes (bfloat16 as uint16),
        and ``rounding_key`` is there too. The parameters themselves are the caller's.

        Raises
        ------
        RuntimeError
            If a call of this optimiser is at work in another thread, or has called back.
        """
        return self._by_key(*self._snapshot("state_dict", True))

    def _by_key(
        self,
        counts: tuple[int, ...],
        groups: list[_core._Held],
        names: list[str],
        group_of: list[int],
        steps: list[int],
        before: list[int],
        states: _core._States,
    ) -> dict[str, Any]:
        step_count, skipped_steps, rounding_key = counts
        state = {"format": FORMAT, "step_count": step_count, "skipped_steps": skipped_steps, **self._run_options}
        if "state_dtype" in state:
            state["rounding_key"] = rounding_key
        for index, (options, _, others) in enumerate(groups):
            for key, value in {**self._group_options, **options}.items():
                state[f"param_groups/{index}/{key}"] = np.array(value) if isinstance(value, tuple) else value
            for key, value in others.items():
                if (kept := storable(value)) is not None:
                    state[f"param_groups/{index}/{key}"] = kept
        for k, name in enumerate(names):
            if len(groups) > 1:
                state[label("group", name)] = group_of[k]
            state[label("step", name)] = steps[k]
            if self._may_rest:
                state[label(self._before(states), name)] = before[k]
            for kind, arrays in states.items():
                state[label(kind, name)] = arrays[k]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state that :meth:`state_dict` returned, or the file that ``np.savez(file, **state)`` made of it.

        Going on from it gives the same bits as not having stopped. Hyper-parameters are taken over, and what else the
        groups keep; a rule or options that are not those of this optimiser are refused.

        Raises
        ------
        TypeError, ValueError
            If a key is missing or unknown, or a value does not fit; nothing is changed then, and neither when memory
            runs out or the call is interrupted.
        RuntimeError
            If a call of this optimiser is at work in another thread, or has called back; nothing is changed then.
        """
        counts, held, names, group_of, steps, before, states = self._snapshot("load_state_dict", False)
        held = [(options, numbers, {}) for options, numbers, _ in held]  # of the rest the state's own are taken over
        own = self._by_key(counts, held, names, group_of, steps, before, states)
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected what state_dict() returned, got {type(state).__name__}")
        fixed = ["format", *self._run_options]
        fixed += [f"param_groups/{k}/{name}" for k in range(len(held)) for name in self._group_options]
        fixed += [key for name in names if (key := label("group", name)) in own]
        for key in fixed:
            if key in state and (found := _loaded(key, state[key], own[key])) != own[key]:
                raise ValueError(
                    f"state[{key!r}]: expected {own[key]!r}, as this optimiser was made, got {found!r}; make one so"
                )
        others = [_others(state, f"param_groups/{index}/", options) for index, (options, _, _) in enumerate(held)]
        known = own.keys() | {f"param_groups/{index}/{key}" for index, some in enumerate(others) for key in some}
        if state.keys() != known:
            missing, unknown = sorted(known - state.keys()), sorted(state.keys() - known)
            raise ValueError(f"state: expected the keys of state_dict(), got missing {missing} and unknown {unknown}")
        new = {key: _loaded(key, state[key], own[key]) for key in own}
        groups = [
            group._checked({**{key: new[f"param_groups/{index}/{key}"] for key in options}, **others[index]})
            for index, (group, (options, _, _)) in enumerate(zip(self.param_groups, held, strict=True))
        ]
        steps = [new[label("step", name)] for name in names]
        before = [new.get(label(self._before(states), name), 0) for name in names]
        for name, number, most in zip(names, before, steps, strict=True):
            if number > most:
                key = label(self._before(states), name)
                raise ValueError(f"state[{key!r}]: expected at most {most}, the number of its steps, got {number}")
        self._install(
            (new["step_count"], new["skipped_steps"], new.get("rounding_key", 0)),
            groups,
            steps,
            before,
            {kind: [new[label(kind, name)] for name in names] for kind in states},
        )

    @staticmethod
    def _before(states: _core._States) -> str:
        """The key for how many steps a parameter had made before its states began."""
        return f"steps_before_{next(iter(states))}"


FORMAT = 1  # of a saved state


def _loaded(key: str, value: Any, own: Any) -> Any:
    """Return `value` in the type of this optimiser's own entry for `key`; what came from a file is all arrays."""
    array = np.asarray(value)
    if isinstance(own, str):
        if array.dtype.kind != "U" or array.shape != ():
            raise TypeError(f"state[{key!r}]: expected a str, got {value!r}")
        return array.item()  # whose text is made by NumPy, in Python: an interrupt there spoils later ones
    if isinstance(own, np.ndarray):
        if array.dtype != own.dtype:
            raise TypeError(f"state[{key!r}]: expected {own.dtype}, got {array.dtype}")
        if array.shape != own.shape:
            raise ValueError(f"state[{key!r}]: expected shape {own.shape}, got {array.shape}")
        return tuple(array.tolist()) if key.startswith("param_groups/") else array
    kinds = "b" if isinstance(own, bool) else "iu" if isinstance(own, int) else "iuf"
    if array.shape != () or array.dtype.kind not in kinds:
        raise TypeError(f"state[{key!r}]: expected {type(own).__name__}, got {value!r}")
    if kinds == "iu":
        return integer(f"state[{key!r}]", array.item(), 0, 2**64 if key == "rounding_key" else 2**63 - 1)
    return type(own)(array)


def _others(state: Mapping[str, Any], prefix: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else than the options a group keeps in a state, by name."""
    found = {}
    for key in state:
        name = key.removeprefix(prefix) if isinstance(key, str) else key
        if name != key and name not in options and not misnamed([name], options):
            found[name] = storable(state[key])
            if found[name] is None:
                raise TypeError(f"state[{key!r}]: expected a number or a str, got {state[key]!r}")
    return found
