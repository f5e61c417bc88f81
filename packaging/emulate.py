"""The bits of other machines, by emulators: ``emulate.py PYTHON``, an interpreter that has fastopt with its tests.

Cases of every kernel, with hashes of what it writes: on each instruction set here, on older processors and aarch64 by
qemu, with musl by zig (``ziglang`` in that interpreter's environment), on Windows by MinGW-w64 and Wine; and the golden
tests in a whole Python on older processors. What is not installed is said and left out. All hashes have to be equal.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "emulate"
PROCESSORS = {"Nehalem": "baseline", "Haswell": "x86-64-v3", "EPYC": "x86-64-v3"}


class Missing(Exception):
    """A tool that is not installed."""


def tool(*names: str) -> str:
    for name in names:
        if found := shutil.which(name, path=f"{os.environ['PATH']}:/usr/lib/wine"):
            return found
    raise Missing(f"not run: there is no {names[0]} here")


def run(*command: str, cwd: Path = ROOT, **variables: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nfailed: {' '.join(command)}")
    return done.stdout


def built(python: str, name: str, *options: str) -> str:
    """The driver, compiled for a machine."""
    cmake, ninja = (str(Path(python).with_name(name)) for name in ("cmake", "ninja"))
    folder = str(BUILD / name)
    given = [f"-DSKBUILD_PROJECT_{key}={value}" for key, value in (("NAME", "fastopt"), ("VERSION", "0"))]
    given += [
        "-GNinja",
        f"-DCMAKE_MAKE_PROGRAM={ninja}",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DFASTOPT_REPLAY=ON",
        f"-DPython_EXECUTABLE={python}",
    ]
    # From the folder of builds: zig, which CMake asks for its library, leaves a file named "-" where it is called.
    run(cmake, "-S", str(ROOT), "-B", folder, *given, *options, cwd=BUILD)
    run(cmake, "--build", folder, "--parallel", str(os.cpu_count()))
    return next(str(path) for path in (Path(folder, "replay"), Path(folder, "replay.exe")) if path.exists())


def cross(system: str, processor: str, compiler: str) -> list[str]:
    names = {"SYSTEM_NAME": system, "SYSTEM_PROCESSOR": processor, "CXX_COMPILER": tool(f"{compiler}g++")}
    return [f"-DCMAKE_{key}={value}" for key, value in (names | {"C_COMPILER": tool(f"{compiler}gcc")}).items()]


def zig(python: str) -> list[str]:
    """Compilers that are scripts: CMake wants the name of a file."""
    if subprocess.run([python, "-m", "ziglang", "version"], capture_output=True, check=False).returncode:
        raise Missing("not run: there is no ziglang here")
    for language, suffix in (("c++", "++"), ("cc", "cc")):
        script = BUILD / f"zig{suffix}"
        script.write_text(f'#!/bin/sh\nexec "{python}" -m ziglang {language} -target x86_64-linux-musl "$@"\n')
        script.chmod(0o755)
    return [f"-DCMAKE_CXX_COMPILER={BUILD / 'zig++'}", f"-DCMAKE_C_COMPILER={BUILD / 'zigcc'}"]


def native(python: str) -> str:
    """The driver with the kernels that are installed there, or with its own."""
    installed = max(ROOT.glob("build/cp*/libfastopt_kernels.a"), key=os.path.getmtime, default="")
    return built(python, "native", f"-DFASTOPT_KERNELS={installed}")


Driver = tuple[str, list[str]]  # what it runs on, and the command that prints its hashes


def here(python: str, cases: str) -> Iterator[Driver]:
    for isa in run(python, "-c", "from fastopt import _core; print(*_core.available_isas())").split():
        yield f"here, {isa}", [native(python), cases, isa]


def older(python: str, cases: str) -> Iterator[Driver]:
    for processor, isa in PROCESSORS.items():
        yield f"{processor} (qemu), {isa}", [tool("qemu-x86_64"), "-cpu", processor, native(python), cases]


def aarch64(python: str, cases: str) -> Iterator[Driver]:
    arm = built(python, "aarch64", *cross("Linux", "aarch64", "aarch64-linux-gnu-"))
    objects = [str(path) for path in (BUILD / "aarch64").rglob("isa.cpp.o")]
    code = run(tool("aarch64-linux-gnu-objdump"), "--disassemble", "--no-show-raw-insn", *objects)
    if fused := re.findall(r"\tf(?:n?m(?:add|sub)|ml[as])\t.*", code):
        sys.exit(f"aarch64: expected no fused multiply-add, got {len(fused)}, such as {fused[0].strip()}")
    yield "aarch64 (qemu), baseline", [tool("qemu-aarch64"), "-L", "/usr/aarch64-linux-gnu", arm, cases]


def musl(python: str, cases: str) -> Iterator[Driver]:
    yield "x86_64, musl (zig), baseline", [built(python, "musl", *zig(python), "-DFASTOPT_ISAS=baseline"), cases]


def windows(python: str, cases: str) -> Iterator[Driver]:
    options = cross("Windows", "x86_64", "x86_64-w64-mingw32-")
    driver = built(python, "windows", *options, "-DCMAKE_EXE_LINKER_FLAGS=-static")
    yield "x86_64, Windows (MinGW-w64, Wine), baseline", [tool("wine64", "wine64-stable", "wine"), driver, cases]


def compare(drivers: Iterator[Driver], expected: list[str]) -> None:
    """The hashes of each with those of the first of all, which are put into `expected`."""
    wine = {"WINEPREFIX": str(BUILD / "wine"), "WINEDEBUG": "-all"}
    for name, command in drivers:
        hashes = re.findall(r"^\w+ [0-9a-f]{16}$", run(*command, **wine), re.MULTILINE)  # qemu and wine say more
        expected[:] = expected or hashes
        different = [one for one, other in zip(hashes, expected, strict=False) if one != other]
        digest = hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]
        print(f"{name:48}{len(hashes)} hashes, together {digest}", flush=True)
        if not hashes or hashes != expected:
            sys.exit(f"{name}: {len(different)} of {len(expected)} hashes differ: {different[:5]}")


def golden(python: str) -> None:
    for processor in PROCESSORS:
        pytest = (python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/promises/test_golden.py")
        printed = run(tool("qemu-x86_64"), "-cpu", processor, *pytest)
        passed = re.findall(r"^.* passed.*$", printed, re.MULTILINE)[-1]
        print(f"{f'golden tests, {processor} (qemu)':48}{passed}", flush=True)


def attempt(name: str, what: Callable[..., None], *arguments: object) -> None:
    """Nothing that is missing for one keeps the others from being run."""
    try:
        what(*arguments)
    except Missing as missing:
        print(f"{name:48}{missing}", flush=True)


def main() -> None:
    (python,) = sys.argv[1:]
    BUILD.mkdir(parents=True, exist_ok=True)
    cases = str(BUILD / "cases")
    print(run(python, "-m", "tests.promises.recorded", cases), end="")
    expected: list[str] = []
    for machine in (here, older, aarch64, musl, windows):
        attempt(machine.__name__, compare, machine(python, cases), expected)
    attempt("golden tests", golden, python)


if __name__ == "__main__":
    main()
