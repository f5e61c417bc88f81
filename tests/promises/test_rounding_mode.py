"""Promise 1 in a thread that rounds in another direction, which any library may set."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import platform
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastopt
from fastopt import policy

from ..cases import CASE_IDS, CASES
from ..policy.test_bits import OPS, make, plain
from ..support import DTYPES, assert_same_bits, assert_same_results, case_arrays

known_here = pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc",
    reason="fesetround and its directions are known here for glibc on x86-64 alone",
)
pytestmark = [known_here, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

DIRECTIONS = {"down": 0x400, "up": 0x800, "towards zero": 0xC00}
each_direction = pytest.mark.parametrize("direction", DIRECTIONS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@contextlib.contextmanager
def rounding(direction: str) -> Iterator[None]:
    """This thread, which rounds to nearest, rounds in that direction; it must still do so at the end."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    assert libm.fegetround() == 0
    assert libm.fesetround(DIRECTIONS[direction]) == 0
    try:
        yield
        assert libm.fegetround() == DIRECTIONS[direction]
    finally:
        libm.fesetround(0)


def check(run: Callable[..., Any], arrays: list[Any], direction: str) -> None:
    """`run(*arrays)` returns and leaves in the arrays the same in that mode as in the default one."""
    plainly, otherwise = [[np.copy(a) for a in arrays] for _ in range(2)]
    expected = run(*plainly)
    with rounding(direction):
        returned = run(*otherwise)
    assert_same_results(returned, expected, direction)
    for k, (array, wanted) in enumerate(zip(otherwise, plainly, strict=True)):
        assert_same_bits(array, wanted, f"{direction}, array {k}")


def test_the_mode_shows_in_what_python_computes():
    one, three = 1.0, 3.0
    with rounding("up"):
        up = one / three
    assert up > one / three


@each_direction
@each_dtype
@pytest.mark.parametrize("case", CASES.values(), ids=CASE_IDS)
def test_cases(case, dtype, direction):
    check(lambda *a: case.run(fastopt, *a), case_arrays(case, (1000,), dtype), direction)


@each_direction
@each_dtype
@pytest.mark.parametrize("op", OPS)
def test_policies(op, dtype, direction):
    check(lambda *a: OPS[op][1](policy, *a), make(op, 37, 5, dtype, plain), direction)


@each_direction
@each_dtype
@pytest.mark.parametrize("op", [name for name in OPS if name.startswith("categorical")])
def test_wide_rows(op, dtype, direction):
    fastopt.set_num_threads(3)
    check(lambda *a: OPS[op][1](policy, *a), make(op, 1, 70_001, dtype, plain), direction)


@each_direction
def test_shares_of_inactive_units(direction):
    check(fastopt.inactive_fraction, [plain(1, (49, 301), np.float32)], direction)


def search(direction: np.ndarray, calls: list[int] | None = None) -> Any:
    """A line search whose steps, gains and messages are no short numbers."""
    x = np.zeros_like(direction)

    def evaluate() -> tuple[float, float]:
        if calls is not None:
            calls.append(ctypes.CDLL(ctypes.util.find_library("m")).fegetround())
        with contextlib.nullcontext() if calls is None else rounded_to_nearest():
            return float(np.sum(x / 3 - x * x)), float(np.sum(x * x) / 7)

    result = policy.kl_line_search([x], [direction], evaluate, max_kl=0.013, initial_step=0.37)
    return [x, *result[1:5]], result.message


@contextlib.contextmanager
def rounded_to_nearest() -> Iterator[None]:
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    mode = libm.fegetround()
    libm.fesetround(0)
    try:
        yield
    finally:
        libm.fesetround(mode)


@each_direction
@each_dtype
def test_line_search_calls_its_function_in_the_mode_of_the_thread(direction, dtype):
    given, calls = plain(1, (50,), dtype), []
    expected = search(given)
    with rounding(direction):
        got = search(given, calls)
    assert set(calls) == {DIRECTIONS[direction]}
    assert got[1] == expected[1]
    assert_same_results(got[0], expected[0])


@each_direction
def test_numbers_are_rounded_once_and_to_nearest(direction):
    # 2**53 + 1 lies between two float64, a tenth of a longdouble as well.
    long = np.longdouble(1) / 10
    gamma, eps = float(long), float(2**53 + 1)
    x = plain(1, (40,), np.float64)
    over = np.zeros(40, bool)
    expected = policy.discounted_returns(x, over, over, gamma), policy.normalize_advantage(x, eps=eps)
    with rounding(direction):
        got = policy.discounted_returns(x, over, over, long), policy.normalize_advantage(x, eps=2**53 + 1)
    assert_same_results(got, expected)
