"""Decisions of planners, all but their cost, against torch's batched code and careful NumPy; float32.

Each contender has numbers of its own, and the same costs in each iteration; what is checked is that plans lie within
the bounds.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, cases, numba, torch

from fastopt.plan import CEMPlanner

ITERATIONS, CANDIDATES, HORIZON, ELITES = 30, 300, 50, 30
LEAST_STD = 0.25  # a search that converges would change what is measured


class Plan(Op):
    """One decision of 30 iterations of 300 candidates of 50 dimensions; `size` is how many problems there are."""

    name = "plan"
    problems, horizon = 1, HORIZON
    data = ((np.float32, 1),)
    contenders = ("numpy", "torch", "fastopt")
    one_thread = frozenset({"numpy"})
    noise_beta = 0.0

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.costs = np.random.default_rng(7).random((size, CANDIDATES))

    def result(self, returned: Any) -> list[Array]:
        return [np.asarray(returned)]

    def check(self, contender: str) -> None:
        (mean,) = self.run(contender)
        assert mean.size == self.size * self.horizon
        assert 0 < np.abs(mean).max() <= 1

    def numpy(self) -> Call:
        rng = np.random.Generator(np.random.SFC64(7))
        x = np.empty((self.size, CANDIDATES, self.horizon), self.dtype)
        costs, rows = self.costs, np.arange(self.size)[:, None]

        def call() -> Array:
            mean, std = (np.full((self.size, 1, self.horizon), v, self.dtype) for v in (0, 1))
            for _ in range(ITERATIONS):
                rng.standard_normal(out=x, dtype=self.dtype)
                np.multiply(x, std, out=x)
                np.add(x, mean, out=x)
                np.clip(x, -1, 1, out=x)
                elites = x[rows, np.argpartition(costs, ELITES, axis=1)[:, :ELITES]]
                mean = elites.mean(axis=1, keepdims=True)
                np.maximum(elites.std(axis=1, keepdims=True), LEAST_STD, out=std)
            return mean

        return call

    def torch(self) -> Call:
        x = torch.empty(self.size, CANDIDATES, self.horizon)
        costs = torch.from_numpy(self.costs)
        generator = torch.Generator().manual_seed(7)

        @torch.no_grad()  # type: ignore[untyped-decorator]
        def call() -> Any:
            mean, std = torch.zeros(self.size, 1, self.horizon), torch.ones(self.size, 1, self.horizon)
            for _ in range(ITERATIONS):
                x.normal_(generator=generator).mul_(std).add_(mean).clamp_(-1, 1)
                best = costs.topk(ELITES, dim=1, largest=False, sorted=False).indices
                elites = x.gather(1, best[:, :, None].expand(-1, -1, self.horizon))
                std, mean = torch.std_mean(elites, dim=1, correction=0, keepdim=True)
                std.clamp_(min=LEAST_STD)
            return mean

        return call

    def torch_one_thread(self) -> Call:
        call = self.torch()

        def alone() -> Any:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                return call()
            finally:
                torch.set_num_threads(threads)

        return alone

    def planned(self, noise_beta: float) -> Call:
        planner = CEMPlanner(
            self.horizon,
            1,
            batch=self.size,
            bounds=[(-1, 1)],
            sigma0=1.0,
            popsize=CANDIDATES,
            iterations=ITERATIONS,
            min_std=LEAST_STD,
            noise_beta=noise_beta,
            rng=7,
        )
        costs = self.costs

        def call() -> Array:
            planner.plan(lambda x, problem: costs)
            return planner.mean

        return call

    def fastopt(self) -> Call:
        return self.planned(self.noise_beta)


class PlanBatch(Plan):
    name = "plan, 64 in a batch"
    data = ((np.float32, 64),)
    contenders = ("numpy", "torch", "torch_one_thread", "fastopt")


class ColouredPlan(Plan):
    """Noise of a spectrum against white noise."""

    name = "plan, coloured noise"
    horizon = 30
    contenders = ("white", "fastopt")
    noise_beta = 2.0

    def white(self) -> Call:
        return self.planned(0.0)


class Pendulum(Op):
    """A decision for Pendulum-v1: 100 candidates x 30 steps x 4 iterations, with its cost by Numba."""

    name = "plan, Pendulum-v1"
    data = ((np.float32, 100),)
    contenders = ("fastopt",) if numba is not None else ()

    def result(self, returned: Any) -> list[Array]:
        return [returned]

    def check(self, contender: str) -> None:
        (action,) = self.run(contender)
        assert np.abs(action).max() <= 2

    def fastopt(self) -> Call:
        from fastopt.demo import plan

        planner, cost = plan.planner(None, 7), plan.compiled_costs()
        return partial(planner.plan, lambda x: cost(x, 3.0, 0.0))


def all_cases() -> list[Case]:
    """A batch is worth two threads."""
    both = [
        Case(PlanBatch, np.float32, 64, n, c) for n in (1, 2) for c in PlanBatch.contenders if n == 1 or c != "numpy"
    ]
    return [*cases(Plan, ColouredPlan, Pendulum), *both]


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_plan(case: Case, race: Any) -> None:
    race(case)
