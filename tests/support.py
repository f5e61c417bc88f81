"""What the tests share: the comparison of bits, arrays in every layout, what a case is, and scripts run apart.

Scripts that :func:`run_python` starts import this file too, so it needs NumPy and fastopt alone.
"""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt import reference

DTYPES = (np.float32, np.float64)

# The work for which a second thread is woken (the .pxi files in kernels/): chunks are cut there.
ELEMENTWISE_GRAIN, RANDOM_GRAIN, OPTIMIZER_GRAIN, SUM_GRAIN = 1 << 16, 1 << 14, 1 << 14, 16 * 4096
NONTEMPORAL_BYTES = 1 << 25

# ---- bits ------------------------------------------------------------------------------------------------------------


def assert_same_bits(actual: Any, expected: Any, what: str = "") -> None:
    """Same dtype and shape, NaN in the same places, everything else equal as unsigned integers."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, what
    assert actual.shape == expected.shape, what
    if actual.dtype.kind == "U":
        assert np.array_equal(actual, expected), f"{what}: got {actual}, expected {expected}"
        return
    unsigned = np.dtype(f"u{actual.dtype.itemsize}")
    different = np.ascontiguousarray(actual).view(unsigned) != np.ascontiguousarray(expected).view(unsigned)
    if not different.any():
        return
    if actual.dtype.kind == "f":  # a NaN's sign and payload are left open
        different &= ~(np.isnan(actual) & np.isnan(expected)).reshape(different.shape)
    if different.any():
        where = np.flatnonzero(different)
        got, wanted = actual.ravel()[where[0]], expected.ravel()[where[0]]
        raise AssertionError(
            f"{what}: {len(where)} of {actual.size} differ, first at {where[0]}: got {got!r}, expected {wanted!r}"
        )


def results(returned: Any) -> list[Any]:
    """What a call returned, as a flat list."""
    if isinstance(returned, list | tuple) and not isinstance(returned, fastopt.DropoutMask):
        return [one for item in returned for one in results(item)]
    return [] if returned is None else [returned]


def assert_same_results(actual: Any, expected: Any, what: str = "") -> None:
    """Two calls returned the same: arrays bit for bit, numbers and masks equal."""
    actual, expected = results(actual), results(expected)
    assert len(actual) == len(expected), what
    for one, other in zip(actual, expected, strict=True):
        if isinstance(other, np.ndarray | float):
            assert type(one) is type(other), what
            assert_same_bits(one, other, what)
        else:
            assert one == other, what


def run_reference(run: Callable[..., Any], arrays: Any) -> tuple[Any, list[np.ndarray]]:
    """What `run` of the reference returns on plain copies of the arrays, and the copies after it."""
    plain = [np.array(array, order="C") for array in arrays]
    with np.errstate(all="ignore"):
        return run(reference, *plain), plain


def assert_equals_reference(run: Callable[..., Any], arrays: Any, what: str = "", expected: Any = None) -> None:
    """`run(fastopt, *arrays)` returns and leaves in the arrays the bits that `run(reference, *copies)` does.

    So an input that an op must not touch is compared too. `expected` is what :func:`run_reference` gave for the same
    values in another layout: it is told nothing of layouts.
    """
    returned, after = expected or run_reference(run, arrays)
    assert_same_results(run(fastopt, *arrays), returned, what)
    for k, (array, wanted) in enumerate(zip(arrays, after, strict=True)):
        assert_same_bits(array, wanted, f"{what}, array {k}")


# ---- values ----------------------------------------------------------------------------------------------------------


def special_values(dtype: Any) -> np.ndarray:
    """Signed zeros, subnormal numbers, the ends of the range, infinities and NaN, and a few plain numbers."""
    info = np.finfo(dtype)
    positive = [0.0, info.smallest_subnormal, info.tiny / 2, info.tiny, info.eps, 0.75, 1.0, 3.0, info.max, np.inf]
    return np.array([*positive, *(-np.array(positive, dtype)), np.nan], dtype)


def values(seed: int, shape: Any, dtype: Any) -> np.ndarray:
    """Numbers of both signs over thirty binary orders of magnitude, one in sixteen of them special."""
    kept = np.prod(shape) <= 1 << 20  # above, tens of megabytes for a few cases
    return (_values if kept else _values.__wrapped__)(seed, shape, dtype).copy()


@functools.lru_cache(1024)  # the cases differ in what they do, not in the values that they begin with
def _values(seed: int, shape: Any, dtype: Any) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.ldexp(rng.standard_normal(shape), rng.integers(-20, 10, shape))
    return np.where(rng.random(shape) < 1 / 16, rng.choice(special_values(dtype), shape), x.astype(dtype))


# ---- layouts ---------------------------------------------------------------------------------------------------------


def _shifted(shape: Any, dtype: Any, shift: int) -> np.ndarray:
    size = int(np.prod(shape))
    return np.empty(size + shift, dtype)[shift:].reshape(shape)


def _unaligned(shape: Any, dtype: Any) -> np.ndarray:
    size = int(np.prod(shape))
    buffer = bytearray(size * np.dtype(dtype).itemsize + 1)
    return np.frombuffer(buffer, dtype, count=size, offset=1 if size else 0).reshape(shape)


LAYOUTS: dict[str, Callable[[Any, Any], np.ndarray]] = {
    "C": np.empty,
    "Fortran": lambda shape, dtype: np.empty(shape, dtype, order="F"),
    "reversed": lambda shape, dtype: np.empty(shape, dtype)[(slice(None, None, -1),) * len(shape) or ...],
    "every other": lambda shape, dtype: np.empty([2 * n + 1 for n in shape], dtype)[
        (slice(1, None, 2),) * len(shape) or ...
    ],
    "transposed": lambda shape, dtype: (
        np.moveaxis(np.empty((*shape[1:], *shape[:1]), dtype), -1, 0) if shape else np.empty(shape, dtype)
    ),
    "columns": lambda shape, dtype: np.empty((*shape, 3), dtype)[..., 1],
    "shifted": lambda shape, dtype: _shifted(shape, dtype, 1),
    "unaligned": _unaligned,
}


def laid_out(x: np.ndarray, layout: str | int) -> np.ndarray:
    """A writeable array of the values of x in that layout, or that many elements into a buffer."""
    y = _shifted(x.shape, x.dtype, layout) if isinstance(layout, int) else LAYOUTS[layout](x.shape, x.dtype)
    assert y.flags.writeable
    y[...] = x
    return y


# ---- cases: every family lists its own in cases.py -------------------------------------------------------------------


class Case(NamedTuple):
    """One way to call an op: ``run(fastopt, *arrays)`` and ``run(reference, *arrays)`` must give the same bits."""

    run: Callable[..., Any]
    arrays: int
    grain: int
    nontemporal: bool = False


def call(name: str, *rest: Any, out: int | None = None, **options: Any) -> Callable[..., Any]:
    """The op of either module on all arrays; with `out`, that array takes the result, and -1 is for nothing else."""

    def run(ops: ModuleType, *arrays: np.ndarray) -> Any:
        if out is None:
            return getattr(ops, name)(*arrays, *rest, **options)
        inputs = arrays[:-1] if out == -1 else arrays
        return getattr(ops, name)(*inputs, *rest, out=arrays[out], **options)

    return run


def case_arrays(case: Case, shape: Any, dtype: Any, layout: Callable[[int], str | int] = lambda k: "C") -> list[Any]:
    """Input for the case: array k has values of its own and the layout that `layout(k)` names."""
    return [laid_out(values(k + 1, shape, dtype), layout(k)) for k in range(case.arrays)]


# ---- golden outputs, on inputs that are exact everywhere -------------------------------------------------------------

GOLDEN_SIZE = 3 * ELEMENTWISE_GRAIN + 5  # large enough for three threads
GOLDEN_ADDRESS = (2**63 + 12345, 2**40 + 3)


def exact_values(stream: int, size: int, dtype: Any) -> np.ndarray:
    """Numbers in [-8, 8) made without a rounding: uniforms of a fixed address, less one, times powers of two."""
    u = fastopt.Philox4x32(2024).random(size, dtype, stream=stream)
    return (u * 2 - 1) * np.ldexp(dtype(1), np.arange(size, dtype=np.int32) % 16 - 12)


def digest(returned: Any) -> str:
    """sha256 of the bytes, in C order, of what a call returned."""
    hashed = hashlib.sha256()
    for result in results(returned):
        hashed.update(np.asarray(result).tobytes())
    return hashed.hexdigest()


# ---- scripts in a process of their own -------------------------------------------------------------------------------

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PATH = TESTS / "path"  # makes `tests` importable, and not the fastopt/ beside it


def run_python(script: str, *, timeout: float = 60, arguments: Any = (), **environment: str | bytes | None) -> str:
    """Run a script in a new interpreter, which can import `tests`; return its output. It must exit with 0.

    A keyword in capitals sets an environment variable, or removes it when None. A script that does not end is an error,
    and its whole process group is ended with it, so that nothing that it forked stays behind.
    """
    process = start_python(script, arguments=arguments, **environment)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"still running after {timeout} s; its output:\n{output}") from None
    assert process.returncode == 0, f"exit status {process.returncode}; its output:\n{output}"
    return output


# A shell ignores Ctrl-C in what it starts in the background, and children inherit that.
HEARS_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def start_python(script: str, *, arguments: Any = (), **environment: str | bytes | None) -> subprocess.Popen[str]:
    script = HEARS_INTERRUPTS + textwrap.dedent(script)
    variables: dict[str, Any] = {**os.environ, "PYTHONPATH": str(PATH), **environment}
    return subprocess.Popen(
        [sys.executable, "-P", "-X", "faulthandler", "-c", script, *map(str, arguments)],
        env={name: value for name, value in variables.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
