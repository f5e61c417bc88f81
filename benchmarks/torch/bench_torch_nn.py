"""Hidden layers of torch: its own modules beside those of fastopt.torch.nn, forward and backward, and whole steps."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from bench_fused_layer import SLOPE, UNITS, P
from harness import Array, Call, Case, Op, cases, from_numpy, optional, sizes, torch

fused = optional("fastopt.torch.nn") if torch is not None else None
optim = optional("fastopt.torch.optim") if torch is not None else None


class Layer(Op):
    """A module forward and backward, on a batch of 4,096 rows and less."""

    name = "torch, dropout, forward and backward"
    data = (*sizes(np.float32, 16, 22), *sizes(np.float64, 22))
    contenders = ("torch", "fastopt")

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.columns = min(size, UNITS)
        self.x, self.grad = (self.normal(seed).reshape(-1, self.columns) for seed in (1, 2))

    def module(self, nn: Any) -> Any:
        return nn.Dropout(P)

    def call(self, module: Any) -> Call:
        x, grad = from_numpy(self.x, self.grad)
        x.requires_grad_()

        def call() -> Any:
            y = module(x)
            y.backward(grad)
            dx, x.grad = x.grad, None
            return y, dx

        return call

    def torch(self) -> Call:
        return self.call(self.module(torch.nn))

    def fastopt(self) -> Call:
        return self.call(self.module(fused))

    def expected(self, x: Any) -> Any:
        """What stays of x where it is kept."""
        return x / (1 - P)

    def check(self, contender: str) -> None:
        """y and dx by torch's arithmetic, with the mask that y shows."""
        torch.manual_seed(1)
        y, dx = (np.asarray(a.detach()) for a in getattr(type(self)(self.dtype, self.size), contender)()())
        (x,) = from_numpy(self.x.copy())
        wanted = self.expected(x.requires_grad_())
        wanted.backward(from_numpy(self.grad)[0])
        kept = y != 0
        self.close(y[kept], wanted.detach().numpy()[kept])
        self.close(dx, np.where(kept, x.grad.numpy(), 0))
        assert abs(kept.mean() - (1 - P)) < 6 * (P * (1 - P) / y.size) ** 0.5

    def close(self, ours: Array, theirs: Array) -> None:
        np.testing.assert_allclose(ours, theirs, rtol=self.rtol, atol=self.atol)


class FusedLayer(Layer):
    """What follows a linear layer's product: its bias, leaky ReLU and dropout; of torch in place, where it can be."""

    name = "torch, bias, leaky ReLU, dropout, forward and backward"

    def module(self, nn: Any) -> Any:
        if nn is fused:
            return fused.BiasLeakyReLUDropout(self.columns, SLOPE, P)
        bias = torch.nn.Parameter(torch.zeros(self.columns))
        rest = torch.nn.Sequential(torch.nn.LeakyReLU(SLOPE), torch.nn.Dropout(P))

        class Three(torch.nn.Module):
            def forward(self, x: Any) -> Any:
                return rest(x + bias)

        return Three()

    def module_dtype(self) -> Any:
        return getattr(torch, np.dtype(self.dtype).name)

    def call(self, module: Any) -> Call:
        return super().call(module.to(self.module_dtype()))

    def expected(self, x: Any) -> Any:
        return torch.nn.functional.leaky_relu(x, SLOPE) / (1 - P)


class Small(Layer):
    """The forward call of the function alone on 64 elements, recorded for a gradient."""

    name = "torch, dropout, 64 elements with gradients"
    data = ((np.float32, 64),)
    wanted = True

    def module(self, nn: Any) -> Any:
        return nn.functional.dropout

    def call(self, module: Any) -> Call:
        (x,) = from_numpy(self.x)
        return partial(module, x.requires_grad_(self.wanted), P)

    def check(self, contender: str) -> None:
        y = getattr(self, contender)()().detach().numpy()
        np.testing.assert_array_equal(y, np.where(y != 0, self.x / (1 - P), 0).astype(np.float32))


class SmallWithout(Small):
    name = "torch, dropout, 64 elements without gradients"
    wanted = False


class Network(Op):
    """A whole training step of a 256-1024-1024-10 network, batch 256: loss, backward, Adam."""

    name = "torch, training step of 256-1024-1024-10"
    data = ((np.float32, 256 * 256),)
    contenders = ("torch", "torch_linear", "fastopt")
    checked_calls = 3

    def network(self, ours: bool) -> Any:
        torch.manual_seed(0)
        layers: list[Any] = []
        for inputs, units in ((256, 1024), (1024, 1024)):
            linear, activation, dropout = torch.nn.Linear(inputs, units), torch.nn.LeakyReLU(), torch.nn.Dropout(P)
            layers += (
                [linear, fused.BiasLeakyReLUDropout.from_modules(linear, activation, dropout)]
                if ours
                else [linear, activation, dropout]
            )
        return torch.nn.Sequential(*layers, torch.nn.Linear(1024, 10))

    def step(self, model: Any, optimizer: Any) -> Call:
        (x,) = from_numpy(self.normal(1).reshape(256, 256))
        target = torch.arange(256) % 10

        def call() -> Any:
            loss = torch.nn.functional.cross_entropy(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return call

    def torch(self) -> Call:
        model = self.network(ours=False)
        return self.step(model, torch.optim.Adam(model.parameters(), fused=True))

    def torch_linear(self) -> Call:
        """The linear layers alone, which nobody can save: what is left is the share that was to be won."""
        model = torch.nn.Sequential(*(m for m in self.network(ours=False) if isinstance(m, torch.nn.Linear)))

        class Without:
            def step(self) -> None: ...

            def zero_grad(self) -> None:
                for p in model.parameters():
                    p.grad = None

        return self.step(model, Without())

    def fastopt(self) -> Call:
        model = self.network(ours=True)
        return self.step(model, optim.Adam(model.parameters()))

    def check(self, contender: str) -> None:
        call = getattr(self, contender)()
        losses = [call().item() for _ in range(30 if contender != "torch_linear" else 1)]
        assert contender == "torch_linear" or losses[-1] < 0.5 * losses[0]


@pytest.mark.skipif(torch is None, reason="needs torch")
@pytest.mark.parametrize("case", cases(Layer, FusedLayer, Small, SmallWithout, Network), ids=str)
def test_torch_nn(case: Case, race: Any) -> None:
    race(case)
