"""torch's optimisers on tensors: its own step, fused and foreach, beside the compiled one of fastopt.torch.optim."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from bench_adam import BETA1, BETA2, EPS, LR, Adam, PolicyAdam
from bench_optimizers import MAX_NORM, ManyArrays, PolicyChain
from harness import Call, Case, cases, from_numpy, optional, sizes, torch

import fastopt

fused = optional("fastopt.torch.optim") if torch is not None else None


class TensorAdam(Adam):
    """One large tensor."""

    name = "torch, adam"
    data = sizes(np.float32, 18, 26)
    contenders = ("torch", "torch_foreach", "fastopt")
    rule, options = "Adam", {"betas": (BETA1, BETA2), "eps": EPS}

    def tensors(self) -> tuple[list[Any], list[Any]]:
        return from_numpy(*self.params), from_numpy(*self.grads)

    def made(self, module: Any, **implementation: Any) -> tuple[list[Any], Any]:
        tensors, grads = self.tensors()
        params = [torch.nn.Parameter(p) for p in tensors]
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        return params, getattr(module, self.rule)(params, LR, **self.options, **implementation)

    def torch(self, **implementation: Any) -> Call:
        return self.made(torch.optim, **(implementation or {"fused": True}))[1].step

    def torch_foreach(self) -> Call:
        return self.torch(foreach=True)

    def fastopt(self) -> Call:
        return self.made(fused)[1].step

    def check(self, contender: str) -> None:
        """Every contender against the NumPy side, whose bits ours has."""
        twin = Adam.run(self, contender)
        for ours, theirs in zip(twin, self.expected(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=self.rtol, atol=self.atol)

    def expected(self) -> list[Any]:
        op = type(self)(self.dtype, self.size)
        call = Adam.fastopt(op)
        for _ in range(self.checked_calls):
            call()
        return op.params


class BFloat16Tensors(TensorAdam):
    """Parameters, gradients and states of bfloat16; NumPy has their codes."""

    name = "torch, adam, bfloat16"
    data = sizes(np.float32, 24, 26)
    contenders = ("torch", "fastopt")  # torch's foreach rounds after every operation
    rtol, atol = 0.0, 1.0  # of codes: one rounding

    def split(self, values: Any) -> list[Any]:
        return [(values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)]

    def tensors(self) -> tuple[list[Any], list[Any]]:
        params, grads = ([t.view(torch.bfloat16) for t in from_numpy(*arrays)] for arrays in (self.params, self.grads))
        return params, grads

    def result(self, returned: Any) -> list[Any]:
        return [codes.astype(np.int32) for codes in self.params]

    def expected(self) -> list[Any]:
        op = type(self)(self.dtype, self.size)
        arrays = [op.params[0], op.grads[0], *op.zeros(), *op.zeros()]
        for step in range(self.checked_calls):
            fastopt.adam_step(*arrays, step + 1, lr=LR, betas=(BETA1, BETA2), eps=EPS)
        return op.result(None)


class PolicyTensors(TensorAdam):
    """The weights and biases of a 4-64-64-2 policy."""

    name = "torch, adam, six tensors"
    shapes, split = PolicyAdam.shapes, PolicyAdam.split
    data = PolicyAdam.data


class ManyTensors(TensorAdam):
    name = "torch, adam, 100 tensors of 64 x 64"
    shapes, split = ManyArrays.shapes, ManyArrays.split
    data = ManyArrays.data


class TensorRMSprop(TensorAdam):
    name = "torch, rmsprop"
    data = sizes(np.float32, 24)
    contenders = ("torch_foreach", "torch_loop", "fastopt")
    rule, options = "RMSprop", {"alpha": BETA2, "eps": EPS}

    def torch_loop(self) -> Call:
        return self.torch(foreach=False)

    def expected(self) -> list[Any]:
        op = type(self)(self.dtype, self.size)
        optimizer = fastopt.RMSprop(op.params, LR, **self.options)
        for _ in range(self.checked_calls):
            optimizer.step(op.grads)
        return op.params


class PolicyRMSprop(TensorRMSprop):
    name = "torch, rmsprop, six tensors"
    shapes, split = PolicyAdam.shapes, PolicyAdam.split
    data = PolicyAdam.data


class TensorChain(PolicyTensors):
    """clip_grad_norm_, a step and zero_grad, of gradients that are set again before, in everyone's time."""

    name = "torch, clip, adam, zero, six tensors"
    contenders = ("torch", "fastopt")

    def around(self, module: Any, **options: Any) -> Call:
        params, optimizer = self.made(module, **options)
        grads = [param.grad for param in params]
        clips = module is torch.optim

        def call() -> None:
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad
            if clips:
                torch.nn.utils.clip_grad_norm_(params, MAX_NORM)
            optimizer.step()
            optimizer.zero_grad()

        return call

    def torch(self, **implementation: Any) -> Call:
        return self.around(torch.optim, fused=True)

    def fastopt(self) -> Call:
        return self.around(fused, max_grad_norm=MAX_NORM)

    def check(self, contender: str) -> None:
        # torch scales the gradients themselves, those of the next call too: the first call is compared.
        ours, theirs = (type(self)(self.dtype, self.size) for _ in range(2))
        getattr(ours, contender)()()
        theirs.fastopt()()
        for one, other in zip(ours.params, theirs.params, strict=True):
            np.testing.assert_allclose(one, other, rtol=self.rtol, atol=PolicyChain.atol)


class Turns(TensorAdam):
    """torch's products and our step: by turns, where each pool finds the other's threads still awake, and apart."""

    name = "torch, adam and products by turns"
    data = sizes(np.float32, 18)
    contenders = ("apart", "fastopt")
    rounds, width = 10, 512

    def parts(self) -> tuple[Call, Call]:
        a = torch.ones(self.width, self.width)
        b, c = torch.ones_like(a), torch.empty_like(a)
        return functools.partial(torch.mm, a, b, out=c), super().fastopt()

    def fastopt(self) -> Call:
        product, step = self.parts()

        def call() -> None:
            for _ in range(self.rounds):
                product()
                step()

        return call

    def apart(self) -> Call:
        product, step = self.parts()

        def call() -> None:
            for part in (product, step):
                for _ in range(self.rounds):
                    part()

        return call

    def expected(self) -> list[Any]:
        op = type(self)(self.dtype, self.size)
        call = Adam.fastopt(op)
        for _ in range(self.checked_calls * self.rounds):
            call()
        return op.params


@pytest.mark.skipif(torch is None, reason="needs torch")
@pytest.mark.parametrize(
    "case",
    cases(TensorAdam, BFloat16Tensors, PolicyTensors, ManyTensors, TensorRMSprop, PolicyRMSprop, TensorChain, Turns),
    ids=str,
)
def test_torch_optim(case: Case, race: Any) -> None:
    race(case)
