"""What is saved of a search, and what a saved state may hold; a run from its settings; what tell and callbacks take."""

from __future__ import annotations

import copy
import fractions
import inspect
import json
import pickle
import random
import re

import numpy as np
import pytest

import fastopt
from fastopt.cem.result import Result

from ..support import assert_same_bits


def sphere(x):
    return float(np.square(x - 1).sum())


def run_of(generations=3, **options):
    cem = fastopt.CEM(np.zeros(3), 1.0, rng=0, **options)
    for _ in range(generations):
        cem.tell([sphere(x) for x in cem.ask()])
    return cem


WRONG = {
    "std negative": {"std": -np.ones(3)},
    "std NaN": {"std": np.array([1, np.nan, 1])},
    "elites that do not exist": {"elites": lambda v: v + 10**12},
    "elites below": {"elites": lambda v: v - 10**3},
    "x of another length": {"x": np.zeros(2)},
    "elite_frac": {"settings/elite_frac": -1},
    "popsize": {"settings/popsize": 2.5},
    "popsize beyond memory": {"settings/popsize": 2**39},
    "x0": {"settings/x0": np.array([0.0, np.inf, 0.0])},
    "unknown": {"settings/pop": 3},
    "another": {"another": 3},
    "format": {"format": 2},
    "dtype": {"dtype": "float16"},
    "generation": {"generation": 4},
    "negative": {"generation": -1},
    "counts": {"elite_counts": np.array([1, 1, 1])},
    "begun": {"begun": np.array([0, 2])},
    "scores": {"scores": np.zeros(7)},
    "told": {"told": np.zeros(28)},
    "history": {"history": np.zeros((3, 5))},
    "fun": {"fun": "low"},
    "rule": {"rule": "because"},
    "seed": {"seed": 2**64},
    "mean of text": {"mean": np.array(["a", "b", "c"])},
    "rng below": {"rng": np.array([-1, 0])},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_a_state_that_cannot_be_is_refused(change):
    state = run_of().to_dict()
    for key, value in change.items():
        state[key] = value(state[key]) if callable(value) else value
    with pytest.raises((TypeError, ValueError), match="expected"):
        fastopt.CEM.from_dict(state)


@pytest.mark.parametrize("generations", [0, 3])
@pytest.mark.parametrize("x0", [np.zeros(3), np.zeros((2, 3))], ids=["one", "batch"])
def test_a_state_comes_back_from_a_file(tmp_path, x0, generations):
    """Empty arrays and integers above 2**63 too, of which JSON has neither shapes nor types."""
    for rng in (2**63 + 7, 0):
        cem = fastopt.CEM(x0, 1.0, covariance="full", extra_std=(0.5, 3), ftarget=-1.0, rng=rng)
        for _ in range(generations):
            cem.tell(np.square(cem.ask()).sum(axis=-1))
        np.savez(tmp_path / "state.npz", **cem.to_dict())
        with np.load(tmp_path / "state.npz") as file:
            others = [dict(file), json.loads(json.dumps(cem.to_dict(), default=np.ndarray.tolist))]
        for other in (fastopt.CEM.from_dict(state) for state in others):
            assert other.to_dict().keys() == cem.to_dict().keys()
            for key, value in cem.to_dict().items():
                assert_same_bits(np.asarray(other.to_dict()[key]), np.asarray(value), key)


def test_every_entry_is_needed():
    state = run_of().to_dict()
    for key in state:
        with pytest.raises((TypeError, ValueError), match="expected"):
            fastopt.CEM.from_dict({k: v for k, v in state.items() if k != key})
    with pytest.raises(TypeError, match="state: expected what to_dict"):
        fastopt.CEM.from_dict(list(state))


def test_mutated_states_give_an_error_or_a_run():
    rng = random.Random(5)
    whole = run_of(4, covariance="full").to_dict()
    values = [None, -1, 0, 2.5, "x", True, np.nan, np.zeros(3), np.zeros((2, 2)), [], {}, 2**70, b"", np.array("x")]
    for _ in range(1000):
        state = copy.deepcopy(whole)
        key = rng.choice(list(state))
        value = state[key]
        if isinstance(value, np.ndarray) and value.size and rng.random() < 0.7:
            new = rng.choice([-1, 0, 3, 2**40])
            value.reshape(-1)[rng.randrange(value.size)] = new if value.dtype.kind != "u" else abs(new)
        else:
            state[key] = rng.choice(values)
        try:
            cem = fastopt.CEM.from_dict(state)
        except (TypeError, ValueError) as error:
            if "expected" not in str(error):
                pytest.fail(f"{key}: {error}")
        else:
            cem.tell([sphere(x) for x in cem.ask()])
            cem.result().candidate(1, 2)


@pytest.mark.parametrize(
    "options", [{}, {"covariance": "full", "restarts": 2}, {"n_repeats": 2, "extra_std": (0.5, 3)}]
)
def test_a_run_is_repeated_from_its_settings(options):
    first = fastopt.minimize_cem(sphere, [0.0, 0.5], 0.7, popsize=20, maxiter=15, **options)  # rng=None: fresh entropy
    again = fastopt.minimize_cem(sphere, **first.settings)
    assert again.nfev == first.nfev
    assert_same_bits(again.x, first.x)
    assert_same_bits(again.history["std"], first.history["std"])
    before = first.candidate(2, 0)
    for value in first.settings.values():
        if isinstance(value, np.ndarray):
            value += 10
    first.candidate(1, 0)
    assert_same_bits(first.candidate(2, 0), before)


def test_a_run_goes_on_with_a_larger_budget():
    short = run_of(0, maxiter=3)
    while not short.stop():
        short.tell([sphere(x) for x in short.ask()])
    longer = fastopt.CEM.from_dict(short.to_dict(), maxiter=6)
    assert longer.stop() is None
    while not longer.stop():
        longer.tell([sphere(x) for x in longer.ask()])
    assert_same_bits(longer.result().x, run_of(6).result().x)
    assert longer.stop().startswith("maxiter")


def test_results_are_copied_and_pickled_with_what_they_can():
    result = fastopt.minimize_cem(sphere, [0.0, 0.5], rng=3, maxiter=4)
    for other in (result.copy(), copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert type(other) is Result
        assert other.fun == result.fun
        assert_same_bits(other.candidate(2, 1), result.candidate(2, 1))


def test_a_long_result_is_printed_on_a_screen():
    assert len(repr(fastopt.minimize_cem(sphere, np.ones(500), rng=0, maxiter=2)).splitlines()) < 20


# ---- what is told ----------------------------------------------------------------------------------------------------

SCORES = {
    "map": lambda x: map(sphere, x),
    "generator": lambda x: (sphere(row) for row in x),
    "arrays of one": lambda x: [np.array([sphere(row)]) for row in x],
    "mixed": lambda x: [np.array([sphere(row)]) if k % 2 else sphere(row) for k, row in enumerate(x)],
    "fractions": lambda x: [fractions.Fraction(sphere(row)) for row in x],
    "large ints": lambda x: [10**20, *(sphere(row) for row in x[1:])],
}


@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())
def test_scores_are_what_float_takes(scores):
    cem, other = run_of(0), run_of(0)
    assert cem.tell(scores(cem.ask()))
    expected = [float(np.asarray(score).item()) for score in scores(other.ask())]
    other.tell(expected)
    assert_same_bits(cem.mean, other.mean)


@pytest.mark.parametrize("scores", [["1"], [1j], [[1.0, 2.0]], 3.0, [{}]], ids=repr)
def test_what_is_no_score_is_refused(scores):
    cem = run_of(0)
    with pytest.raises((TypeError, ValueError), match="expected"):
        cem.tell(scores)
    assert not cem.to_dict()["told"].any()


def test_a_part_told_for_ever_is_said():
    cem = run_of(0, popsize=23)
    scores = [sphere(x) for x in cem.ask()]
    assert not cem.tell(scores[:22])
    assert "told=22" in repr(cem)
    for _ in range(100 - 1):
        assert not cem.tell(scores[:22])
    with pytest.raises(RuntimeError, match=r"tell: expected the scores that are missing, 1 of 23, .* candidate 22"):
        cem.tell(scores[:22])
    assert cem.tell(scores[22:], first=22)


# ---- who calls back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [True, np.True_])
def test_a_callback_that_returns_true_ends_the_run(said):
    result = fastopt.minimize_cem(sphere, [0.0, 1.0], rng=0, callback=lambda x: said)
    assert (result.nit, result.status) == (1, 6)
    assert fastopt.minimize_cem(sphere, [0.0, 1.0], rng=0, maxiter=3, callback=lambda x: 1.0).nit == 3


@pytest.mark.parametrize("callback", [lambda: None, lambda x, y: None, lambda *, state: None])
def test_a_callback_that_cannot_be_called_is_refused_first(callback):
    with pytest.raises(TypeError, match="callback: expected a function of one argument"):
        fastopt.minimize_cem(lambda x: pytest.fail("it was scored"), [0.0, 1.0], callback=callback)


def test_arguments_called_key_are_the_callers():
    seen = []

    def fun(x, key):
        seen.append(key)
        return sphere(x)

    fastopt.minimize_cem(fun, [0.0, 1.0], args=(7,), maxiter=1, rng=0)
    assert set(seen) == {7}


@pytest.mark.parametrize("options", [{"popsize": 2}, {"elite_frac": 1.0}, {"popsize": 3, "elite_frac": 0.9}])
def test_a_search_that_selects_nothing_is_refused(options):
    with pytest.raises(ValueError, match="popsize: expected more candidates than elites"):
        fastopt.CEM(np.zeros(2), **options)


def test_bounds_that_fix_everything():
    with pytest.raises(ValueError, match=r"bounds: expected .* every variable is fixed; .* zip\(lower, upper\)"):
        fastopt.CEM(bounds=[[0, 0], [1, 1]])
    fastopt.CEM(np.float32([0.1, 0.2]), bounds=[(0, 0.1), (0, 1)])  # on the bound, as float32 rounds it


FIELDS = {
    *("settings", "seed", "generation", "restart", "popsize", "mean", "std", "nfev", "x", "fun", "x_mean", "fun_mean"),
}
SETTINGS = [*inspect.signature(fastopt.CEM).parameters][:-1]  # without rng


@pytest.mark.parametrize("ops", [fastopt, fastopt.reference], ids=["fastopt", "reference"])
@pytest.mark.parametrize("name", sorted({*FIELDS, *SETTINGS}))
def test_attributes_that_would_do_nothing_are_refused(ops, name):
    cem, twin = (ops.CEM(np.zeros(2), 1.0, rng=1) for _ in range(2))
    read_only = "expected to be read only, since the run determines it"
    why = read_only if name in FIELDS else "expected to stay as it was made"
    for make in (lambda: cem, lambda: ops.CEM.from_dict(cem.to_dict()), lambda: pickle.loads(pickle.dumps(cem))):
        with pytest.raises(AttributeError, match=rf"^CEM\.{name}: {why}; .* CEM\.from_dict\(.*maxiter="):
            setattr(make(), name, 5)
    if name not in FIELDS:
        with pytest.raises(AttributeError, match=rf"^CEM\.{name}: no attribute; it is settings\['{name}'\]"):
            getattr(cem, name)
        assert not hasattr(cem, name)
        assert name in cem.settings
    for one in (cem, twin):
        one.tell(np.square(one.ask()).sum(axis=1))
    assert_same_bits(cem.ask(), twin.ask())


def test_unknown_attributes_are_refused():
    cem = fastopt.CEM(np.zeros(2), 1.0)
    for name in ("sigma", "max_iter"):
        with pytest.raises(AttributeError, match=name):
            setattr(cem, name, 5)


def test_what_a_run_shows_cannot_change_it():
    cem, twin = (fastopt.CEM(np.zeros(2), 1.0, restarts=3, rng=1) for _ in range(2))
    for name in ("x", "x_mean", "mean", "std"):
        getattr(cem, name)[...] = 99
    cem.settings["x0"][...] = 99
    for change in (lambda: cem.settings.__setitem__("maxiter", 1), lambda: cem.settings.__delitem__("maxiter")):
        with pytest.raises(TypeError, match=r"^settings\['maxiter'\]: expected to stay as it is; .*from_dict"):
            change()
    assert fastopt.CEM(**{**cem.settings, "rng": 1}).seed == cem.seed
    assert set(cem.settings) == set(SETTINGS)
    assert "maxiter" in repr(cem.settings)
    state, wanted = cem.to_dict(), twin.to_dict()
    for key, value in wanted.items():
        assert_same_bits(state[key], value, key)


def test_each_attribute_says_what_it_is():
    documented = {name for name in vars(fastopt.CEM) if inspect.getdoc(inspect.getattr_static(fastopt.CEM, name))}
    assert documented >= FIELDS
    assert {name for name in dir(fastopt.CEM(np.zeros(2))) if name[0] != "_"} >= FIELDS
    assert all(re.search(rf"\b{name}\b", fastopt.CEM.__doc__) for name in FIELDS)
