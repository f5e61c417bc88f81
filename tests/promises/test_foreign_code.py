"""An objective that Numba has compiled is foreign code: it may run for long, raise, fork, wait for the GIL, and change
the state of its thread. Seen to come of it: deadlocks with forks, lost interrupts, other bits in later ops.

Each test is a script in a process of its own, with a time limit, so that a hang is a failure.
"""

from __future__ import annotations

import sys

import pytest

from ..support import run_python
from .test_rounding_mode import known_here

pytest.importorskip("numba")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="forks, or looks at a thread through Linux's C library")

PRELUDE = """
import ctypes, os, signal, sys, threading, time, warnings
import numpy as np
from numba import njit, objmode
import fastopt

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside a thread

def in_python(function):
    "An objective that calls a Python function, in whatever thread it runs."
    @njit
    def objective(x):
        with objmode(y="float64"):
            y = function(x)
        return y
    return objective

def compiled(rounds):
    "An objective of compiled code alone that takes about so many nanoseconds."
    @njit
    def objective(x):
        s = 0.0
        for k in range(rounds):
            s += x[k % x.size] * 1e-9
        return s
    return objective

def ended_well(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def sphere(x):
    return float(np.square(x - 1).sum())

def minimize(fun, n=300, popsize=100, maxiter=3):
    return fastopt.minimize_cem(fun, np.zeros(n), popsize=popsize, maxiter=maxiter, rng=1)

threads = int(sys.argv[1])
fastopt.set_num_threads(threads)
expected = minimize(sphere)
assert minimize(in_python(sphere)).x.tobytes() == expected.x.tobytes()
"""

SCRIPTS = {
    "an error in Python comes out as it is, and nothing is called after it": """
raised_in, later = [], []
def function(x):
    if raised_in and threading.get_ident() in raised_in:
        later.append(1)
    if x[0] > 0.5:
        raised_in.append(threading.get_ident())
        raise KeyError("the mesh is broken")
    return sphere(x)
try:
    minimize(in_python(function))
except KeyError as error:
    assert error.args == ("the mesh is broken",)
    (note,) = error.__notes__
    assert note.startswith("raised while scoring candidate ") and note.endswith(" of generation 0, restart 0"), note
    assert "function" in [frame.name for frame in __import__("traceback").extract_tb(error.__traceback__)]
else:
    raise AssertionError("no error")
assert not later and len(raised_in) <= threads
candidate = int(note.split()[4])
cem = fastopt.CEM(np.zeros(300), popsize=100, rng=1)
assert cem.ask()[candidate, 0] > 0.5
""",
    "an error that comes once is not lost": """
calls = [0]
def function(x):
    calls[0] += 1
    if calls[0] == 30:
        raise OSError("once")
    return sphere(x)
try:
    minimize(in_python(function))
except OSError as error:
    assert str(error) == "once"
else:
    raise AssertionError("no error")
""",
    "an interrupt ends the run with what was found": """
calls = [0]
def function(x):
    calls[0] += 1
    if calls[0] == 250:
        raise KeyboardInterrupt
    return sphere(x)
result = minimize(in_python(function))
assert result.status == 8 and result.nit == 2 and result.nfev == 202
whole = minimize(sphere, maxiter=2)
assert result.x_mean.tobytes() == whole.candidate(1, 100).tobytes()
""",
    "an interrupt beside an error in another thread is not lost": """
caller, raised = threading.get_ident(), threading.Event()
def function(x):
    if threading.get_ident() != caller:
        raised.set()
        raise OSError("in a worker")
    raised.wait(0.5)
    raise KeyboardInterrupt
result = minimize(in_python(function))
assert (result.status, result.nit) == (8, 0)
""",
    "an interrupt between candidates of a generation that takes minutes": """
slow = compiled(20_000_000)
minimize(slow, popsize=4, maxiter=1)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
result = minimize(slow, popsize=100_000)
assert (result.status, result.nit) == (8, 0)
""",
    "other signals are handled meanwhile": """
done = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: done.set())
slow = compiled(2_000_000)
minimize(slow, popsize=4, maxiter=1)  # compiled: a handler may raise where Numba cannot hand it on
class Stop(Exception):
    pass
def stop(*_):
    raise Stop
signal.signal(signal.SIGUSR2, stop)
def press():
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert done.wait(30)
    os.kill(os.getpid(), signal.SIGUSR2)
threading.Thread(target=press).start()
try:
    minimize(slow, popsize=1_000_000)
except Stop as error:
    assert not hasattr(error, "__notes__")
else:
    raise AssertionError("not stopped")
""",
    "several threads call a slow one, though there are few candidates": """
seen = set()
def function(x):
    seen.add(threading.get_ident())
    time.sleep(0.005)
    return sphere(x)
fun = in_python(function)
for _ in range(20):
    minimize(fun, n=2, popsize=40, maxiter=2)  # the time of one is known from the first generation on
    if len(seen) == threads:
        break
assert len(seen) == threads
""",
    "threads of Python make progress": """
slow = compiled(3_000_000)
minimize(slow, popsize=4, maxiter=1)
counted, stop = [0], threading.Event()
def count():
    while not stop.wait(0.001):
        counted[0] += 1
thread = threading.Thread(target=count)
thread.start()
before = counted[0]
minimize(slow, n=2, popsize=20, maxiter=1)
# Where the interpreter's lock is held throughout, it comes to count once, when that is given up at the end.
assert counted[0] > before + 3
stop.set()
""",
    "it may use the package": """
def function(x):
    y = fastopt.leaky_relu(np.tile(x, 2000), 0.5)
    assert y.size == 600_000
    inner = fastopt.minimize_cem(squares, np.zeros(3), popsize=10, maxiter=2, rng=1)
    return sphere(x) + 0 * inner.fun
squares = njit(lambda x: np.square(x).sum())
assert minimize(in_python(function), popsize=20).x.tobytes() == minimize(sphere, popsize=20).x.tobytes()
""",
}

EXITS = {
    "the interpreter ends while it runs": """
def function(x):
    running.set()
    time.sleep(0.001)
    return sphere(x)
fun, running = in_python(function), threading.Event()
def work():
    while True:
        minimize(fun)
threading.Thread(target=work, daemon=True).start()
assert running.wait(30)
""",
    "the interpreter ends while compiled code runs": """
slow = compiled(300_000)
minimize(slow, popsize=4, maxiter=1)
threading.Thread(target=lambda: minimize(slow, popsize=100_000), daemon=True).start()
time.sleep(0.2)
""",
}

FORKS = {
    "a fork beside it does not wait for it": """
waiting, forked = threading.Semaphore(0), threading.Event()
def function(x):
    waiting.release()
    assert forked.wait(50)
    return sphere(x)
fun, found = in_python(function), []
thread = threading.Thread(target=lambda: found.append(minimize(fun)))
thread.start()
for _ in range(threads if threads == 1 else 1):
    waiting.acquire()
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if fastopt.leaky_relu(np.full(1 << 20, -2.0), 0.5).sum() == -(1 << 20) else 1)
    assert ended_well(child)
    fastopt.leaky_relu(np.ones(1 << 20))
forked.set()
thread.join()
assert found[0].x.tobytes() == expected.x.tobytes()
""",
    "forks beside one that wants the GIL": """
def function(x):
    time.sleep(0.0005)
    return sphere(x)
stop, runs = threading.Event(), []
fun = in_python(function)
def work():
    while not stop.is_set():
        runs.append(minimize(fun).x.tobytes())
thread = threading.Thread(target=work)
thread.start()
for _ in range(40):
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert ended_well(child)
    time.sleep(0.002)
stop.set()
thread.join()
assert runs and set(runs) == {expected.x.tobytes()}
""",
    "after a fork there are workers again": """
def tasks():
    return len(os.listdir("/proc/self/task")) - threading.active_count()
waiting, forked, seen = threading.Event(), threading.Event(), []
def function(x):
    waiting.set()
    assert forked.wait(50)
    time.sleep(0.002)
    seen.append(threading.get_ident())
    return sphere(x)
fun = in_python(function)
thread = threading.Thread(target=lambda: minimize(fun, popsize=400, maxiter=1))
thread.start()
assert waiting.wait(30)
child = os.fork()
if child == 0:
    os._exit(0)
assert ended_well(child)
forked.set()
thread.join()
# Those in it at the fork, which end with what they have begun, and as many new ones.
assert threads == 1 or len(set(seen[200:])) > 1, len(set(seen[200:]))
""",
    "ops beside it do not leave it to one thread": """
stop, seen = threading.Event(), set()
x = np.ones(1 << 20, np.float32)
def ops():
    while not stop.is_set():
        fastopt.leaky_relu(x, out=x)
thread = threading.Thread(target=ops)
thread.start()
def function(x):
    seen.add(threading.get_ident())
    time.sleep(0.001)
    return sphere(x)
fun = in_python(function)
for _ in range(10):
    seen.clear()
    minimize(fun, popsize=300, maxiter=1)
    assert threads == 1 or len(seen) > 1
stop.set()
thread.join()
""",
    "one that forks: the run goes on in parent and child": """
caller, pid, children = threading.get_ident(), os.getpid(), []
calls = [0]
def function(x):
    calls[0] += 1
    # In the caller's thread: it is what goes on in a child.
    if threading.get_ident() == caller and os.getpid() == pid and len(children) < 4 and calls[0] % 7 == 0:
        child = os.fork()
        if child:
            children.append(child)
    return sphere(x)
same = minimize(in_python(function)).x.tobytes() == expected.x.tobytes()
if os.getpid() != pid:
    os._exit(0 if same else 1)
assert same
assert len(children) == 4 and all(map(ended_well, children))
""",
    "one that forks in a worker: the child ends with the thread": """
caller, pid, children = threading.get_ident(), os.getpid(), []
def function(x):
    if os.getpid() == pid and len(children) < 3 and (threading.get_ident() != caller or threads == 1):
        child = os.fork()
        if child == 0 and threads == 1:
            os._exit(0)
        if child:
            children.append(child)
    elif threads > 1 and not children:
        time.sleep(0.001)  # so that workers come
    return sphere(x)
fun = in_python(function)
for _ in range(50):
    assert minimize(fun).x.tobytes() == expected.x.tobytes()
    if children:
        break
assert children and all(map(ended_well, children))
""",
    "a fork in a signal's handler while it runs": """
pid, children, forked = os.getpid(), [], threading.Event()
def fork(*_):
    child = os.fork()
    if child == 0:
        os._exit(0 if (fastopt.leaky_relu(np.full(1 << 20, -2.0), 0.5) == -1).all() else 1)
    children.append(child)
    forked.set()
signal.signal(signal.SIGUSR1, fork)
slow = compiled(300_000)
wanted = minimize(slow).x.tobytes()
stop = threading.Event()
def press():
    while not stop.wait(0.02):
        forked.clear()
        os.kill(pid, signal.SIGUSR1)
        assert forked.wait(50)  # or a handler that takes longer than the pause comes within itself, and so on
thread = threading.Thread(target=press)
thread.start()
while len(children) < 5:
    assert minimize(slow).x.tobytes() == wanted
stop.set()
thread.join()
assert all(map(ended_well, children))
""",
}

MODES = {
    "the mode that a signal's handler leaves is put back": """
libm = ctypes.CDLL("libm.so.6")
signal.signal(signal.SIGALRM, lambda *_: libm.fesetround(0x800))
wanted = minimize(sphere_njit := njit(lambda x: np.square(x - 1).sum()), popsize=300_000, maxiter=2)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
for _ in range(4):
    found = minimize(sphere_njit, popsize=300_000, maxiter=2)
    libm.fesetround(0)
    assert found.x.tobytes() == wanted.x.tobytes() and found.fun == wanted.fun
signal.setitimer(signal.ITIMER_REAL, 0)
libm.fesetround(0)
""",
    "the mode of its thread is put back": """
libm = ctypes.CDLL("libm.so.6")
set_mode, UPWARD = libm.fesetround, 0x800
set_mode.argtypes = [ctypes.c_int]
@njit
def fun(x):
    set_mode(UPWARD)
    s = 0.0
    for k in range(x.size):
        s += (x[k] - 1) ** 2
    return s
@njit
def plain(x):
    s = 0.0
    for k in range(x.size):
        s += (x[k] - 1) ** 2
    return s
x = np.random.default_rng(0).standard_normal(1 << 20)
wanted = fastopt.leaky_relu(x, 0.1).tobytes()
for _ in range(10):
    minimize(fun, popsize=1000)
    assert libm.fegetround() == 0
    assert fastopt.leaky_relu(x, 0.1).tobytes() == wanted
libm.fesetround(0x400)  # and the caller's own stays
other = minimize(plain)
assert libm.fegetround() == 0x400
libm.fesetround(0)
assert other.x.tobytes() == minimize(plain).x.tobytes()
""",
}

LINUX = {
    "workers have a stack of a stated size": """
pthread = ctypes.CDLL(None)
sizes = set()
def function(x):
    attributes, size = ctypes.create_string_buffer(256), ctypes.c_size_t()
    assert pthread.pthread_getattr_np(ctypes.c_void_p(pthread.pthread_self()), attributes) == 0
    pthread.pthread_attr_getstacksize(attributes, ctypes.byref(size))
    if threading.current_thread() is not threading.main_thread():
        sizes.add(size.value)
    time.sleep(0.001)
    return sphere(x)
pthread.pthread_self.restype = ctypes.c_void_p
fun = in_python(function)
for _ in range(20):
    minimize(fun)
    if sizes or threads == 1:
        break
assert sizes == (set() if threads == 1 else {8 << 20}), sizes
""",
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_foreign_code(script, threads):
    run_python(PRELUDE + script, timeout=90, arguments=[threads])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("script", EXITS.values(), ids=EXITS.keys())
def test_exits(script, threads):
    for _ in range(2):
        run_python(PRELUDE + script, timeout=90, arguments=[threads])


@linux_only
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("script", FORKS.values(), ids=FORKS.keys())
def test_forks(script, threads):
    run_python(PRELUDE + script, timeout=90, arguments=[threads])


@known_here
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("script", MODES.values(), ids=MODES.keys())
def test_float_modes(script, threads):
    run_python(PRELUDE + script, timeout=90, arguments=[threads])


@linux_only
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("script", LINUX.values(), ids=LINUX.keys())
def test_its_thread(script, threads):
    run_python(PRELUDE + script, timeout=90, arguments=[threads])
