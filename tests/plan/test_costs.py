"""How a planner calls its cost, what it makes of what comes back, and how wide it begins."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest

from fastopt.plan import CEMPlanner

from ..support import assert_same_bits
from .cases import PLANNERS, assert_same_plans, cost, made


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


def test_nan_names_the_problem_and_harms_no_other():
    planners = [made(name="icem", batch=3) for _ in range(2)]
    planners[0].plan(lambda x, problem: cost(x))
    with pytest.warns(RuntimeWarning, match=r"fewer in decision 0 of problems \[1\]"):
        planners[1].plan(lambda x, problem: np.where(problem[:, None] == 1, np.nan, cost(x)))
    for b in (0, 2):
        assert_same_bits(planners[0].action[b], planners[1].action[b])
    assert_same_bits(planners[1].mean[1], np.zeros((7, 2), np.float32))


@pytest.mark.parametrize("name", ["elites", "mppi"])
def test_one_finite_cost_moves_nothing_and_is_said(name):
    planner = made(name=name)
    mean = planner.mean
    with pytest.warns(
        RuntimeWarning, match="cost: expected at least two .* in each iteration, got fewer in decision 0;"
    ):
        action = planner.plan(lambda x: np.where(np.arange(len(x)) == 3, 1.0, np.nan))
    assert_same_bits(planner.mean, mean)
    assert_same_bits(action, mean[0])


def test_one_finite_cost_is_no_action_where_the_mean_is_the_last_candidate():
    planner = made(name="elites", mean_last=True, iterations=1)
    with pytest.warns(RuntimeWarning, match="leaves the plan as it was"):
        action = planner.plan(lambda x: np.where(np.arange(len(x)) == 3, 1.0, np.nan))
    assert_same_bits(action, planner.mean[0])


def test_nan_in_a_later_iteration_is_said_and_by_tell_too():
    def costs(x, problem):
        iterations.append(0)
        found = cost(x)
        found[problem == 1] = np.nan if len(iterations) == 2 else found[problem == 1]
        return found

    iterations = []
    planners = made(batch=3), made(batch=3)
    with pytest.warns(RuntimeWarning, match=r"cost: .* decision 0 of problems \[1\]; that iteration"):
        planners[0].plan(costs)
    iterations.clear()
    for _ in range(2):
        planners[1].tell(costs(planners[1].ask(), planners[1].running))
    last = costs(planners[1].ask(), planners[1].running)
    with pytest.warns(RuntimeWarning, match=r"costs: .* decision 0 of problems \[1\]; that iteration"):
        planners[1].tell(last)
    assert_same_bits(planners[0].mean, planners[1].mean)


def test_what_a_cost_wrote_into_the_numbers_of_problems_changes_nothing():
    def spoils(x, problem):
        found = cost(x)
        problem += 100
        if fails:
            raise ZeroDivisionError
        return found

    planner, other = made(batch=3), made(batch=3)
    fails = True
    with pytest.raises(ZeroDivisionError) as raised:
        planner.plan(spoils)
    assert raised.value.__notes__ == ["raised while scoring problem 0, decision 0, iteration 0; nothing was updated"]
    fails = False
    for _ in range(2):
        assert_same_bits(planner.plan(spoils), other.plan(lambda x, problem: cost(x)))
    assert planner.running.tolist() == [0, 1, 2]


def test_an_error_of_one_problem_alone_does_not_replace_that_of_all():
    def fails(x):
        x.reshape(3, -1, 1)
        if len(x) != 3:
            raise ValueError("made for three")
        raise KeyError("the cause")

    planner = made(batch=3)
    with pytest.raises(KeyError) as raised:
        planner.plan(fails)
    assert raised.value.__notes__ == [
        "raised while scoring problems [0, 1, 2] together, decision 0, iteration 0; nothing was updated"
    ]


def test_an_exception_names_the_problem_and_nothing_is_changed():
    def fails(x, problem):
        if len(calls) >= 2 and 2 in problem:
            raise ZeroDivisionError("no model")
        calls.append(problem)
        return cost(x)

    calls = []
    planners = [made(name="icem", batch=3) for _ in range(2)]
    for planner in planners:
        planner.plan(lambda x, problem: cost(x))
    before = planners[0].to_dict()
    with pytest.raises(ZeroDivisionError, match="no model") as raised:
        planners[0].plan(fails)
    assert "problem 2, decision 1, iteration 2" in raised.value.__notes__[0]
    for key, value in planners[0].to_dict().items():
        assert_same_bits(np.asarray(value), np.asarray(before[key]), key)
    for planner in planners:
        planner.plan(lambda x, problem: cost(x))
    assert_same_plans(*planners)


def test_what_a_cost_wrote_into_the_candidates_changes_nothing():
    def vandal(x):
        scores = cost(x)
        x[...] = 99
        return scores

    for name in PLANNERS:
        a, b = made(name=name), made(name=name)
        a.plan(cost)
        b.plan(vandal)
        assert_same_plans(a, b)


def test_a_cost_of_another_shape_is_said_of_all_and_not_called_again():
    planner, shapes = made(batch=3, name="elites"), []

    def narrow(x, problem):
        shapes.append(x.shape)
        return cost(x)[:, :-1]

    with pytest.raises(ValueError, match=r"cost: expected shape \(3, 30\), got \(3, 29\)") as raised:
        planner.plan(narrow)
    assert shapes == [(3, 30, 7, 2)]
    assert not hasattr(raised.value, "__notes__")


def test_tensors_are_on_the_same_memory():
    torch = pytest.importorskip("torch")
    shared = []

    def costs(x):
        assert isinstance(x, torch.Tensor)
        shared.append(x)
        return torch.from_numpy(cost(x.numpy())).requires_grad_()

    planner, other = made(tensors="torch"), made()
    planner.plan(costs)
    other.plan(cost)
    assert_same_plans(planner, other)
    assert shared[0].dtype == torch.float32
    halves = torch.full((2, 7, 2), 0.5, dtype=torch.bfloat16).requires_grad_()
    assert_same_bits(planner.plan(costs, inject=halves), other.plan(cost, inject=np.full((2, 7, 2), 0.5)))
    planner.shift()
    other.shift()
    costs_of_all = torch.from_numpy(cost(other.ask())).requires_grad_()
    planner.tell(costs_of_all)
    other.tell(costs_of_all.detach().numpy())
    assert_same_plans(planner, other)


def test_a_function_of_numba_is_a_cost():
    numba = pytest.importorskip("numba")

    @numba.njit
    def compiled(x):
        costs = np.empty(len(x))
        for i in range(len(x)):
            costs[i] = np.abs(x[i]).max()
        return costs

    planner, other = made(), made()
    planner.plan(compiled)
    other.plan(lambda x: np.abs(x).max(axis=(1, 2)))
    assert_same_plans(planner, other)


def test_no_warning_without_a_reason():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made().plan(cost)
