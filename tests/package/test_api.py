"""What users see: names, signatures, docstrings and their examples, and an import that is light."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
from pathlib import Path

import numpy as np
import pytest

import fastopt
from fastopt import policy, reference
from fastopt.reference import policy as reference_policy

from ..support import run_python

# What is no op, and so has no definition in NumPy: the machine, and the types that both sides take.
NOT_OPS = {
    *("__version__", "DropoutMask", "SparseRows"),
    *("get_isa", "get_num_threads", "num_threads", "set_num_threads", "show_config"),
}
TWINS = sorted(set(fastopt.__all__) - NOT_OPS)
# What needs an optional package, and what only the command line needs, is not a part of the core.
APART = {"_njit", "bench", "cli", "demo"}
ROOT = Path(fastopt.__file__).parent
MODULES = sorted(
    ".".join(file.parts).removesuffix(".__init__")
    for file in (path.relative_to(ROOT).with_suffix("") for path in ROOT.rglob("*.py"))
    if file.parts[0] not in APART | {"__init__"}
)
PEERS = {"sb3": "stable_baselines3", "torch": "torch"}  # folders whose modules need what may not be installed


def peer_of(name):
    return PEERS.get(name.partition(".")[0])


IMPORTABLE = [name for name in MODULES if peer_of(name) is None or importlib.util.find_spec(peer_of(name))]


def methods(cls):
    return {name for name, value in inspect.getmembers(cls, callable) if not name.startswith("_")}


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_all_is_what_there_is():
    assert sorted(fastopt.__all__) == sorted(set(fastopt.__all__))
    for name in fastopt.__all__:
        assert hasattr(fastopt, name)
    assert set(fastopt.__all__) > NOT_OPS
    named = {name for name, value in vars(fastopt).items() if not inspect.ismodule(value) and not name.startswith("_")}
    assert named == set(fastopt.__all__) - {"__version__"}


@pytest.mark.parametrize("name", [name for name in fastopt.__all__ if name != "__version__"])
def test_every_public_name_has_a_docstring(name):
    thing = getattr(fastopt, name)
    first = inspect.getdoc(thing).splitlines()[0]
    assert first.endswith((".", ":")), first
    if inspect.isclass(thing):
        for method in methods(thing) - set(dir(tuple)):
            assert inspect.getdoc(getattr(thing, method)), method


@pytest.mark.parametrize("name", TWINS)
def test_every_op_has_a_twin_with_the_same_signature(name):
    mine, twin = getattr(fastopt, name), getattr(reference, name)
    assert parameters(mine) == parameters(twin)
    if inspect.isclass(mine):
        for method in methods(mine) & methods(twin):
            assert parameters(getattr(mine, method)) == parameters(getattr(twin, method)), method


def test_every_op_of_policy_has_a_twin_but_the_line_search():
    """Which has no kernel: it is control flow around the caller's function, and so its own plain definition. Results in
    words are types that both sides take."""
    without = set(policy.__all__) - set(vars(reference_policy))
    assert without == {"LineSearchResult", "PPOStats", "kl_line_search"}


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "SGD"])
def test_optimisers_have_the_methods_of_their_twins(name):
    shared = {"step", "state_dict"}
    assert shared <= methods(getattr(fastopt, name))
    assert shared <= methods(getattr(reference, name))
    for make in (getattr(fastopt, name), getattr(reference, name)):
        optimizer = make([np.ones(2)])
        optimizer.step([np.ones(2)])
        assert optimizer.step_count == 1
        assert optimizer.lr == (1e-2 if name == "RMSprop" else 1e-3)


def test_in_place_functions_say_so_in_their_first_line():
    for name in ("adam_step", "rmsprop_step", "sgd_step"):
        assert "in place" in inspect.getdoc(getattr(fastopt, name)).splitlines()[0]
    for name in ("Adam", "AdamW", "RMSprop", "SGD"):
        assert "in place" in inspect.getdoc(getattr(fastopt, name)).splitlines()[0]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    if peer_of(name) is not None:
        pytest.importorskip(peer_of(name))
    module = importlib.import_module(f"fastopt.{name}")
    result = doctest.testmod(module, extraglobs={"np": np, "fastopt": fastopt})
    assert result.failed == 0


def test_examples_are_found():
    finder = doctest.DocTestFinder()
    documented = {
        test.name.rpartition(".")[2]
        for name in IMPORTABLE
        for test in finder.find(importlib.import_module(f"fastopt.{name}"))
        if test.examples
    }
    assert {"leaky_relu", "dropout", "Philox4x32", "Adam", "AdamW", "RMSprop", "SGD", "rmsprop_step"} <= documented
    assert {"l2_penalty", "adam_step"} <= documented


def test_import_is_light():
    heavy = (
        "scipy",
        "sklearn",
        "matplotlib",
        "numba",
        "torch",
        "tqdm",
        "pandas",
        "pytest",
        "multiprocessing",
        "asyncio",
    )
    script = f"""
import sys
import numpy
before = set(sys.modules)
import fastopt
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(new & set({heavy!r})))
# Cython keeps modules of its own for what its extensions share.
outside = {{name for name in new - sys.stdlib_module_names if 'cython' not in name}}
print(sorted(outside))
"""
    found, outside = run_python(script).splitlines()
    assert found == "[]"
    assert set(ast.literal_eval(outside)) <= {"fastopt", "numpy"}


def test_every_module_of_the_core_imports_alone():
    assert {"activations", "cem", "masking", "optimizers", "plan", "policy", "random", "reference"} < set(IMPORTABLE)
    for name in IMPORTABLE:
        run_python(f"import fastopt.{name}")


def test_version():
    assert fastopt.__version__.split(".")[0].isdecimal()
    assert run_python("import importlib.metadata as m; print(m.version('fastopt'))").strip() == fastopt.__version__


def test_an_optimiser_that_was_never_initialised_is_an_error_and_not_a_crash():
    empty = fastopt.Adam.__new__(fastopt.Adam)
    for grads in ([], None, [np.ones(2)], {}):
        with pytest.raises((ValueError, TypeError)):
            empty.step(grads)
