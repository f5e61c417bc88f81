"""The instruction set and the threads in use."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastopt import _core
from fastopt._checks import integer

__all__ = ["get_isa", "get_num_threads", "num_threads", "set_num_threads", "show_config"]

MAX_THREADS = 1024


def get_isa() -> str:
    """Return the instruction set in use: ``"baseline"``, ``"x86-64-v3"`` (AVX2) or ``"x86-64-v4"`` (AVX-512).

    The best that the CPU has is chosen at import; the environment variable ``FASTOPT_ISA`` forces one. Results have the
    same bits on each.
    """
    return _core.get_isa()


def get_num_threads() -> int:
    """Return how many threads an op may use, the calling one included.

    The default is what the process may use: the smaller of its CPU affinity and its cgroup's CPU limit, or the
    environment variable ``FASTOPT_NUM_THREADS``. Results have the same bits for any number.
    """
    return _core.get_num_threads()


def set_num_threads(n: int) -> None:
    """Let ops use up to n threads in this process; small arrays are done by the calling thread alone.

    Within :func:`num_threads` this also is the thread's number until the context ends.

    Raises
    ------
    TypeError, ValueError
        If n is not an int, or is below 1.
    """
    _core.set_num_threads(integer("n", n, 1, MAX_THREADS + 1))


@contextlib.contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Context in which ops that this Python thread calls use up to n threads, whatever the others do.

    Examples
    --------
    >>> import fastopt
    >>> with fastopt.num_threads(1):
    ...     fastopt.get_num_threads()
    1
    """
    before = _core.set_own_num_threads(integer("n", n, 1, MAX_THREADS + 1))
    try:
        yield
    finally:
        _core.set_own_num_threads(before)


def show_config() -> None:
    """Print the versions, the CPU, the instruction set and the number of threads in use."""
    for key, value in config().items():
        print(f"{key:>16}: {value}")


def config() -> dict[str, str]:
    """Return what :func:`show_config` prints."""
    return {
        "fastopt": _core.__version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "CPU": _cpu_name(),
        "instruction set": f"{get_isa()} (this CPU runs: {', '.join(_core.available_isas())})",
        "threads": f"{get_num_threads()} (of {os.cpu_count()} CPUs)",
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _default_num_threads() -> int:
    chosen = os.environ.get("FASTOPT_NUM_THREADS")
    if chosen:
        if not chosen.isdecimal() or not 1 <= int(chosen) <= MAX_THREADS:
            raise ImportError(f"FASTOPT_NUM_THREADS: expected a number from 1 to {MAX_THREADS}, got {chosen!r}")
        return int(chosen)
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    limit = _cgroup_cpus(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, math.ceil(min(cpus, limit)))


def _cgroup_cpus(membership: Path, root: Path) -> float:
    """Return the CPUs' worth of time that the process's cgroup, or one above it, may use; infinity without a limit."""
    limit = math.inf
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return limit
    for line in lines:
        _, controllers, path = line.split(":", 2)
        mounts = {"": root} if not controllers else {}
        if "cpu" in controllers.split(","):
            mounts = {"cpu": root / "cpu", controllers: root / controllers}
        group = Path(path.lstrip("/"))
        for mount in mounts.values():
            for folder in (group, *group.parents):
                limit = min(limit, _quota(mount / folder))
    return limit


def _quota(folder: Path) -> float:
    with contextlib.suppress(OSError, ValueError):  # version 2: "max 100000" or "150000 100000"
        quota, period = (folder / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):  # version 1: -1 means no limit
        microseconds = int((folder / "cpu.cfs_quota_us").read_text())
        return microseconds / int((folder / "cpu.cfs_period_us").read_text()) if microseconds > 0 else math.inf
    return math.inf


_core.set_num_threads(_default_num_threads())
