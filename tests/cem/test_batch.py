"""Several problems at once: each has the bits that it has alone, stops by itself, and harms no other."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastopt
from fastopt import reference

from ..support import DTYPES, assert_same_bits

TARGETS = np.linspace(-1, 2, 15).reshape(5, 3)
SEARCHES = {
    "log": {},
    "equal": {"weights": "equal", "extra_std": (0.5, 4), "bounds": [(-2, 1.5)] * 3},
    "full": {"covariance": "full", "antithetic": True},
    "noisy": {"noisy": True, "maxiter": 3},
    "many": {"popsize": 3000, "maxiter": 3},
}


def distance(x, problem):
    """Exact everywhere: no sum."""
    return np.abs(x - TARGETS[problem, None].astype(x.dtype)).max(axis=2).astype(np.float64)


def children(count=5):
    return fastopt.Philox4x32(3).spawn(count)


def batch_of(module, **options):
    return module.CEM(np.zeros((5, 3)), 1.0, rng=fastopt.Philox4x32(3), **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("search", SEARCHES)
def test_each_problem_has_the_bits_that_it_has_alone(search, dtype):
    options = {"maxiter": 30, **SEARCHES[search]}
    together = fastopt.minimize_cem(
        distance, np.zeros((5, 3), dtype), 1.0, vectorized=True, rng=fastopt.Philox4x32(3), **options
    )
    for b, child in enumerate(children()):
        alone = fastopt.minimize_cem(
            lambda x, b=b: distance(x[None], [b])[0], np.zeros(3, dtype), 1.0, vectorized=True, rng=child, **options
        )
        for name in ("x", "x_mean", "std", "nit", "nfev", "fun", "fun_mean", "status"):
            assert_same_bits(np.asarray(together[name][b]), np.asarray(alone[name]), name)
        assert together.message[b] == alone.message
        assert_same_bits(together.history[b]["std"], alone.history["std"])
        assert_same_bits(together.candidate(1, 2, problem=b), alone.candidate(1, 2))


def assert_same_runs(search, *modules_and_threads):
    runs = []
    for module, threads in modules_and_threads:
        options = {"maxiter": 3, **SEARCHES[search]}
        with fastopt.num_threads(threads):
            runs.append(module.minimize_cem(distance, np.zeros((5, 3)), 1.0, vectorized=True, rng=3, **options))
    for name in ("x", "x_mean", "std", "fun"):
        assert_same_bits(*(run[name] for run in runs), name)


@pytest.mark.parametrize("search", ["log", "equal", "full"])
def test_the_reference_has_the_same_bits(search):
    assert_same_runs(search, (fastopt, 1), (reference, 1))


def test_another_number_of_threads_has_the_same_bits():
    """Fewer candidates would be no work for a second thread."""
    assert_same_runs("many", (fastopt, 1), (fastopt, 2))


def test_each_stops_by_itself_and_is_asked_for_no_longer():
    batch = batch_of(fastopt, ftarget=[0.5, 1e-3, 0.5, 1e-3, 1e-3])
    counts = np.zeros(5, int)
    while not batch.stop():
        x = batch.ask()
        assert x.shape == (len(batch.running), batch.popsize, 3)
        counts[batch.running] += 1
        before = batch.running
        goes_on = batch.tell(distance(x, before))
        assert batch.running.tolist() == before[goes_on].tolist()
    assert batch.result().nit.tolist() == counts.tolist()
    assert len(set(counts.tolist())) > 1
    assert all(message.startswith("ftarget") for message in batch.stop())
    assert batch.ask().shape == (0, batch.popsize, 3)
    assert batch.tell(np.empty((0, batch.popsize))).shape == (0,)


def test_nan_in_one_problem_harms_no_other():
    runs = {}
    for broken in (False, True):
        batch = batch_of(fastopt, maxiter=12)
        while batch.stop() is None:
            scores = distance(batch.ask(), batch.running)
            if broken:
                scores[batch.running == 2] = np.nan
            batch.tell(scores)
        runs[broken] = batch.result()
    assert runs[True].status.tolist() == [2, 2, 7, 2, 2]
    assert_same_bits(np.delete(runs[False].x, 2, 0), np.delete(runs[True].x, 2, 0))


def test_an_exception_names_the_problem():
    def fails(x, problem):
        if 3 in problem:
            raise ZeroDivisionError("no model")
        return distance(x, problem)

    with pytest.raises(ZeroDivisionError, match="no model") as raised:
        fastopt.minimize_cem(fails, np.zeros((5, 3)), vectorized=True, rng=0)
    assert "problem 3" in raised.value.__notes__[0]


def test_a_result_of_the_wrong_shape_is_said_of_all_and_fun_is_not_called_again():
    shapes = []

    def narrow(x, problem):
        shapes.append(x.shape)
        return distance(x, problem)[:, :-1]

    with pytest.raises(ValueError, match=r"fun: expected shape \(5, 29\), got \(5, 28\)") as raised:
        fastopt.minimize_cem(narrow, np.zeros((5, 3)), vectorized=True, popsize=28, rng=0)
    assert shapes == [(5, 29, 3)]
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize("at_the_end", [False, True])
def test_ctrl_c_returns_the_best_so_far(at_the_end):
    """It is said of the problems that go on; of all where only the final means were left to score."""
    calls = []

    def interrupted(x, problem):
        calls.append(problem)
        if x.shape[1] == 1 or (len(calls) == 5 and not at_the_end):
            raise KeyboardInterrupt
        return distance(x, problem)

    result = fastopt.minimize_cem(
        interrupted, np.zeros((5, 3)), 1.0, vectorized=True, rng=0, ftarget=[9.0, *[1e-6] * 4]
    )
    assert result.status.tolist() == ([8] * 5 if at_the_end else [1, 8, 8, 8, 8])
    assert result.nit.max() == len(calls) - 1
    assert (distance(result.x[:, None], np.arange(5))[:, 0] == result.fun).all()


def test_problems_that_had_stopped_are_not_interrupted():
    """Ctrl-C between two problems of a generation: the first one has met its target."""
    moved, move = [], fastopt.CEM._move

    def interrupted(self, *arguments, **options):
        moved.append(self)
        if len(moved) == 2:
            raise KeyboardInterrupt
        return move(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastopt.CEM, "_move", interrupted)
        result = fastopt.minimize_cem(distance, np.zeros((5, 3)), vectorized=True, rng=0, ftarget=[100.0, *[0.0] * 4])
    assert result.status.tolist() == [1, 8, 8, 8, 8]


def test_a_key_is_refused():
    with pytest.raises(ValueError, match="fun: expected no argument `key` for x0 of shape"):
        fastopt.minimize_cem(lambda x, problem, key: distance(x, problem), np.zeros((5, 3)), vectorized=True)


def test_a_result_of_several_problems_is_printed():
    for result in (batch_of(fastopt).result(), fastopt.minimize_cem(distance, np.zeros((5, 3)), vectorized=True)):
        lines = repr(result).splitlines()
        assert any("history: {restart, nfev, fun, " in line for line in lines)
        assert len(lines) < 60


def test_a_state_goes_on_with_the_same_bits():
    batch = batch_of(fastopt, maxiter=9)
    for _ in range(4):
        batch.tell(distance(batch.ask(), batch.running))
    others = [fastopt.CEM.from_dict(batch.to_dict()), pickle.loads(pickle.dumps(batch))]
    for run in (batch, *others):
        while run.stop() is None:
            run.tell(distance(run.ask(), run.running))
    for run in others:
        assert_same_bits(run.result().x, batch.result().x)
        assert_same_bits(run.mean, batch.mean)
        assert_same_bits(run.candidate(2, 1, problem=4), batch.candidate(2, 1, problem=4))


def test_a_tell_that_was_broken_off_is_made_again():
    batch, other = batch_of(fastopt), batch_of(fastopt)
    scores = distance(batch.ask(), batch.running)
    move = type(batch.runs[3])._move
    calls = []

    def interrupted(self, *arguments, **options):
        calls.append(self)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return move(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(batch.runs[3]), "_move", interrupted)
        with pytest.raises(KeyboardInterrupt):
            batch.tell(scores)
    saved = pickle.loads(pickle.dumps(batch))
    assert_same_bits(batch.ask(), other.ask())
    batch.tell(scores)
    other.tell(scores)
    assert_same_bits(batch.ask(), other.ask())
    saved.tell(distance(saved.ask(), saved.running))
    assert_same_bits(saved.ask(), other.ask())
    assert [run.generation for run in saved.runs] == [1] * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"restarts": 1}, "restarts: expected 0"),
        ({"sigma0": np.ones((4, 3))}, r"sigma0: expected shape \(5, 3\) like x0, got \(4, 3\)"),
        ({"rng": [1, 2]}, "rng: expected one generator, or a list"),
        ({"ftarget": [1.0, 2.0]}, "ftarget: expected a number, or 5"),
        ({"popsize": 1}, "popsize: expected"),
    ],
)
def test_what_a_batch_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        fastopt.CEM(np.zeros((5, 3)), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectorized": False}, "vectorized: expected True"),
        ({"n_repeats": 2}, "n_repeats: expected 1"),
        ({"workers": 2}, "workers: expected 1"),
        ({"workers": np.array([1, 2])}, "workers: expected 1"),
        ({"callback": print}, "callback: expected None"),
    ],
)
def test_what_a_run_of_a_batch_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        fastopt.minimize_cem(distance, np.zeros((5, 3)), **{"vectorized": True, **options})


def test_scores_of_another_shape_are_refused_and_nothing_is_taken():
    batch = batch_of(fastopt)
    before = batch.ask()
    for scores in (np.zeros((4, batch.popsize)), np.zeros(batch.popsize), np.zeros((5, 1))):
        with pytest.raises(ValueError, match="scores: expected shape"):
            batch.tell(scores)
    with pytest.raises(TypeError, match="scores: expected real numbers"):
        batch.tell(np.zeros((5, batch.popsize), complex))
    assert_same_bits(batch.ask(), before)


def test_a_copy_goes_its_own_way():
    batch, other = batch_of(fastopt), batch_of(fastopt)
    shallow = copy.copy(batch)
    shallow.tell(distance(shallow.ask(), shallow.running))
    assert_same_bits(batch.ask(), other.ask())
    batch.tell(distance(batch.ask(), batch.running))
    assert_same_bits(batch.ask(), shallow.ask())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x0": np.zeros((3, 400))}, "got dimensions 400 of problem 2 beside 2"),
        ({"x0": np.zeros((3, 2), np.float32)}, r"got dtype dtype\('float32'\) of problem 2"),
        ({"popsize": 50}, "got popsize 50 of problem 2 beside 40"),
        ({"maximize": True}, "got maximize True of problem 2 beside False"),
    ],
    ids=["dimensions", "dtype", "popsize", "maximize"],
)
def test_problems_of_two_batches_are_not_one(options, message):
    """By a job of the kernels for all of them they would be read beyond their ends."""
    usual = {"x0": np.zeros((3, 2)), "sigma0": 1.0, "popsize": 40, "rng": 0}
    one, other = (fastopt.CEM(**given).to_dict() for given in (usual, {**usual, **options}))
    mixed = {key: (other if key.startswith("2/") else one)[key] for key in other if key in one}
    mixed |= {key: value for key, value in one.items() if not key.startswith("2/")}
    with pytest.raises(ValueError, match=message):
        fastopt.CEM.from_dict(mixed)


def test_a_problem_that_is_generations_ahead_is_of_another_batch():
    batch = batch_of(fastopt)
    before = batch.to_dict()
    for _ in range(3):
        batch.tell(distance(batch.ask(), batch.running))
    ahead = {key: value for key, value in batch.to_dict().items() if key.startswith("1/")}
    with pytest.raises(ValueError, match="got generation 3 of problem 1 beside 0"):
        fastopt.CEM.from_dict({**before, **ahead})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x0": [[0.0, 0.0], [0.0, 9.0]], "bounds": [(-1, 1)] * 2}, "x0: expected a point within bounds"),
        ({"sigma0": [[1.0, 1.0], [0.0, 1.0]]}, "sigma0: expected finite numbers > 0"),
        ({"ftarget": [1.0, np.nan]}, "ftarget: expected"),
    ],
    ids=["x0", "sigma0", "ftarget"],
)
def test_what_is_wrong_of_one_problem_names_it(options, message):
    with pytest.raises(ValueError, match=message) as raised:
        fastopt.CEM(**{"x0": np.zeros((2, 2)), "sigma0": 1.0, **options})
    assert raised.value.__notes__ == ["of problem 1"]


def test_what_is_wrong_of_all_names_none():
    with pytest.raises(ValueError, match="sigma0") as raised:
        fastopt.CEM(np.zeros((2, 2)), -1.0)
    assert not hasattr(raised.value, "__notes__")


def test_a_setting_cannot_be_set():
    with pytest.raises(AttributeError, match=r"Batch\.min_std: expected to stay as it was made"):
        batch_of(fastopt).min_std = 3.0


def test_masked_scores_are_refused():
    batch = batch_of(fastopt)
    scores = np.ma.masked_less(distance(batch.ask(), batch.running), 1)
    with pytest.raises(TypeError, match="scores: expected an array, got a masked one"):
        batch.tell(scores)


@pytest.mark.parametrize(
    "options",
    [
        {"integrality": [True, False, True]},
        {"bounds": [(-2, 1.5)] * 3, "bound_handling": "reflect"},
        {"ftarget": [0.5, 0.1, 0.0, 0.3, 2.0]},
    ],
    ids=["integrality", "reflect", "ftarget"],
)
def test_options_of_each_problem_have_the_bits_that_they_have_alone(options):
    usual = {"vectorized": True, "maxiter": 20}
    together = fastopt.minimize_cem(distance, np.zeros((5, 3)), 1.0, rng=fastopt.Philox4x32(3), **usual, **options)
    for b, child in enumerate(children()):
        own = {**options, "ftarget": options["ftarget"][b]} if "ftarget" in options else options
        alone = fastopt.minimize_cem(
            lambda x, b=b: distance(x[None], [b])[0], np.zeros(3), 1.0, rng=child, **usual, **own
        )
        for name in ("x", "x_mean", "std", "nit", "nfev", "fun", "status"):
            assert_same_bits(np.asarray(together[name][b]), np.asarray(alone[name]), name)
