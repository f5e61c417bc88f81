"""Forks: before one the pool's workers are joined; parent and child make new ones, and every op has the same bits.

Each test is a script in a process of its own, with a time limit, so that a deadlock is a failure and not a hang.
"""

from __future__ import annotations

import os

import pytest

from ..support import run_python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")

PRELUDE = """
import multiprocessing, os, sys, threading, warnings
import numpy as np
import fastopt
from tests.cases import digests

# Python 3.12 warns of any fork beside a thread: that it works is what is tested.
warnings.simplefilter("ignore", DeprecationWarning)
fastopt.set_num_threads(1)  # the pool has no worker yet
expected = digests()
fastopt.set_num_threads(3)

def in_child(work):
    "Fork; the child must end with work() true."
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return child

def ended_well(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def right():
    return digests() == expected

"""

SCRIPTS = {
    "after an op": """
assert right()
for _ in range(5):
    assert ended_well(in_child(right))
    assert right()
""",
    "before any op": """
assert ended_well(in_child(right))
assert right()
""",
    "many children at once": """
assert right()
children = [in_child(right) for _ in range(4)]
assert right()
assert all(map(ended_well, children))
""",
    "a child of a child": """
assert right()
assert ended_well(in_child(lambda: right() and ended_well(in_child(right)) and right()))
assert right()
""",
    "the number of threads is inherited and the child's own": """
def change():
    assert fastopt.get_num_threads() == 3
    fastopt.set_num_threads(2)
    return right()
assert ended_well(in_child(change))
assert fastopt.get_num_threads() == 3
""",
    "from another thread": """
assert right()
found = []
thread = threading.Thread(target=lambda: found.append(ended_well(in_child(right))))
thread.start()
thread.join()
assert found == [True]
assert right()
""",
    # Fifty forks land at fifty places in the loop of the other threads, which is in an op most of the time.
    "while other threads are inside ops": """
stop = threading.Event()
x = np.ones(3 << 18, np.float32)
done = [0, 0]
def work(k):
    y = np.empty_like(x)
    while not stop.is_set():
        fastopt.leaky_relu(x, out=y)
        done[k] += 1
threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
for thread in threads:
    thread.start()
def some_op():
    return fastopt.leaky_relu(-x, 0.5).sum() == -0.5 * x.size
for k in range(50):
    assert ended_well(in_child(some_op)), k
    assert some_op()
assert ended_well(in_child(right))
stop.set()
for thread in threads:
    thread.join()
assert min(done) > 0
assert right()
""",
    "while another thread changes the number of threads": """
stop = threading.Event()
def change():
    while not stop.is_set():
        for n in (1, 2, 3):
            fastopt.set_num_threads(n)
            fastopt.leaky_relu(np.ones(1 << 18, np.float32))
thread = threading.Thread(target=change)
thread.start()
for k in range(20):
    assert ended_well(in_child(lambda: (fastopt.leaky_relu(np.ones(1 << 18)) == 1).all())), k
stop.set()
thread.join()
fastopt.set_num_threads(3)
assert right()
""",
    "while candidates are made ahead": """
def minimize(at_cut=None):
    cut = 0
    def fun(x):
        nonlocal cut
        cut += 1
        if cut == at_cut:
            assert ended_well(in_child(right))
        return np.abs(x).max(axis=1)
    return fastopt.minimize_cem(fun, np.ones(300), popsize=1000, maxiter=2, rng=1, vectorized=True).x.tobytes()
alone = minimize()
for k in range(1, 10):
    assert minimize(at_cut=k) == alone
def goes_on(cut):
    "What was begun in the parent ends in the child."
    child, pid = None, os.getpid()
    def fun(x):
        nonlocal child, cut
        cut -= 1
        if cut == 0:
            child = os.fork()
        return np.abs(x).max(axis=1)
    try:
        x = fastopt.minimize_cem(fun, np.ones(300), popsize=1000, maxiter=2, rng=1, vectorized=True).x.tobytes()
        assert x == alone
    except BaseException:
        if os.getpid() != pid:
            os._exit(1)
        raise
    if os.getpid() != pid:
        os._exit(0)
    return child
for cut in (1, 2, 5, 8):
    assert ended_well(goes_on(cut))
""",
    "an optimiser goes on in parent and child": """
def train(optimizer, param):
    for k in range(3):
        optimizer.step([np.full(param.size, 0.5 + k, np.float32)])
    return param.tobytes()
def make():
    param = np.ones(200_003, np.float32)
    return fastopt.Adam([param]), param
optimizer, param = make()
train(optimizer, param)
twin, twin_param = make()
train(twin, twin_param)
wanted = train(twin, twin_param)
assert ended_well(in_child(lambda: train(optimizer, param) == wanted))
assert train(optimizer, param) == wanted
""",
    "multiprocessing pool": """
context = multiprocessing.get_context("fork")
with context.Pool(3) as pool:
    found = pool.starmap(digests, [()] * 6)
assert all(one == expected for one in found)
assert right()
""",
    "the child exits as an interpreter does": """
context = multiprocessing.get_context("fork")
processes = [context.Process(target=digests) for _ in range(3)]
for process in processes:
    process.start()
assert right()
for process in processes:
    process.join()
    assert process.exitcode == 0
""",
    "a subprocess": """
import subprocess
subprocess.run([sys.executable, "-P", "-c", "import fastopt"], check=True, preexec_fn=lambda: None)
assert right()
""",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_fork(script):
    run_python(PRELUDE + script, timeout=90)
