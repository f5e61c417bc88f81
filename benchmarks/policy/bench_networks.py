"""A perceptron of 4-64-64-2 and a critic of its own: acting by 1 to 256 observations, forward and backward by 64.

The size of a case is its number of observations. NumPy multiplies by its BLAS, into arrays that are allocated once.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, cases

from fastopt import policy
from fastopt.reference import policy as reference_policy

INPUTS, HIDDEN, ACTIONS = 4, 64, 2


class Network(Op):
    contenders = ("reference", "numpy", "fastopt")
    exact = frozenset({"reference", "fastopt"})
    rtol, atol = 1e-4, 1e-5  # a BLAS adds in another order, and NumPy's tanh is its own

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        rng = np.random.default_rng(0)

        def normal(*shape: int) -> Array:
            return rng.standard_normal(shape).astype(dtype)

        def layers(outputs: int) -> list[tuple[Array, Array]]:
            sizes = (INPUTS, HIDDEN, HIDDEN, outputs)
            return [(normal(m, n) / dtype(np.sqrt(n)), normal(m)) for n, m in itertools.pairwise(sizes)]

        self.actor, self.critic = layers(ACTIONS), layers(1)
        self.x, self.grad = normal(size, INPUTS), normal(size, ACTIONS)
        self.noise = rng.exponential(size=(size, ACTIONS)).astype(dtype)
        self.outputs = [np.empty((size, len(bias)), dtype) for _, bias in self.actor]
        self.grads = [(np.empty_like(weight), np.empty_like(bias)) for weight, bias in self.actor]

    def forward(self, layers: list[tuple[Array, Array]], outputs: list[Array]) -> list[Array]:
        y = self.x
        for k, (weight, bias) in enumerate(layers):
            y = np.matmul(y, weight.T, out=outputs[k])
            y += bias
            if k < len(layers) - 1:
                np.tanh(y, out=y)
        return outputs

    def result(self, returned: Any) -> list[Array]:
        return [np.asarray(a) for item in returned for a in (item if isinstance(item, tuple) else (item,))]


class Act(Network):
    name = "act, actor and critic"
    data = tuple((np.float32, size) for size in (1, 8, 64, 256))

    def arguments(self) -> tuple[Any, ...]:
        return self.x, self.actor, self.critic, self.noise

    def reference(self) -> Call:
        return partial(reference_policy.categorical_act, *self.arguments())

    def fastopt(self) -> Call:
        return partial(policy.categorical_act, *self.arguments())

    def numpy(self) -> Call:
        values = [np.empty((self.size, len(bias)), self.dtype) for _, bias in self.critic]
        rows = np.arange(self.size)

        def act() -> tuple[Array, Array, Array]:
            logits = self.forward(self.actor, self.outputs)[-1]
            x = logits - logits.max(axis=1, keepdims=True)
            e = np.exp(x)
            total = e.sum(axis=1)
            actions = (e / self.noise).argmax(axis=1)
            return actions, x[rows, actions] - np.log(total), self.forward(self.critic, values)[-1][:, 0]

        return act


class Forward(Network):
    name = "perceptron"
    data = ((np.float32, 64), (np.float32, 4096))

    def reference(self) -> Call:
        return partial(reference_policy.perceptron, self.x, self.actor)

    def fastopt(self) -> Call:
        return partial(policy.perceptron, self.x, self.actor, out=self.outputs)

    def numpy(self) -> Call:
        return partial(self.forward, self.actor, self.outputs)


class Backward(Network):
    name = "perceptron_backward"
    data = Forward.data

    def arguments(self) -> tuple[Any, ...]:
        return self.grad, self.x, policy.perceptron(self.x, self.actor), self.actor

    def reference(self) -> Call:
        return partial(reference_policy.perceptron_backward, *self.arguments())

    def fastopt(self) -> Call:
        return partial(policy.perceptron_backward, *self.arguments(), out=self.grads)

    def numpy(self) -> Call:
        _, x, outputs, layers = self.arguments()
        rooms = [np.empty_like(y) for y in outputs[:-1]]

        def backward() -> list[tuple[Array, Array]]:
            grad = self.grad
            for k in reversed(range(len(layers))):
                before = outputs[k - 1] if k else x
                np.matmul(grad.T, before, out=self.grads[k][0])
                np.sum(grad, axis=0, out=self.grads[k][1])
                if k:
                    grad = np.matmul(grad, layers[k][0], out=rooms[k - 1])
                    grad *= 1 - before * before
            return self.grads

        return backward


@pytest.mark.parametrize("case", cases(Act, Forward, Backward), ids=str)
def test_networks(case: Case, race: Any) -> None:
    race(case)
