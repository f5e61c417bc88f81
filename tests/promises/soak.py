"""Everything at once for some minutes: ``python -m tests.promises.soak --minutes 20`` (`make soak`).

Python threads call ops, optimisers and searches, some of which raise, print, use objmode or are interrupted by signals,
while the main thread forks, sends signals and changes the number of threads. Every result is compared with what it is
alone. It ends with 1 at the first that differs, when a thread gets no further for a minute, or when memory grows.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, objmode

import fastopt
from tests.cases import digests

Task = Callable[[], Any]


def resident() -> float:
    """This process's memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Expected(Exception):
    pass


def in_python(x: Any) -> float:
    if random.random() < 0.02:
        time.sleep(0.0005)
    return float(np.square(x - 1).sum())


def that_raises(x: Any) -> float:
    raise Expected("from objmode")


@njit
def compiled(x):  # type: ignore[no-untyped-def]
    s = 0.0
    for k in range(x.size):
        s += (x[k] - 1) ** 2
    return s


@njit
def by_objmode(x):  # type: ignore[no-untyped-def]
    with objmode(y="float64"):
        y = in_python(x)
    return y  # noqa: RET504, objmode hands variables on


@njit
def raising_in_objmode(x):  # type: ignore[no-untyped-def]
    with objmode(y="float64"):
        y = that_raises(x)
    return y  # noqa: RET504, objmode hands variables on


@njit
def raising(x):  # type: ignore[no-untyped-def]
    if x[0] > 0.5:
        raise ValueError("compiled")
    return x[0]


def search(fun: Any, n: int, popsize: int, **options: Any) -> Task:
    def task() -> Any:
        result = fastopt.minimize_cem(fun, np.zeros(n), popsize=popsize, maxiter=4, rng=1, **options)
        return result.x.tobytes(), result.fun, result.status

    return task


def raised(task: Task, kind: type[BaseException]) -> Task:
    def tried() -> str:
        try:
            task()
        except kind as error:
            return str(error)
        return "nothing was raised"

    return tried


def train(**options: Any) -> Task:
    def task() -> Any:
        params = [np.ones(size, np.float32) for size in (70_000, 300, 1)]
        optimizer = fastopt.Adam(params, **options)
        for k in range(6):
            optimizer.step([np.full(p.size, 0.5 + k, np.float32) for p in params], zero_grads=True)
            optimizer.load_state_dict(optimizer.state_dict())
        return [p.tobytes() for p in params]

    return task


TASKS: dict[str, Task] = {
    "ops": digests,
    "Adam": train(max_grad_norm=0.5),
    "8-bit Adam": train(state_dtype="8bit", rng=1, ema_decay=0.9),
    "compiled search": search(compiled, 300, 200),
    "small compiled search": search(compiled, 5, 20),
    "search through objmode": search(by_objmode, 40, 30),
    "search of a Python function": search(lambda x: np.square(x).sum(axis=1), 700, 300, vectorized=True),
    "search that raises in objmode": raised(search(raising_in_objmode, 40, 30), Expected),
    "search that raises in compiled code": raised(search(raising, 3, 50), ValueError),
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--threads", type=int, default=4)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: they are what is tried
    fastopt.set_num_threads(3)
    expected = {name: task() for name, task in TASKS.items()}
    stop, wrong, done, alive = threading.Event(), [], dict.fromkeys(TASKS, 0), [0.0] * arguments.threads

    def work(number: int) -> None:
        order = random.Random(number)
        while not stop.is_set():
            name = order.choice(list(TASKS))
            try:
                with fastopt.num_threads(order.choice([1, 2, 4])):
                    found = TASKS[name]()
                if found != expected[name]:
                    wrong.append(f"{name}: other results than alone")
            except BaseException as error:
                wrong.append(f"{name}: {error!r}")
            done[name] += 1
            alive[number] = time.monotonic()

    handled = itertools.count()
    signal.signal(signal.SIGUSR1, lambda *_: next(handled))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    alive[:] = [time.monotonic()] * len(alive)
    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(len(alive))]
    for thread in threads:
        thread.start()
    start, forks, interrupted, after_a_minute = time.monotonic(), 0, 0, 0.0
    shown = start
    while not wrong and time.monotonic() - start < 60 * arguments.minutes:
        faulthandler.dump_traceback_later(120, exit=True)  # a child, or this thread, that gets no further
        fastopt.set_num_threads(random.choice([1, 2, 3, 5]))
        child = os.fork()
        if child == 0:
            name = random.choice(list(TASKS))
            os._exit(0 if TASKS[name]() == expected[name] else 1)
        os.kill(os.getpid(), signal.SIGUSR1)
        # What Ctrl-C raises, in a search of this thread's own: it ends with what it has found, whole or interrupted.
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-4 + random.random() / 50)
            status = fastopt.minimize_cem(compiled, np.zeros(3000), popsize=2000, maxiter=3, rng=1).status
            signal.setitimer(signal.ITIMER_REAL, 0)
            interrupted += status == 8
            if status not in (2, 8):
                wrong.append(f"interrupted search: status {status}")
        except KeyboardInterrupt:  # before or after the search's own
            interrupted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            wrong.append("a child: other results than in its parent")
        forks += 1
        now = time.monotonic()
        if now - min(alive) > 60:
            faulthandler.dump_traceback(all_threads=True)
            wrong.append("a thread got no further for a minute")
        if after_a_minute == 0 and now - start > 60:
            after_a_minute = resident()
        if now - shown > 30:
            shown = now
            print(
                f"{now - start:5.0f} s: {sum(done.values())} tasks, {forks} forks, {interrupted} interrupted, "
                f"{resident():.0f} MB",
                flush=True,
            )
    stop.set()
    for thread in threads:
        thread.join(60)
    grown = resident() - after_a_minute if after_a_minute else 0.0
    if grown > 30:
        wrong.append(f"memory has grown by {grown:.0f} MB after the first minute")
    print(done)
    print(f"{forks} forks, {interrupted} interrupted, {next(handled)} signals; {grown:+.0f} MB since the first minute")
    print("\n".join(wrong) or "right")
    sys.stdout.flush()
    os._exit(1 if wrong else 0)  # a thread that hangs would keep this process


if __name__ == "__main__":
    main()
