"""How a planner calls its cost, and how wide it begins."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from fastopt.plan import CEMPlanner

from ..support import assert_same_bits


def test_bounds_that_are_hardly_any_begin_with_a_std_that_is_allowed():
    planner = CEMPlanner(3, 1, bounds=[(-3e38, 3e38)], rng=0)
    planner.plan(lambda x: np.abs(x).max(axis=(1, 2)).astype(float))
    assert np.isfinite(planner.mean).all()
    assert 0 < planner.std.max() < 2e19


@pytest.mark.parametrize("batch", [None, 2])
def test_a_cost_is_told_the_problems_where_it_asks(batch):
    """The same plan with and without: a cost need not name what it does not use."""
    seen = []

    def plain(x):
        return np.abs(x).max(axis=(-1, -2)).astype(float)

    def named(x, problem):
        seen.append(problem.tolist())
        return plain(x)

    one, other = (CEMPlanner(7, 2, batch=batch, popsize=30, rng=3).plan(cost) for cost in (plain, named))
    assert_same_bits(one, other)
    assert seen == [list(range(batch or 1))] * 5


def test_a_module_of_torch_is_told_what_its_forward_takes():
    torch = pytest.importorskip("torch")

    class Cost(torch.nn.Module):
        def forward(self, x, problem):
            seen.append(problem.tolist())
            return x.abs().amax(dim=(-1, -2))

    seen = []
    CEMPlanner(7, 2, batch=2, popsize=30, iterations=2, rng=3, tensors="torch").plan(Cost())
    assert seen == [[0, 1]] * 2


def test_a_problem_that_is_given_to_a_partial_function_stays():
    seen = []

    def cost(x, problem):
        seen.append(problem)
        return np.abs(x).max(axis=(-1, -2))

    CEMPlanner(7, 2, popsize=30, iterations=2, rng=3).plan(functools.partial(cost, problem=7))
    assert seen == [7, 7]


def test_bounds_that_fix_every_action_are_refused():
    with pytest.raises(ValueError, match=r"bounds: .* zip\(lower, upper\)"):
        CEMPlanner(3, 2, bounds=[[-1, -1], [1, 1]])


@pytest.mark.parametrize(
    ("costs", "error", "message"),
    [
        (np.ma.masked_array(np.ones(300), np.ones(300, bool)), TypeError, "costs: expected an array, got a masked one"),
        ([[1.0], [2.0, 3.0]], ValueError, "costs: expected an array, got sequences of several lengths"),
    ],
    ids=["masked", "ragged"],
)
def test_costs_that_are_no_array_are_refused(costs, error, message):
    with pytest.raises(error, match=message):
        CEMPlanner(3, 2, rng=0).tell(costs)
