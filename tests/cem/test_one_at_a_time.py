"""tell happens whole or not at all, and is refused while another call is at the same run."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastopt

from ..support import assert_same_bits, run_python


def assert_same_state(a: Any, b: Any) -> None:
    a, b = a.to_dict(), b.to_dict()
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, dict):
            for name, one in value.items():
                assert np.array_equal(one, b[key][name]), f"{key}/{name}"
        else:
            assert np.array_equal(value, b[key], equal_nan=not isinstance(value, str | None)), key


def sphere(x: Any) -> Any:
    return np.square(x - 1).sum(axis=1)


class Interrupted(BaseException):
    pass


def broken_off(call: Any, at: int) -> bool:
    """Run the call with an exception at the event number `at` of those at which a signal or another thread may come in:
    where something is called, and where it returns. Whether the call was broken off."""
    left = at

    def event(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            sys.setprofile(None)
            raise Interrupted

    sys.setprofile(event)
    try:
        call()
        left = 1 << 30
    except Interrupted:
        return True
    finally:
        sys.setprofile(None)
    return False


OPTIONS = {
    "plain": {},
    "full": {"covariance": "full"},
    "that ends": {"maxiter": 4},
    "restarting": {"restarts": 3, "patience": 1, "ftarget": -1.0},
}


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_an_interrupt_in_tell(options, parts):
    def make() -> fastopt.CEM:
        cem = fastopt.CEM(np.zeros(3), popsize=10, rng=1, **options)
        for _ in range(3):
            cem.tell(sphere(cem.ask()) + 5 * cem.generation)
        if parts == 2:
            cem.tell(sphere(cem.ask(0, 4)), first=0)
        return cem

    def tell(cem: fastopt.CEM) -> None:
        first = 4 if parts == 2 else 0
        cem.tell(scores[first:], first=first, fun_mean=0.5)

    old, new = make(), make()
    scores = sphere(old.ask()) + 100
    tell(new)
    assert new.generation == 4
    later = make()
    tell(later)
    later.tell(sphere(later.ask()))
    outcomes = set()
    for at in range(10_000):
        cem = make()
        if not broken_off(lambda cem=cem: tell(cem), at):
            break
        outcomes.add(cem.generation)
        assert_same_state(cem, old if cem.generation == 3 else new)
        assert len(cem.result().history["fun"]) == cem.generation
        if cem.generation == 3:
            tell(cem)
        cem.tell(sphere(cem.ask()))
        assert_same_state(cem, later)
        assert_same_bits(cem.candidate(3, 0), later.candidate(3, 0))
    assert at > 20
    assert outcomes == {3, 4}


def test_scores_are_taken_whole():
    cem = fastopt.CEM(np.zeros(3), popsize=10, rng=1)
    twin = fastopt.CEM(np.zeros(3), popsize=10, rng=1)
    scores = sphere(cem.ask())
    for at in range(100):
        if not broken_off(lambda: cem.tell(scores[:4]), at):
            break
    cem.tell(scores[4:], first=4)
    twin.tell(scores)
    assert_same_state(cem, twin)


@pytest.mark.parametrize("name", ["tell", "to_dict", "result"])
def test_a_call_within_a_call(name):
    cem = fastopt.CEM(np.zeros(2), popsize=4, rng=1)
    calls = {
        "tell": lambda: cem.tell([1.0], first=0),
        "to_dict": cem.to_dict,
        "result": cem.result,
    }

    class Score:
        def __array__(self, *_: Any, **__: Any) -> Any:
            calls[name]()
            return np.array(1.0)

    with pytest.raises(RuntimeError, match=f"{name}: this CEM is in the middle of tell in this thread: a re-entry"):
        cem.tell([Score(), None, 2.0, 3.0])
    assert cem.generation == 0
    cem.tell([1.0, 2.0, 3.0, 4.0])
    assert cem.generation == 1
    calls[name]()


def test_two_interrupts_one_after_the_other():
    # The second comes while what the first left behind is cleared away.
    def make() -> fastopt.CEM:
        cem = fastopt.CEM(np.zeros(2), popsize=6, rng=1, restarts=5, patience=1, ftarget=-1.0)
        cem.tell([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        return cem

    def tell(cem: fastopt.CEM) -> None:
        cem.tell(np.arange(6.0) + 10)  # no better: the next restart begins

    wanted = make()
    tell(wanted)
    assert wanted.restart == 1
    end = 0
    while broken_off(lambda cem=make(): tell(cem), end):  # noqa: B008
        end += 1
    for first in range(end - 25, end):
        for second in range(end):
            cem = make()
            broken_off(lambda cem=cem: tell(cem), first)
            if cem.generation == 2:
                break
            broken_off(lambda cem=cem: tell(cem), second)
            if cem.generation == 1:
                tell(cem)
            assert_same_state(cem, wanted)


def test_candidates_from_several_threads():
    def fun(x: Any) -> Any:
        return np.square(x - 1).sum(axis=1)

    asked: list[Any] = []
    expected = fastopt.minimize_cem(fun, np.zeros(30), maxiter=60, rng=1, vectorized=True)
    with ThreadPoolExecutor(4) as executor:

        def report(intermediate_result: Any) -> None:
            k = intermediate_result.nit - 1
            asked.append((k, executor.submit(intermediate_result.candidate, k, 3)))

        result = fastopt.minimize_cem(fun, np.zeros(30), maxiter=60, rng=1, vectorized=True, callback=report)
        for k, future in asked:
            assert_same_bits(future.result(), expected.candidate(k, 3))
        for k, found in zip(range(50), executor.map(lambda k: result.candidate(k, 5), range(50)), strict=True):
            assert_same_bits(found, expected.candidate(k, 5))
    assert len(asked) == 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_fork_beside_a_call():
    run_python(
        """
import os, threading, warnings
import numpy as np
import fastopt

warnings.simplefilter("ignore", DeprecationWarning)
cem = fastopt.CEM(np.zeros(200), popsize=2000, rng=1)
optimizer = fastopt.SGD([np.ones(300_000)], lr=0.5, momentum=0.5)
stop = threading.Event()

def work():
    while not stop.is_set():
        cem.to_dict(), cem.result(), optimizer.state_dict()

thread = threading.Thread(target=work)
thread.start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        cem.tell(np.arange(2000.0))
        optimizer.step([np.ones(300_000)])
        os._exit(0 if cem.generation == optimizer.step_count == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
thread.join()
"""
    )


@pytest.mark.parametrize("call", ["result", "to_dict"])
def test_a_call_that_is_forked_amid_holds_nothing(call):
    """What a thread held that is not there in the child stays held: rows of the history could not be added any more."""
    cem = fastopt.CEM(np.zeros(3), rng=0)
    cem.tell(sphere(cem.ask()))
    tried = []

    def event(frame, kind, function):
        if frame.f_code.co_name == "_history_rows":
            cem._history.extend(b"row")  # as a tell in the child would
            del cem._history[-3:]
            tried.append(kind)

    sys.setprofile(event)
    try:
        getattr(cem, call)()
    finally:
        sys.setprofile(None)
    assert len(tried) > 4


def test_eight_threads_tell():
    # Each tells its part of each generation, again where it was refused.
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads, each, generations = 8, 64, 30
    try:
        cem = fastopt.CEM(np.zeros(20), rng=0, popsize=threads * each)
        barrier = threading.Barrier(threads)
        messages: set[str] = set()

        def work(k: int) -> None:
            for _ in range(generations):
                barrier.wait(60)
                scores = sphere(cem.ask(k * each, each))
                barrier.wait(60)
                while True:
                    try:
                        cem.tell(scores, first=k * each)
                        break
                    except RuntimeError as error:
                        messages.add(str(error))

        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(work, range(threads)))
    finally:
        sys.setswitchinterval(old)
    assert messages <= {"tell: this CEM is in the middle of tell in another thread"}
    alone = fastopt.CEM(np.zeros(20), rng=0, popsize=threads * each)
    for _ in range(generations):
        alone.tell(sphere(alone.ask()))
    assert_same_state(cem, alone)
