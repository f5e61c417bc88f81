"""Make the door's declarations from a header and all that it includes: ``declarations.py runtime.h fastopt.pxi``.

Not a C parser: it reads the few forms that they are written in, and ends with an error at the first other one.
"""

import re
import sys
from pathlib import Path
from typing import Any

INCLUDE = re.compile(r'#include "([\w/]+\.h)"\n')
IGNORED = re.compile(r"#(ifndef \w+_H|define \w+_H|include <stdint.h>|endif)? *")
MACRO = re.compile(r"#define (\w+)\((\w+(?:, \w+)*)\)\s+(.+)")
CONSTANT = re.compile(r"#define (\w+) \(?(\d+)(?: << (\d+)\))?")
FIELD = re.compile(r" ?(const )?(\w+) (\*?)(\w+)(?:\[(\w+)\])?")
STRUCT = re.compile(r"typedef (struct|union) \{([^{}]*)\} (\w+); ?")
OPAQUE = re.compile(r"typedef struct (\w+) \1; ?")
FUNCTION = re.compile(r"(typedef )?([\w ]+?[ *]+)(\(\*\w+\)|\w+)\(([^()]*)\); ?")
VARIABLE = re.compile(r"extern (const )?(\w+) (\w+)(\[\])?; ?")


def whole(header: Path) -> str:
    """The text of a header in kernels/, with each that it includes where it is named first."""
    seen: set[str] = set()

    def included(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        return INCLUDE.sub(lambda found: included(found[1]), (header.parent / name).read_text())

    return included(header.name)


def read(text: str) -> dict[str, Any]:
    """Return constants; records: lists of fields (type, is a pointer, name, count or 0); kernels; declarations."""
    constants: dict[str, int] = {}
    records: dict[str, list[tuple[str, bool, str, int]]] = {}
    declarations, macros, code = [], {}, ""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).replace("\\\n", " ")
    text = re.sub(r"#ifdef __cplusplus\n.*?#endif|#if .*?#endif", "", text, flags=re.DOTALL)
    for line in map(str.rstrip, text.splitlines()):
        if macro := MACRO.fullmatch(line):
            macros[macro[1]] = (macro[2].split(", "), macro[3])
        elif constant := CONSTANT.fullmatch(line):
            constants[constant[1]] = int(constant[2]) << int(constant[3] or 0)
            declarations.append(f"const int64_t {constant[1]}")
        elif not IGNORED.fullmatch(line):
            code += line + " "
    while call := re.search(rf"\b({'|'.join(macros)})\((\w+(?:, \w+)*)\)", code):
        parameters, body = macros[call[1]]
        for name, value in zip(parameters, call[2].split(", "), strict=True):
            body = re.sub(rf"\b{name}\b", value, body)
        code = code[: call.start()] + body.replace("##", "") + code[call.end() :]
    code = re.sub(r"\s+", " ", code).strip()
    while code:
        if found := STRUCT.match(code):
            declarations.append(f"ctypedef {found[1]} {found[3]}:")
            fields = records[found[3]] = []
            for part in found[2].split(";")[:-1]:
                if not (field := FIELD.fullmatch(part)):
                    sys.exit(f"{found[3]}: expected a field, got {part!r}")
                const, kind, star, name, size = field.groups("")
                count = constants.get(size) or int(size or 0)
                fields.append((kind, bool(star), name, count))
                name = f'{name}_ "{name}"' if name == "in" else name  # a word of Python
                declarations.append(f"    {const}{kind} {star}{name}{f'[{count}]' if count else ''}")
        elif found := OPAQUE.match(code):
            declarations += [f"ctypedef struct {found[1]}:", "    pass"]
        elif found := VARIABLE.match(code):
            declarations.append(f"{found[1] or ''}{found[2]}{'*' if found[4] else ''} {found[3]}")
        elif found := FUNCTION.match(code):
            arguments = "" if found[4] == "void" else found[4]
            declarations.append(f"{'ctypedef ' if found[1] else ''}{found[2]}{found[3]}({arguments})")
        else:
            sys.exit(f"headers: expected a declaration of a known form, got {code[:100]!r}")
        code = code[found.end() :]
    lists = [(name.removeprefix("FASTOPT_KERNELS_"), body) for name, (_, body) in macros.items() if "KERNELS_" in name]
    kernels = [(family, *kernel) for family, body in lists for kernel in re.findall(r"KERNEL\((\w+), (\w+)\)", body)]
    return {"constants": constants, "records": records, "kernels": kernels, "declarations": declarations}


if __name__ == "__main__":
    top, made = map(Path, sys.argv[1:])
    header = read(whole(top))
    lines = [f'cdef extern from "{top.name}" nogil:', *("    " + line for line in header["declarations"])]
    hyper = {name: tuple(f[2] for f in fields) for name, fields in header["records"].items() if name.endswith("_hyper")}
    made.write_text("\n".join([*lines, f"cdef dict HYPER = {hyper}\n"]))
