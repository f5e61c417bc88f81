"""Threads: how many, who may call, where signals go, and what happens when no thread is to be had."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastopt

from .support import ELEMENTWISE_GRAIN, assert_same_bits, digests, run_python, values

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or sets Linux limits")


def test_number_of_threads():
    fastopt.set_num_threads(3)
    assert fastopt.get_num_threads() == 3
    with fastopt.num_threads(np.int64(2)):
        assert fastopt.get_num_threads() == 2
        with fastopt.num_threads(5):
            assert fastopt.get_num_threads() == 5
        assert fastopt.get_num_threads() == 2
    assert fastopt.get_num_threads() == 3


def test_the_context_restores_after_an_error():
    before = fastopt.get_num_threads()
    with pytest.raises(KeyError), fastopt.num_threads(before + 1):
        raise KeyError
    assert fastopt.get_num_threads() == before


def test_the_number_may_change_at_any_time():
    expected = digests()
    for threads in (1, 4, 2, 16, 1, 3):
        fastopt.set_num_threads(threads)
        assert digests() == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_every_op_in_four_python_threads_at_once(threads):
    fastopt.set_num_threads(threads)
    expected = digests()
    with ThreadPoolExecutor(4) as executor:
        for found in executor.map(lambda _: digests(), range(8)):
            assert found == expected


def test_two_optimisers_step_in_two_threads():
    def train(seed):
        params = [values(seed, ELEMENTWISE_GRAIN * 3, np.float32), values(seed, 100, np.float32)]
        optimizer = fastopt.Adam(params)
        for k in range(30):
            optimizer.step([values(k, param.shape, np.float32) for param in params])
        return params

    fastopt.set_num_threads(3)
    expected = [train(seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as executor:
        for params, wanted in zip(executor.map(train, (1, 2)), expected, strict=True):
            for param, other in zip(params, wanted, strict=True):
                assert_same_bits(param, other)


def test_the_number_may_change_while_ops_run():
    expected = digests()
    stop = threading.Event()
    found = []

    def work():
        while not stop.is_set():
            found.append(digests())

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    while len(found) < 6:
        for threads in (1, 2, 3, 4):
            fastopt.set_num_threads(threads)
    stop.set()
    for worker in workers:
        worker.join()
    assert all(one == expected for one in found)


# ---- in a process of its own -----------------------------------------------------------------------------------------

# Helpers for the scripts: the threads of the process that are not Python's, by their numbers in /proc.
PRELUDE = """
import os, sys, threading
import numpy as np
import fastopt
from support import digests

def native():
    return set(map(int, os.listdir("/proc/self/task"))) - {thread.native_id for thread in threading.enumerate()}

def blocked(task):
    with open(f"/proc/self/task/{task}/status") as status:
        return next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))

"""


@linux_only
def test_workers_are_made_when_needed_and_stay():
    run_python(
        PRELUDE
        + """
assert not native()  # importing makes none
fastopt.set_num_threads(4)
fastopt.leaky_relu(np.ones(100))
assert not native()  # nor does a small op
fastopt.leaky_relu(np.ones(1 << 20))
assert len(native()) == 3
first = native()
fastopt.leaky_relu(np.ones(1 << 20))
assert native() == first
with fastopt.num_threads(2):
    fastopt.leaky_relu(np.ones(1 << 20))
assert native() <= first
fastopt.set_num_threads(6)
fastopt.leaky_relu(np.ones(1 << 20))
assert len(native()) == 5
""",
        OPENBLAS_NUM_THREADS="1",
        OMP_NUM_THREADS="1",
    )


@linux_only
def test_workers_block_signals_and_callers_do_not():
    run_python(
        PRELUDE
        + """
import signal
before = blocked(os.getpid())
fastopt.set_num_threads(3)
fastopt.leaky_relu(np.ones(1 << 20))
assert len(native()) == 2
for task in native():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD, signal.SIGPROF):
        assert blocked(task) >> (number - 1) & 1, (task, number)
assert blocked(os.getpid()) == before
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(threading.current_thread()))
for _ in range(100):
    os.kill(os.getpid(), signal.SIGUSR1)
    fastopt.leaky_relu(np.ones(1 << 18))
assert len(seen) == 100 and set(seen) == {threading.main_thread()}
""",
        OPENBLAS_NUM_THREADS="1",
        OMP_NUM_THREADS="1",
    )


@linux_only
def test_fewer_threads_when_no_more_can_be_made():
    # The limit on processes does not bind root, so root becomes another user first.
    output = run_python(
        PRELUDE
        + """
import resource
fastopt.set_num_threads(1)
expected = digests()
fastopt.set_num_threads(4)
assert not native()
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
if os.getuid() == 0:
    os.setresuid(65534, 65534, 65534)
try:
    threading.Thread(target=int).start()
except RuntimeError:
    assert digests() == expected
    assert not native()
    optimizer = fastopt.SGD([np.ones(1 << 20)], lr=1.0)
    optimizer.step([np.ones(1 << 20)])
    assert not optimizer.params[0].any()
else:
    print("no limit")
""",
        OPENBLAS_NUM_THREADS="1",
        OMP_NUM_THREADS="1",
    )
    if "no limit" in output:
        pytest.skip("the system lets this user make threads above its limit")


EXITS = {
    "at the end": "fastopt.leaky_relu(x)",
    "by sys.exit": "fastopt.leaky_relu(x); sys.exit(0)",
    "after a change": "fastopt.leaky_relu(x); fastopt.set_num_threads(4); fastopt.leaky_relu(x)",
    "with a daemon thread in an op": """
started = threading.Event()
def work():
    while True:
        fastopt.leaky_relu(x, out=x)
        started.set()
threading.Thread(target=work, daemon=True).start()
started.wait()
""",
    "with ops in atexit": """
import atexit
atexit.register(lambda: fastopt.leaky_relu(x))
fastopt.leaky_relu(x)
""",
}


@pytest.mark.parametrize("ending", EXITS.values(), ids=EXITS.keys())
def test_the_interpreter_exits_with_the_pool_alive(ending):
    for _ in range(5):
        run_python(PRELUDE + "fastopt.set_num_threads(3)\nx = np.ones(1 << 20, np.float32)\n" + ending, timeout=30)
