"""Times one case: the same threads for everyone, results compared first, grouped by op, dtype and size."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastopt import machine

sys.path.append(str(Path(__file__).parent))  # pytest's importlib mode does not, and the files share harness.py

from harness import FOLDERS, Case, present, threads, torch

sys.path += FOLDERS  # some files share the ops of another

LARGEST_UNTIMED = 2**20


@pytest.fixture
def race(benchmark: Any) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        benchmark.group = case.group
        benchmark.extra_info = {
            "op": case.op.name,
            "dtype": np.dtype(case.dtype).name,
            "size": case.size,
            "threads": case.threads,
            "contender": case.contender,
        }
        op = case.op(case.dtype, case.size)
        with threads(case.threads):
            op.check(case.contender)
            call = getattr(op, case.contender)()
            call()  # touches every page before the first round
            if isinstance(call, functools.partial):
                benchmark(call.func, *call.args, **call.keywords)
            else:
                benchmark(call)

    return run


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    untimed = config.getoption("benchmark_disable")
    large = []
    for item in items:
        case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
        if not isinstance(case, Case):
            continue
        item.add_marker(pytest.mark.benchmark(max_time=0.4))
        if not present(case.contender):
            item.add_marker(pytest.mark.skip(reason=f"{case.contender} is not installed"))
        if untimed and case.size > LARGEST_UNTIMED:  # then a benchmark is a test, and should be over soon
            large.append(item)
    if large:
        config.hook.pytest_deselected(items=large)
        items[:] = [item for item in items if item not in large]


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["fastopt"] = machine.config()
    machine_info["torch"] = torch.__version__ if torch is not None else None


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)  # each round of each benchmark: 200 MB, which nobody reads
