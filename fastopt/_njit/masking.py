"""Dropout, alone and in the fused layer, inside ``@njit``."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable, typeof_impl

from fastopt import masking
from fastopt._njit.activations import check_bias, check_bias_size
from fastopt._njit.checks import (
    Refused,
    check_address,
    check_array,
    check_flags,
    check_integers,
    check_numbers,
    check_output,
    check_positive,
    check_rng,
    check_shape,
    new_or_checked,
    refuse,
)
from fastopt._njit.kernel import float64, int64, kernel, uint64
from fastopt.masking import DropoutMask
from fastopt.random import DOMAIN_DROPOUT

# ---- dropout ---------------------------------------------------------------------------------------------------------

dropout = kernel("dropout", 2, float64, uint64, uint64, int64)


@register_jitable
def check_probability(p):
    if not 0 <= p <= 1:
        raise Refused("p: expected a number from 0 to 1, got {}", p)


@register_jitable
def new_mask(shape, p, training, rng):
    check_probability(p)
    check_address(rng[0], rng[1])
    if training:
        return DropoutMask(np.uint64(rng[0]), np.uint64(rng[1]), float(p), shape)
    return DropoutMask(np.uint64(0), np.uint64(0), 0.0, shape)


@overload(masking.dropout)
def _dropout(x, p=0.5, training=True, rng=None, out=None):
    check_array("x", x)
    check_numbers(p=p)
    check_flags(training=training)
    check_rng(rng)
    check_output("out", out, x, "x")

    def implementation(x, p=0.5, training=True, rng=None, out=None):
        y = new_or_checked(out, x)
        mask = new_mask(x.shape, p, training, rng)
        if dropout(y, x, mask.p, mask.seed, mask.stream, DOMAIN_DROPOUT):
            raise ValueError("out: expected x itself or memory apart from it, got arrays that overlap in part")
        return y, mask

    return implementation


@overload(masking.dropout_backward)
def _dropout_backward(grad, mask, out=None):
    check_array("grad", grad)
    check_mask(mask, "grad", grad)
    check_output("out", out, grad, "grad")

    def implementation(grad, mask, out=None):
        check_shape("grad", grad, mask.shape, "mask")
        check_probability(mask.p)
        check_address(mask.seed, mask.stream)
        dx = new_or_checked(out, grad)
        if dropout(dx, grad, mask.p, mask.seed, mask.stream, DOMAIN_DROPOUT):
            raise ValueError("out: expected grad itself or memory apart from it, got arrays that overlap in part")
        return dx

    return implementation


@typeof_impl.register(DropoutMask)
def _typeof_mask(value, context):
    """Always of unsigned numbers: Numba takes a Python int for an int64, and every other seed is larger."""
    shape = types.BaseTuple.from_types([int64] * len(value.shape))
    return types.NamedTuple((uint64, uint64, float64, shape), DropoutMask)


def check_mask(mask, name, array):
    if not isinstance(mask, types.BaseNamedTuple) or mask.instance_class is not DropoutMask:
        raise refuse("mask", "the DropoutMask that dropout returned", mask)
    check_integers(**{"mask.seed": mask.types[0], "mask.stream": mask.types[1]})
    check_numbers(**{"mask.p": mask.types[2]})
    if len(mask.types[3]) != array.ndim:
        raise refuse(name, f"{len(mask.types[3])} dimensions like mask", array.ndim)


# ---- the fused layer -------------------------------------------------------------------------------------------------

bias_leaky_relu_dropout = kernel("bias_leaky_relu_dropout", 3, int64, float64, float64, uint64, uint64, int64)
bias_leaky_relu_dropout_backward = kernel("bias_leaky_relu_dropout_backward", 4, int64, float64, float64)


@overload(masking.bias_leaky_relu_dropout)
def _bias_leaky_relu_dropout(x, bias, negative_slope=0.01, p=0.5, training=True, rng=None, out=None):
    check_array("x", x)
    check_bias(bias, x)
    check_numbers(negative_slope=negative_slope, p=p)
    check_flags(training=training)
    check_rng(rng)
    check_output("out", out, x, "x")

    def implementation(x, bias, negative_slope=0.01, p=0.5, training=True, rng=None, out=None):
        check_bias_size(bias, x)
        check_positive("negative_slope", negative_slope)
        y = new_or_checked(out, x)
        mask = new_mask(x.shape, p, training, rng)
        if bias_leaky_relu_dropout(
            y, x, bias, bias.size, negative_slope, mask.p, mask.seed, mask.stream, DOMAIN_DROPOUT
        ):
            raise ValueError("out: expected x itself or memory apart from x and bias, got arrays that overlap")
        return y, mask

    return implementation


@overload(masking.bias_leaky_relu_dropout_backward)
def _bias_leaky_relu_dropout_backward(grad, y, mask, negative_slope=0.01, out=None):
    check_array("y", y)
    if y.ndim == 0:
        raise refuse("y", "an array of shape (..., columns)", y)
    check_array("grad", grad, y, "y")
    check_mask(mask, "y", y)
    check_numbers(negative_slope=negative_slope)
    check_output("out", out, grad, "grad")

    def implementation(grad, y, mask, negative_slope=0.01, out=None):
        check_shape("y", y, mask.shape, "mask")
        check_shape("grad", grad, y.shape, "y")
        check_probability(mask.p)
        check_positive("negative_slope", negative_slope)
        dx = new_or_checked(out, grad)
        dbias = np.empty(y.shape[-1], y.dtype)
        if bias_leaky_relu_dropout_backward(dx, dbias, grad, y, dbias.size, mask.p, negative_slope):
            raise ValueError("out: expected grad or y itself or memory apart, got arrays that overlap in part")
        return dx, dbias

    return implementation
