from __future__ import annotations

import hypothesis
import pytest

import fastopt

# The same examples in every run, and no limit on their time: the machine may be busy.
hypothesis.settings.register_profile("fastopt", derandomize=True, deadline=None, max_examples=40, database=None)
hypothesis.settings.load_profile("fastopt")


def pytest_report_header() -> str:
    return f"fastopt {fastopt.__version__}: instruction set {fastopt.get_isa()}, {fastopt.get_num_threads()} threads"


@pytest.fixture(autouse=True)
def _same_number_of_threads():
    before = fastopt.get_num_threads()
    yield
    fastopt.set_num_threads(before)
