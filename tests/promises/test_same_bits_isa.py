"""Promise 1 on every instruction set: the tests of bits run again for each that is not in use here, in processes of
their own: one a family, and two for the longest file, so that several workers can share them.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fastopt
from fastopt import _core

from ..support import TESTS
from . import test_same_bits

FILES = (
    "promises/test_golden.py",
    "promises/test_known_answers.py",
    "random/test_draws.py",
    "random/test_normal.py",
    "masking/test_dropout.py",
    "masking/test_fused_layer.py",
    "activations/test_leaky_relu.py",
    "activations/test_inactive_fraction.py",
    "optimizers/test_bfloat16.py",
    "optimizers/test_l2.py",
    "optimizers/test_options.py",
    "optimizers/test_rmsprop.py",
    "optimizers/test_clipping.py",
    "optimizers/test_zero_grads.py",
    "optimizers/test_averages.py",
    "optimizers/test_sparse_rows.py",
    "optimizers/test_sparse_rows_errors.py",
    "optimizers/test_small_states.py",
    "optimizers/test_small_states_range.py",
    "policy/test_bits.py",
    "policy/test_networks.py",
    "cem/test_minimize.py",
    "cem/test_rules.py",
    "cem/test_ask_and_tell.py",
    "cem/test_kernels.py",
    "plan/test_planner.py",
)
# Layouts are the door's affair, which is the same code whatever the instruction set: kernels see dense ranges.
OF_THE_DOOR = (
    "test_layouts",
    "test_large_arrays_in_other_layouts",
    "test_new_results_have_the_memory_order_of_their_input",
)
SAME_BITS = [
    f"promises/test_same_bits.py::{name}"
    for name in vars(test_same_bits)
    if name.startswith("test_") and name not in OF_THE_DOOR
]
PIECES: dict[str, list[str]] = {}
for file in FILES:
    PIECES.setdefault(file.split("/")[0], []).append(file)
PIECES |= {"same bits 1": SAME_BITS[::2], "same bits 2": SAME_BITS[1::2]}
OTHERS = [isa for isa in _core.available_isas() if isa != fastopt.get_isa()]


@pytest.mark.skipif(not OTHERS, reason="this CPU and build have one instruction set")
@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("isa", OTHERS)
def test_bits(isa, piece):
    # -P: the folder that pytest is started in must not shadow the installed package.
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "--tb=short"]
    result = subprocess.run(
        command + [str(TESTS / file) for file in PIECES[piece]],
        env=os.environ | {"FASTOPT_ISA": isa},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"instruction set {isa}," in result.stdout  # conftest.py's header: the kernels of that set were the ones run
