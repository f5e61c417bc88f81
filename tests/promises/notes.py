"""What the headers of kernels/ say about the records of the kernels: their fields, and the notes behind these.

The forms of notes are described at the top of kernels/fastopt.h. What they do not say, or say in no known form, is an
error.
"""

from __future__ import annotations

import ctypes
import fnmatch
import functools
import re
import runpy
from pathlib import Path
from typing import Any, NamedTuple

DECLARATIONS = runpy.run_path(str(Path(__file__).parents[2] / "kernels" / "declarations.py"))
CONTRACT = DECLARATIONS["whole"](Path(__file__).parents[2] / "kernels" / "fastopt.h")

# The types of numbers in records, as struct and NumPy name them.
FORMATS = {"double": "d", "float": "f", "int": "i", "int64_t": "q"}
FORMATS |= {"uint64_t": "Q", "uint32_t": "I", "uint16_t": "H", "uint8_t": "B"}
DECLARED = re.compile(r"    (const )?\w+ \*?(\w+)(?:\[\w+\])?;|\} (\w+);")
NOTE = re.compile(r"(?: /\* ?([^()]*?)(?: ?\(.*\))? \*/)?")
FORMS = {
    "define": r"(\w+ = .+)",
    "extent": r"\[(.+)\]",
    "numbers": r"(.+\.\..*|\w+ or \w+)",
    "null": r"(NULL|or NULL|not NULL|the last or NULL|NULL with \w+|NULL where \w+ = \w+)",
    "alias": r"may be (\w+(?: or \w+)*)",
    "order": r"(distinct|numbered as they come|parts of \w+)",
    "free": r"(changes nothing)",
    "cut": r"cut at (\w+)",
    "type": r"(\w+)",
}


class Unclear(Exception):
    """The headers do not say enough about a field."""


class Header:
    def __init__(self, text: str):
        known = DECLARATIONS["read"](text)
        self.constants: dict[str, int] = known["constants"]
        self.records: dict[str, list[tuple[str, bool, str, int]]] = known["records"]
        self._notes: dict[tuple[str, str], str] = {}  # of (record, field), and of (record, "") behind its end
        self._const: set[tuple[str, str]] = set()
        fields: list[tuple[str, str, str]] = []
        for line in text.splitlines():
            if not (declared := DECLARED.match(line)):
                continue
            const, name, record = declared.groups("")
            if not (note := NOTE.fullmatch(line[declared.end() :].rstrip())):
                raise Unclear(f"{line!r}: expected a note, perhaps with words in parentheses after it")
            fields.append((const, name, note[1] or ""))
            if record:
                self._notes |= {(record, name): text for _, name, text in fields}
                self._const |= {(record, name) for const, name, _ in fields if const}
                fields = []

    def notes(self, record: str, name: str, kernel: str) -> tuple[dict[str, str], dict[str, str]]:
        """Those that are for this kernel by their forms; and what they define by the names."""
        notes, defined = {}, {}
        for item in re.findall(r"(?:\[[^\]]*\]|[^,\[])+", self._notes.get((record, name), "")):
            item, _, pattern = item.strip().partition(" in ")
            found = ((form, match[1]) for form, regex in FORMS.items() if (match := re.fullmatch(regex, item)))
            form, what = next(found, ("", ""))
            if not form:
                raise Unclear(f"{record}.{name}: a note of no known form: {item!r}")
            if fnmatch.fnmatchcase(kernel, pattern or "*"):
                if form == "define":
                    defined.update([what.split(" = ")])
                else:
                    notes[form] = what
        return notes, defined

    def is_const(self, record: str, name: str) -> bool:
        return (record, name) in self._const

    @functools.cache  # noqa: B019 (there are few headers)
    def structure(self, record: str) -> Any:
        """The layout of a record."""
        types = {name: getattr(ctypes, f"c_{name.removesuffix('_t')}") for name in FORMATS}
        fields = []
        for kind, pointer, name, count in self.records[record]:
            known = self.structure(kind) if kind in self.records else types.get(kind, ctypes.c_void_p)
            known = ctypes.c_void_p if pointer else known
            fields.append((name, known * count if count else known))
        return type(record, (ctypes.Structure,), {"_fields_": fields})


class Field(NamedTuple):
    name: str
    path: str  # within the kernel's record
    offset: int
    kind: str  # its type, or that of what it points to
    pointer: bool
    const: bool
    notes: dict[str, str]
    record: Record | None  # that it points to


class Record:
    """The fields of a record for one kernel, with those of the records in it; and what names stand for."""

    def __init__(self, header: Header, name: str, kernel: str):
        self.header, self.name, self.kernel = header, name, kernel
        self.fields: list[Field] = []
        self.defined: dict[str, str] = {}
        self.cut = "1"  # ranges begin at multiples of it
        self._add(name, 0, "")
        self.size = ctypes.sizeof(header.structure(name))
        self.numbers = {field.name: field for field in self.fields if not field.pointer}
        for field in self.fields:
            self.numbers |= field.record.numbers if field.record else {}

    def _add(self, record: str, begin: int, prefix: str) -> None:
        notes, defined = self.header.notes(record, "", self.kernel)
        self.defined = defined | self.defined  # what is said further out counts
        self.cut = notes.get("cut", self.cut)
        for kind, pointer, name, count in self.header.records[record]:
            notes, defined = self.header.notes(record, name, self.kernel)
            offset = begin + getattr(self.header.structure(record), name).offset
            if kind in self.header.records and not pointer:
                self.defined = defined | self.defined
                self._add(kind, offset, f"{prefix}{name}.")
                continue
            kind = notes.get("type", kind).replace("RULE", self.kernel.partition("_")[0])
            target = Record(self.header, kind, self.kernel) if kind in self.header.records else None
            if count and not pointer:
                raise Unclear(f"{record}.{name}: an array within a record, which is not known here")
            if pointer and not target and kind not in FORMATS and kind != "void":
                raise Unclear(f"{record}.{name}: {kind} is no type that is known")
            if pointer and "extent" not in notes:
                raise Unclear(f"{record}.{name}: how many elements does it have? Expected a note such as [n]")
            if not pointer and kind == "int64_t" and "numbers" not in notes:
                raise Unclear(f"{record}.{name}: what may it be? Expected a note such as 0..")
            const, several = self.header.is_const(record, name), notes.get("null") == "the last or NULL"
            for k in range(max(1, count)):
                own = notes | ({"null": "or NULL" if k == count - 1 else "not NULL"} if several else {})
                path = f"{prefix}{name}" + f"[{k}]" * (count > 0)
                self.fields.append(Field(name, path, offset + 8 * k, kind, pointer, const, own, target))


@functools.cache
def compiled(term: str) -> Any:
    """A term of the notes for eval: ^ is a power, and a quotient is rounded up."""
    return compile(re.sub(r"([\w*^ ]+) / (\w+)", r"-(-(\1) // \2)", term).replace("^", "**"), term, "eval")
