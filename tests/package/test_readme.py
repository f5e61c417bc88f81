"""The programs of the README, and the long ones of docs/, run as they stand there."""

from __future__ import annotations

import re

import pytest

from ..support import TESTS, run_python

PROGRAMS = [
    re.findall(r"```python\n(.*?)```(?!\n\n```text)", (TESTS.parent / page).read_text(), re.DOTALL)
    for page in ("README.md", "docs/policy.md", "docs/njit.md")
]


def test_programs_are_found():
    assert [len(programs) for programs in PROGRAMS] == [1, 1, 1]


@pytest.mark.parametrize(("which", "least", "most"), [(0, 0.2, 0.35), (1, 0.85, 1.0)], ids=["training", "policy"])
def test_what_they_print(which, least, most):
    number = re.search(r"(?:error|reward) (\d\.\d+)", run_python(PROGRAMS[which][0]))
    assert least < float(number[1]) <= most


def test_the_one_for_numba_compiles():
    pytest.importorskip("numba")
    call = (
        "params = fastopt.Philox4x32(1).standard_normal(PARAMETERS, dtype='float32')\nx = np.ones((9, 4), 'float32')\n"
    )
    call += "print(train(params, x, np.ones((9, 2), 'float32'), 3, 4, 0.01, 0.5, 7).shape)\n"
    program = PROGRAMS[2][0].replace("@njit(cache=True)", "@njit")  # a program without a file has no place for a cache
    assert run_python(program + call).split() == ["(3,)"]
