"""Steps, averages, norms, clipping and penalties of arrays and of nests of them inside ``@njit``."""

from __future__ import annotations

from math import inf, isfinite

from numba.core import types
from numba.extending import overload, register_jitable

from fastopt import optimizers
from fastopt._njit.checks import (
    Refused,
    check_array,
    check_flags,
    check_integers,
    check_numbers,
    given,
    is_none,
    refuse,
)
from fastopt._njit.kernel import float64, int64, kernel
from fastopt._njit.nests import check_arrays, table_of

EPS_TOO_SMALL = 2  # what a step in kernels/optimizers/njit.hpp returns for an eps that changes no denominator

TOO_LATE = 2**63  # a step number that the kernels cannot take, which np.uint64 can be

adam_scalars = (int64, *[float64] * 5, int64, float64)
adam_step, adam_steps = kernel("adam_step", 4, *adam_scalars), kernel("adam_steps", 1, *adam_scalars)
adam_table = table_of("param", "grad", "exp_avg", "exp_avg_sq")


@overload(optimizers.adam_step)
def _adam_step(
    param,
    grad,
    exp_avg,
    exp_avg_sq,
    step,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    decoupled_weight_decay=False,
    maximize=False,
    grad_multiplier=1.0,
):
    check_arrays("param", param, written=True)
    check_arrays("grad", grad, param, "param")
    check_arrays("exp_avg", exp_avg, param, "param", written=True)
    check_arrays("exp_avg_sq", exp_avg_sq, param, "param", written=True)
    check_integers(step=step)
    check_numbers(lr=lr, eps=eps, weight_decay=weight_decay, grad_multiplier=grad_multiplier)
    check_flags(decoupled_weight_decay=decoupled_weight_decay, maximize=maximize)
    if given(betas):
        if not isinstance(betas, types.BaseTuple) or len(betas) != 2:
            raise refuse("betas", "a tuple of two floats", betas)
        check_numbers(**{"betas[0]": betas[0], "betas[1]": betas[1]})
    nests = not isinstance(param, types.Array)

    def implementation(
        param,
        grad,
        exp_avg,
        exp_avg_sq,
        step,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        decoupled_weight_decay=False,
        maximize=False,
        grad_multiplier=1.0,
    ):
        if nests:
            table = adam_table(param, grad, exp_avg, exp_avg_sq)
        else:
            if grad.shape != param.shape:
                raise Refused("grad: expected shape {} like param, got {}", param.shape, grad.shape)
            if exp_avg.shape != param.shape:
                raise Refused("exp_avg: expected shape {} like param, got {}", param.shape, exp_avg.shape)
            if exp_avg_sq.shape != param.shape:
                raise Refused("exp_avg_sq: expected shape {} like param, got {}", param.shape, exp_avg_sq.shape)
        check_number_of_step(step)
        check_shared(lr, weight_decay, grad_multiplier)
        if not (0 <= betas[0] < 1 and 0 <= betas[1] < 1):
            raise Refused("betas: expected two numbers >= 0 and < 1, got {}", betas)
        if not 0 < eps < inf:
            raise Refused("eps: expected a finite number > 0, got {}", eps)
        multiplier = -grad_multiplier if maximize else grad_multiplier
        scalars = (step, lr, betas[0], betas[1], eps, weight_decay, decoupled_weight_decay, multiplier)
        wrong = adam_steps(table, *scalars) if nests else adam_step(param, grad, exp_avg, exp_avg_sq, *scalars)
        if wrong == EPS_TOO_SMALL:
            raise Refused("eps: expected at least 2**-87 in float32, 2**-564 in float64, got {}", eps)
        if wrong:
            raise ValueError("param, grad, exp_avg, exp_avg_sq: expected memory apart, got arrays that overlap")

    return implementation


@register_jitable
def check_number_of_step(step):
    if step < 1:
        raise Refused("step: expected an int >= 1, got {}", step)
    if step >= TOO_LATE:
        raise Refused("step: expected an int < 2**63, got {}", step)


@register_jitable
def check_shared(lr, weight_decay, grad_multiplier):
    if not 0 <= lr < inf:
        raise Refused("lr: expected a finite number >= 0, got {}", lr)
    if not 0 <= weight_decay < inf:
        raise Refused("weight_decay: expected a finite number >= 0, got {}", weight_decay)
    if not -inf < grad_multiplier < inf:
        raise Refused("grad_multiplier: expected a finite number, got {}", grad_multiplier)


sgd_scalars = (int64, *[float64] * 4, int64, float64)
sgd_step, sgd_steps = kernel("sgd_step", 3, *sgd_scalars), kernel("sgd_steps", 1, *sgd_scalars)
sgd_table = table_of("param", "grad", "momentum_buffer")


@overload(optimizers.sgd_step)
def _sgd_step(
    param,
    grad,
    momentum_buffer,
    step,
    lr=1e-3,
    momentum=0.0,
    dampening=0.0,
    weight_decay=0.0,
    nesterov=False,
    maximize=False,
    grad_multiplier=1.0,
):
    check_arrays("param", param, written=True)
    check_arrays("grad", grad, param, "param")
    if not is_none(momentum_buffer):
        check_arrays("momentum_buffer", momentum_buffer, param, "param", written=True)
    check_integers(step=step)
    check_numbers(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)
    check_numbers(grad_multiplier=grad_multiplier)
    check_flags(nesterov=nesterov, maximize=maximize)
    nests = not isinstance(param, types.Array)

    def implementation(
        param,
        grad,
        momentum_buffer,
        step,
        lr=1e-3,
        momentum=0.0,
        dampening=0.0,
        weight_decay=0.0,
        nesterov=False,
        maximize=False,
        grad_multiplier=1.0,
    ):
        if nests:
            table = sgd_table(param, grad, momentum_buffer, None)
        elif grad.shape != param.shape:
            raise Refused("grad: expected shape {} like param, got {}", param.shape, grad.shape)
        if momentum_buffer is None:
            if momentum != 0:
                raise Refused("momentum_buffer: expected an array for momentum {}, got None", momentum)
        elif not nests and momentum_buffer.shape != param.shape:
            raise Refused("momentum_buffer: expected shape {} like param, got {}", param.shape, momentum_buffer.shape)
        check_number_of_step(step)
        check_shared(lr, weight_decay, grad_multiplier)
        if not 0 <= momentum < inf:
            raise Refused("momentum: expected a finite number >= 0, got {}", momentum)
        if not -inf < dampening < inf:
            raise Refused("dampening: expected a finite number, got {}", dampening)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("nesterov: expected momentum > 0 and dampening = 0")
        multiplier = -grad_multiplier if maximize else grad_multiplier
        scalars = (step, lr, momentum, dampening, weight_decay, nesterov, multiplier)
        if sgd_steps(table, *scalars) if nests else sgd_step(param, grad, momentum_buffer, *scalars):
            raise ValueError("param, grad, momentum_buffer: expected memory apart, got arrays that overlap")

    return implementation


rmsprop_step = kernel("rmsprop_step", 5, *[float64] * 6)


@overload(optimizers.rmsprop_step)
def _rmsprop_step(
    param,
    grad,
    square_avg,
    momentum_buffer=None,
    grad_avg=None,
    lr=1e-2,
    alpha=0.99,
    eps=1e-8,
    weight_decay=0.0,
    momentum=0.0,
    maximize=False,
    grad_multiplier=1.0,
):
    check_array("param", param, written=True)
    check_array("grad", grad, param, "param")
    check_array("square_avg", square_avg, param, "param", written=True)
    if not is_none(momentum_buffer):
        check_array("momentum_buffer", momentum_buffer, param, "param", written=True)
    if not is_none(grad_avg):
        check_array("grad_avg", grad_avg, param, "param", written=True)
    check_numbers(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
    check_numbers(grad_multiplier=grad_multiplier)
    check_flags(maximize=maximize)

    def implementation(
        param,
        grad,
        square_avg,
        momentum_buffer=None,
        grad_avg=None,
        lr=1e-2,
        alpha=0.99,
        eps=1e-8,
        weight_decay=0.0,
        momentum=0.0,
        maximize=False,
        grad_multiplier=1.0,
    ):
        if grad.shape != param.shape:
            raise Refused("grad: expected shape {} like param, got {}", param.shape, grad.shape)
        if square_avg.shape != param.shape:
            raise Refused("square_avg: expected shape {} like param, got {}", param.shape, square_avg.shape)
        if momentum_buffer is None:
            if momentum != 0:
                raise Refused("momentum_buffer: expected an array for momentum {}, got None", momentum)
        elif momentum_buffer.shape != param.shape:
            raise Refused("momentum_buffer: expected shape {} like param, got {}", param.shape, momentum_buffer.shape)
        if grad_avg is not None and grad_avg.shape != param.shape:
            raise Refused("grad_avg: expected shape {} like param, got {}", param.shape, grad_avg.shape)
        check_shared(lr, weight_decay, grad_multiplier)
        if not 0 <= alpha < 1:
            raise Refused("alpha: expected a number >= 0 and < 1, got {}", alpha)
        if not 0 < eps < inf:
            raise Refused("eps: expected a finite number > 0, got {}", eps)
        if not 0 <= momentum < inf:
            raise Refused("momentum: expected a finite number >= 0, got {}", momentum)
        multiplier = -grad_multiplier if maximize else grad_multiplier
        arrays = (param, grad, square_avg, momentum_buffer, grad_avg)
        wrong = rmsprop_step(*arrays, lr, alpha, eps, weight_decay, momentum, multiplier)
        if wrong == EPS_TOO_SMALL:
            raise Refused("eps: expected at least 2**-87 in float32, 2**-564 in float64, got {}", eps)
        if wrong:
            raise ValueError("param, grad and the states: expected memory apart, got arrays that overlap")

    return implementation


ema_update, ema_updates = kernel("ema_update", 2, float64), kernel("ema_updates", 1, float64)
ema_table = table_of("average", "value")


@overload(optimizers.ema_update)
def _ema_update(average, value, decay):
    check_arrays("average", average, written=True)
    check_arrays("value", value, average, "average")
    check_numbers(decay=decay)
    nests = not isinstance(average, types.Array)

    def implementation(average, value, decay):
        if nests:
            table = ema_table(average, value, None, None)
        elif value.shape != average.shape:
            raise Refused("value: expected shape {} like average, got {}", average.shape, value.shape)
        if not 0 <= decay <= 1:
            raise Refused("decay: expected a number from 0 to 1, got {}", decay)
        if ema_updates(table, decay) if nests else ema_update(average, value, decay):
            raise ValueError("value: expected memory apart from average, got arrays that overlap")

    return implementation


# ---- sums ------------------------------------------------------------------------------------------------------------

add_squares = kernel("add_squares", 1, float64, float64, result=float64)
lost_squares = kernel("lost_squares", 0, float64)
square_scale = kernel("square_scale", 0, float64, result=float64)
norm = kernel("norm", 0, float64, float64, result=float64)
penalty = kernel("penalty", 0, float64, float64, float64, result=float64)


def add_all_squares(total, arrays, scale):
    """`total` and the sum of squares of each array times scale, one by one; with a scale of 0 the largest magnitude.

    For compiled code only.
    """
    raise NotImplementedError


@overload(add_all_squares)
def _add_all_squares(total, arrays, scale):
    if isinstance(arrays, types.Array):
        return lambda total, arrays, scale: add_squares(arrays, total, scale)
    if isinstance(arrays, types.NoneType) or (isinstance(arrays, types.BaseTuple) and len(arrays) == 0):
        return lambda total, arrays, scale: total
    if isinstance(arrays, types.BaseTuple):
        return lambda total, arrays, scale: add_all_squares(add_all_squares(total, arrays[0], scale), arrays[1:], scale)

    def implementation(total, arrays, scale):
        for array in arrays:
            total = add_all_squares(total, array, scale)
        return total

    return implementation


@register_jitable
def all_squares(arrays):
    """(the sum of the squares of all arrays times scale, scale), the latter 1 but at the ends of the range."""
    total, scale = add_all_squares(0.0, arrays, 1.0), 1.0
    if lost_squares(total):
        scale = square_scale(add_all_squares(0.0, arrays, 0.0))
        total = add_all_squares(0.0, arrays, scale)
    return total, scale


@overload(optimizers.grad_norm)
def _grad_norm(grads):
    check_arrays("grads", grads, or_none=True)
    return lambda grads: norm(*all_squares(grads))


clip_grads = kernel("clip_grads", 1, float64, float64)
grads_table = table_of("grads")


@overload(optimizers.clip_grad_norm_)
def _clip_grad_norm_(grads, max_norm, error_if_nonfinite=False):
    check_arrays("grads", grads, or_none=True, written=True)
    check_numbers(max_norm=max_norm)
    check_flags(error_if_nonfinite=error_if_nonfinite)

    def implementation(grads, max_norm, error_if_nonfinite=False):
        if not 0 < max_norm < inf:
            raise Refused("max_norm: expected a finite number > 0, got {}", max_norm)
        total = norm(*all_squares(grads))
        if error_if_nonfinite and not isfinite(total):
            raise Refused(
                "grads: expected a finite norm, got {}; error_if_nonfinite=False scales by it all the same", total
            )
        if clip_grads(grads_table(grads, None, None, None), total, max_norm):
            raise ValueError("grads: expected memory apart, got arrays that overlap")
        return total

    return implementation


@overload(optimizers.l2_penalty)
def _l2_penalty(params, weight_decay):
    check_arrays("params", params)
    check_numbers(weight_decay=weight_decay)

    def implementation(params, weight_decay):
        if not 0 <= weight_decay < inf:
            raise Refused("weight_decay: expected a finite number >= 0, got {}", weight_decay)
        total, scale = all_squares(params)
        return penalty(total, weight_decay, scale)

    return implementation
