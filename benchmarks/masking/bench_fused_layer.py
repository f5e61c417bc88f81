"""Bias, leaky ReLU and dropout of a hidden layer, and their gradients: 1,024 units, batches of 64 and more."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, cases, from_numpy, sizes, torch

import fastopt
from fastopt import reference

UNITS, SLOPE, P = 1024, 0.01, 0.5
SCALE = 1 / (1 - P)
ROWS = 32  # of a block that stays in the L2 cache through NumPy's passes


class FusedLayer(Op):
    name = "bias_leaky_relu_dropout"
    data = (*sizes(np.float32, 16, 20, 22), *sizes(np.float64, 22))

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.x, self.y = self.normal(1).reshape(-1, UNITS), np.zeros((size // UNITS, UNITS), dtype)
        self.bias = self.normal(2)[:UNITS]

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.y], [self.x]

    def result(self, returned: Any) -> list[Array]:
        return [self.y if returned is None else returned[0] if isinstance(returned, tuple) else returned]

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if contender in ("reference", "fastopt"):
            super().compare(contender, ours, theirs)
            return
        kept = ours != 0
        expected = reference.leaky_relu(self.x + self.bias, SLOPE) * SCALE
        np.testing.assert_allclose(ours[kept], expected[kept], rtol=1e-5, atol=1e-7)
        assert abs(kept.mean() - (1 - P)) < 6 * (P * (1 - P) / ours.size) ** 0.5

    def reference(self) -> Call:
        rng = fastopt.Philox4x32(7)
        return partial(reference.bias_leaky_relu_dropout, self.x, self.bias, SLOPE, P, rng=rng, out=self.y)

    def numpy(self) -> Call:
        """As far as NumPy goes: rows that stay in the cache, max(z, slope z), 16 raw bits for each decision."""
        bits = np.random.SFC64(7)
        threshold, work = np.uint16(round(65536 * P)), np.empty((ROWS, UNITS), self.dtype)
        keep = np.empty((ROWS, UNITS), bool)

        def call() -> None:
            for first in range(0, len(self.x), ROWS):
                y = self.y[first : first + ROWS]
                n = len(y)
                np.add(self.x[first : first + ROWS], self.bias, out=y)
                np.multiply(y, SLOPE, out=work[:n])
                np.maximum(y, work[:n], out=y)
                values = bits.random_raw(y.size // 4).view(np.uint16).reshape(y.shape)
                np.greater_equal(values, threshold, out=keep[:n])
                np.multiply(y, SCALE, out=y)
                np.multiply(y, keep[:n], out=y)

        return call

    def torch(self) -> Call:
        x, bias = from_numpy(self.x, self.bias)
        functional = torch.nn.functional

        def call() -> Any:
            return functional.dropout(functional.leaky_relu(x + bias, SLOPE, inplace=True), P, inplace=True)

        return call

    def fastopt(self) -> Call:
        rng = fastopt.Philox4x32(7)
        return partial(fastopt.bias_leaky_relu_dropout, self.x, self.bias, SLOPE, P, rng=rng, out=self.y)


class FusedLayerBackward(Op):
    """NumPy has the mask and the factor of leaky ReLU as arrays, as torch's graph keeps them from the forward call."""

    name = "bias_leaky_relu_dropout_backward"
    data = FusedLayer.data
    contenders = ("reference", "numpy", "numpy_from_y", "torch", "fastopt", "stream", "stream_nontemporal")
    one_thread = Op.one_thread | {"numpy_from_y"}
    exact = frozenset({"reference", "fastopt"})

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        shape = (size // UNITS, UNITS)
        self.grad, self.dx = self.normal(3).reshape(shape), np.zeros(shape, dtype)
        self.x, self.bias = self.normal(1).reshape(shape), self.normal(2)[:UNITS]
        self.y, self.mask = fastopt.bias_leaky_relu_dropout(self.x, self.bias, SLOPE, P, rng=(7, 0))

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [self.dx], [self.grad, self.y]

    def result(self, returned: Any) -> list[Array]:
        return [np.asarray(array) for array in returned]

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if ours.ndim == 1 and contender not in self.exact:  # a sum over the batch in another order
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())
        else:
            super().compare(contender, ours, theirs)

    def reference(self) -> Call:
        return partial(reference.bias_leaky_relu_dropout_backward, self.grad, self.y, self.mask, SLOPE, out=self.dx)

    def numpy(self) -> Call:
        """One array keeps both factors; the sum over the batch takes the rows that are still in the cache."""
        slope_or_one = np.where(self.x + self.bias > 0, self.dtype(1), self.dtype(SLOPE))
        factor = (self.mask.to_array() * slope_or_one * self.dtype(SCALE)).astype(self.dtype)

        def call() -> tuple[Array, Array]:
            dbias = np.zeros(UNITS, self.dtype)
            for first in range(0, len(self.dx), ROWS):
                rows = slice(first, first + ROWS)
                dx = np.multiply(self.grad[rows], factor[rows], out=self.dx[rows])
                dbias += dx.sum(axis=0)
            return self.dx, dbias

        return call

    def numpy_from_y(self) -> Call:
        """From grad, y and the stored mask, which is what fastopt has, less the mask."""
        keep = self.mask.to_array()
        work = np.empty((ROWS, UNITS), self.dtype)

        def call() -> tuple[Array, Array]:
            dbias = np.zeros(UNITS, self.dtype)
            for first in range(0, len(self.dx), ROWS):
                rows = slice(first, first + ROWS)
                dx, factor = self.dx[rows], work[: len(self.dx[rows])]
                np.greater(self.y[rows], 0, out=factor)
                np.maximum(factor, SLOPE, out=factor)
                np.multiply(factor, SCALE, out=factor)
                np.multiply(factor, keep[rows], out=factor)
                np.multiply(self.grad[rows], factor, out=dx)
                dbias += dx.sum(axis=0)
            return self.dx, dbias

        return call

    def torch(self) -> Call:
        """The backward pass alone, of a graph that is kept, with fastopt's mask in dropout's place."""
        x, bias, grad, keep = from_numpy(self.x, self.bias, self.grad, self.mask.to_array())
        x.requires_grad_()
        bias.requires_grad_()
        aten = torch.ops.aten

        class Dropout(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, a: Any) -> Any:
                return aten.native_dropout_backward(a, keep, SCALE)

            @staticmethod
            def backward(context: Any, g: Any) -> Any:
                return aten.native_dropout_backward(g, keep, SCALE)

        y = Dropout.apply(torch.nn.functional.leaky_relu(x + bias, SLOPE))
        return partial(torch.autograd.grad, y, (x, bias), grad, retain_graph=True)

    def fastopt(self) -> Call:
        return partial(fastopt.bias_leaky_relu_dropout_backward, self.grad, self.y, self.mask, SLOPE, out=self.dx)


@pytest.mark.parametrize("case", cases(FusedLayer, FusedLayerBackward), ids=str)
def test_fused_layer(case: Case, race: Any) -> None:
    race(case)
