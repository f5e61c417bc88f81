"""The cross-entropy method on processes, executors, maps and Dask: the same bits, small messages, clear errors."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import fastopt
from fastopt._core import Distribution
from fastopt.cem.workers import ByExecutor, Objective, score_range

from ..support import assert_same_bits, run_python

# Processes import what they run by name, and these tests are no importable module: a script of its own each.
FUNCTIONS = """
import hashlib, os, sys, time
import numpy as np
import fastopt

def largest(x):
    return np.abs(x - 0.25).max(axis=-1)

def noisy(x, key):
    return largest(x) + (key >> np.uint64(11) if isinstance(key, np.ndarray) else key >> 11) * 2.0**-53

def raises(x):
    if x[0] > 1.5:
        raise ZeroDivisionError("mine")
    return largest(x)

def dies_once(x, path):
    if x[0] > 1.5 and not os.path.exists(path):
        open(path, "w").close()
        os._exit(3)
    return largest(x)

def dies(x):
    os._exit(3)

def hangs(x):
    time.sleep(1000)

def digest(result):
    hashed = hashlib.sha256()
    for value in (result.x, result.x_mean, result.std, np.array([result.fun, result.fun_mean])):
        hashed.update(value.tobytes())
    return hashed.hexdigest()
"""


def in_a_script(tmp_path, body, **options):
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom functions import *\n" + body
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    (tmp_path / "main.py").write_text(script)
    return run_python(
        f"import runpy; runpy.run_path({str(tmp_path / 'main.py')!r}, run_name='__main__')", PYTHONPATH=path, **options
    )


def largest(x):
    return np.abs(x - 0.25).max(axis=-1)


def noisy(x, key):
    return largest(x) + (key >> np.uint64(11) if isinstance(key, np.ndarray) else key >> 11) * 2.0**-53


def run(fun=largest, vectorized=True, **options):
    options = {"popsize": 300, "maxiter": 4, "rng": 1, "n_repeats": 2} | options
    return fastopt.minimize_cem(fun, np.zeros(20), 1.0, vectorized=vectorized, **options)


def assert_same_run(a, b):
    for name in ("x", "x_mean", "std", "fun", "fun_mean"):
        assert_same_bits(a[name], b[name], name)
    assert (a.nit, a.nfev, a.message) == (b.nit, b.nfev, b.message)


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("fun", [largest, noisy])
def test_threads_and_maps_make_the_same_run(fun, vectorized):
    here = run(fun, vectorized)
    for count in (1, 2, 3):
        with ThreadPoolExecutor(count) as executor:
            assert_same_run(run(fun, vectorized, workers=executor), here)
            assert_same_run(run(fun, vectorized, workers=executor.map), here)
            assert executor.submit(int).result() == 0  # it stays the caller's
    assert_same_run(run(fun, vectorized, workers=map), here)


def test_processes_make_the_same_run(tmp_path):
    printed = in_a_script(
        tmp_path,
        """
if __name__ == "__main__":
    for fun in (largest, noisy):
        for workers in (1, 2, 3):
            for vectorized in (False, True):
                result = fastopt.minimize_cem(
                    fun, np.zeros(20), 1.0, popsize=300, maxiter=3, rng=1, vectorized=vectorized, workers=workers
                )
                print(digest(result))
""",
    ).split()
    assert len(printed) == 12
    assert len(set(printed[:6])) == len(set(printed[6:])) == 1
    here = fastopt.minimize_cem(largest, np.zeros(20), 1.0, popsize=300, maxiter=3, rng=1, vectorized=True)
    assert in_a_script(tmp_path, "").split() == []
    import hashlib

    hashed = hashlib.sha256()
    for value in (here.x, here.x_mean, here.std, np.array([here.fun, here.fun_mean])):
        hashed.update(value.tobytes())
    assert hashed.hexdigest() == printed[0]


@pytest.mark.parametrize("processes", [False, True])
def test_dask_makes_the_same_run(tmp_path, processes):
    pytest.importorskip("distributed")
    body = f"""
if __name__ == "__main__":
    import distributed
    where = dict(n_workers=2, threads_per_worker=1, processes={processes}, dashboard_address=None, silence_logs=50)
    with distributed.LocalCluster(**where) as cluster, distributed.Client(cluster) as client:
        for workers in (1, client.get_executor()):
            result = fastopt.minimize_cem(largest, np.zeros(20), 1.0, rng=1, maxiter=8, workers=workers)
            print(result.nfev, digest(result))
"""
    here, dask = in_a_script(tmp_path, body).splitlines()
    assert dask == here


def test_an_error_in_a_worker_is_the_callers(tmp_path):
    body = """
if __name__ == "__main__":
    try:
        fastopt.minimize_cem(raises, np.zeros(3), 1.0, rng=1, workers=2)
    except ZeroDivisionError as error:
        print(error, error.__notes__[0])
"""
    assert "mine raised while scoring candidates" in in_a_script(tmp_path, body)


def test_a_process_that_dies_is_replaced_once(tmp_path):
    body = f"""
if __name__ == "__main__":
    options = dict(rng=1, maxiter=3, popsize=40)
    here = fastopt.minimize_cem(largest, np.zeros(3), 1.0, **options)
    there = fastopt.minimize_cem(dies_once, np.zeros(3), 1.0, workers=2, args=({str(tmp_path / "died")!r},), **options)
    print(os.path.exists({str(tmp_path / "died")!r}), digest(here) == digest(there))
    try:
        fastopt.minimize_cem(dies, np.zeros(3), 1.0, rng=1, workers=2)
    except RuntimeError as error:
        print(error)
"""
    first, second = in_a_script(tmp_path, body).strip().splitlines()[-2:]
    assert first == "True True"
    assert second.startswith("workers: a worker died while scoring generation 0, restart 0")


def test_a_process_that_hangs_is_an_error(tmp_path):
    body = """
if __name__ == "__main__":
    start = time.monotonic()
    try:
        fastopt.minimize_cem(hangs, np.zeros(3), 1.0, rng=1, workers=2, timeout=3)
    except TimeoutError as error:
        print(error)
"""
    printed = in_a_script(tmp_path, body)
    assert "workers: candidates 0 to" in printed
    assert "were not scored within timeout=3 seconds; nothing was updated" in printed


def test_a_thread_that_hangs_is_an_error():
    release = threading.Event()

    def fun(x):
        release.wait(30)
        return 0.0

    with ThreadPoolExecutor(2) as executor:
        with pytest.raises(TimeoutError, match="generation 0, restart 0 were not scored within timeout"):
            fastopt.minimize_cem(fun, np.zeros(3), workers=executor, timeout=0.2, rng=0)
        release.set()


def test_an_error_leaves_no_update():
    calls = []

    def fun(x):
        calls.append(1)
        if len(calls) == 250:
            raise ValueError("mine")
        return largest(x)

    with ThreadPoolExecutor(2) as executor, pytest.raises(ValueError, match="mine"):
        fastopt.minimize_cem(fun, np.zeros(3), popsize=100, workers=executor, rng=0)


def test_a_function_that_cannot_travel():
    with pytest.raises(TypeError, match="fun: expected a function that can be pickled for workers=2"):
        fastopt.minimize_cem(lambda x: 0.0, np.zeros(3), workers=2)


def test_a_map_that_loses_a_result():
    with pytest.raises(RuntimeError, match="workers: expected a result for each of"):
        run(workers=lambda function, tasks: list(map(function, tasks))[:-1])
    with pytest.raises(RuntimeError, match=r"workers: expected what the function returned .*, got NoneType"):
        run(workers=lambda function, tasks: [None for _ in tasks])


def test_what_is_sent_and_what_comes_back():
    """The bytes of a message: mean and std, whatever the number of candidates; back come scores."""
    sent = {}
    for popsize, n in ((100, 100), (1000, 100), (1000, 1000)):
        messages, answers = [], []

        class Watching(ThreadPoolExecutor):
            def submit(self, function, task):
                messages.append(len(pickle.dumps((function, task))))  # noqa: B023
                answers.append(len(pickle.dumps(function(task))))  # noqa: B023
                return super().submit(function, task)

        with Watching(2) as executor:
            fastopt.minimize_cem(
                largest, np.zeros(n), popsize=popsize, maxiter=1, vectorized=True, workers=executor, rng=1
            )
        sent[popsize, n] = max(messages)
        assert max(messages) < 2 * 8 * n + 1500
        assert sum(answers) < 8 * popsize + 500 * len(answers)
    assert abs(sent[1000, 100] - sent[100, 100]) < 64


def test_a_range_done_twice_gives_the_same_scores():
    d = Distribution(np.zeros(3), np.ones(3), None, None, None, 1, 2, 200, False, False)
    whole = Objective(largest, vectorized=True)(d, 0, 201)
    task = pickle.loads(pickle.dumps((Objective(largest, vectorized=True), d, 64, 128)))
    for _ in range(2):
        part, scores = score_range(task)
        assert part == (64, 128)
        assert_same_bits(scores, whole[64:128])


def test_all_cpus_and_executors_of_processes():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        workers = ByExecutor(Objective(np.sum), executor, None)
        assert workers.tasks == 4
        # NumPy's own function is importable there.
        here = fastopt.minimize_cem(np.sum, np.zeros(3), popsize=20, maxiter=2, rng=0)
        there = fastopt.minimize_cem(np.sum, np.zeros(3), popsize=20, maxiter=2, rng=0, workers=executor)
    assert_same_run(here, there)


def test_threads_that_share_the_function():
    # Each of two threads stops in the middle of its range, where it has planned it, while the other plans its own.
    objective = Objective(lambda x: x.sum(axis=1), vectorized=True)
    distribution = Distribution(np.zeros(40), np.ones(40), None, None, None, 1, 2, 600, False, False)
    ranges = [(0, 300), (300, 601)]
    alone = [objective(distribution, *r) for r in ranges]
    stopping, plan = threading.Barrier(2), objective._plan

    def slowly(*arguments):
        planned = plan(*arguments)
        stopping.wait(30)
        return planned

    objective._plan = slowly
    for _ in range(20):
        objective._planned = ((), [], False)
        with ThreadPoolExecutor(2) as executor:
            for found, expected in zip(executor.map(lambda r: objective(distribution, *r), ranges), alone, strict=True):
                assert_same_bits(found, expected)
