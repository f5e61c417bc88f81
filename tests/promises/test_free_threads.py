"""What threads may do at once (docs/index.md), with as many changes of thread as can be had. On a free-threaded Python,
where fastopt did not bring the GIL back, the threads would run at the same time."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastopt
from fastopt import plan

from ..support import assert_same_bits

THREADS = 4


@pytest.fixture(autouse=True)
def many_changes_of_thread():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(function: Callable[[int], Any]) -> list[Any]:
    """What function(k) returned in thread k, all begun together."""
    together, returned, raised = threading.Barrier(THREADS), [None] * THREADS, []

    def run(k: int) -> None:
        try:
            together.wait()
            returned[k] = function(k)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
    return returned


def test_a_shared_generator_gives_no_stream_twice():
    rng, alone = fastopt.Philox4x32(seed=1), fastopt.Philox4x32(seed=1)
    drawn = at_once(lambda k: [rng.random_raw(4).tobytes() for _ in range(200)])
    assert sorted(one for thread in drawn for one in thread) == sorted(
        alone.random_raw(4).tobytes() for _ in range(200 * THREADS)
    )
    assert rng.state == alone.state


@pytest.mark.parametrize("size", [64, 200_000])
def test_functions_on_arrays(size):
    def step(k: int) -> np.ndarray:
        x = np.linspace(-1, k + 1, size, dtype=np.float32)
        for seed in range(10):
            x, _ = fastopt.dropout(fastopt.leaky_relu(x), 0.1, rng=fastopt.Philox4x32(seed))
        return x

    for k, got in enumerate(at_once(step)):
        assert_same_bits(got, step(k))


@pytest.mark.parametrize("size", [8, 300_000])
def test_a_shared_optimiser_is_in_one_call_at_a_time(size):
    grads, steps = np.linspace(-1, 1, size, dtype=np.float32), 200 if size < 1000 else 20
    shared, alone = (fastopt.Adam(np.ones(size, np.float32)) for _ in range(2))

    def step(k: int) -> int:
        done = 0
        for _ in range(steps):
            with contextlib.suppress(RuntimeError):  # "in the middle of"
                shared.step(grads)
                done += 1
        return done

    done = sum(at_once(step))
    assert shared.step_count == done > 0
    for _ in range(done):
        alone.step(grads)
    assert_same_bits(shared.params, alone.params)


def test_a_thread_has_its_own_number_of_threads():
    def numbers(k: int) -> set[int]:
        with fastopt.num_threads(k + 1):
            return {fastopt.get_num_threads() for _ in range(1000)}

    assert at_once(numbers) == [{k + 1} for k in range(THREADS)]


def test_searches_at_once():
    def search(k: int) -> np.ndarray:
        return fastopt.minimize_cem(lambda x: float(x @ x), np.ones(5), sigma0=0.5, rng=k, maxiter=5).x

    for k, got in enumerate(at_once(search)):
        assert_same_bits(got, search(k))


def sphere(x: np.ndarray) -> np.ndarray:
    return np.square(x.reshape(len(x), -1)).sum(axis=1, dtype=np.float64)


def test_a_shared_search_takes_one_tell_at_a_time():
    shared, alone = (fastopt.CEM(np.ones(5), 0.5, popsize=20, rng=1) for _ in range(2))

    def generations(k: int) -> int:
        made = 0
        for _ in range(100):
            number, x = shared.generation, shared.ask()
            with contextlib.suppress(RuntimeError):  # "in the middle of"
                made += shared.tell(sphere(x), generation=number)  # of a past one nothing is taken
        return made

    made = sum(at_once(generations))
    assert shared.generation == made > 0
    for _ in range(made):
        alone.tell(sphere(alone.ask()))
    assert_same_bits(shared.mean, alone.mean)


def test_a_shared_planner_makes_one_decision_at_a_time():
    shared, alone = (plan.CEMPlanner(4, 2, popsize=20, iterations=2, rng=1) for _ in range(2))

    def decisions(k: int) -> int:
        made = 0
        for _ in range(50):
            with contextlib.suppress(RuntimeError):  # "in the middle of"
                shared.plan(sphere)
                made += 1
        return made

    made = sum(at_once(decisions))
    assert shared.decision == made - 1 >= 0
    for _ in range(made):
        alone.plan(sphere)
    assert_same_bits(shared.mean, alone.mean)
