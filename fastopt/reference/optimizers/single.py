"""One step of one array."""

from __future__ import annotations

from fastopt.reference.core import Array
from fastopt.reference.optimizers.adam import adam_update
from fastopt.reference.optimizers.bfloat16 import widened
from fastopt.reference.optimizers.rmsprop import rmsprop_update
from fastopt.reference.optimizers.sgd import sgd_update


def adam_step(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
    grad_multiplier: float = 1.0,
) -> None:
    grad_scale = -grad_multiplier if maximize else grad_multiplier
    adam_update(
        param, grad, [exp_avg, exp_avg_sq], step, grad_scale, lr, betas, eps, weight_decay, decoupled_weight_decay
    )


def sgd_step(
    param: Array,
    grad: Array,
    momentum_buffer: Array | None,
    step: int,
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    grad_multiplier: float = 1.0,
) -> None:
    grad_scale = -grad_multiplier if maximize else grad_multiplier
    states = [] if momentum_buffer is None else [momentum_buffer]
    sgd_update(param, grad, states, step, grad_scale, lr, momentum, dampening, weight_decay, nesterov)


def rmsprop_step(
    param: Array,
    grad: Array,
    square_avg: Array,
    momentum_buffer: Array | None = None,
    grad_avg: Array | None = None,
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    maximize: bool = False,
    grad_multiplier: float = 1.0,
) -> None:
    grad_scale = -grad_multiplier if maximize else grad_multiplier
    buffer = [] if momentum_buffer is None or widened(param).dtype.type(momentum) == 0 else [momentum_buffer]
    mean = [] if grad_avg is None else [grad_avg]
    states = [*buffer, square_avg, *mean]
    rmsprop_update(param, grad, states, 1, grad_scale, lr, alpha, eps, weight_decay, momentum, bool(mean))
