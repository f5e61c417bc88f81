"""Every kernel of the list, one input through every instruction set and thread count: all outputs agree bit for bit.

What a kernel takes is read from the notes of its record, which are described at the top of kernels/fastopt.h: a new
kernel is fuzzed without a line here. Arrays have their stated size to the byte: the sanitizers of ``make fuzz`` see the
element after the last.
What was found is found again with its seed and kernel: ``python -m tests.promises.fuzz --seed 7 --only gae``.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import fnmatch
import functools
import itertools
import math
import random
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastopt import _core

from .notes import CONTRACT, FORMATS, Field, Header, Record, Unclear, compiled

THREADS = (2, 2, 3, 3)  # after the whole range and RANGES cuts of it in this thread
RANGES = 2
ELEMENTS, CHANCES = (1 << 11, 1 << 14, 1 << 19), (240, 15, 1)  # of a case at most, all its arrays together

# ---- numbers ---------------------------------------------------------------------------------------------------------

ANY = {"int": "0..1", "uint32_t": "0..2^32 - 1", "uint64_t": "0..2^64 - 1"}


class Impossible(Exception):
    """These sizes leave nothing to choose: draw others."""


class Values(dict[str, Any]):
    """The numbers of a case by their names, each drawn when it is first asked for."""

    def __init__(self, record: Record, rng: random.Random, item: int, largest: int):
        super().__init__(record.header.constants, bytes=item)
        self.record, self.rng, self.largest = record, rng, math.log2(largest)
        self.wild = rng.random() < 0.5  # special values too

    def __missing__(self, name: str) -> Any:
        field = self.record.numbers.get(name)
        if name not in self.record.defined and not field and name != "n":
            raise Unclear(f"{self.record.name}: what is {name}? Expected a field, or a definition behind the end")
        text = self.record.defined.get(name) or (field.notes.get("numbers") or ANY.get(field.kind) if field else "1..")
        self[name] = value = self.real(text) if field and field.kind == "double" else self.drawn(text or "0..")
        return value

    def term(self, text: str) -> int:
        return eval(compiled(text), {"__builtins__": {}}, self)

    def bounds(self, text: str) -> tuple[int, int]:
        low, _, high = text.partition("..")
        bounds = self.term(low), self.term(high or "2^62")
        if bounds[1] < bounds[0]:
            raise Impossible
        return bounds

    def size(self) -> int:
        """Small ones, those next to powers of two, and any."""
        kind = self.rng.random()
        if kind < 0.5:
            return self.rng.randrange(40)
        if kind < 0.75:
            return (1 << self.rng.randint(3, int(self.largest))) + self.rng.randint(-1, 1)
        return int(2 ** self.rng.uniform(0, self.largest))

    def drawn(self, text: str) -> int:
        if ".." not in text:
            return self.term(self.rng.choice(text.split(" or ")))
        low, high = self.bounds(text)
        kind = self.rng.random()
        if text.endswith("..") or (high - low > 64 and kind < 0.5):
            return min(high, low + self.size())
        if kind < 0.6:
            return max(low, high - self.rng.randrange(10))
        return self.rng.randint(low, low + (high - low >> self.rng.randrange(max(1, (high - low).bit_length() - 4))))

    def real(self, text: str | None) -> float:
        kind, rng = self.rng.random(), self.rng
        if kind < 0.3:
            value = rng.choice((0.0, -0.0, 0.5, 1.0, -1.0))
        elif kind < 0.7 or not self.wild:
            value = rng.choice((rng.random(), rng.gauss(0, 2)))
        elif kind < 0.75:
            value = math.ldexp(rng.gauss(0, 1), rng.randint(-160, 130))
        else:
            value = float(rng.choice(special(rng.choice("fd"))))
        if text is None:
            return value
        low, high = self.bounds(text)
        return min(float(high), low + abs(value)) if value == value else float(low)


# ---- arrays ----------------------------------------------------------------------------------------------------------


@functools.cache
def special(format: str) -> np.ndarray:
    info = np.finfo(format)
    positive = [0, info.smallest_subnormal, info.tiny / 2, info.tiny, info.eps, 1, 3, 88, 710, info.max, np.inf]
    return np.array([*positive, *(-np.array(positive, format)), np.nan], format)


@functools.cache
def pools(format: str) -> list[np.ndarray]:
    """Long arrays whose parts are the contents of arrays: plain numbers, few different ones, and wild ones."""
    rng, size = np.random.default_rng(0), ELEMENTS[-1] + (1 << 16)
    if format not in "fd":
        return [rng.integers(0, 256, size * np.dtype(format).itemsize, np.uint8).view(format)]
    plain, few = rng.standard_normal(size), rng.integers(-4, 5, size) / 4
    wild = np.ldexp(plain, rng.integers(-40, 30, size)).astype(format)
    wild = np.where(rng.random(size) < 1 / 16, rng.choice(special(format), size), wild)
    return [plain.astype(format), few.astype(format), wild]


def part(format: str, size: int, values: Values) -> np.ndarray:
    pool = values.rng.choice(pools(format)[: 3 if values.wild else 2])
    begin = values.rng.randrange(len(pool) - size + 1)
    return pool[begin : begin + size]


def contents(format: str, size: int, notes: dict[str, str], values: Values) -> np.ndarray:
    """What the notes of an array say."""
    rng, order = values.rng, notes.get("order")
    if order == "numbered as they come":
        any_group = part("Q", size, values) % (1 + values.size())
        _, first, group = np.unique(any_group, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[group].astype(format)
    if order and order.startswith("parts of "):
        total = values.term(order.removeprefix("parts of "))
        cuts = sorted(rng.sample(range(1, total), size - 1))
        return np.diff([0, *cuts, total]).astype(format)
    if "numbers" not in notes or size == 0:
        return part(format, size, values)
    low, high = values.bounds(notes["numbers"])
    if order == "distinct":
        return np.array(rng.sample(range(low, high + 1), size), format)
    x = part("Q", size, values) % np.uint64(rng.choice((high - low + 1, min(high - low + 1, 1000))))
    if rng.random() < 0.3:  # most of them are the lowest
        x = np.where(part("B", size, values) < 16, x, np.uint64(0))
    return (x + np.uint64(low)).astype(format)


class Fault(Exception):
    """Two runs of a kernel differ, or it wrote where it must not."""


def address_of(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


class Array:
    """`size` elements somewhere in a buffer; what is before them, and perhaps behind them, has to stay."""

    def __init__(self, path: str, format: str, size: int, notes: dict[str, str], values: Values):
        before, behind = (values.rng.choice((0, values.rng.randrange(18))) for _ in range(2))
        self.path, self.format, self.size, self.begin, self.written = path, format, size, before, False
        parts = part(format, before, values), contents(format, size, notes, values), part(format, behind, values)
        self.initial = np.concatenate(parts)
        self.buffer = self.initial.copy()
        self.address = address_of(self.buffer) + before * self.buffer.itemsize
        self.expected: np.ndarray | None = None

    def check(self) -> None:
        """Compare with what the first run left, and put back what was there before. Any NaN inside is like another."""
        got, inside = self.buffer, slice(self.begin, self.begin + self.size)
        if self.expected is None:
            self.expected = self.initial.copy()
            if self.written:
                self.expected[inside] = got[inside]
        expected = self.expected
        if got.tobytes() != expected.tobytes():
            unlike = got.view(f"u{got.itemsize}") != expected.view(f"u{got.itemsize}")
            unlike[inside] &= ~((got != got) & (expected != expected))[inside]
            if len(where := np.flatnonzero(unlike)):
                raise Fault(
                    f"{self.path}: {len(where)} of {self.size} elements differ, first [{where[0] - self.begin}]: "
                    f"got {got[where[0]]!r}, expected {expected[where[0]]!r}"
                )
        if self.written:
            got[:] = self.initial


# ---- cases -----------------------------------------------------------------------------------------------------------


class Case:
    """A record with its arrays, and the ways in which its range is cut: all from one random generator."""

    def __init__(self, record: Record, format: str, rng: random.Random):
        self.record, self.format, self.rng = record, format, rng
        least, most = rng.choices(((0, ELEMENTS[0]), *itertools.pairwise(ELEMENTS)), CHANCES)[0]
        for attempt in range(5000):
            if attempt == 200:  # perhaps there are none as large
                least, most = 0, ELEMENTS[0]
            self.values = Values(record, rng, struct.calcsize(format), most // 4)
            try:
                self.n = self.values["n"]
                self.sizes = self.drawn_sizes()
                if self.n > 0 and least <= sum(size or 0 for size in self.sizes.values()) <= most:
                    self.arrays: dict[str, Array] = {}
                    self.memory: list[np.ndarray] = []
                    self.address = self.fill(record)
                    return
            except Impossible:
                continue
        raise Unclear(f"{record.name}: found no sizes that the notes allow")

    def drawn_sizes(self) -> dict[str, int | None]:
        """The number of elements of each pointer by its path, None for NULL."""
        sizes: dict[str, int | None] = {}
        for field in filter(lambda field: field.pointer, self.record.fields):
            word, _, rest = field.notes.get("null", "not NULL").partition(" ")
            null = word == "NULL" or (word == "or" and self.rng.random() < 0.5)
            if rest.startswith("with "):
                null = sizes[self.beside(field, rest.removeprefix("with "))] is None
            elif rest.startswith("where "):
                null = bool(self.values.term(rest.removeprefix("where ").replace("=", "==")))
            size = None if null else math.prod(map(self.values.term, field.notes["extent"].split(", ")))
            if size is not None and size < 0:
                raise Unclear(f"{self.record.name}, {field.path}: {size} elements with {dict(self.values)}")
            sizes[field.path] = size
        return sizes

    def beside(self, field: Field, name: str) -> str:
        head, dot, own = field.path.rpartition(".")
        return head + dot + name + own[len(field.name) :]

    def fill(self, record: Record) -> int:
        memory = np.zeros(record.size, np.uint8)
        self.memory.append(memory)
        for field in sorted(record.fields, key=lambda field: "alias" in field.notes):  # after what they may be
            format, value = "P" if field.pointer else FORMATS.get(field.kind, "P"), 0
            if not field.pointer and field.kind not in FORMATS:
                if field.kind not in FUNCTIONS:
                    raise Unclear(f"{record.name}, {field.path}: the fuzzer has no function of type {field.kind}")
                value = FUNCTIONS[field.kind](self.format)
            elif not field.pointer:
                value = self.values[field.name]
            elif field.record:
                value = self.fill(field.record)
            elif (size := self.sizes[field.path]) is not None:
                value = self.array(field, size).address
            struct.pack_into(format, memory, field.offset, value)
        return address_of(memory)

    def array(self, field: Field, size: int) -> Array:
        """One that the field may be, or a new one."""
        format = self.format if field.kind == "void" else FORMATS[field.kind]
        others = field.notes.get("alias", "").split(" or ")
        array = self.arrays.get(self.beside(field, self.rng.choice(others))) if self.rng.random() < 0.4 else None
        if array is None or (array.format, array.size) != (format, size):
            array = Array(field.path, format, size, field.notes, self.values)
        array.written |= not field.const
        self.arrays[field.path] = array
        return array

    def ways(self) -> Iterator[tuple[str, Callable[[int], None]]]:
        """Names of ways to run a kernel, and functions that do it with its address."""
        unit = self.values.term(self.record.cut)
        units = -(-self.n // unit)

        def ranges(pieces: list[tuple[int, int]], kernel: int) -> None:
            for piece in pieces:
                ENTRY(kernel)(self.address, *piece)

        def pool(threads: int, grain: int, kernel: int) -> None:
            _core.set_num_threads(threads)
            _core.run_kernel(kernel, self.address, self.n, grain)

        yield "the whole range", functools.partial(ranges, [(0, self.n)])
        for _ in range(RANGES):
            cuts = sorted(self.rng.sample(range(1, units), min(units - 1, self.rng.randrange(12))))
            pieces = list(itertools.pairwise([0, *(unit * cut for cut in cuts), self.n]))
            self.rng.shuffle(pieces)
            yield f"the ranges {pieces}", functools.partial(ranges, pieces)
        for threads in THREADS:
            grain = unit * max(1, units // self.rng.randint(2, 12))
            yield f"{threads} threads, grain {grain}", functools.partial(pool, threads, grain)

    def run(self, kernels: dict[str, int]) -> int:
        """Run the kernel at the address of each instruction set in each way; return how often it ran."""
        arrays = {id(array): array for array in self.arrays.values()}.values()
        free = [field for field in self.record.fields if "free" in field.notes]
        ways = list(self.ways())
        for (isa, kernel), (way, run) in itertools.product(kernels.items(), ways):
            run(kernel)
            try:
                for array in arrays:
                    array.check()
            except Fault as fault:
                own = {name: value for name, value in self.values.items() if name not in self.record.header.constants}
                is_at = {path: f"{a.format}[{a.size}], {a.begin} into {a.path}" for path, a in self.arrays.items()}
                raise Fault(f"{isa}, {way}: {fault}\nNumbers: {own}\nArrays: {is_at}; the others are NULL") from None
            for field in free:
                struct.pack_into(FORMATS[field.kind], self.memory[0], field.offset, self.rng.randrange(2))
        return len(kernels) * len(ways)


ENTRY = functools.cache(ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64))


@functools.cache
def score(format: str) -> Any:
    """A function that makes scores of all bits of candidates, any NaN alike, and fails for some."""

    @ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    def function(x: int, rows: int, dimensions: int, scores: int) -> int:
        values = np.frombuffer(ctypes.string_at(x, rows * dimensions * struct.calcsize(format)), format)
        values = np.where(values != values, 2, values).reshape(rows, dimensions)
        sums = [zlib.crc32(row.tobytes()) for row in values]
        ctypes.memmove(scores, struct.pack(f"{rows}d", *sums), 8 * rows)
        return int(any(one % 256 == 0 for one in sums))

    return function


# By their types, the addresses of functions that kernels call, from any thread.
FUNCTIONS = {"fastopt_score": lambda format: ctypes.cast(score(format), ctypes.c_void_p).value}

# ---- the list --------------------------------------------------------------------------------------------------------

Kernels = dict[str, tuple[str, dict[str, tuple[int, ...]]]]
RUNNING: list[str] = []  # the case


@ctypes.CFUNCTYPE(None)
def say_again() -> None:
    print(f"\nAgain: {RUNNING[0]}", file=sys.stderr, flush=True)


def listed() -> Kernels:
    """Of each kernel in the list: its record, and its addresses for float32 and float64 by instruction set."""
    found: Kernels = {}
    for isa in _core.available_isas():
        for _, name, record, *addresses in _core.kernels(isa):
            found.setdefault(name, (record, {}))[1][isa] = tuple(addresses)
    return found


def fuzz(kernels: Kernels, header: Header, seed: int, rounds: int = 1) -> Iterator[tuple[str, int]]:
    """Yield (kernel, how often it has just run); a round is a case of each kernel and dtype, from the next seed."""
    threads = _core.get_num_threads()
    records = {name: Record(header, record, name) for name, (record, _) in kernels.items()}
    try:
        for number in range(seed, seed + rounds):
            for (name, (_, isas)), (k, format) in itertools.product(kernels.items(), enumerate("fd")):
                RUNNING[:] = [f"--seed {number} --only {name}"]
                case = Case(records[name], format, random.Random(f"{number} {name} {format}"))
                try:
                    count = case.run({isa: addresses[k] for isa, addresses in isas.items()})
                except Fault as fault:
                    raise Fault(f"{name}, {np.dtype(format)}, {fault}\nAgain: {RUNNING[0]}") from None
                yield name, count
    finally:
        _core.set_num_threads(threads)


def main() -> None:
    parser = argparse.ArgumentParser(description="Without --seconds and --executions there is one round.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--executions", type=float, default=math.inf)
    parser.add_argument("--only", default="*", help="a kernel's name, or a pattern of names")
    options = parser.parse_args()
    kernels = {name: kernel for name, kernel in listed().items() if fnmatch.fnmatchcase(name, options.only)}
    rounds = 1 if options.seconds == options.executions else sys.maxsize
    if set_callback := getattr(ctypes.CDLL(None), "__sanitizer_set_death_callback", None):
        set_callback(say_again)  # a sanitizer ends the process
    counts: collections.Counter[str] = collections.Counter()
    begin = shown = time.monotonic()
    for name, count in fuzz(kernels, Header(CONTRACT), options.seed, rounds):
        counts[name] += count
        if (now := time.monotonic()) > shown + 1:
            shown = now
            print(f"\r{now - begin:.0f} s: {counts.total():,} executions ", end="", file=sys.stderr, flush=True)
        if now > begin + options.seconds or counts.total() >= options.executions:
            break
    print(file=sys.stderr)
    print(*(f"{counts[name]:12,} {name}" for name in kernels), sep="\n")
    print(
        f"{counts.total():12,} executions from seed {options.seed}, on {', '.join(_core.available_isas())}: all alike"
    )


if __name__ == "__main__":
    try:
        main()
    except (Fault, Unclear) as error:
        sys.exit(f"\n{error}")
