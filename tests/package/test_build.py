"""An edit of any file of kernels/ is compiled by the next `make test`; flags that would change the bits are refused;
no function of a C library is called whose last bit differs between libraries."""

from __future__ import annotations

import ast
import importlib.util
import platform
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastopt
from fastopt import _core

from ..support import ROOT

SOURCES = [p for p in sorted((ROOT / "kernels").rglob("*")) if p.suffix in (".h", ".hpp", ".cpp", ".pyx", ".pxi")]
SOURCES.append(ROOT / "kernels" / "declarations.py")
BUILDS = sorted(ROOT.glob("build/cp*/build.ninja"), key=lambda path: path.stat().st_mtime)
COMPILER = shutil.which("c++")
NINJA = shutil.which("ninja", path=str(Path(sys.executable).parent)) or shutil.which("ninja")


def test_sources_are_found():
    assert {"fastopt.h", "isa.cpp", "leaky_relu.hpp", "_core.pyx", "policy", "cem"} <= {
        name for path in SOURCES for name in (path.name, path.parent.name)
    }


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_installs_again_after_an_edit(source):
    command = ["make", "--dry-run", f"--what-if={source.relative_to(ROOT)}", ".venv/installed-test"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--editable" in printed


@pytest.mark.skipif(not BUILDS or NINJA is None, reason="not built here with ninja")
def test_the_build_looks_at_every_file():
    folder = BUILDS[-1].parent
    headers = subprocess.run([NINJA, "-C", folder, "-t", "deps"], capture_output=True, text=True, check=True).stdout
    looked_at = BUILDS[-1].read_text() + headers
    if str(ROOT) not in looked_at:
        pytest.skip("built from another folder")
    assert [str(path.relative_to(ROOT)) for path in SOURCES if str(path) not in looked_at] == []


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")
@pytest.mark.parametrize(
    ("flags", "refused"),
    [
        ([], ""),
        (["-ffast-math"], "without -ffast-math"),
        (["-ffinite-math-only"], "without -ffast-math"),
        (["-U__FLT_EVAL_METHOD__", "-D__FLT_EVAL_METHOD__=2"], "FLT_EVAL_METHOD 0"),
    ],
    ids=str,
)
def test_flags_that_change_the_bits_are_refused(flags, refused):
    command = [COMPILER, "-std=c++17", "-fsyntax-only", *flags, "-I", ROOT / "kernels", "-x", "c++", "-"]
    result = subprocess.run(command, input='#include "fastopt.h"\n', capture_output=True, text=True)
    assert (result.returncode != 0) == bool(refused)
    assert refused in result.stderr


@pytest.mark.skipif(importlib.util.find_spec("Cython") is None, reason="no Cython here")
def test_the_door_is_the_same_c_wherever_it_is_made(tmp_path):
    """A small one: Cython takes seconds for the whole."""
    made = []
    for root, declarations in (("a", "declared"), ("elsewhere/b", "far/away")):
        core, folder = tmp_path / root / "kernels" / "core", tmp_path / root / declarations
        core.mkdir(parents=True)
        folder.mkdir(parents=True)
        (core / "_core.pyx").write_text('cimport numpy as cnp\ninclude "fastopt.pxi"\ncnp.import_array()\n')
        (folder / "fastopt.pxi").write_text("cdef dict HYPER = {'adam': ('lr', 'beta1')}\n")
        command = [sys.executable, ROOT / "kernels" / "door.py", folder, folder / "_core.c", "-Werror"]
        subprocess.run(command, cwd=tmp_path / root, check=True, capture_output=True)
        made.append((folder / "_core.c").read_text())
    assert made[0] == made[1]
    assert str(tmp_path) not in made[0]


# ---- the code --------------------------------------------------------------------------------------------------------


def test_a_hot_loop_that_is_not_vectorised_is_named():
    tool = runpy.run_path(str(ROOT / "kernels" / "vectorized.py"))
    file = ROOT / "kernels" / "activations" / "leaky_relu.hpp"
    loops = tool["hot_loops"](file)
    assert set(loops.values()) == {"leaky_relu", "leaky_relu_backward", "count_inactive"}
    first, last = min(loops), max(loops)
    left, done, rest, elsewhere = (
        f"{file}:{line}:9: {what}\n"
        for line, what in (
            (first, "missed: couldn't vectorize loop"),
            (first, "optimized: loop vectorized using 32 byte vectors"),
            (first, "optimized: loop vectorized using 16 byte vectors"),
            (1, "missed: couldn't vectorize loop"),
        )
    )
    warning = f"{file}:{last}:9: warning: loop not vectorized: the optimizer was unable to\n"
    for family, remarks, baseline, said in (
        ("GNU", elsewhere + left, True, f"{first}: in leaky_relu, 1 left as they are, 0 vectorised"),
        ("GNU", left + done, True, ""),
        ("GNU", done + rest + left + left, True, f"{first}: in leaky_relu, 2 left as they are, 1 vectorised"),
        ("GNU", done + rest, False, ""),
        ("GNU", done + rest + left, False, f"{first}: in leaky_relu, 1 left as they are, 1 vectorised"),  # float alone
        ("GNU", done + rest + done + rest + left, False, ""),
        ("Clang", warning, False, f"{last}: in count_inactive, 1 left as they are, 0 vectorised"),
    ):
        assert tool["lost"](family, remarks, baseline=baseline) == ([f"{file}:{said}"] if said else [])


FUSED = r"\tvfn?m(add|sub)|\tf(n?m(add|sub)|ml[as])[.\w]*\t"  # x86-64, aarch64 (with its lanes in LLVM's words)
# GCC makes float32 of uint32 in two halves: the product is with 65536, exact, and so the fused sum is the plain one. It
# does so four times in each copy of these functions of float32, with AVX2.
CONVERTS, CONVERSIONS = ("normal_groupsIf", "normal_first_halvesIf"), 4


@pytest.mark.skipif(not BUILDS or shutil.which("objdump") is None, reason="not built here, or no objdump")
def test_no_product_and_sum_are_fused():
    objects = [
        path for path in BUILDS[-1].parent.rglob("isa.cpp.o") if platform.machine() != "x86_64" or "_v" in str(path)
    ]
    assert len(objects) > 6
    for path in objects:
        command = ["objdump", "--disassemble", "--no-show-raw-insn", path]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for name, _, function in (part.lstrip().partition("\n") for part in code.split("\n\n")):
            converts = "x86_64_v3" in str(path) and any(known in name for known in CONVERTS)
            assert len(re.findall(FUSED, function)) in ((0, CONVERSIONS) if converts else (0,)), (path, name)


# ---- the C library ---------------------------------------------------------------------------------------------------

# Not rounded correctly by every C library, where sqrt, fma, ldexp, frexp, rint and the like are.
INEXACT = {"exp", "exp2", "exp10", "expm1", "log", "log2", "log10", "log1p", "pow", "cbrt", "hypot"}
INEXACT |= {"sin", "cos", "tan", "sincos", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh"}
INEXACT |= {"asinh", "acosh", "atanh", "erf", "erfc", "gamma", "lgamma", "tgamma"}
INEXACT_SYMBOLS = {f"{name}{suffix}" for name in INEXACT for suffix in ("", "f", "l", "_r")}


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("nm") is None, reason="no nm for ELF here")
def test_the_module_calls_no_function_whose_last_bit_differs():
    command = ["nm", "--dynamic", "--undefined-only", _core.__file__]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1].split("@")[0] for line in printed.splitlines()}
    assert "memcpy" in names
    assert names & INEXACT_SYMBOLS == set()
    assert not any(name.startswith(("_ZGV", "__sv")) for name in names)  # of vectors


def test_no_definition_calls_one():
    package = Path(fastopt.__file__).parent
    sources = [path for path in package.rglob("*.py") if "demo" not in path.parts]
    assert len(sources) > 40
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                assert (called.value.id, called.attr) not in {
                    (module, name) for module in ("math", "np") for name in INEXACT | {"power", "float_power"}
                }, f"{path}:{node.lineno}"
