"""Compile, and see that each loop behind a FASTOPT_INDEPENDENT is vectorised: ``vectorized.py GNU|Clang CXX ...``.

It stands before the compiler's command in a strict build. A loop that the compiler says it has left as it is ends the
build, and is named with the function that it is in: one that was no longer vectorised ran 17 times slower once.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

KERNELS = Path(__file__).resolve().parent
OPTIONS = {
    "GNU": ["-fopt-info-vec-optimized-missed"],
    "Clang": ["-Rpass=loop-vectorize", "-fno-caret-diagnostics"],  # what it has left it warns of by itself
}
DONE = {"GNU": r"optimized: +loop vectorized using (\d+) byte", "Clang": "remark: vectorized loop()"}
LEFT = {"GNU": "missed: +couldn't vectorize loop", "Clang": "warning: loop not vectorized"}
REMARK = re.compile(r"^(?:\S+: (?:optimized|missed|remark):|Increasing alignment| *\w+_type:).*\n", re.MULTILINE)
FUNCTION = re.compile(r"^ *(?:(?:static|inline|FASTOPT_INLINE|__attribute__\(\(\w+\)\)) )*\w[\w:<>*& ]* (\w+)\(.*[,{]$")


def hot_loops(file: Path) -> dict[int, str]:
    """By their lines: the functions that the loops are in."""
    found, function, lines = {}, "", file.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        if match := FUNCTION.match(line):
            function = match[1]
        if line.strip() == "FASTOPT_INDEPENDENT":
            found[number + 1] = function
    return found


def lost(family: str, remarks: str, *, baseline: bool) -> list[str]:
    """A loop is compiled for both types, several options and widths, of which one column has no vectors: it is lost
    where as many of them are left as are vectorised. SSE2 has no vectors for some (comparisons of 64 bits), so that
    only more are too many there."""
    done, left = Counter[tuple[Path, int]](), Counter[tuple[Path, int]]()
    before = None, 0
    for path, line, what in re.findall(r"^(\S+):(\d+):\d+: (.*)", remarks, re.MULTILINE):
        place, width = (Path(path).resolve(), int(line)), 0
        if found := re.match(DONE[family], what):
            width = int(found[1] or 0)
            done[place] += not (place == before[0] and width < before[1])  # GCC says it of a loop's last elements again
        elif re.match(LEFT[family], what):
            left[place] += 1
        before = place, width
    loops = {file: hot_loops(file) for file in KERNELS.glob("*/*.hpp")}
    names = {place: loops[place[0]][place[1]] for place in left if place[1] in loops.get(place[0], {})}
    return [
        f"{file}:{line}: in {name}, {left[file, line]} left as they are, {done[file, line]} vectorised"
        for (file, line), name in sorted(names.items())
        if left[file, line] >= done[file, line] + baseline
    ]


def main() -> None:
    family, *command = sys.argv[1:]
    family = family.removeprefix("Apple")
    done = subprocess.run([*command, *OPTIONS[family]], stderr=subprocess.PIPE, text=True, check=False)
    print(REMARK.sub("", done.stderr), end="", file=sys.stderr)
    if left := lost(family, done.stderr, baseline="-DFASTOPT_ISA=baseline" in command):
        sys.exit("\n".join(["error: expected every loop behind a FASTOPT_INDEPENDENT to be vectorised, got", *left]))
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
