"""The one list of kernels (kernels/fastopt.h): what each must have is there, or is missed here by name."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import itertools
from pathlib import Path

import numpy as np
import pytest

import fastopt
from fastopt import _core, reference
from fastopt.plan import CEMPlanner
from fastopt.reference.plan import CEMPlanner as ReferencePlanner

from ..cases import CASES, golden_outputs
from ..optimizers.cases import CODES
from ..policy import test_networks as networks
from ..policy.test_bits import OPS, check, make, plain
from ..support import DTYPES, ROOT, assert_equals_reference, assert_same_bits

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

# The same for both types: those of words and integers, and those of bfloat16, whose arithmetic is in float32.
IN_ONE_TYPE = {"random_raw", "random_integers", "sum_squares_bfloat16"}
IN_ONE_TYPE |= {f"{rule}_bfloat16_params" for rule in ("adam", "sgd", "rmsprop")}

# No golden hash: these move bytes for benchmarks, or are reached by way of Numba alone.
WITHOUT_HASH = {"stream"}


def listed(dtype):
    """The names of all kernels, with the type; of those that are one for both, float32 alone."""
    names = {name for _, name, *_ in _core.kernels()}
    return without(names - IN_ONE_TYPE if dtype == np.float64 else names, dtype)


def without(names, dtype):
    return {f"{name}_{np.dtype(dtype).name}" for name in names}


def test_the_door_has_the_list_of_the_header():
    spec = importlib.util.spec_from_file_location("declarations", ROOT / "kernels" / "declarations.py")
    declarations = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(declarations)
    header = declarations.read(declarations.whole(ROOT / "kernels" / "fastopt.h"))
    assert [kernel[:3] for kernel in _core.kernels()] == header["kernels"]
    with pytest.raises(SystemExit, match="expected a field, got ' int x : 3'"):
        declarations.read("typedef struct { int x : 3; } record;")
    with pytest.raises(SystemExit, match="known form, got 'static int x;'"):
        declarations.read("static int x;")


@pytest.mark.parametrize("isa", _core.available_isas())
def test_every_instruction_set_has_its_own_kernels(isa):
    for _, name, _, *addresses in _core.kernels(isa):
        assert len({0, *addresses}) == 3, name
    others = [kernel[3:] for other in _core.available_isas() if other != isa for kernel in _core.kernels(other)]
    assert not {kernel[3:] for kernel in _core.kernels(isa)} & set(others)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_has_a_golden_hash(dtype):
    ran = _core.traced(lambda: [call() for call in golden_outputs(dtype, 5000).values()])
    assert listed(dtype) - without(WITHOUT_HASH, dtype) - ran == set()


def compare_every_op(dtype):
    """Each op, on a few numbers, with its definition; the families' own tests do so at every size and layout."""
    for name, case in CASES.items():
        assert_equals_reference(case.run, [plain(k, (100,), dtype) for k in range(case.arrays)], name)
    for name, (count, run) in CODES.items():
        values = [plain(k, (100,), np.float32).view(np.uint32) >> np.uint32(16) for k in range(count)]
        assert_equals_reference(run, [x.astype(np.uint16) for x in values], name)
    codes = [np.arange(0, 0x4000, 7, np.uint16)]
    assert fastopt.grad_norm(codes) == reference.grad_norm(codes)
    for op in OPS:
        check(op, make(op, 5, 3, dtype, plain), op)
    compare_networks(dtype)
    x = plain(1, (20, 5), dtype)
    assert_same_bits(fastopt.inactive_fraction(x), reference.inactive_fraction(x))
    with fastopt.num_threads(2):
        check("categorical_entropy", make("categorical_entropy", 1, 70_001, dtype, plain))
    for draw in ("random_raw", "random", "standard_normal"):
        options = {} if draw == "random_raw" else {"dtype": dtype}
        numbers = [getattr(module.Philox4x32(7), draw)(99, stream=3, **options) for module in (fastopt, reference)]
        assert_same_bits(*numbers, draw)
    numbers = [module.Philox4x32(7).integers(-3, 10**10, 99) for module in (fastopt, reference)]
    assert_same_bits(*numbers, "integers")
    momentum = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.9}}
    for name in ("Adam", "SGD", "RMSprop"):
        tables = [x.copy(), x.copy()]
        for module, table in zip((fastopt, reference), tables, strict=True):
            rows = np.array([3, 1, 3, 19])
            getattr(module, name)([table], lr=0.1, **momentum.get(name, {})).step(
                [fastopt.SparseRows(rows, plain(2, (4, 5), dtype))]
            )
        assert_same_bits(*tables, "rows")
    for covariance, weights in itertools.product(("diag", "full"), ("log", "equal")):
        options = {"popsize": 20, "maxiter": 3, "rng": 1, "vectorized": True}
        options |= {"covariance": covariance, "weights": weights}
        runs = [
            module.minimize_cem(lambda x: np.square(x - 1).sum(axis=1), np.zeros(5, dtype), **options)
            for module in (fastopt, reference)
        ]
        assert_same_bits(runs[0].x, runs[1].x, covariance)
    planners = [kind(5, 2, popsize=10, rng=1, dtype=dtype) for kind in (CEMPlanner, ReferencePlanner)]
    actions = [planner.plan(lambda x: np.abs(x - 1).max(axis=(1, 2))) for planner in planners]
    assert_same_bits(*actions, "CEMPlanner")


def compare_networks(dtype):
    actor, critic = networks.layers([3, 5, 4], dtype), networks.layers([3, 5, 1], dtype)
    x, noise = plain(1, (7, 3), dtype), np.abs(plain(2, (7, 4), dtype)) + dtype(1)
    outputs = [module.policy.perceptron(x, actor) for module in (fastopt, reference)]
    networks.assert_all_same(*outputs)
    for name, args in {
        "perceptron_backward": (noise, x, outputs[0], actor),
        "categorical_act": (x, actor, critic, noise),
        "gaussian_act": (x, actor, critic, noise[0], noise),
    }.items():
        networks.assert_all_same(*(getattr(module.policy, name)(*args) for module in (fastopt, reference)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_is_compared_with_its_definition(dtype):
    ran = _core.traced(lambda: compare_every_op(dtype))
    assert listed(dtype) - without(WITHOUT_HASH, dtype) - ran == set()


@pytest.mark.parametrize("name", CASES)
def test_every_op_refuses_an_array_of_another_dtype(name):
    """By an error that says what was expected and what came."""
    case = CASES[name]
    for k in range(case.arrays):
        arrays = [plain(j, (4, 3), np.float64) for j in range(case.arrays)]
        arrays[k] = arrays[k].astype(np.float16)
        with pytest.raises(TypeError, match=r": expected float.*, got float"):
            case.run(fastopt, *arrays)


def test_what_is_not_reached_is_missed_by_name():
    ran = _core.traced(lambda: fastopt.leaky_relu(np.ones(3)))
    assert ran == {"leaky_relu_float64"}
    assert "gae_float64" in listed(np.float64) - ran


# ---- the door's stub -------------------------------------------------------------------------------------------------


def stub():
    """(function or "Class.method") -> names of its arguments, and classes, as fastopt/_core.pyi says."""
    tree = ast.parse((Path(fastopt.__file__).parent / "_core.pyi").read_text())
    functions, classes = {}, set()

    def names(f):
        given = (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs, f.args.kwarg)
        return [a.arg for a in given if a is not None]

    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            functions[node.name] = names(node)
        elif isinstance(node, ast.ClassDef):
            classes.add(node.name)
            for f in node.body:
                if isinstance(f, ast.FunctionDef) and not f.decorator_list and not f.name.startswith("__"):
                    functions[f"{node.name}.{f.name}"] = names(f)
    return functions, classes


def test_the_stub_says_what_the_door_has():
    functions, classes = stub()
    own = {
        name: value
        for name, value in vars(_core).items()
        if getattr(value, "__module__", None) == "fastopt._core" and not name.startswith("_")
    }
    assert classes == {name for name, value in own.items() if inspect.isclass(value)}
    there = {name: value for name, value in own.items() if not inspect.isclass(value)}
    for name in classes:
        members = vars(own[name]).items()
        there |= {f"{name}.{m}": f for m, f in members if inspect.isroutine(f) and not m.startswith("__")}
    assert functions.keys() == there.keys()
    for name, arguments in functions.items():
        assert arguments == list(inspect.signature(there[name]).parameters), name
