"""Gradient descent, with momentum if asked."""

from __future__ import annotations

from typing import Any

from fastopt._tree import ArrayTree
from fastopt.optimizers.groups import WeightDecay
from fastopt.reference.core import Array, flush_subnormal
from fastopt.reference.optimizers.base import Base
from fastopt.reference.optimizers.bfloat16 import of_codes
from fastopt.reference.optimizers.state import _State


@of_codes
def sgd_update(
    param: Array,
    grad: Array,
    states: list[Array],
    step: int,
    grad_scale: float,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> bool:
    """`states` is the momentum's buffer, and `step` the number of its own. Returns whether it has moved."""
    dtype = param.dtype.type
    g = grad * dtype(grad_scale)
    if dtype(weight_decay) != 0:
        g = g + dtype(weight_decay) * param
    moves = bool(dtype(momentum) != 0)
    if moves:
        (buffer,) = states
        if step == 1:
            b = g
        else:
            b = dtype(momentum) * buffer
            if dtype(1 - dampening) != 0:
                b = b + dtype(1 - dampening) * g
        g = g + dtype(momentum) * b if nesterov else b
        buffer[...] = flush_subnormal(b)
    if dtype(lr) != 0:
        param -= dtype(lr) * g
    return moves


class SGD(Base):
    _rule = "sgd"
    _may_rest = True

    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: WeightDecay = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = None,
    ):
        self._step_function = sgd_update
        self._options = {}
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
            ("momentum_buffer",),
            {},
            maximize=maximize,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )

    def _moving(self, states: list[_State], hyper: dict[str, Any]) -> list[_State]:
        return [state for state in states if state.dtype.type(hyper["momentum"]) != 0]
