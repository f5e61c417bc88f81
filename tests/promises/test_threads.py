"""Threads: how many, who may call, where signals go, and what happens when no thread is to be had."""

from __future__ import annotations

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastopt

from ..cases import digests
from ..support import ELEMENTWISE_GRAIN, assert_same_bits, run_python, start_python, values

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


def test_the_number_of_a_context_is_its_threads_own():
    fastopt.set_num_threads(2)
    inside, seen, go_on = threading.Barrier(3), [], threading.Event()

    def work(n):
        with fastopt.num_threads(n):
            inside.wait(30)
            seen.append((n, fastopt.get_num_threads()))
            go_on.wait(30)
        seen.append((0, fastopt.get_num_threads()))

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 4)]
    for thread in threads:
        thread.start()
    inside.wait(30)
    assert fastopt.get_num_threads() == 2
    go_on.set()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(0, 2), (0, 2), (1, 1), (4, 4)]
    assert fastopt.get_num_threads() == 2


def test_setting_the_number_within_a_context():
    fastopt.set_num_threads(2)
    with fastopt.num_threads(3):
        fastopt.set_num_threads(4)
        assert fastopt.get_num_threads() == 4
    assert fastopt.get_num_threads() == 4


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


OPTIONS = {
    "clipped": {"max_grad_norm": 0.5, "skip_nonfinite": True, "amsgrad": True},
    "average": {"ema_decay": 0.9, "weight_decay": 0.1},
    "bfloat16": {"state_dtype": "bfloat16", "rng": 1, "max_grad_norm": 0.5},
    "8bit": {"state_dtype": "8bit", "rng": 1, "ema_decay": 0.9},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_two_optimisers_with_options_step_in_two_threads(options):
    # One parameter in another layout, whose copies are made outside the kernel, and one that only some rows reach.
    size = ELEMENTWISE_GRAIN // 2
    sparse = options.keys() <= {"max_grad_norm", "skip_nonfinite"}

    def train(seed):
        params = [np.ones(size, np.float32), np.ones((40, 300), np.float32, order="F"), np.ones((900, 50), np.float32)]
        optimizer = fastopt.Adam(params, **options)
        for k in range(15):
            rng = np.random.default_rng(100 * seed + k)
            grads = [rng.random(param.shape, np.float32) for param in params]
            if sparse:
                grads[2] = fastopt.SparseRows(rng.integers(0, 900, 400), grads[2][:400])
            if k == 7:
                grads[1][5, 5] = np.inf
            optimizer.step(grads, zero_grads=True)
        return [*params, *(array for arrays in optimizer._states.values() for array in arrays)]

    fastopt.set_num_threads(3)
    expected = [train(seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as executor:
        for arrays, wanted in zip(executor.map(train, (1, 2)), expected, strict=True):
            for array, other in zip(arrays, wanted, strict=True):
                assert_same_bits(array, other)


# Each option has work of its own outside the update: a pass for the norm, copies of what is laid out otherwise, rows.
ONE_OPTIMISER = {
    "clipped": "fastopt.Adam([param], max_grad_norm=0.5)",
    "skipping": "fastopt.SGD([param], lr=0.125, momentum=0.5, skip_nonfinite=True, ema_decay=0.5)",
    "8bit": "fastopt.Adam([param], state_dtype='8bit', rng=1)",
    "strided": "fastopt.Adam([param])",
    "zeroing": "fastopt.Adam([param], max_grad_norm=0.5, state_dtype='bfloat16', rng=1)",
}


@pytest.mark.parametrize(("kind", "make"), ONE_OPTIMISER.items(), ids=ONE_OPTIMISER.keys())
def test_one_optimiser_in_two_threads(kind, make):
    # Each step happens whole or is refused. In a process of its own, which a step that is neither may end.
    run_python(
        """
import sys, threading, time
import numpy as np
import fastopt

kind = sys.argv[1]
fastopt.set_num_threads(2)
size = 1 << 18

def array(value):
    if kind == "strided":
        return np.full(2 * size, value, np.float32)[::2]
    return np.full(size, value, np.float32)

def make(param):
    return """
        + make
        + """

param, twin_param = array(1), array(1)
optimizer, twin = make(param), make(twin_param)
done, end = [0, 0], time.monotonic() + 20
refused = []

def work(k):
    grad = array(0.5)  # of its own: the caller's to keep from the other thread
    while time.monotonic() < end and not (len(refused) >= 20 and sum(done) >= 20 or sum(done) >= 300):
        grad[...] = 0.5
        try:
            optimizer.step([grad], zero_grads=kind == "zeroing")
            done[k] += 1
        except RuntimeError as error:
            refused.append(str(error))
            assert grad.all()  # a refused step zeroes nothing
            time.sleep(0)

other = threading.Thread(target=work, args=(1,))
other.start()
work(0)
other.join()
assert set(refused) <= {"step: this optimiser is in the middle of a step in another thread"}, refused[:3]
assert optimizer.step_count == optimizer.state_dict()["step/0"] == sum(done)
for _ in range(sum(done)):
    twin.step([array(0.5)])
assert np.array_equal(param, twin_param)
for kind, (state,) in twin._states.items():
    assert np.array_equal(optimizer._states[kind][0], state), kind
""",
        arguments=[kind],
    )


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
from tests.cases import digests

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
import signal, time
before = blocked(os.getpid())
fastopt.set_num_threads(3)
fastopt.leaky_relu(np.ones(1 << 20))
assert len(native()) == 2
for task in native():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD, signal.SIGPROF):
        assert blocked(task) >> (number - 1) & 1, (task, number)
    end = time.monotonic() + 30
    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP):
        # Of a fault of its own. (The C library blocks every signal in a thread that has not begun yet.)
        while blocked(task) >> (number - 1) & 1:
            assert time.monotonic() < end, (task, number)
            time.sleep(0.001)
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
def test_the_traceback_of_a_fault_in_a_worker():
    # The last chunk of a file that another process has cut off, done by whichever thread comes to it.
    script = """
import faulthandler, tempfile
import numpy as np
import fastopt
faulthandler.enable()
fastopt.set_num_threads(3)
file = tempfile.NamedTemporaryFile()
n = 1 << 22
file.truncate(4 * n)
x, y = np.memmap(file.name, np.float32, "r+", shape=(n,)), np.zeros(n, np.float32)
fastopt.leaky_relu(y, out=y)
file.truncate(4 * n - 4096)
fastopt.leaky_relu(x, out=y)
"""
    for _ in range(6):
        process = start_python(script)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGBUS
        assert "Fatal Python error: Bus error" in output
        assert "in leaky_relu" in output


@linux_only
def test_fewer_threads_when_no_more_can_be_made():
    # The limit on processes does not bind root, so root becomes another user first.
    output = run_python(
        PRELUDE
        + """
import resource
x = np.linspace(-1, 1, 1 << 20)
def found():
    return fastopt.leaky_relu(x, 0.1).tobytes(), fastopt.dropout(x, 0.5, rng=(1, 2))[0].tobytes()
fastopt.set_num_threads(1)
expected = found()
fastopt.set_num_threads(4)
assert not native()
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
if os.getuid() == 0:
    os.setresuid(65534, 65534, 65534)
try:
    threading.Thread(target=int).start()
except RuntimeError:
    assert found() == expected
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
