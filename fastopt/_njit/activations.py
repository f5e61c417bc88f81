"""Leaky ReLU, the hyperbolic tangent, their gradients and the count of inactive units inside ``@njit``."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import overload, register_jitable

from fastopt import activations
from fastopt._njit.checks import (
    Refused,
    check_array,
    check_finite,
    check_integers,
    check_numbers,
    check_output,
    check_shape,
    new_or_checked,
    refuse,
)
from fastopt._njit.kernel import float64, int64, kernel

leaky_relu = kernel("leaky_relu", 2, float64)
leaky_relu_backward = kernel("leaky_relu_backward", 3, float64)
tanh = kernel("tanh", 2)
tanh_backward = kernel("tanh_backward", 3)
bias_tanh = kernel("bias_tanh", 3, int64)
bias_tanh_backward = kernel("bias_tanh_backward", 4, int64)
inactive_fraction = kernel("inactive_fraction", 3, int64)


@overload(activations.leaky_relu)
def _leaky_relu(x, negative_slope=0.01, out=None):
    check_array("x", x)
    check_numbers(negative_slope=negative_slope)
    check_output("out", out, x, "x")

    def implementation(x, negative_slope=0.01, out=None):
        y = new_or_checked(out, x)
        check_finite("negative_slope", negative_slope)
        if leaky_relu(y, x, negative_slope):
            raise ValueError("out: expected x itself or memory apart from it, got arrays that overlap in part")
        return y

    return implementation


@overload(activations.leaky_relu_backward)
def _leaky_relu_backward(grad, x, negative_slope=0.01, out=None):
    check_array("x", x)
    check_array("grad", grad, x, "x")
    check_numbers(negative_slope=negative_slope)
    check_output("out", out, grad, "grad")

    def implementation(grad, x, negative_slope=0.01, out=None):
        check_shape("grad", grad, x.shape, "x")
        dx = new_or_checked(out, grad)
        check_finite("negative_slope", negative_slope)
        if leaky_relu_backward(dx, grad, x, negative_slope):
            raise ValueError("out: expected grad or x itself or memory apart, got arrays that overlap in part")
        return dx

    return implementation


@overload(activations.tanh)
def _tanh(x, out=None):
    check_array("x", x)
    check_output("out", out, x, "x")

    def implementation(x, out=None):
        y = new_or_checked(out, x)
        if tanh(y, x):
            raise ValueError("out: expected x itself or memory apart from it, got arrays that overlap in part")
        return y

    return implementation


@overload(activations.tanh_backward)
def _tanh_backward(grad, y, out=None):
    check_array("y", y)
    check_array("grad", grad, y, "y")
    check_output("out", out, grad, "grad")

    def implementation(grad, y, out=None):
        check_shape("grad", grad, y.shape, "y")
        dx = new_or_checked(out, grad)
        if tanh_backward(dx, grad, y):
            raise ValueError("out: expected grad or y itself or memory apart, got arrays that overlap in part")
        return dx

    return implementation


def check_bias(bias, x):
    check_array("bias", bias)
    if bias.dtype != x.dtype:
        raise refuse("bias", f"{x.dtype} like x", bias.dtype, f"bias.astype(np.{x.dtype}) converts it")
    if x.ndim == 0 or bias.ndim != 1:
        raise refuse("x, bias", "arrays of shape (..., columns) and (columns,)", f"{x.ndim} and {bias.ndim} dimensions")


@register_jitable
def check_bias_size(bias, x):
    if bias.size != x.shape[-1]:
        raise Refused("bias: expected one number for each of the {} columns of x, got {}", x.shape[-1], bias.size)


@overload(activations.bias_tanh)
def _bias_tanh(x, bias, out=None):
    check_array("x", x)
    check_bias(bias, x)
    check_output("out", out, x, "x")

    def implementation(x, bias, out=None):
        check_bias_size(bias, x)
        y = new_or_checked(out, x)
        if bias_tanh(y, x, bias, bias.size):
            raise ValueError("out: expected x itself or memory apart from x and bias, got arrays that overlap")
        return y

    return implementation


@overload(activations.bias_tanh_backward)
def _bias_tanh_backward(grad, y, out=None):
    check_array("y", y)
    if y.ndim == 0:
        raise refuse("y", "an array of shape (..., columns)", y)
    check_array("grad", grad, y, "y")
    check_output("out", out, grad, "grad")

    def implementation(grad, y, out=None):
        check_shape("grad", grad, y.shape, "y")
        dx, dbias = new_or_checked(out, grad), np.empty(y.shape[-1], y.dtype)
        if bias_tanh_backward(dx, dbias, grad, y, dbias.size):
            raise ValueError("out: expected grad or y itself or memory apart, got arrays that overlap in part")
        return dx, dbias

    return implementation


@overload(activations.inactive_fraction)
def _inactive_fraction(x, axis=0):
    check_array("x", x)
    single = not isinstance(axis, types.BaseTuple)
    if single:
        check_integers(axis=axis)
    elif len(axis) == 0 or not all(isinstance(part, types.Integer) for part in axis):
        raise refuse("axis", "an int or a tuple of ints", axis)
    dimensions, axes = x.ndim, 1 if single else len(axis)
    if axes > dimensions:
        raise refuse("axis", f"axes of the {dimensions} dimensions of x", axis)
    no_order = (0,) * dimensions

    def implementation(x, axis=0):
        is_batch, order, place = np.zeros(dimensions, np.bool_), no_order, 0
        for a in (axis,) if single else axis:
            if not -dimensions <= a < dimensions or is_batch[a]:
                raise Refused("axis: expected different axes of the {} dimensions of x, got {}", dimensions, axis)
            is_batch[a] = True
            order = tuple_setitem(order, place, a % dimensions)
            place += 1
        for a in range(dimensions):
            if not is_batch[a]:
                order = tuple_setitem(order, place, a)
                place += 1
        rows = x.transpose(order)  # those of the batch, each of all units
        batch = 1
        for n in rows.shape[:axes]:
            batch *= n
        if batch == 0:
            raise Refused("x: expected a batch of at least one along axis {}, got shape {}", axis, x.shape)
        fractions, counts = np.empty(rows.shape[axes:]), np.empty(rows.shape[axes:], np.int64)
        if is_batch[:axes].all():
            inactive_fraction(x, fractions, counts, batch)
        else:
            inactive_fraction(rows.copy(), fractions, counts, batch)
        return fractions

    return implementation
