"""What all rules share: groups, options, the step, the rounding of states and the averages of the parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt._tree import ArrayTree, SparseRows, rebuilt, same_structure
from fastopt.optimizers.groups import in_groups
from fastopt.random import DOMAIN_ROUNDING, run_key
from fastopt.reference.core import Array
from fastopt.reference.optimizers.averages import ema_update
from fastopt.reference.optimizers.bfloat16 import widened
from fastopt.reference.optimizers.gradients import clip_factor, multiplied_norm, summed_rows
from fastopt.reference.optimizers.state import _State
from fastopt.reference.random import words


class Base:
    """Calls a step function on every parameter that has a gradient."""

    _rule: str
    _options: dict[str, bool]  # of the rule, which no group changes
    # (param, grad, states, step, grad_scale, **hyper-parameters) -> whether the states have moved; `step` counts from
    # the first step in which they do
    _step_function: Any
    _may_rest = False  # whether they may have begun later than the parameter

    def __init__(
        self,
        params: ArrayTree,
        defaults: dict[str, Any],
        state_names: tuple[str, ...],
        fixed: dict[str, Any],
        *,
        maximize: bool,
        max_grad_norm: float | None,
        skip_nonfinite: bool,
        ema_decay: float | None,
        state_dtype: str | None,
        rng: Any,
    ):
        self.params, _, self.param_groups, self._group_of, parameters = in_groups(params, defaults)
        self._hyper, self._fixed = list(defaults), fixed  # hyper-parameters of a group, and what no group changes
        self._group = [self.param_groups[number] for number in self._group_of]
        self._names = [name for name, _ in parameters]
        self._steps = [0] * len(self._names)
        self._steps_before = [0] * len(self._names)  # those before the states' first
        self._maximize, self._max_grad_norm, self._skip_nonfinite = maximize, max_grad_norm, skip_nonfinite
        self._ema_decay, self._state_dtype = ema_decay, state_dtype
        self._rounding_key = run_key(rng) if state_dtype else 0
        arrays = [array for _, array in parameters]
        self._states = {
            name: [_State(array, state_dtype, signed=number == 0) for array in arrays]
            for number, name in enumerate(state_names)
        }
        self._ema = [] if ema_decay is None else [widened(array.copy()) for array in arrays]  # float32 of codes
        self.step_count = self.skipped_steps = 0
        self.grad_norm: float | None = None

    @property
    def lr(self) -> float:
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, lr: float) -> None:
        for group in self.param_groups:
            group["lr"] = lr

    @property
    def ema_params(self) -> Any:
        return rebuilt(self.params, iter(self._ema)) if self._ema else None

    def step(self, grads: Any, *, grad_multiplier: float = 1.0, zero_grads: bool = False) -> None:
        pairs = list(same_structure(grads, self.params, "grads"))
        grad_scale = -grad_multiplier if self._maximize else grad_multiplier
        skip = False
        if self._max_grad_norm is not None or self._skip_nonfinite:
            self.grad_norm = multiplied_norm([grad for grad, _ in pairs], grad_multiplier)
            skip = self._skip_nonfinite and not math.isfinite(self.grad_norm)
            if self._max_grad_norm is not None:
                grad_scale *= clip_factor(self.grad_norm, self._max_grad_norm)
        for k, (grad, param) in enumerate(pairs):
            if grad is not None and not skip:
                self._update(k, grad, param, grad_scale)
            if grad is not None and zero_grads:
                (grad.values if isinstance(grad, SparseRows) else grad)[...] = 0
        self.skipped_steps += skip
        self.step_count += not skip

    def _update(self, k: int, grad: Any, param: Array, grad_scale: float) -> None:
        self._steps[k] += 1
        step = self._steps[k]
        own_step = step - self._steps_before[k]
        hyper = {**{name: self._group[k][name] for name in self._hyper}, **self._fixed}
        states = self._moving([of_kind[k] for of_kind in self._states.values()], hyper)
        if isinstance(grad, SparseRows):  # only these rows move
            rows, grad = summed_rows(grad)
            chosen, values = param[rows], [state.array[rows] for state in states]
            moved = self._step_function(chosen, grad, values, own_step, grad_scale, **hyper)
            param[rows] = chosen
            for state, value in zip(states, values, strict=True):
                state.array[rows] = value
            self._steps_before[k] += own_step == 1 and not moved
            return
        values = [state.load() for state in states]
        moved = self._step_function(param, grad, values, own_step, grad_scale, **hyper)
        self._steps_before[k] += own_step == 1 and not moved
        for state, value in zip(states, values, strict=True):
            if self._state_dtype and moved:
                state.store(value, self._chance(k, param, step, 0 if state.signed else 1))
        if self._ema:
            assert self._ema_decay is not None
            ema_update(self._ema[k], widened(param), self._ema_decay)

    def _moving(self, states: list[_State], hyper: dict[str, Any]) -> list[_State]:
        """The states that a step reads and writes."""
        return states

    def _chance(self, k: int, param: Array, step: int, half: int) -> Array:
        """The 16 bits that decide how each element is rounded at this step: those of its block of 256, the step number
        being in the upper half of the block counter, plus its place in the block times 0xC141."""
        count = -(-param.size // 256)
        word = words(self._rounding_key, k, DOMAIN_ROUNDING, (step % 2**32) << 34, count)
        of_block = word >> np.uint32(16 * half) & np.uint32(0xFFFF)
        index = np.arange(param.size)
        chance = of_block[index // 256] + index % 256 * 0xC141 & 0xFFFF
        return np.asarray(chance.reshape(param.shape))

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "format": 1,
            "step_count": self.step_count,
            "skipped_steps": self.skipped_steps,
            "max_grad_norm": math.inf if self._max_grad_norm is None else self._max_grad_norm,
            "skip_nonfinite": self._skip_nonfinite,
        }
        if self._ema_decay is not None:
            state["ema_decay"] = self._ema_decay
        if self._state_dtype:
            state |= {"state_dtype": self._state_dtype, "rounding_key": self._rounding_key}
        for index, group in enumerate(self.param_groups):
            for key, value in {"rule": self._rule, **self._options, "maximize": self._maximize, **group}.items():
                state[f"param_groups/{index}/{key}"] = np.array(value) if isinstance(value, tuple) else value
        for k, name in enumerate(self._names):
            if len(self.param_groups) > 1:
                state[f"group/{name}"] = self._group_of[k]
            state[f"step/{name}"] = self._steps[k]
            if self._may_rest:
                state[f"steps_before_{next(iter(self._states))}/{name}"] = self._steps_before[k]
            for kind, states in self._states.items():
                state[f"{kind}/{name}"] = states[k].array.copy()
                if self._state_dtype == "8bit":
                    state[f"{kind}_exponent/{name}"] = states[k].exponents.copy()
            if self._ema:
                state[f"ema/{name}"] = self._ema[k].copy()
        return state
