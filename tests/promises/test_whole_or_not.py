"""Promise 4 where memory runs out or a signal comes: a call that writes has done all of it, or nothing.

Each call of whole.py is made again and again, with its first request for memory failing, then its second, and so on.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import subprocess
import sys

import pytest

from ..support import run_python
from .whole import CALLS, LIBRARY, SIGNALLED

RUN = "import runpy, sys\nrunpy.run_module('tests.promises.whole', run_name='__main__', alter_sys=True)"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The malloc that fails when it is told to."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("whole")
    (folder / "fail.c").write_text(LIBRARY)
    built = folder / "fail.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", folder / "fail.c", "-o", built], check=True)
    return str(built)


@functools.cache
def outcomes(kind: str, **environment: str) -> dict[str, dict]:
    """What became of each call: one process tries them all."""
    output = run_python(RUN, arguments=[kind], timeout=300, OPENBLAS_NUM_THREADS="1", **environment)
    found = [json.loads(line) for line in output.splitlines()]
    return {outcome["call"]: outcome for outcome in found}


def check(outcome: dict) -> None:
    assert "error" not in outcome, outcome
    assert not outcome["half"], f"half done, or of another error, when request {outcome['half']} failed"
    assert not outcome["lost"], f"functions made in the call, which Python 3.12 cannot fail to make: {outcome['lost']}"


@pytest.mark.parametrize("call", CALLS)
def test_out_of_memory(call, library):
    outcome = outcomes("malloc", LD_PRELOAD=library, PYTHONMALLOC="malloc")[call]
    check(outcome)
    assert outcome["failed"] > 0


@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="needs CPython's _testcapi")
@pytest.mark.parametrize("call", CALLS)
def test_out_of_python_memory(call):
    outcome = outcomes("hooks")[call]
    check(outcome)
    assert outcome["failed"] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs setitimer")
@pytest.mark.parametrize("call", SIGNALLED)
def test_interrupted(call):
    check(outcomes("signals")[call])
