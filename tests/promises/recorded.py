"""Cases of the fuzzer in a file, for tests/promises/replay.cpp, which runs them on machines that have no Python:
``python -m tests.promises.recorded FILE``."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import numpy as np

from .fuzz import Case, address_of, listed
from .notes import CONTRACT, Header, Record

SEEDS = range(3)


class Recorded(Case):
    """Knows which record is where, so that what points to what can be said without addresses."""

    def fill(self, record: Record) -> int:
        if not self.memory:  # of a case that could not be are none left
            self.records: dict[int, Record] = {}
        self.records[len(self.memory)] = record
        return super().fill(record)

    def packed(self, name: str, number: int) -> bytes:
        arrays = list({id(array): array for array in self.arrays.values()}.values())
        blocks = [(memory, " ", 0, 0) for memory in self.memory]
        for array in arrays:
            begin, end = (k * array.buffer.itemsize for k in (array.begin, array.begin + array.size))
            blocks.append((array.buffer, array.format, *((begin, end) if array.written else (0, 0))))
        pointers = []
        for k, record in self.records.items():
            for field in (field for field in record.fields if field.pointer):
                (value,) = struct.unpack_from("P", self.memory[k], field.offset)
                if value:
                    pointers.append((k, field.offset, *place(value, [block[0] for block in blocks])))
        parts = [text(name), integers(number, self.n, len(blocks))]
        for memory, format, begin, end in blocks:
            parts += [integers(ord(format), begin, end, memory.nbytes), memory.tobytes()]
        parts.append(integers(len(pointers), *(x for pointer in pointers for x in pointer)))
        return b"".join(parts)


def place(address: int, buffers: list[np.ndarray]) -> tuple[int, int]:
    """The number of the buffer that an address is in, or at the end of, and where."""
    for k, buffer in enumerate(buffers):
        if 0 <= address - address_of(buffer) <= buffer.nbytes and (buffer.nbytes or address == address_of(buffer)):
            return k, address - address_of(buffer)
    raise ValueError(f"address: expected one within {len(buffers)} buffers, got {address:#x}")


def integers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def text(string: str) -> bytes:
    return integers(len(string)) + string.encode()


def main() -> None:
    header = Header(CONTRACT)
    cases = []
    for name, (record, _) in listed().items():
        for number, format in enumerate("fd"):
            for seed in SEEDS:
                case = Recorded(Record(header, record, name), format, random.Random(f"{seed} {name} {format}"))
                cases.append(case.packed(name, number))
    Path(sys.argv[1]).write_bytes(integers(len(cases)) + b"".join(cases))
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
