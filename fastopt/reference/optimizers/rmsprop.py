"""RMSprop, with momentum and centred if asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastopt._tree import ArrayTree
from fastopt.optimizers.groups import WeightDecay
from fastopt.reference.core import Array, flush_subnormal, raise_square
from fastopt.reference.optimizers.adam import least_eps
from fastopt.reference.optimizers.averages import averaged
from fastopt.reference.optimizers.base import Base
from fastopt.reference.optimizers.bfloat16 import of_codes
from fastopt.reference.optimizers.state import _State


@of_codes
def rmsprop_update(
    param: Array,
    grad: Array,
    states: list[Array],
    step: int,
    grad_scale: float,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
) -> bool:
    """`states` are momentum_buffer, with momentum; square_avg; grad_avg, when centred. Returns that they have moved."""
    dtype = param.dtype.type
    states = list(states)
    g = grad * dtype(grad_scale)
    if dtype(weight_decay) != 0:
        g = g + dtype(weight_decay) * param
    buffer = states.pop(0) if dtype(momentum) != 0 else None
    square_avg, *mean = states
    v = dtype(1 - alpha) * (g * g)
    if dtype(alpha) != 0:
        v = dtype(alpha) * square_avg + v
    square_avg[...] = raise_square(v, dtype)
    if centered:
        m = averaged(mean[0], g, alpha)
        mean[0][...] = flush_subnormal(m)
        v = v - m * m
        v = np.where(v < 0, dtype(0), v)  # by rounding alone; NaN stays
    update = g / (np.sqrt(v) + dtype(max(eps, least_eps(dtype, alpha))))
    if buffer is not None:
        update = dtype(momentum) * buffer + update
        buffer[...] = flush_subnormal(update)
    if dtype(lr) != 0:
        param -= dtype(lr) * update
    return True


class RMSprop(Base):
    _rule = "rmsprop"

    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: WeightDecay = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = None,
    ):
        self._step_function = rmsprop_update
        self._options = {"centered": centered}
        super().__init__(
            params,
            {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum},
            ("momentum_buffer", "square_avg", "grad_avg") if centered else ("momentum_buffer", "square_avg"),
            {"centered": centered},
            maximize=maximize,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )

    def _moving(self, states: list[_State], hyper: dict[str, Any]) -> list[_State]:
        return states if states[0].dtype.type(hyper["momentum"]) != 0 else states[1:]
