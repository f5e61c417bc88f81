"""Ask and tell: the same run, in parts, saved and taken up again."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import fastopt

from ..support import DTYPES, assert_same_bits
from .runs import RUNS, assert_same_run, largest

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def test_ask_and_tell_is_the_same_run():
    cem = fastopt.CEM(np.zeros(4), 1.0, popsize=50, maxiter=20, rng=9)
    while not cem.stop():
        assert cem.tell(largest(cem.ask()), fun_mean=largest(cem.mean))
    result = fastopt.minimize_cem(largest, np.zeros(4), 1.0, popsize=50, maxiter=20, rng=9)
    mine = cem.result()
    assert_same_bits(mine.std, result.std)
    assert_same_bits(mine.history["fun"], result.history["fun"])
    assert mine.nfev == result.nfev - 1  # without the final mean


def test_parts_in_any_order():
    whole, parts = (fastopt.CEM(np.zeros(4), popsize=50, rng=9) for _ in range(2))
    for _ in range(3):
        x = whole.ask()
        whole.tell(largest(x))
        for first, count in ((30, 20), (0, 10), (5, 10), (15, 14)):
            assert_same_bits(parts.ask(first, count), x[first : first + count])
            assert parts.tell(largest(parts.ask(first, count)), first=first) is False
        assert parts.tell([largest(x[29])], first=29) is True
        assert parts.tell(largest(x[:9]), generation=parts.generation - 1) is False  # too late, and ignored
        assert_same_bits(parts.mean, whole.mean)
        assert_same_bits(parts.std, whole.std)


@each_dtype
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS.keys())
def test_candidates_of_any_generation(options, dtype):
    options = {k: v for k, v in options.items() if k != "n_repeats"}
    cem = fastopt.CEM(np.zeros(6, dtype), 0.5, popsize=20, rng=1, **options)
    asked = []
    for _ in range(12):
        asked.append((cem.ask(), cem.mean))
        cem.tell(largest(asked[-1][0]))
    result = cem.result()
    for generation in (11, 0, 5, 6, 3, 11):
        x, mean = asked[generation]
        for i in (0, 7, len(x) - 1):
            assert_same_bits(result.candidate(generation, i), x[i])
        assert_same_bits(result.candidate(generation, len(x)), mean)
    assert_same_bits(cem.candidate(12, 3), cem.ask(3, 1)[0])


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS.keys())
def test_a_saved_run_goes_on_with_the_same_bits(options, tmp_path):
    options = {k: v for k, v in options.items() if k != "n_repeats"}
    cem = fastopt.CEM(np.zeros(6), 0.5, popsize=20, rng=1, **options)
    for _ in range(4):
        cem.tell(largest(cem.ask()), fun_mean=0.5)
    cem.tell(largest(cem.ask(5, 10)), first=5)  # in the middle of a generation
    state = cem.to_dict()
    assert all(type(value) in (int, float, str, bool, np.ndarray) for value in state.values())
    np.savez(tmp_path / "run.npz", **state)
    with np.load(tmp_path / "run.npz") as file:
        others = [fastopt.CEM.from_dict(state), fastopt.CEM.from_dict(file)]
    others.append(fastopt.CEM.from_dict(json.loads(json.dumps(state, default=np.ndarray.tolist))))
    others.append(pickle.loads(pickle.dumps(cem)))
    for run in (cem, *others):
        run.tell(largest(run.ask(0, 5)))
        run.tell(largest(run.ask(15)), first=15)
        for _ in range(5):
            run.tell(largest(run.ask()))
    for other in others:
        assert_same_run(other.result(), cem.result())
        assert_same_bits(other.candidate(2, 5), cem.candidate(2, 5))
    assert len(state["elite_counts"]) == 4  # a copy: the run did not change it


def test_seeds():
    runs = [fastopt.CEM(np.zeros(3), rng=rng).ask() for rng in (1, 1, 2, None, None, fastopt.Philox4x32(1), (1, 0))]
    assert_same_bits(runs[0], runs[1])
    assert_same_bits(runs[0], runs[5])
    assert_same_bits(runs[0], runs[6])
    assert len(np.unique([run[0, 0] for run in runs])) == 4
    rng = fastopt.Philox4x32(1)
    assert (fastopt.CEM(np.zeros(3), rng=rng).ask() != fastopt.CEM(np.zeros(3), rng=rng).ask()).any()
    assert rng.state["stream"] == 2  # one stream a run
    settings = fastopt.CEM(np.zeros(3)).result().settings  # rng=None
    assert_same_bits(fastopt.CEM(**settings).ask(), fastopt.CEM(**settings).ask())


def test_masked_scores_are_refused():
    run = fastopt.CEM(np.zeros(3), 1.0, rng=0)
    scores = np.ma.masked_less(np.arange(float(run.popsize)), 2)
    with pytest.raises(TypeError, match="scores: expected an array, got a masked one"):
        run.tell(scores)
    with pytest.raises(TypeError, match="fun: expected an array, got a masked one"):
        fastopt.minimize_cem(lambda x: np.ma.masked_less(x.sum(axis=1), 0), np.zeros(3), vectorized=True, rng=0)
