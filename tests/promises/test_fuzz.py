"""The fuzzer: a short run over all kernels, and that it finds what it is there to find."""

from __future__ import annotations

import collections
import ctypes
import re
from collections.abc import Callable

import pytest

from . import fuzz
from .notes import CONTRACT, Header, Unclear


def test_all_kernels_of_the_list_agree():
    kernels, counts = fuzz.listed(), collections.Counter()
    for name, count in fuzz.fuzz(kernels, Header(CONTRACT), seed=0, rounds=10):
        counts[name] += count
    ways = 1 + fuzz.RANGES + len(fuzz.THREADS)
    assert counts == {name: 10 * 2 * ways * len(isas) for name, (_, isas) in kernels.items()}


def entry(function: Callable[[int, int, int], None]) -> tuple[object, int]:
    """A kernel in Python, which has to be kept, and its address."""
    kept = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(function)
    return kept, ctypes.cast(kept, ctypes.c_void_p).value


def add_one(address: int) -> None:
    ctypes.c_uint8.from_address(address).value += 1


# Wrong leaky_relu for float32, by what is done after it to (y, x, begin, end), where all of them are in bytes.
WRONG = {
    "one bit": lambda y, x, begin, end: add_one(y),
    "a cut shows": lambda y, x, begin, end: begin and add_one(y + begin),
    "writes before the array": lambda y, x, begin, end: begin or add_one(y - 4),
    "writes to an input": lambda y, x, begin, end: y != x and add_one(x),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_kernel_is_found_and_found_again(what):
    record, isas = fuzz.listed()["leaky_relu"]
    right = next(iter(isas.values()))

    def wrong(args: int, begin: int, end: int) -> None:
        fuzz.ENTRY(right[0])(args, begin, end)
        y, x = ctypes.c_void_p.from_address(args).value, ctypes.c_void_p.from_address(args + 8).value
        if inside(y):
            WRONG[what](y, x, 4 * begin, 4 * end)

    def inside(y: int) -> bool:  # whether there is something before it that can be written
        return what != "writes before the array" or current[0].arrays["y"].begin > 0

    current: list[fuzz.Case] = []

    class Watched(fuzz.Case):
        def run(self, kernels: dict[str, int]) -> int:
            current[:] = [self]
            return super().run(kernels)

    kept, address = entry(wrong)
    kernels = {"leaky_relu": (record, {"right": right, "wrong": (address, right[1])})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzz, "Case", Watched)
        with pytest.raises(fuzz.Fault, match=r"leaky_relu, float32, wrong, .*elements differ") as found:
            list(fuzz.fuzz(kernels, Header(CONTRACT), seed=0, rounds=20))
        seed, name = re.search(r"--seed (\d+) --only (\w+)", str(found.value)).groups()
        with pytest.raises(fuzz.Fault) as again:
            list(fuzz.fuzz({name: kernels[name]}, Header(CONTRACT), seed=int(seed)))
    assert str(again.value) == str(found.value)
    del kept


def test_another_kernel_of_the_same_record_is_found():
    listed = fuzz.listed()
    record, isas = listed["sum_squares"]
    wrong = next(iter(listed["sum_values"][1].values()))
    with pytest.raises(fuzz.Fault, match="sum_squares, float32, other, the whole range: block_sums"):
        list(fuzz.fuzz({"sum_squares": (record, {**isas, "other": wrong})}, Header(CONTRACT), seed=0))


def test_a_new_kernel_needs_no_line_in_the_fuzzer():
    fields = ["void *y; /* [n, width] */", "const void *x; /* [n] */", "int64_t width; /* 1.. */"]
    record = "\n    ".join(["typedef struct {", *fields]) + "\n} new_args;\n"
    ran = []
    kept, address = entry(lambda args, begin, end: ran.append((begin, end)))
    end = CONTRACT.index("/* ---- the one list")
    header = Header(f"{CONTRACT[:end]}{record}{CONTRACT[end:]}")
    [*both] = fuzz.fuzz({"new": ("new_args", {"baseline": (address, address)})}, header, seed=0)
    assert [name for name, _ in both] == ["new", "new"]
    assert ran
    del kept


@pytest.mark.parametrize(
    ("text", "instead", "message"),
    [
        ("    void *y; /* [n], may be x */", "    void *y;", "activation_args.y: how many elements"),
        ("    void *y; /* [n], may be x */", "    void *y; /* [n], maybe x */", "activation_args.y: .*'maybe x'"),
        ("    void *y; /* [n], may be x */", "    void *y; /* [n] may be x", "expected a note"),
        ("    void *y; /* [n], may be x */", "    void *y; /* [m] */", "activation_args: what is m?"),
        ("    void *y; /* [n], may be x */", "    void *y; /* [n - n - 1] */", "activation_args, y: -1 elements"),
        (
            "    int64_t columns; /* 0.. */\n} count_inactive_args",
            "    int64_t columns;\n} count_inactive_args",
            "count_inactive_args.columns: what may it be?",
        ),
    ],
)
def test_what_the_header_does_not_say_is_an_error_with_the_field(text, instead, message):
    assert text in CONTRACT
    with pytest.raises(Unclear, match=message):
        list(fuzz.fuzz(fuzz.listed(), Header(CONTRACT.replace(text, instead, 1)), seed=0))
