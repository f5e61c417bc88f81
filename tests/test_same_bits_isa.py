"""Promise 1 on every instruction set: the tests of bits run again in a process for each that is not in use here."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fastopt
from fastopt import _core

from .support import TESTS

FILES = (
    "test_same_bits",
    "test_golden",
    "test_known_answers",
    "test_random",
    "test_normal",
    "test_dropout",
    "test_fused_layer",
    "test_activations",
    "test_l2",
    "test_optimizer_options",
    "test_sparse_rows",
    "test_small_states",
    "test_policy_bits",
    "test_cem",
    "test_cem_kernels",
)
OTHERS = [isa for isa in _core.available_isas() if isa != fastopt.get_isa()]


@pytest.mark.skipif(not OTHERS, reason="this CPU and build have one instruction set")
@pytest.mark.parametrize("isa", OTHERS)
def test_bits(isa):
    # -P: the folder that pytest is started in must not shadow the installed package.
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "--tb=short"]
    result = subprocess.run(
        command + [str(TESTS / f"{name}.py") for name in FILES],
        env=os.environ | {"FASTOPT_ISA": isa},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"instruction set {isa}," in result.stdout  # conftest.py's header: the kernels of that set were the ones run
