"""A planner's bits, its addresses, its batches, and what becomes of its state."""

from __future__ import annotations

import copy
import json
import pickle
import random

import numpy as np
import pytest

import fastopt
from fastopt.plan import CEMPlanner
from fastopt.plan.decision import Search
from fastopt.reference.plan import CEMPlanner as ReferencePlanner

from ..support import DTYPES, assert_same_bits
from .cases import PLANNERS, SMALL, assert_same_plans, cost, made


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PLANNERS)
def test_the_reference_has_the_same_bits(name, dtype):
    planners = [made(kind, name, dtype=dtype) for kind in (CEMPlanner, ReferencePlanner)]
    for step in range(2):
        for planner in planners:
            planner.plan(cost, inject=np.full((2, 7, 2), 0.125 * step))
        assert_same_plans(*planners)
        assert_same_bits(*(planner.candidate(1, 4) for planner in planners))


@pytest.mark.parametrize(("horizon", "actions"), [(1, 1), (2, 1), (3, 5), (33, 2), (30, 1), (64, 3), (100, 6)])
@pytest.mark.parametrize("name", ["elites", "icem", "truncated"])
def test_every_shape_has_the_bits_of_the_reference(name, horizon, actions):
    options = {"sizes": (horizon, actions), "popsize": 20, "iterations": 1, "bounds": [(-1, 0.75)], "std_lr": 0.5}
    a, b = (made(kind, name, **options) for kind in (CEMPlanner, ReferencePlanner))
    assert_same_bits(a.ask(), b.ask())
    a.plan(cost)
    b.plan(cost)
    assert_same_plans(a, b)


@pytest.mark.parametrize("name", PLANNERS)
def test_a_batch_has_the_bits_of_each_problem_alone(name):
    weights = np.array([1.0, 2.0, 0.5])

    def costs(x, problem):
        return cost(x) * weights[problem, None]

    alone = [made(name=name, rng=child) for child in fastopt.Philox4x32(5).spawn(3)]
    for b, planner in enumerate(alone):
        for _ in range(3):
            planner.plan(lambda x, b=b: costs(x[None], np.array([b]))[0])
    batch = made(name=name, rng=fastopt.Philox4x32(5), batch=3)
    for _ in range(3):
        action = batch.plan(costs)
    assert action.shape == (3, 2)
    for b, planner in enumerate(alone):
        assert_same_bits(action[b], planner.action)
        assert_same_bits(batch.mean[b], planner.mean)
        assert_same_bits(batch.std[b], planner.std)
        assert_same_bits(batch.candidate(1, 3, problem=b), planner.candidate(1, 3))
        assert batch.seed[b] == planner.seed


@pytest.mark.parametrize("name", PLANNERS)
def test_another_number_of_threads_has_the_same_bits(name):
    """Fewer candidates would be no work for a second thread."""
    planners = []
    for threads in (1, 2):
        with fastopt.num_threads(threads):
            planners.append(made(name=name, batch=8, popsize=600, iterations=2))
            for _ in range(2):
                planners[-1].plan(lambda x, problem: cost(x))
    assert_same_plans(*planners)


@pytest.mark.parametrize("name", PLANNERS)
def test_every_candidate_has_an_address(name):
    planner = made(name=name)
    planner.plan(cost)
    planner.shift()
    asked, finished = [], False
    proposals = np.linspace(-0.5, 0.5, 28).reshape(2, 7, 2)
    while not finished:
        asked.append((planner.ask(inject=proposals), planner.mean))
        finished = planner.tell(cost(asked[-1][0]))
    kept = 1 if name == "icem" else 0
    for k, (x, mean) in enumerate(asked):
        drawn = len(x) - kept - 2 - (name == "icem" and k == 2)
        for i in (0, drawn - 1):
            assert_same_bits(planner.candidate(k, i), x[i])
        for j in range(kept + 2):
            assert_same_bits(planner.candidate(k, 31 + j), x[drawn + j])
        assert_same_bits(planner.candidate(k, 30), mean)
        assert_same_bits(x[drawn + kept : drawn + kept + 2], proposals.astype(x.dtype))
    if name == "icem":
        assert [len(x) for x, _ in asked] == [33, 27, 23]
        with pytest.raises(ValueError, match="i: expected i < 24"):
            planner.candidate(1, 25)


def test_kept_elites_come_again_and_one_step_on():
    planner = made(name="icem", keep_frac=1.0)
    x = planner.ask()
    assert len(x) == 33  # drawn at the start
    planner.tell(cost(x))
    best = x[np.argsort(cost(x), kind="stable")[:3]]
    assert_same_bits(planner.ask()[-3:], best)
    planner.plan(cost)
    last = planner._decision.stored[-1][0]
    planner.shift()
    kept = planner.ask()[-3:]
    assert_same_bits(kept[:, :-1], last[:, 1:])
    assert len({*kept[:, -1].ravel().tolist()} & {*last[:, -1].ravel().tolist()}) == 0


def test_what_has_no_finite_cost_is_not_kept():
    planner = made(name="icem", popsize=100, keep_frac=0.5)
    x = planner.ask()
    costs = np.full(len(x), np.nan)
    costs[[40, 41]] = 2, 1
    planner.tell(costs)
    assert_same_bits(planner.ask()[-5:], np.concatenate([x[[41, 40]], x[-3:]]))  # the others as they were
    before = planner.ask()[-5:]
    planner.tell(np.where(np.arange(len(planner.ask())) == 3, 1, np.inf))
    assert_same_bits(planner.ask()[-6:-1], before)


def test_the_next_decision_begins_one_step_on():
    planner = made(name="elites")
    planner.plan(cost)
    mean = planner.mean
    planner.shift()
    assert_same_bits(planner.mean[:-1], mean[1:])
    assert_same_bits(planner.mean[-1], np.float32([-0.125, -0.5]))  # the middle of the bounds
    assert_same_bits(planner.std, np.tile(np.float32([0.875, 1.5]), (7, 1)))
    assert (planner.decision, planner.iteration) == (1, 0)


def test_the_mean_is_the_last_candidate_and_the_best_one_is_the_action():
    planner = made(name="icem", iterations=1)
    x = planner.ask()
    assert_same_bits(x[-1], planner.mean)
    scores = np.arange(float(len(x)))[::-1].copy()
    planner.tell(scores)
    assert_same_bits(planner.action, x[-1, 0])
    without = made(name="elites", iterations=1)
    without.tell(cost(without.ask()))
    assert_same_bits(without.action, without.mean[0])


def test_a_state_goes_on_with_the_same_bits(tmp_path):
    for told in (0, 1, 3):
        planner = made(name="icem", batch=2)
        for _ in range(told):
            planner.tell(cost(planner.ask()))
        np.savez(tmp_path / "state.npz", **planner.to_dict())
        with np.load(tmp_path / "state.npz") as file:
            others = [CEMPlanner.from_dict(dict(file)), pickle.loads(pickle.dumps(planner))]
        others.append(CEMPlanner.from_dict(json.loads(json.dumps(planner.to_dict(), default=np.ndarray.tolist))))
        for other in others:
            assert_same_plans(other, planner)
        planner.plan(lambda x, problem: cost(x))
        for other in others:
            other.plan(lambda x, problem: cost(x))
            assert_same_plans(other, planner)


@pytest.mark.parametrize("name", ["elites", "icem"])
def test_a_state_in_json_is_the_same(name):
    """Empty arrays and keys on both sides of 2**63 too, of which JSON has neither shapes nor types."""
    planner = made(name=name, batch=3, rng=[fastopt.Philox4x32(seed) for seed in (1, 2**63 + 7, 5)])
    written = json.dumps(planner.to_dict(), default=np.ndarray.tolist)
    other = CEMPlanner.from_dict(json.loads(written))
    for key, value in planner.to_dict().items():
        assert_same_bits(np.asarray(other.to_dict()[key]), np.asarray(value), key)


class OfAnEnvironment(CEMPlanner):
    def __init__(self, environment):
        super().__init__(7, 2, **SMALL, rng=3)
        self.environment = environment


def test_a_subclass_is_copied_and_restored():
    planner = OfAnEnvironment("pendulum")
    planner.plan(cost)
    for other in (copy.copy(planner), copy.deepcopy(planner), pickle.loads(pickle.dumps(planner))):
        assert type(other) is OfAnEnvironment
        assert other.environment == "pendulum"
        assert_same_plans(other, planner)
    assert_same_plans(OfAnEnvironment.from_dict(planner.to_dict()), planner)


def test_mutated_states_give_an_error_or_a_planner():
    chosen = random.Random(5)
    planner = made(name="icem", batch=2)
    planner.tell(cost(planner.ask()))
    whole = planner.to_dict()
    values = [None, -1, 0, 2.5, "x", True, np.nan, np.zeros(3), np.zeros((2, 2)), [], {}, 2**70, b"", np.array("x")]
    for _ in range(500):
        state = copy.deepcopy(whole)
        key = chosen.choice(list(state))
        value = state[key]
        if isinstance(value, np.ndarray) and value.size and chosen.random() < 0.7:
            value.reshape(-1)[chosen.randrange(value.size)] = chosen.choice([0, 1, 3])
        else:
            state[key] = chosen.choice(values)
        try:
            changed = CEMPlanner.from_dict(state)
        except (TypeError, ValueError) as error:
            if "expected" not in str(error):
                pytest.fail(f"{key}: {error}")
        else:
            changed.plan(lambda x, problem: cost(x))
            assert np.isfinite(changed.mean).all()


def test_a_state_that_is_none_is_refused():
    state = made().to_dict()
    for change, message in (
        ({"means": state["means"] * np.float32(np.nan)}, "means.*finite"),
        ({"means": state["means"] + 9}, "means.*within the bounds"),
        ({"stored/0": state["stored/0"] - 9}, "stored/0.*within the bounds"),
        ({"stds": state["stds"] * np.float32(np.inf)}, "stds"),
        ({"unmoved": np.array([7])}, "unmoved"),
        ({"made": np.zeros((1, 2), np.float32)}, "made"),
        ({"running": np.zeros((1, 1), np.bool)}, "running"),
        ({"means": np.zeros((1, 1, 3), np.float32)}, "means"),
        ({"iteration": 9}, "iteration"),
        ({"other": 1}, "other"),
        ({"settings/rule": "best"}, "rule"),
        ({"stds": -state["stds"]}, "stds"),
    ):
        with pytest.raises(ValueError, match=message):
            CEMPlanner.from_dict({**state, **change})
    with pytest.raises(ValueError, match="none 'seeds'"):
        CEMPlanner.from_dict({key: value for key, value in state.items() if key != "seeds"})


def test_problems_that_have_stopped_are_left_out():
    """A std of nothing: the elites of problem 1 are all the one proposal."""
    seen = []

    def costs(x, problem):
        seen.append(problem.tolist())
        scores = cost(x)
        scores[problem == 1, :-3] = np.nan  # all but the proposals, which are equal
        scores[problem != 1, -3:] = np.nan
        return scores

    planner = made(name="elites", batch=3, min_std=0.0, mean_lr=1.0, std_lr=1.0, elite_frac=0.1)
    action = planner.plan(costs, inject=np.full((3, 3, 7, 2), 0.25))
    assert seen == [[0, 1, 2], [0, 2], [0, 2]]
    assert_same_bits(action[1], np.float32([0.25, 0.25]))
    assert not planner.std[1].any()
    assert planner.std[0].all()
    assert planner.candidate(2, 0, problem=2).shape == planner.candidate(0, 0, problem=1).shape
    with pytest.raises(ValueError, match="iteration: expected"):
        planner.candidate(1, 0, problem=1)
    planner.plan(costs, inject=np.full((3, 3, 7, 2), 0.25))
    assert seen[3] == [0, 1, 2]


def test_a_setting_cannot_be_set():
    planner = made()
    with pytest.raises(
        AttributeError, match=r"CEMPlanner\.temperature: expected to stay as it was made; a planner is made"
    ):
        planner.temperature = 3.0
    with pytest.raises(AttributeError, match=r"it is settings\['horizon'\]"):
        _ = planner.horizon


def test_reset_begins_anew_for_some_or_all():
    planner, other = (made(name="icem", batch=3) for _ in range(2))
    for each in (planner, other):
        each.plan(lambda x, problem: cost(x))
    planner.reset([1])
    planner.shift()
    other.shift()
    assert not planner.mean[1].any()
    assert other.mean[1].any()
    for b in (0, 2):
        assert_same_bits(planner.ask()[b], other.ask()[b])
    planner.tell(cost(planner.ask()))
    with pytest.raises(RuntimeError, match="reset: expected the decision to be made"):
        planner.reset([0])
    planner.reset()
    assert (planner.decision, planner.iteration) == (2, 0)
    assert not planner.mean.any()


def test_mppi_draws_its_candidates_once_an_iteration():
    planner, drawn = made(name="mppi"), []

    class Counted(Search):
        @staticmethod
        def candidates(*arguments):
            drawn.append(arguments)
            return Search.candidates(*arguments)

    planner._search = Counted(planner._search.settings, planner._search.seeds)
    planner.plan(cost)
    assert len(drawn) == SMALL["iterations"]


def test_a_made_decision_wants_a_shift():
    planner = made()
    planner.plan(cost)
    for call in (planner.ask, lambda: planner.tell([])):
        with pytest.raises(RuntimeError, match=r"expected shift\(\) first, since decision 0 is made"):
            call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon: expected 1"),
        ({"truncated": True}, "truncated: expected False without bounds"),
        ({"truncated": True, "bounds": [(-1, 1)], "noise_beta": 2}, "noise_beta: expected 0 with truncated"),
        ({"horizon": 513, "noise_beta": 2}, "horizon: expected at most 512"),
        ({"bounds": [(-1, 1)] * 3}, "bounds: expected 2 pairs"),
        ({"sigma0": [1, 2, 3]}, "sigma0: expected a number, 2 numbers"),
        ({"sigma0": 0}, "sigma0: expected numbers > 0"),
        ({"sigma0": 2e38}, r"sigma0: expected numbers > 0 and at most 1.8e\+19 in float32"),
        ({"mean_lr": 2}, "mean_lr: expected numbers within 0 and 1"),
        ({"rule": "best"}, "rule: expected 'elites' or 'softmax' or 'mppi'"),
        ({"rule": "mppi", "keep_frac": 0.5}, "keep_frac: expected 0 with"),
        ({"decay": 0.5}, "decay: expected"),
        ({"min_std": 2, "max_std": 1}, "max_std: expected at least min_std"),
        ({"popsize": 2}, "popsize: expected more candidates than elites"),
        ({"batch": 2, "rng": [1]}, "rng: expected one generator, or a list"),
        ({"tensors": "jax"}, "tensors: expected 'numpy' or 'torch'"),
    ],
)
def test_what_a_planner_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        CEMPlanner(**{"horizon": 3, "actions": 2, **options})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"min_std": 1e39}, ValueError, "min_std: expected"),
        ({"dtype": None}, TypeError, "dtype: expected float32 or float64, got None"),
        ({"dtype": "real"}, TypeError, "dtype: expected float32 or float64, got 'real'"),
        ({"dtype": np.int32}, TypeError, "dtype: expected float32 or float64, got <class 'numpy.int32'>"),
    ],
)
def test_what_its_type_cannot_hold_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        CEMPlanner(3, 2, **options)


@pytest.mark.parametrize(
    ("problems", "error"),
    [(3, ValueError), (-1, ValueError), ([0, -1], ValueError), (True, TypeError), ([0.0], TypeError), ("x", TypeError)],
)
def test_reset_takes_numbers_of_problems(problems, error):
    planner = made(batch=3)
    before = planner.ask()
    with pytest.raises(error, match="problems: expected"):
        planner.reset(problems)
    planner.reset([])
    assert_same_bits(planner.ask(), before)


def test_costs_and_proposals_of_another_shape_are_refused():
    planner = made()
    before = planner.ask()
    with pytest.raises(ValueError, match=r"cost: expected shape \(31,\), got \(31, 1\)"):
        planner.plan(lambda x: cost(x)[:, None])
    with pytest.raises(ValueError, match=r"costs: expected shape \(31,\), got \(30,\)"):
        planner.tell(np.zeros(30))
    with pytest.raises(ValueError, match=r"inject: expected real numbers of shape \('K', 7, 2\), got \(7, 2\)"):
        planner.ask(inject=np.zeros((7, 2)))
    with pytest.raises(ValueError, match="inject: expected finite numbers"):
        planner.ask(inject=np.full((1, 7, 2), np.nan))
    assert_same_bits(planner.ask(), before)


def test_proposals_are_brought_within_the_bounds():
    x = made().ask(inject=np.full((1, 7, 2), 5.0))
    assert_same_bits(x[-1], np.ones((7, 2), np.float32))
