"""What the documentation says is there is there: paths, links and names; and its examples run as they stand."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from ..support import TESTS, run_python
from .test_house import FAMILIES

HOUSE = TESTS.parent
PAGES = {file.stem: file.read_text() for file in sorted((HOUSE / "docs").glob("*.md"))}
FILES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "benchmarks/studies/cem_results.md",
    "kernels/README.md",
]
FILES += [f"docs/{page}.md" for page in PAGES]


def test_every_family_has_a_page():
    assert {*FAMILIES, "index", "reproducibility"} <= set(PAGES)
    for page in set(PAGES) - {"index"}:
        assert f"({page}.md)" in PAGES["index"]


# ---- examples --------------------------------------------------------------------------------------------------------

EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "njit"])  # of which test_readme.py has the program
def test_examples_print_what_stands_below_them(page):
    if "fastopt.torch" in PAGES[page] or "import torch" in PAGES[page]:
        pytest.importorskip("torch")
    if "matplotlib" in PAGES[page]:
        pytest.importorskip("matplotlib.font_manager")  # makes its cache now, not among what an example prints
    examples = EXAMPLE.findall(PAGES[page])
    assert len(examples) == PAGES[page].count("```python") > 0
    for program, output in examples:
        assert run_python(program) == output


# ---- paths, links and names ------------------------------------------------------------------------------------------

CODE = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`]+`", re.DOTALL | re.MULTILINE)
PATH = re.compile(r"(?<![\w/.:-])[\w.*-]+(?:/[\w.*-]+)+/?(?![\w/])")
LINK = re.compile(r"\]\(([^()\s]+)\)")
MADE = [line.strip("/") for line in (HOUSE / ".gitignore").read_text().splitlines() if line.startswith("/")]


def paths(file: Path) -> Iterator[str]:
    """What stands in code and looks like a path: a place in the house, or the name of a file in a folder."""
    for code in CODE.findall(file.read_text()):
        for path in PATH.findall(re.sub(r"<\w+>", "*", code)):
            made = any(fnmatch(path, pattern) or fnmatch(path, f"{pattern}/*") for pattern in MADE)
            first = path.partition("/")[0]
            place = any((folder / first).exists() for folder in (HOUSE, file.parent))
            if not made and (place or re.search(r"\.(c?py|pyx|pxi|hpp|cpp|h|md|txt|csv|png|toml)$", path)):
                yield path


def test_paths_are_found():
    needed = {"kernels/fastopt.h", "fastopt/reference/*", "tests/package/test_house.py"}
    assert needed <= set(paths(HOUSE / "CONTRIBUTING.md"))
    assert "benchmarks/goals.py" in set(paths(HOUSE / "docs/cem.md"))


@pytest.mark.parametrize("name", FILES)
def test_paths_are_there(name):
    file = HOUSE / name
    folders = (HOUSE, file.parent)
    assert not {path for path in paths(file) if not any(any(folder.glob(path)) for folder in folders)}


@pytest.mark.parametrize("name", FILES)
def test_links_lead_somewhere(name):
    file = HOUSE / name
    for link in LINK.findall(file.read_text()):
        if "://" not in link:
            path, _, section = link.partition("#")
            target = file.parent / path if path else file
            assert target.exists(), link
            if section:
                titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                assert section in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles], link


@pytest.mark.parametrize("page", PAGES)
def test_names_are_there(page):
    if "fastopt.torch" in PAGES[page]:
        pytest.importorskip("torch")
    for name in set(re.findall(r"(?<![\w/.])fastopt(?:\.\w+)+", "\n".join(CODE.findall(PAGES[page])))):
        thing = importlib.import_module("fastopt")
        for part in name.split(".")[1:]:
            thing = getattr(thing, part, None) or importlib.import_module(f"{thing.__name__}.{part}")
