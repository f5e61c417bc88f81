"""Adam and AdamW."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastopt._tree import ArrayTree
from fastopt.optimizers.groups import WeightDecay
from fastopt.reference.core import Array, flush_subnormal, power, raise_square
from fastopt.reference.optimizers.averages import averaged
from fastopt.reference.optimizers.base import Base
from fastopt.reference.optimizers.bfloat16 import of_codes


@of_codes
def adam_update(
    param: Array,
    grad: Array,
    states: list[Array],
    step: int,
    grad_scale: float,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled_weight_decay: bool,
) -> bool:
    """`states` are exp_avg, exp_avg_sq and, for AMSGrad, max_exp_avg_sq. Returns that they have moved.

    1 - beta**t is a difference of two rounded numbers, as torch's: for beta 0.9999 it is right to some 1e-12 at the
    first steps, to 1e-16 from step 10,000 on.
    """
    dtype = param.dtype.type
    exp_avg, exp_avg_sq, *maximum = states
    beta1, beta2 = betas
    correction = math.sqrt(1 - power(beta2, step))
    lr_t = dtype(lr * correction / (1 - power(beta1, step)))
    eps_t = dtype(max(eps, least_eps(dtype, beta2)) * correction)
    coupled = dtype(0 if decoupled_weight_decay else weight_decay)

    g = grad * dtype(grad_scale)
    if decoupled_weight_decay:
        param *= dtype(1 - lr * weight_decay)
    if coupled != 0:
        g = g + coupled * param
    m = averaged(exp_avg, g, beta1)
    v = dtype(1 - beta2) * (g * g)
    if dtype(beta2) != 0:
        v = dtype(beta2) * exp_avg_sq + v
    largest = np.maximum(maximum[0], v) if maximum else v
    if lr_t != 0:
        param -= lr_t * (m / (np.sqrt(largest) + eps_t))
    exp_avg[...] = flush_subnormal(m)
    exp_avg_sq[...] = raise_square(v, dtype)
    if maximum:
        maximum[0][...] = raise_square(largest, dtype)
    return True


def least_eps(dtype: Any, beta2: float) -> float:
    """The gradient whose share (1 - b2) * g**2 is just rounded to 0: so what has no denominator is no long step."""
    return (2.0**-75 if dtype == np.float32 else 2.0**-537) / math.sqrt(1 - beta2)


class Adam(Base):
    _rule = "adam"

    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: WeightDecay = 0.0,
        *,
        amsgrad: bool = False,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = None,
    ):
        self._step_function = adam_update
        self._options = {"amsgrad": amsgrad, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay},
            ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if amsgrad else ("exp_avg", "exp_avg_sq"),
            {"decoupled_weight_decay": decoupled_weight_decay},
            maximize=maximize,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )


class AdamW(Adam):
    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: WeightDecay = 1e-2,
        *,
        amsgrad: bool = False,
        maximize: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )
