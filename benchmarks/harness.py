"""What the benchmarks share: an op with its contenders, the cases to time, and the number of threads."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastopt
from fastopt import _core

Array = NDArray[Any]
Call = Callable[[], Any]

TWO_THREADS_FROM = 2**18  # elements
# Where the ops are: for sys.path, so that each file is a module. The folders themselves are none: one is named random.
FOLDERS = sorted({str(file.parent) for file in Path(__file__).parent.glob("*/bench_*.py")})


def optional(module: str) -> Any:
    """The module, or None where it is not installed."""
    with contextlib.suppress(ImportError):
        return importlib.import_module(module)
    return None


torch = optional("torch")
mkl_random = optional("mkl_random")
threadpoolctl = optional("threadpoolctl")
numba = optional("numba")


def present(contender: str) -> bool:
    """Whether the package of a contender is installed; torch's may have names of several kinds."""
    return {"torch": torch, "mkl": mkl_random, "numba": numba}.get(contender.partition("_")[0], contender) is not None


def sizes(dtype: type, *powers: int) -> tuple[tuple[type, int], ...]:
    return tuple((dtype, 2**power) for power in powers)


class Op:
    """One op on data of its own. A method for each contender makes what it needs and returns the call to time.

    A call that is one function call is a `partial`, so that a timer can write it out as a user would.
    """

    name: str
    data: tuple[tuple[type, int], ...] = (*sizes(np.float32, 10, 16, 20, 24), *sizes(np.float64, 16, 24))
    contenders: tuple[str, ...] = ("reference", "numpy", "torch", "fastopt", "stream", "stream_nontemporal")
    one_thread: frozenset[str] = frozenset({"reference", "numpy"})
    exact: frozenset[str] = frozenset({"reference", "numpy", "fastopt"})  # one definition, so the same bits
    rtol = 2e-5  # of the others
    atol = 1e-6  # an updated parameter near zero carries the rounding of the larger value that it was
    checked_calls = 1

    def __init__(self, dtype: type, size: int) -> None:
        self.dtype, self.size = dtype, size

    def normal(self, seed: int) -> Array:
        """Normal numbers without a zero: a gradient of zero would let Adam's averages decay into subnormal numbers."""
        x = np.random.Generator(np.random.SFC64(seed)).standard_normal(self.size, dtype=self.dtype)
        x[x == 0] = 1
        return x

    def traffic(self) -> tuple[list[Array], list[Array]]:
        """The arrays that the op writes and those that it reads."""
        raise NotImplementedError

    def result(self, returned: Any) -> list[Array]:
        """What a call computed: the arrays that it wrote, or what it returned if it cannot write in place."""
        return self.traffic()[0]

    def stream(self) -> Call:
        return partial(_core.stream, *self.traffic(), False)

    def stream_nontemporal(self) -> Call:
        return partial(_core.stream, *self.traffic(), True)

    def check(self, contender: str) -> None:
        """Run the contender and fastopt (or fastopt and the reference) on the same data and compare the results."""
        if contender in ("stream", "stream_nontemporal"):
            return
        ours, theirs = [self.run(name) for name in (contender, "reference" if contender == "fastopt" else "fastopt")]
        for a, b in zip(ours, theirs, strict=True):
            self.compare(contender, a, b)

    def run(self, contender: str) -> list[Array]:
        op = type(self)(self.dtype, self.size)
        call = getattr(op, contender)()
        returned = [call() for _ in range(self.checked_calls)]
        return [np.asarray(array) for array in op.result(returned[-1])]

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if contender in self.exact:
            bits = f"u{ours.itemsize}"
            np.testing.assert_array_equal(ours.view(bits), theirs.view(bits))
        else:
            np.testing.assert_allclose(ours, theirs, rtol=self.rtol, atol=self.atol)


@dataclass(frozen=True)
class Case:
    op: type[Op]
    dtype: type
    size: int
    threads: int
    contender: str

    @property
    def group(self) -> str:
        return f"{self.op.name} {self.dtype.__name__} {size_name(self.size)}"

    def __str__(self) -> str:
        return f"{self.group.replace(' ', '-')}-{self.threads}t-{self.contender}"


def size_name(size: int) -> str:
    power = size.bit_length() - 1
    return f"2^{power}" if size == 2**power else str(size)


def cases(*ops: type[Op]) -> list[Case]:
    return [
        Case(op, dtype, size, threads, contender)
        for op in ops
        for dtype, size in op.data
        for threads in ((1, 2) if size >= TWO_THREADS_FROM else (1,))
        for contender in op.contenders
        if threads == 1 or contender not in op.one_thread
    ]


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """fastopt, torch and NumPy's BLAS use n threads."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(fastopt.num_threads(n))
        if threadpoolctl is not None:
            stack.enter_context(threadpoolctl.threadpool_limits(n, user_api="blas"))
        if torch is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(n)
        yield


def blocks(*arrays: Array, scratch: tuple[type, ...] = (), block: int = 2**15) -> list[tuple[Array, ...]]:
    """Views of the arrays, block by block, with arrays of the dtypes `scratch` to work in: all stay in the L2 cache.

    NumPy's passes over a large array then cost no memory traffic of their own (Adam at 2^24: 1.9 instead of 3.1 ns).
    """
    flat = [a.reshape(-1) for a in arrays]
    size = flat[0].size
    work = [np.empty(min(block, size), dtype) for dtype in scratch]
    return [
        (*(a[i : i + block] for a in flat), *(w[: min(block, size - i)] for w in work)) for i in range(0, size, block)
    ]


def from_numpy(*arrays: Array) -> list[Any]:
    """The arrays as torch tensors in the same memory, so that both are in pages of the same kind."""
    return [torch.from_numpy(a) for a in arrays]
