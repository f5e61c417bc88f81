"""Compile, and see that each loop behind a FASTOPT_INDEPENDENT is vectorised: ``vectorized.py GNU|Clang CXX ...``.

It stands before the compiler's command in a strict build. A loop that the compiler says it has left as it is ends the
build, and is named with the function that it is in: one that was no longer vectorised ran 17 times slower once.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

KERNELS = Path(__file__).resolve().parent
OPTIONS = {"GNU": ["-fopt-info-vec-missed"]}  # Clang warns without being asked
LOST = {"GNU": r"missed: +couldn't vectorize loop", "Clang": r"warning: loop not vectorized"}
REMARK = re.compile(r"^(\S+:\d+:\d+: (optimized|missed|note): .*|Increasing alignment of decl: .*)\n", re.MULTILINE)
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


def lost(family: str, remarks: str) -> list[str]:
    places = re.findall(rf"^(\S+):(\d+):\d+: {LOST[family]}", remarks, re.MULTILINE)
    loops = {file: hot_loops(file) for file in KERNELS.glob("*/*.hpp")}
    left = sorted({(Path(path).resolve(), int(line)) for path, line in places})
    return [f"{file}:{line}: in {loops[file][line]}" for file, line in left if line in loops.get(file, {})]


def main() -> None:
    family, *command = sys.argv[1:]
    family = family.removeprefix("Apple")
    done = subprocess.run([*command, *OPTIONS.get(family, [])], stderr=subprocess.PIPE, text=True, check=False)
    print(REMARK.sub("", done.stderr), end="", file=sys.stderr)
    if left := lost(family, done.stderr):
        sys.exit("\n".join(["error: expected every loop behind a FASTOPT_INDEPENDENT to be vectorised, got", *left]))
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
