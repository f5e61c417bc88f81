"""The family around Adam: many small arrays, everything around the step inside it, small states, sparse rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from bench_adam import EPS, LR, Adam, PolicyAdam
from harness import Array, Call, Case, Op, cases, from_numpy, torch

import fastopt
from fastopt import _core, reference

BETAS = (0.9, 0.999)
MAX_NORM, EMA_DECAY = 1.0, 0.99


class ManyArrays(PolicyAdam):
    name = "adam, 100 arrays of 64 x 64"
    shapes = ((64, 64),) * 100
    data = ((np.float32, 100 * 64 * 64),)


class Chain(Adam):
    """clip_grad_norm_, AdamW, an average of the weights and zeroed gradients; torch needs a call for each.

    Each step begins with the same gradients, which are copied in before it: the copy is part of everyone's time.
    """

    name = "clip, adamw, average, zero"
    atol = 1e-2 * LR  # torch adds up the norm in float32, and with it scales gradients that are no larger than eps
    data = ((np.float32, 2**20), (np.float32, 2**26))
    contenders = ("reference", "torch", "torch_set_to_none", "fastopt", "stream", "stream_nontemporal")

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.fresh = self.normal(2)
        self.all_grads = self.fresh.copy()  # in one array, so that the copy is one call
        self.grads = self.split(self.all_grads)

    def refill(self) -> None:
        np.copyto(self.all_grads, self.fresh)

    def own(self, ops: Any) -> Call:
        optimizer = ops.AdamW(self.params, LR, BETAS, EPS, max_grad_norm=MAX_NORM, ema_decay=EMA_DECAY)

        def call() -> None:
            self.refill()
            optimizer.step(self.grads, zero_grads=True)

        return call

    def reference(self) -> Call:
        return self.own(reference)

    def fastopt(self) -> Call:
        return self.own(fastopt)

    def torch(self, set_to_none: bool = False) -> Call:
        params, grads = from_numpy(*self.params), from_numpy(*self.grads)
        averages = [p.clone() for p in params]
        for param, grad in zip(params, grads, strict=True):
            param.requires_grad_(True)
            param.grad = grad
        optimizer = torch.optim.AdamW(params, LR, BETAS, EPS, fused=True)
        detached = [p.detach() for p in params]

        def call() -> None:
            self.refill()
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad
            torch.nn.utils.clip_grad_norm_(params, MAX_NORM)
            optimizer.step()
            torch._foreach_lerp_(averages, detached, 1 - EMA_DECAY)
            optimizer.zero_grad(set_to_none=set_to_none)

        return call

    def torch_set_to_none(self) -> Call:
        return self.torch(set_to_none=True)

    def traffic(self) -> tuple[list[Array], list[Array]]:
        written = [self.params[0], *self.zeros(), *self.zeros(), *self.zeros(), self.grads[0]]
        return written, written

    def moved(self, nontemporal: bool) -> Call:
        written, read = self.traffic()

        def call() -> None:
            self.refill()
            _core.stream([], [self.grads[0]], nontemporal)  # the norm
            _core.stream(written, read, nontemporal)

        return call

    def stream(self) -> Call:
        return self.moved(False)

    def stream_nontemporal(self) -> Call:
        return self.moved(True)


class PolicyChain(Chain):
    name = "clip, adamw, average, zero, six arrays"
    shapes = PolicyAdam.shapes
    split = PolicyAdam.split
    data = ((np.float32, 4610),)
    contenders = ("reference", "torch", "torch_set_to_none", "fastopt")


class EightBit(Adam):
    """Adam with states in 8 bits, beside our own in float32."""

    name = "adam, 8-bit states"
    state_dtype = "8bit"
    data = ((np.float32, 2**20), (np.float32, 2**26))
    contenders = ("reference", "fastopt", "float32")

    def own(self, ops: Any, state_dtype: str | None) -> Call:
        return partial(ops.Adam(self.params, LR, BETAS, EPS, state_dtype=state_dtype, rng=1).step, self.grads)

    def reference(self) -> Call:
        return self.own(reference, self.state_dtype)

    def fastopt(self) -> Call:
        return self.own(fastopt, self.state_dtype)

    def float32(self) -> Call:
        return self.own(fastopt, None)

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if contender == "float32":  # the states are rounded, each by an eighth at the most: so are the two updates
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2 * LR)
        else:
            super().compare(contender, ours, theirs)


class BFloat16(EightBit):
    name = "adam, bfloat16 states"
    state_dtype = "bfloat16"


class SparseRows(Op):
    """1,000 of 1,000,000 rows of 64."""

    name = "adam, sparse rows"
    rows, width = 1_000_000, 64
    data = ((np.float32, 1000),)
    contenders = ("reference", "torch", "fastopt")

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        rng = np.random.Generator(np.random.SFC64(1))
        self.table = np.ones((self.rows, self.width), dtype)
        self.indices = rng.choice(self.rows, size)
        self.values = rng.standard_normal((size, self.width), dtype=dtype)

    def result(self, returned: Any) -> list[Array]:
        return [self.table]

    def own(self, ops: Any) -> Call:
        optimizer = ops.Adam([self.table], LR, BETAS, EPS)
        return partial(optimizer.step, [fastopt.SparseRows(self.indices, self.values)])

    def reference(self) -> Call:
        return self.own(reference)

    def fastopt(self) -> Call:
        return self.own(fastopt)

    def torch(self) -> Call:
        table, indices, values = from_numpy(self.table, self.indices, self.values)
        table.requires_grad_(True)
        table.grad = torch.sparse_coo_tensor(indices[None], values, table.shape, check_invariants=False)
        return torch.optim.SparseAdam([table], LR, BETAS, EPS).step


@pytest.mark.parametrize("case", cases(ManyArrays, Chain, PolicyChain, EightBit, BFloat16, SparseRows), ids=str)
def test_optimizers(case: Case, race: Any) -> None:
    race(case)
