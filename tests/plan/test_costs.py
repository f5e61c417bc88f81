"""How a planner calls its cost, and how wide it begins."""

from __future__ import annotations

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
