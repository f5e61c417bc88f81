"""README, workflows and the package's metadata say of platforms and versions what packaging/support.toml says."""

from __future__ import annotations

import fnmatch
import runpy
import tomllib

import pytest

from ..promises.fuzz import listed
from ..promises.recorded import SEEDS
from ..support import ROOT

TOOL = ROOT / "packaging" / "support.py"
pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="installed without the source tree")


@pytest.fixture(scope="module")
def made():
    return runpy.run_path(str(TOOL))


@pytest.fixture(scope="module")
def known(made):
    return made["support"]()


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_readme_has_the_table(made, known):
    text = (ROOT / "README.md").read_text()
    assert made["readme"](text, known) == text, "run python packaging/support.py"


def test_the_metadata_agrees(known, project):
    said = {line.rsplit(" ", 1)[-1] for line in project["project"]["classifiers"] if "Python :: 3." in line}
    assert said <= {*known["python"]["ci"]}  # classifiers are for what has run
    assert project["project"]["requires-python"] == f">={known['python']['ci'][0]}"
    numba = next(line for line in project["project"]["optional-dependencies"]["numba"] if line.startswith("numba"))
    assert known["numba"]["oldest"].startswith(numba.removeprefix("numba>="))
    numpy = next(line for line in project["project"]["dependencies"] if line.startswith("numpy"))
    assert known["numpy"]["oldest"].startswith(numpy.removeprefix("numpy>="))


def test_the_page_counts_the_kernels_of_today():
    page = (ROOT / "docs" / "machines.md").read_text()
    cases = len(listed()) * 2 * len(SEEDS)
    assert f"every kernel ({cases + 1} hashes," in page  # and one of scalars


def test_wheels_are_built_for_each_python(known, project):
    built = project["tool"]["cibuildwheel"]["build"]
    assert built == [f"cp{version.replace('.', '')}-*" for version in known["python"]["ci"]]
    tags = {value for name, value in project["tool"]["cibuildwheel"].items() if name.endswith("-image")}
    macos = project["tool"]["cibuildwheel"]["macos"]["environment"]["MACOSX_DEPLOYMENT_TARGET"]
    tags.add(f"macosx_{macos.replace('.', '_')}")
    assert tags == {platform["wheel"] for platform in known["platform"]} - {"none"}


def test_the_matrices_have_every_runner_and_python(made, known):
    matrices = made["matrices"](known)
    runners = {platform["runner"] for platform in known["platform"] if "runner" in platform}
    assert (
        {entry["runner"] for entry in matrices["test"]} == {entry["runner"] for entry in matrices["wheels"]} == runners
    )
    assert {entry["python"] for entry in matrices["test"]} == set(known["python"]["ci"])


@pytest.mark.skipif(not (ROOT / ".github").exists(), reason="not in an sdist")
@pytest.mark.parametrize("workflow", ["ci.yml", "wheels.yml"])
def test_the_workflows_take_them_from_there(workflow):
    text = (ROOT / ".github" / "workflows" / workflow).read_text()
    assert "packaging/support.py --matrix" in text
    named = [line for line in text.splitlines() if fnmatch.fnmatch(line.strip(), "runs-on: *")]
    assert any("matrix.runner" in line for line in named)
