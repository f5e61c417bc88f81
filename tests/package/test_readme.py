"""The programs of the README, and the long one of docs/njit.md, run as they stand there."""

from __future__ import annotations

import re

import pytest

from ..support import TESTS, run_python

README, NJIT = (
    re.findall(r"```python\n(.*?)```", (TESTS.parent / page).read_text(), re.DOTALL)
    for page in ("README.md", "docs/njit.md")
)


def test_programs_are_found():
    assert (len(README), len(NJIT)) == (1, 1)


def test_what_the_first_prints():
    number = re.search(r"error (\d\.\d+)", run_python(README[0]))
    assert 0.2 < float(number[1]) <= 0.35


def test_the_one_for_numba_compiles():
    pytest.importorskip("numba")
    call = (
        "params = fastopt.Philox4x32(1).standard_normal(PARAMETERS, dtype='float32')\nx = np.ones((9, 4), 'float32')\n"
    )
    call += "print(train(params, x, np.ones((9, 2), 'float32'), 3, 4, 0.01, 0.5, 7).shape)\n"
    program = NJIT[0].replace("@njit(cache=True)", "@njit")  # a program without a file has no place for a cache
    assert run_python(program + call).split() == ["(3,)"]
