"""What @njit code compiled with fastopt meets later: a new process, a newer build, no Numba at all."""

from __future__ import annotations

import inspect
from ctypes import CFUNCTYPE, c_double

import numpy as np
import pytest

import fastopt
from fastopt import _core, policy

from ..support import assert_same_bits, run_python
from .contract import CONTRACT

pytest.importorskip("numba")

# ---- processes and builds --------------------------------------------------------------------------------------------

MODULE = """
import numpy as np, fastopt
from numba import njit, prange

@njit(cache=True)
def step(x, p, m, v):
    y, mask = fastopt.dropout(fastopt.leaky_relu(x), 0.3, rng=(7, 1))
    fastopt.adam_step(p, fastopt.dropout_backward(y, mask), m, v, 3)
    return y + fastopt.Philox4x32(5).random(y.shape, np.float32, stream=2)

@njit(cache=True, parallel=True)
def steps(x, p, m, v):
    for k in prange(len(x)):
        step(x[k:k + 1], p[k:k + 1], m[k:k + 1], v[k:k + 1])
"""
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, cached
from numba.core import event
arrays = [np.ones((50, 64), np.float32) * k for k in range(4)]
with event.install_recorder("numba:compile") as compiled:
    y = cached.step(*arrays)
    cached.steps(*arrays)
stats = cached.step.stats, cached.steps.stats
hits, misses = (sum(sum(getattr(s, kind).values()) for s in stats) for kind in ("cache_hits", "cache_misses"))
print(hits, misses, len(compiled.buffer) > 0, y.sum(), *(a.sum() for a in arrays))
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder with the module and what a first process has cached of it, and what that process printed."""
    folder = tmp_path_factory.mktemp("cached")
    (folder / "cached.py").write_text(MODULE)
    return folder, run_python(RUN, arguments=[folder], timeout=120).split()


def test_the_second_process_compiles_nothing(first):
    folder, printed = first
    again = run_python(RUN, arguments=[folder], timeout=120).split()
    assert printed[:3] == ["0", "2", "True"]
    assert again[:3] == ["2", "0", "False"]
    assert again[3:] == printed[3:]


NEXT_BUILD = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from fastopt import _core

# A build whose leaky_relu has a new contract: the old name is a shim, here one that counts its calls.
shim_type = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_double)
symbols = _core.symbols()
name = "fastopt_1_leaky_relu_float32"
kernel, calls = shim_type(symbols[name]), []
shim = shim_type(lambda *arguments: calls.append(arguments[2:]) or kernel(*arguments))
symbols |= {name.replace("_1_", "_2_"): symbols[name], name: ctypes.cast(shim, ctypes.c_void_p).value}
_core.symbols = lambda: symbols

import cached
arrays = [np.ones((50, 64), np.float32) * k for k in range(4)]
y = cached.step(*arrays)
print(*cached.step.stats.cache_hits.values(), *cached.step.stats.cache_misses.values(), calls, y.sum())

import fastopt, numba
from fastopt._njit import activations, kernel
activations.leaky_relu = kernel.kernel("leaky_relu", 2, kernel.float64, contract=2)
numba.njit(lambda x: fastopt.leaky_relu(x))(arrays[0])
print(len(calls))
"""


def test_a_cache_outlives_an_upgrade(first):
    """What an older build compiled finds its functions in a newer one, by names with the number of their contract."""
    folder, printed = first
    stale, fresh = run_python(NEXT_BUILD, arguments=[folder], timeout=120).splitlines()
    assert stale == f"1 [(3200, 0.01)] {printed[3]}"
    assert fresh == "1"


MODULES = ("activations", "checks", "kernel", "masking", "nests", "networks", "optimizers", "policy", "ppo", "random")


def test_the_modules_that_caches_name_are_there():
    """A cache that was written before the modules moved, or is written now, imports them by their names."""
    script = "import fastopt, numba, importlib\nnumba.njit(lambda x: x + 1)(1)\n"
    for name in ["_numba", "_numba_policy", "_njit", *(f"_njit.{module}" for module in MODULES)]:
        script += f"importlib.import_module('fastopt.{name}')\n"
    run_python(script + "print(fastopt._njit.Refused.__module__)")


def test_every_released_function_is_in_the_contract():
    assert CONTRACT.keys() == _core.symbols().keys()


@pytest.mark.parametrize("name", CONTRACT)
def test_released_functions_keep_their_arguments(name):
    dtype, types, call, same = CONTRACT[name]
    function = CFUNCTYPE(*types)(_core.symbols()[name])
    x, y = (np.random.default_rng(k).standard_normal(65).astype(dtype) for k in range(2))
    a, b = x.copy(), np.zeros((4, 65))  # b has room for states, which are zeros
    b.view(dtype).ravel()[:65] = y
    returned, result = call(function, a.ctypes.data, b.ctypes.data, 65), same(x, y)
    assert returned == (result if types[0] is c_double else 0)
    assert_same_bits(a, x)


def test_overloads_have_the_arguments_of_the_public_functions():
    from fastopt._njit import activations, masking, networks, optimizers, ppo, random
    from fastopt._njit import policy as policy_overloads

    def arguments(function):
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    overloads = vars(activations) | vars(masking) | vars(random) | vars(optimizers)
    for public, here in ((fastopt, overloads), (policy, vars(policy_overloads) | vars(ppo) | vars(networks))):
        joined = {name for name in public.__all__ if f"_{name}" in here}
        functions = {name for name in public.__all__ if inspect.isfunction(getattr(public, name))}
        assert functions - joined == functions & NOT_JOINED
        for name in joined:
            assert arguments(here[f"_{name}"]) == arguments(getattr(public, name))


# What sets up the process, and what calls the user back.
NOT_JOINED = {
    *("get_isa", "get_num_threads", "set_num_threads", "num_threads", "show_config"),
    *("minimize_cem", "kl_line_search"),
}


def test_numba_loads_the_extension_without_a_warning():
    script = """
        import sys, numba
        assert "fastopt" not in sys.modules
        numba.njit(lambda: 1)()
        print("fastopt._njit.activations" in sys.modules)
        """
    assert run_python(script, PYTHONWARNINGS="error").strip() == "True"


def test_a_failing_load_would_be_noticed():
    script = """
        import sys, numba
        sys.modules["fastopt._core"] = None
        try:
            numba.njit(lambda: 1)()
        except UserWarning as warning:
            print(warning)
        """
    assert "'fastopt._njit' failed to load" in run_python(script, PYTHONWARNINGS="error")


def test_fastopt_works_without_numba():
    script = """
        import sys
        sys.modules["numba"] = sys.modules["llvmlite"] = None
        import numpy as np, fastopt, fastopt.cli
        print(fastopt.dropout(np.ones(6), 0.5, rng=(7, 0))[0])
        """
    assert run_python(script).strip() == "[2. 0. 0. 0. 2. 0.]"
