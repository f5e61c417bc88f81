"""What the tasks share besides figures: a bar, one thread for BLAS, the comparison of bits, the spread over seeds."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tick = Callable[[], object]


@contextlib.contextmanager
def progress(label: str, total: int, unit: str = "steps") -> Iterator[Tick]:
    """Show a bar on a terminal, else one line, on stderr; yields what is to be called after each of `total` units."""
    from tqdm import tqdm

    on_terminal = sys.stderr.isatty()
    if not on_terminal:
        print(f"{label}: {total} {unit}", file=sys.stderr, flush=True)
    with tqdm(total=total, desc=label, unit=f" {unit}", disable=not on_terminal, mininterval=0.2) as bar:
        yield bar.update


def several_minutes() -> None:
    """What a long demo says first, on stderr."""
    print("This takes several minutes; Ctrl-C ends it.", file=sys.stderr, flush=True)


def one_blas_thread() -> contextlib.AbstractContextManager[object]:
    """Products this small gain little from a second thread, and OpenBLAS's spin for each other: on a machine with other
    work a product of 50 microseconds then takes milliseconds."""
    from threadpoolctl import threadpool_limits  # scikit-learn brings it

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits


def bit_equal(a: Sequence[Array], b: Sequence[Array]) -> bool:
    """Whether two lists of float32 arrays agree as unsigned integers, so that 0.0 and -0.0 differ."""
    return len(a) == len(b) and all(
        np.array_equal(p.view(np.uint32), q.view(np.uint32)) for p, q in zip(a, b, strict=True)
    )


def deviation(values: Array) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
