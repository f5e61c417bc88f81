"""Perceptrons, and acting by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastopt.reference.activations import leaky_relu, leaky_relu_backward, tanh, tanh_backward
from fastopt.reference.core import Array, column_sums
from fastopt.reference.policy.categorical import categorical_log_prob, softmax
from fastopt.reference.policy.gaussian import gaussian_log_prob, two_factors

__all__ = ["categorical_act", "gaussian_act", "perceptron", "perceptron_backward"]

PRODUCT_BLOCK = 64  # so many products are added up before they are added to the sum


def perceptron(
    x: Array,
    layers: Sequence[tuple[Array, Array]],
    *,
    activation: str = "tanh",
    negative_slope: float = 0.0,
    out: Sequence[Array] | None = None,
) -> list[Array]:
    outputs = []
    for k, (weight, bias) in enumerate(layers):
        x = _product(x, weight.T) + bias
        if k < len(layers) - 1:
            x = tanh(x) if activation == "tanh" else leaky_relu(x, negative_slope)
        if out is not None:
            out[k][...] = x
            x = out[k]
        outputs.append(x)
    return outputs


def perceptron_backward(
    grad: Array,
    x: Array,
    outputs: Sequence[Array],
    layers: Sequence[tuple[Array, Array]],
    *,
    activation: str = "tanh",
    negative_slope: float = 0.0,
    out: Sequence[tuple[Array, Array]] | None = None,
) -> list[tuple[Array, Array]]:
    grads = []
    for k in reversed(range(len(layers))):
        before = outputs[k - 1] if k else x
        grads.append((_product(grad.T, before), column_sums(grad)))
        if k:
            grad = _product(grad, layers[k][0])
            if activation == "tanh":
                grad = tanh_backward(grad, before)
            else:
                grad = leaky_relu_backward(grad, before, negative_slope)
    grads.reverse()
    for given, made in zip(out or [], grads, strict=bool(out)):
        given[0][...], given[1][...] = made
    return list(out) if out is not None else grads


def categorical_act(
    observations: Array,
    actor: Sequence[tuple[Array, Array]],
    critic: Sequence[tuple[Array, Array]],
    noise: Array,
    *,
    choices: Sequence[int] | None = None,
    activation: str = "tanh",
    negative_slope: float = 0.0,
) -> tuple[NDArray[np.int64], Array, Array]:
    logits = perceptron(observations, actor, activation=activation, negative_slope=negative_slope)[-1]
    values = perceptron(observations, critic, activation=activation, negative_slope=negative_slope)[-1][:, 0]
    ends = np.cumsum(choices or [logits.shape[1]])[:-1]
    actions, log_prob = [], []
    for own, its_noise in zip(np.split(logits, ends, axis=1), np.split(noise, ends, axis=1), strict=True):
        chosen = _race(own, its_noise)
        actions.append(chosen)
        log_prob.append(np.where(chosen < 0, np.nan, categorical_log_prob(own, chosen)).astype(own.dtype))
    total = log_prob[0]
    for more in log_prob[1:]:
        total = total + more
    return (actions[0] if choices is None else np.stack(actions, axis=1)), total, values


def gaussian_act(
    observations: Array,
    actor: Sequence[tuple[Array, Array]],
    critic: Sequence[tuple[Array, Array]],
    log_std: Array,
    noise: Array,
    *,
    activation: str = "tanh",
    negative_slope: float = 0.0,
) -> tuple[Array, Array, Array]:
    mean = perceptron(observations, actor, activation=activation, negative_slope=negative_slope)[-1]
    values = perceptron(observations, critic, activation=activation, negative_slope=negative_slope)[-1][:, 0]
    low, high = two_factors(log_std)
    actions = mean + (low * noise) * high
    return actions, gaussian_log_prob(mean, log_std, actions), values


def _product(a: Array, b: Array) -> Array:
    """a @ b, whose sums are in blocks of 64 products, each begun at 0 and added up in order, as these are."""
    total = np.zeros((len(a), b.shape[1]), a.dtype)
    for first in range(0, a.shape[1], PRODUCT_BLOCK):
        block = np.zeros_like(total)
        for k in range(first, min(first + PRODUCT_BLOCK, a.shape[1])):
            block = block + a[:, k, None] * b[k]
        total = block if first == 0 else total + block
    return total


def _race(logits: Array, noise: Array) -> NDArray[np.int64]:
    """The action whose noise / p is smallest; -1 where there is no distribution."""
    _, e, total = softmax(logits)
    speed = e / total[:, None] / noise
    most, chosen = np.zeros_like(total), np.zeros(len(e), np.int64)
    for k in range(e.shape[1]):
        faster = speed[:, k] > most
        most, chosen = np.where(faster, speed[:, k], most), np.where(faster, k, chosen)
    return np.where(np.isnan(total), -1, chosen)
