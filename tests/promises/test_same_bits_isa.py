"""Promise 1 on every instruction set: the tests of bits run again in a process for each that is not in use here."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fastopt
from fastopt import _core

from ..support import TESTS

FILES = (
    "promises/test_same_bits.py",
    "promises/test_golden.py",
    "promises/test_known_answers.py",
    "random/test_draws.py",
    "random/test_normal.py",
    "masking/test_dropout.py",
    "masking/test_fused_layer.py",
    "activations/test_leaky_relu.py",
    "activations/test_inactive_fraction.py",
    "optimizers/test_l2.py",
    "optimizers/test_options.py",
    "optimizers/test_clipping.py",
    "optimizers/test_zero_grads.py",
    "optimizers/test_averages.py",
    "optimizers/test_sparse_rows.py",
    "optimizers/test_sparse_rows_errors.py",
    "optimizers/test_small_states.py",
    "policy/test_bits.py",
    "cem/test_minimize.py",
    "cem/test_rules.py",
    "cem/test_ask_and_tell.py",
    "cem/test_kernels.py",
)
OTHERS = [isa for isa in _core.available_isas() if isa != fastopt.get_isa()]


@pytest.mark.skipif(not OTHERS, reason="this CPU and build have one instruction set")
@pytest.mark.parametrize("isa", OTHERS)
def test_bits(isa):
    # -P: the folder that pytest is started in must not shadow the installed package.
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "--tb=short"]
    result = subprocess.run(
        command + [str(TESTS / file) for file in FILES],
        env=os.environ | {"FASTOPT_ISA": isa},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"instruction set {isa}," in result.stdout  # conftest.py's header: the kernels of that set were the ones run
