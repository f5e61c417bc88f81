"""Perceptrons, and acting by two of them, inside ``@njit``."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from fastopt import policy
from fastopt._core import MOST_LAYERS
from fastopt._njit.checks import (
    Refused,
    check_array,
    check_no_output,
    check_numbers,
    check_positive,
    check_shape,
    is_none,
    refuse,
)
from fastopt._njit.kernel import float64, int64, kernel
from fastopt._njit.nests import parts_of
from fastopt._njit.policy import gaussian_log_prob

ACTIVATIONS = {"tanh": 1, "leaky_relu": 2}  # FASTOPT_TANH and FASTOPT_LEAKY_RELU
NO_ACTIVATION = 0

dense = kernel("dense", 4, int64, int64, int64, float64)
dense_backward = kernel("dense_backward", 4, int64, int64, int64, float64)
dense_gradient = kernel("dense_gradient", 4, int64, int64)
categorical_race = kernel("categorical_race", 4, *[int64] * 5)
gaussian_shift = kernel("gaussian_shift", 4, int64)


# ---- checks at compile time ------------------------------------------------------------------------------------------


def check_network(x_name, x, activation, negative_slope, **networks):
    """Refuse what is no batch and no network; return the code of the activation."""
    check_array(x_name, x)
    if x.ndim != 2:
        raise refuse(x_name, "2 dimensions, (batch, inputs)", x.ndim)
    for name, layers in networks.items():
        check_layers(name, layers, x, x_name)
    check_numbers(negative_slope=negative_slope)
    return activation_code(activation)


def check_layers(name, kind, x, x_name):
    parts = parts_of(kind)
    if parts is None:
        raise refuse(name, "a tuple or list of (weight, bias) pairs", kind)
    for k, layer in enumerate(parts):
        pair = list(layer) if isinstance(layer, types.BaseTuple) else []
        if len(pair) != 2:
            raise refuse(f"{name}[{k}]", "a (weight, bias) pair", layer)
        for j, (array, ndim) in enumerate(zip(pair, (2, 1), strict=True)):
            check_array(f"{name}[{k}][{j}]", array)
            if array.dtype != x.dtype:
                raise refuse(f"{name}[{k}][{j}]", f"{x.dtype} like {x_name}", array.dtype)
            if array.ndim != ndim:
                raise refuse(f"{name}[{k}][{j}]", f"{ndim} dimensions", array.ndim)
    check_one_kind(name, kind, "layers of one kind, all writeable or none")


def check_one_kind(name, kind, expected):
    """A tuple of several kinds is no sequence in compiled code."""
    if isinstance(kind, types.BaseTuple) and len(set(kind)) != 1:
        raise refuse(name, expected, kind)


def activation_code(kind):
    value = kind.literal_value if isinstance(kind, types.Literal) else getattr(kind, "value", kind)
    if value not in ACTIVATIONS:
        raise refuse("activation", '"tanh" or "leaky_relu", written out inside @njit', kind)
    return ACTIVATIONS[value]


def sizes_of_choices(kind):
    """Return what gives the numbers of actions of each choice from those and all columns."""
    if is_none(kind):
        return register_jitable(lambda choices, columns: (columns,))
    sizes = list(kind) if isinstance(kind, types.BaseTuple) else []
    if not sizes or not all(isinstance(size, types.Integer) for size in sizes):
        raise refuse("choices", "a tuple of ints inside @njit", kind)
    if not all(isinstance(size, types.IntegerLiteral) for size in sizes):
        if len({types.unliteral(size) for size in sizes}) != 1:
            raise refuse("choices", "a tuple of ints of one type inside @njit", kind)
        return register_jitable(lambda choices, columns: choices)
    written = tuple(size.literal_value for size in sizes)  # a tuple of literals is no sequence in compiled code
    return register_jitable(lambda choices, columns: written)


# ---- in compiled code ------------------------------------------------------------------------------------------------


@register_jitable
def check_sizes(name, layers, inputs):
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise Refused("{}: expected 1 to {} layers, got {}", name, MOST_LAYERS, len(layers))
    if inputs == 0:
        raise Refused("{}: expected at least one input, got none", name)
    for k in range(len(layers)):
        weight, bias = layers[k]
        if weight.shape[0] == 0 or weight.shape[1] != inputs:
            raise Refused("{}[{}][0]: expected shape (outputs, {}), got {}", name, k, inputs, weight.shape)
        if bias.shape != weight.shape[:1]:
            raise Refused("{}[{}][1]: expected shape {}, got {}", name, k, weight.shape[:1], bias.shape)
        inputs = weight.shape[0]


@register_jitable
def forward(x, layers, code, slope):
    """The outputs of all layers."""
    outputs = []
    before = x
    for k in range(len(layers)):
        weight, bias = layers[k]
        y = np.empty((len(x), len(bias)), x.dtype)
        last = k == len(layers) - 1
        dense(y, before, weight, bias, weight.shape[1], len(bias), NO_ACTIVATION if last else code, slope)
        outputs.append(y)
        before = y
    return outputs


@register_jitable
def check_acting(observations, actor, critic, noise, slope):
    """Return how many outputs the actor has."""
    check_positive("negative_slope", slope)
    check_sizes("actor", actor, observations.shape[1])
    check_sizes("critic", critic, observations.shape[1])
    if len(critic[-1][1]) != 1:
        raise Refused("critic: expected one output, got {}", len(critic[-1][1]))
    columns = len(actor[-1][1])
    check_shape("noise", noise, (len(observations), columns), "the actor's outputs")
    return columns


# ---- perceptrons -----------------------------------------------------------------------------------------------------


@overload(policy.perceptron, prefer_literal=True)
def _perceptron(x, layers, activation="tanh", negative_slope=0.0, out=None):
    code = check_network("x", x, activation, negative_slope, layers=layers)
    check_no_output(out)

    def implementation(x, layers, activation="tanh", negative_slope=0.0, out=None):
        check_positive("negative_slope", negative_slope)
        check_sizes("layers", layers, x.shape[1])
        return forward(x, layers, code, negative_slope)

    return implementation


@overload(policy.perceptron_backward, prefer_literal=True)
def _perceptron_backward(grad, x, outputs, layers, activation="tanh", negative_slope=0.0, out=None):
    code = check_network("x", x, activation, negative_slope, layers=layers)
    check_array("grad", grad, x, "x")
    if parts_of(outputs) is None:
        raise refuse("outputs", "what perceptron returned", outputs)
    check_one_kind("outputs", outputs, "what perceptron returned")
    for k, part in enumerate(parts_of(outputs)):
        check_array(f"outputs[{k}]", part, x, "x")
    check_no_output(out)

    def implementation(grad, x, outputs, layers, activation="tanh", negative_slope=0.0, out=None):
        check_positive("negative_slope", negative_slope)
        check_sizes("layers", layers, x.shape[1])
        rows, count = len(x), len(layers)
        if rows == 0:
            raise Refused("x: expected a batch of at least one, got shape {}", x.shape)
        if len(outputs) != count:
            raise Refused("outputs: expected {} arrays, one for each layer, got {}", count, len(outputs))
        for k in range(count - 1):
            if outputs[k].shape != (rows, len(layers[k][1])):
                raise Refused("outputs[{}]: expected shape {}, got {}", k, (rows, len(layers[k][1])), outputs[k].shape)
        if grad.shape != (rows, len(layers[count - 1][1])):
            raise Refused("grad: expected shape {}, got {}", (rows, len(layers[count - 1][1])), grad.shape)
        gradients = [(np.empty_like(weight), np.empty_like(bias)) for weight, bias in layers]
        dz = grad
        for k in range(count - 1, -1, -1):
            weight, bias = layers[k]
            before = outputs[k - 1] if k > 0 else x
            dweight, dbias = gradients[k]
            dense_gradient(dweight, dbias, dz, before, rows, len(bias))
            if k > 0:
                dx = np.empty_like(before)
                dense_backward(dx, dz, weight, before, weight.shape[1], len(bias), code, negative_slope)
                dz = dx
        return gradients

    return implementation


# ---- acting ----------------------------------------------------------------------------------------------------------


@overload(policy.categorical_act, prefer_literal=True)
def _categorical_act(observations, actor, critic, noise, choices=None, activation="tanh", negative_slope=0.0):
    code = check_network("observations", observations, activation, negative_slope, actor=actor, critic=critic)
    check_array("noise", noise, observations, "observations")
    sizes_of = sizes_of_choices(choices)
    shaped = register_jitable((lambda actions: actions.reshape(-1)) if is_none(choices) else (lambda actions: actions))

    def implementation(observations, actor, critic, noise, choices=None, activation="tanh", negative_slope=0.0):
        rows, columns = len(observations), check_acting(observations, actor, critic, noise, negative_slope)
        sizes = sizes_of(choices, columns)
        total, least, most = 0, 1, 1
        for size in sizes:
            total, least, most = total + size, min(least, size), max(most, size)
        if total != columns or least < 1 or most > columns:
            raise Refused("choices: expected positive numbers of which {} is the sum, got {}", columns, sizes)
        logits = forward(observations, actor, code, negative_slope)[-1]
        values = forward(observations, critic, code, negative_slope)[-1].reshape(-1)
        actions, log_prob = np.empty((rows, len(sizes)), np.int64), np.empty(rows, observations.dtype)
        first = 0
        for k in range(len(sizes)):
            categorical_race(log_prob, actions, logits, noise, first, sizes[k], columns, k, len(sizes))
            first += sizes[k]
        return shaped(actions), log_prob, values

    return implementation


@overload(policy.gaussian_act, prefer_literal=True)
def _gaussian_act(observations, actor, critic, log_std, noise, activation="tanh", negative_slope=0.0):
    code = check_network("observations", observations, activation, negative_slope, actor=actor, critic=critic)
    check_array("noise", noise, observations, "observations")
    check_array("log_std", log_std)
    if log_std.dtype != observations.dtype or log_std.ndim != 1:
        raise refuse("log_std", f"one dimension of {observations.dtype} like observations", log_std)

    def implementation(observations, actor, critic, log_std, noise, activation="tanh", negative_slope=0.0):
        rows, columns = len(observations), check_acting(observations, actor, critic, noise, negative_slope)
        check_shape("log_std", log_std, (columns,), "the actor's outputs")
        mean = forward(observations, actor, code, negative_slope)[-1]
        values = forward(observations, critic, code, negative_slope)[-1].reshape(-1)
        actions, log_prob = np.empty_like(mean), np.empty(rows, mean.dtype)
        gaussian_shift(actions, mean, log_std, noise, columns)
        gaussian_log_prob(log_prob, mean, log_std, actions, columns, 0)
        return actions, log_prob, values

    return implementation
