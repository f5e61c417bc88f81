"""The house: one word for a family in every wing, files that one can hold in one's head, imports that only go down."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support import TESTS

HOUSE = TESTS.parent
FAMILIES = ("activations", "masking", "random", "optimizers", "policy", "cem", "plan")
WINGS = ("fastopt", "fastopt/reference", "kernels", "tests", "benchmarks")

# What an import may name lies on the same floor or below. `fastopt` itself is the families', which it re-exports.
FLOORS = (
    {"_core", "_checks", "_tree"},
    {"random"},
    {"activations", "masking", "optimizers", "policy", "cem", "machine"},
    {"plan"},
    {"fastopt"},
    {"torch"},
    {"sb3"},
    {"reference"},
    {"_njit"},
    {"bench", "demo"},
    {"cli"},
)


@pytest.mark.parametrize("wing", WINGS)
def test_every_family_is_in_every_wing(wing):
    missing = [word for word in FAMILIES if not any((HOUSE / wing / name).exists() for name in (word, f"{word}.py"))]
    assert not missing


@pytest.mark.parametrize("wing", ["fastopt", "benchmarks"])
def test_the_overview_names_every_folder(wing):
    tree = [line for line in (HOUSE / "CONTRIBUTING.md").read_text().splitlines() if line.startswith(f"    {wing}/")]
    folders = [folder.parent.name for folder in (HOUSE / wing).glob("*/*.py")]
    assert len(folders) > 10
    assert not {name for name in folders if name not in FAMILIES and f"{name}/" not in "\n".join(tree)}


# ---- length ----------------------------------------------------------------------------------------------------------

LONGEST = 500
EXCEPTION = f"over {LONGEST} lines"  # in the first lines, with its reason
CODE = {".py", ".pyx", ".pxi", ".h", ".hpp", ".cpp"}


def test_no_file_is_long_without_a_reason():
    files = [file for wing in WINGS for file in (HOUSE / wing).rglob("*") if file.suffix in CODE]
    assert len(files) > 100
    texts = {file.relative_to(HOUSE): file.read_text().splitlines() for file in files}
    assert not {
        str(file): len(lines)
        for file, lines in texts.items()
        if len(lines) > LONGEST and EXCEPTION not in "\n".join(lines[:20]).lower()
    }


# ---- imports ---------------------------------------------------------------------------------------------------------


def _module(file: Path) -> str:
    return ".".join(file.relative_to(HOUSE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_module(file): file for file in (HOUSE / "fastopt").rglob("*.py*") if file.suffix in (".py", ".pyi")}


def imported(name: str) -> Iterator[str]:
    """The modules of the package that a module names: anywhere in it, so in functions and for types too."""
    package = name if MODULES[name].stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            if source in MODULES:
                inner = [f"{source}.{alias.name}" for alias in node.names]
                yield from (module if module in MODULES else source for module in inner)


IMPORTS = {name: set(imported(name)) for name in MODULES}


def test_imports_are_found():
    assert "fastopt._core" in IMPORTS["fastopt.activations"]
    assert "fastopt.activations" in IMPORTS["fastopt"]
    assert sum(map(len, IMPORTS.values())) > 50


def test_no_imports_in_a_circle():
    graphlib.TopologicalSorter(IMPORTS).prepare()  # a CycleError names the circle


def floor(module: str) -> int:
    word = module.split(".")[1] if "." in module else module
    found = [number for number, words in enumerate(FLOORS) if word in words]
    assert found, f"{module} is on no floor: which one is it on?"
    return found[0]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_import_goes_up(name):
    assert not {other for other in IMPORTS[name] if floor(other) > floor(name)}
