"""Leaky ReLU and its gradient inside ``@njit``."""

from __future__ import annotations

from math import inf

from numba.extending import overload, register_jitable

from fastopt import activations
from fastopt._njit.checks import Refused, check_array, check_numbers, check_output, new_or_checked
from fastopt._njit.kernel import float64, kernel

leaky_relu = kernel("leaky_relu", 2, float64)
leaky_relu_backward = kernel("leaky_relu_backward", 3, float64)


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
        if grad.shape != x.shape:
            raise Refused("grad: expected shape {} like x, got {}", x.shape, grad.shape)
        dx = new_or_checked(out, grad)
        check_finite("negative_slope", negative_slope)
        if leaky_relu_backward(dx, grad, x, negative_slope):
            raise ValueError("out: expected grad or x itself or memory apart, got arrays that overlap in part")
        return dx

    return implementation


@register_jitable
def check_finite(name, number):
    if not -inf < number < inf:
        raise Refused("{}: expected a finite number, got {}", name, number)
