"""SparseRows: gradients that have only some rows of a parameter."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastopt
from fastopt import SparseRows, reference
from fastopt._tree import leaves

from ..support import LAYOUTS, assert_same_bits, laid_out, values
from .snapshots import each_dtype, finite

OPTIMIZERS = {
    "Adam": ("Adam", {"betas": (0.5, 0.75)}),
    "Adam maximize": ("Adam", {"maximize": True, "betas": (0.0, 0.9)}),
    "Adam clipped": ("Adam", {"max_grad_norm": 0.5, "skip_nonfinite": True}),
    "RMSprop": ("RMSprop", {"alpha": 0.75}),
    "RMSprop momentum": ("RMSprop", {"momentum": 0.9, "alpha": 0.25, "max_grad_norm": 0.5}),
    "SGD": ("SGD", {}),
    "SGD momentum": ("SGD", {"momentum": 0.9, "dampening": 0.5}),
    "SGD nesterov": ("SGD", {"momentum": 0.9, "nesterov": True, "max_grad_norm": 0.5}),
}
each_optimizer = pytest.mark.parametrize(("name", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def assert_same_optimizers(optimizer, expected):
    state = optimizer.state_dict()
    for key, value in expected.state_dict().items():
        assert_same_bits(state[key], value, key)
    assert optimizer.grad_norm == expected.grad_norm


def copied(grads):
    """The gradients again, for a step that zeroes them."""
    return [
        SparseRows(grad.indices, grad.values.copy())
        if isinstance(grad, SparseRows)
        else grad
        if grad is None
        else grad.copy()
        for grad in grads
    ]


# ---- the bits of the reference ---------------------------------------------------------------------------------------


@each_optimizer
@each_dtype
@pytest.mark.parametrize(("rows", "width"), [(5000, 8), (40, 1000), (3, 20_000), (7, 1), (7, 0), (1, 5)])
def test_bits(name, options, dtype, rows, width):
    # Rows are cut in chunks of 2**14 elements: many rows, one row and less than a row in a chunk.
    rng = np.random.default_rng(rows)
    table, bias = finite(1, (rows, width), dtype), finite(2, 5, dtype)
    steps = []
    for seed in (3, 4, 5):
        indices = rng.integers(0, rows, min(rows + 2, 3000))  # unsorted, some of them repeated
        steps.append([SparseRows(indices, finite(seed, (len(indices), width), dtype)), finite(seed, 5, dtype)])
    steps[1][1] = None
    expected = [table.copy(), bias.copy()]
    twin = getattr(reference, name)(expected, **options)
    with np.errstate(all="ignore"):
        for grads in steps:
            twin.step(copied(grads), grad_multiplier=0.5)
    for threads in (1, 3):
        params = [table.copy(), bias.copy()]
        optimizer = getattr(fastopt, name)(params, **options)
        with fastopt.num_threads(threads):
            for grads in steps:
                optimizer.step(copied(grads), grad_multiplier=0.5)
        for param, wanted in zip(params, expected, strict=True):
            assert_same_bits(param, wanted, f"{threads} threads")
        assert_same_optimizers(optimizer, twin)


@each_optimizer
@each_dtype
def test_special_values(name, options, dtype):
    options = {key: value for key, value in options.items() if key != "skip_nonfinite"}
    param, expected = values(1, (30, 7), dtype), values(1, (30, 7), dtype)
    optimizer, twin = getattr(fastopt, name)([param], **options), getattr(reference, name)([expected], **options)
    for seed in (2, 3, 4):
        grad = SparseRows(np.random.default_rng(seed).integers(0, 30, 25), values(seed, (25, 7), dtype))
        optimizer.step([grad])
        with np.errstate(all="ignore"):
            twin.step([grad])
    assert_same_bits(param, expected)
    for key, value in twin.state_dict().items():
        assert_same_bits(optimizer.state_dict()[key], value, key)


@each_optimizer
def test_all_rows_are_a_dense_gradient(name, options):
    # In any order of the rows; but a norm is added up in the order in which they come.
    dense, sparse = finite(1, (50, 30)), finite(1, (50, 30))
    optimizer, other = getattr(fastopt, name)([dense], **options), getattr(fastopt, name)([sparse], **options)
    for seed in (2, 3):
        grad = finite(seed, (50, 30))
        order = np.arange(50) if "max_grad_norm" in options else np.random.default_rng(seed).permutation(50)
        optimizer.step([grad])
        other.step([SparseRows(order, grad[order])])
        assert_same_bits(sparse, dense)
    assert_same_optimizers(other, optimizer)


# ---- what moves ------------------------------------------------------------------------------------------------------


@each_optimizer
def test_only_these_rows_move(name, options):
    param = finite(1, (20, 3))
    optimizer = getattr(fastopt, name)([param], **options)
    optimizer.step([finite(2, (20, 3))])
    before, states = param.copy(), {kind: arrays[0].copy() for kind, arrays in optimizer._states.items()}
    rows = np.array([4, 17, 9])
    optimizer.step([SparseRows(rows, np.full((3, 3), 0.5))])
    others = np.setdiff1d(np.arange(20), rows)
    assert_same_bits(param[others], before[others])
    assert np.all(param[rows] != before[rows])
    for kind, arrays in optimizer._states.items():
        assert_same_bits(arrays[0][others], states[kind][others], kind)
        rests = kind == "momentum_buffer" and "momentum" not in options
        assert rests or np.all(arrays[0][rows] != states[kind][rows])
    assert optimizer.state_dict()["step/0"] == 2  # counted once


def test_repeated_rows_are_added_in_their_order():
    # In float32 2**24 + 1 is 2**24: the sum depends on its order, and that of the indices is the order.
    large = np.float32(2**24)
    order = [large, np.float32(1), np.float32(1), -large]
    for values_, wanted in ((order, 0.0), (order[::-1], 2.0), ([order[k] for k in (1, 2, 0, 3)], 2.0)):
        param = np.zeros((9, 1), np.float32)
        # Among rows that are not their own, which come first when sorted by number.
        indices = np.array([8, 0, 8, 3, 8, 0, 8])
        rows = np.full((7, 1), 5, np.float32)
        rows[indices == 8, 0] = values_
        fastopt.SGD([param], lr=1.0).step([SparseRows(indices, rows)])
        assert_same_bits(param.ravel(), np.array([-10, 0, 0, -5, 0, 0, 0, 0, 0 - wanted], np.float32))
        dense = np.zeros((9, 1), np.float32)
        with np.errstate(all="ignore"):
            reference.SGD([dense], lr=1.0).step([SparseRows(indices, rows)])
        assert_same_bits(param, dense)


@each_dtype
def test_rows_repeated_a_thousand_times(dtype):
    indices = np.random.default_rng(1).integers(0, 5, 5000)
    grad = SparseRows(indices, finite(2, (5000, 33), dtype))
    expected = np.zeros((6, 33), dtype)
    reference.SGD([expected], lr=1.0).step([grad])
    for threads in (1, 3):
        param = np.zeros((6, 33), dtype)
        with fastopt.num_threads(threads):
            fastopt.SGD([param], lr=1.0).step([grad])
        assert_same_bits(param, expected)


INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_all_kinds(kind):
    highest = min(np.iinfo(kind).max, 1000)
    param = np.zeros((highest + 1, 2))
    for indices in (np.array([highest, 0, 5], kind), np.array([0, 5, highest], kind), np.array([5] * 4, kind)[::2]):
        param[...] = 0
        fastopt.SGD([param], lr=1.0).step([SparseRows(indices, np.ones((len(indices), 2)))])
        expected = np.zeros_like(param)
        np.subtract.at(expected, indices, 1)
        assert_same_bits(param, expected)


def test_indices_of_any_layout():
    indices = np.array([3, 9, 1, 9, 0, 9])[::2]  # 3, 1, 0
    read_only = indices.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + indices.tobytes(), np.int64, offset=1)
    for some in (indices, read_only, unaligned, indices.astype(">i8"), indices.astype("<i8")):
        param = np.zeros((4, 1))
        fastopt.SGD([param], lr=1.0).step([SparseRows(some, np.array([[1.0], [2.0], [3.0]]))])
        assert param.ravel().tolist() == [-3, -2, 0, -1]


def test_no_rows_are_a_step_too():
    param = finite(1, (4, 3))
    before, optimizer = param.copy(), fastopt.Adam([param], max_grad_norm=1.0)
    for indices in (np.empty(0, np.int64), np.empty(0, np.uint8)):
        optimizer.step([SparseRows(indices, np.empty((0, 3)))])
    assert_same_bits(param, before)
    assert optimizer.state_dict()["step/0"] == optimizer.step_count == 2
    assert optimizer.grad_norm == 0
    nothing = np.ones((0, 3))
    fastopt.Adam([nothing]).step([SparseRows(np.empty(0, int), np.empty((0, 3)))])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parameter", ["C", "every other", "reversed", "unaligned", "columns"])
def test_layouts(layout, parameter):
    param, expected = laid_out(finite(1, (9, 5)), parameter), finite(1, (9, 5))
    optimizer, twin = fastopt.Adam([param]), fastopt.Adam([expected])
    for indices in (np.array([8, 2, 2, 5]), np.array([1, 3, 4, 6])):
        grad = finite(2, (4, 5))
        optimizer.step([SparseRows(indices, laid_out(grad, layout))])
        twin.step([SparseRows(indices, grad)])
    assert_same_bits(param, expected)
    assert_same_optimizers(optimizer, twin)


# ---- together with options, groups and dense gradients ---------------------------------------------------------------


def test_the_norm_counts_what_is_added_up():
    # Rows 1 and 1 with 3 and -3 cancel; rows 2 and 2 make 4. With a dense 3 the norm is 5.
    grad = SparseRows(np.array([1, 2, 1, 2]), np.array([[3.0], [2.0], [-3.0], [2.0]]))
    table, bias = np.zeros((4, 1)), np.zeros(1)
    optimizer = fastopt.SGD([table, bias], lr=1.0, max_grad_norm=1.0)
    optimizer.step([grad, np.array([3.0])])
    assert optimizer.grad_norm == fastopt.grad_norm([grad, np.array([3.0])]) == 5
    factor = 1 / (5 + 1e-6)
    assert_same_bits(table.ravel(), np.array([0, 0, -4 * factor, 0]))
    assert_same_bits(bias, np.array([-3 * factor]))
    assert grad.values.ravel().tolist() == [3, 2, -3, 2]


def test_clip_grad_norm_scales_the_values():
    grad = SparseRows(np.array([2, 0, 2]), np.array([[1.0], [3.0], [3.0]]))
    assert fastopt.clip_grad_norm_({"w": grad, "b": None}, 1.0) == 5
    assert_same_bits(grad.values.ravel(), np.array([1.0, 3.0, 3.0]) * (1 / (5 + 1e-6)))
    assert grad.indices.tolist() == [2, 0, 2]
    assert math.isclose(fastopt.grad_norm(grad), 1, rel_tol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("indices", [[0, 1, 2, 3], [3, 1, 3, 0]], ids=str)
def test_the_values_are_zeroed(layout, indices):
    grad = SparseRows(np.array(indices), laid_out(np.full((4, 3), 0.5), layout))
    dense, param, expected = np.ones((4, 3)), np.zeros((4, 3)), np.zeros((4, 3))
    optimizer, twin = fastopt.SGD([param, np.ones((4, 3))], lr=1.0), fastopt.SGD([expected, np.ones((4, 3))], lr=1.0)
    twin.step([SparseRows(grad.indices, grad.values.copy()), dense.copy()])
    optimizer.step([grad, dense], zero_grads=True)
    assert_same_bits(param, expected)
    assert_same_bits(grad.values, np.zeros((4, 3)))
    assert_same_bits(dense, np.zeros((4, 3)))
    assert grad.indices.tolist() == indices


@pytest.mark.parametrize("zero_grads", [False, True])
def test_a_row_that_is_not_finite_skips_the_step(zero_grads):
    param, bias = np.ones((3, 2)), np.ones(2)
    optimizer = fastopt.Adam({"w": param, "b": bias}, skip_nonfinite=True)
    grads = {"w": SparseRows(np.array([2, 2]), np.array([[1.0, np.inf], [1.0, 1.0]])), "b": np.ones(2)}
    optimizer.step(grads, zero_grads=zero_grads)
    assert (optimizer.step_count, optimizer.skipped_steps) == (0, 1)
    assert_same_bits(param, np.ones((3, 2)))
    assert_same_bits(bias, np.ones(2))
    assert grads["w"].values.any() != zero_grads
    assert grads["b"].any() != zero_grads


@each_dtype
def test_sparse_and_dense_gradients_by_turns(dtype):
    param, expected = finite(1, (30, 4), dtype), finite(1, (30, 4), dtype)
    optimizer, twin = fastopt.Adam([param]), reference.Adam([expected])
    for seed in range(6):
        grad = finite(seed + 2, (30, 4), dtype)
        grads = [[grad], [SparseRows(np.arange(seed, 30, 3), grad[seed::3])], [None]][seed % 3]
        optimizer.step(grads)
        with np.errstate(all="ignore"):
            twin.step(grads)
        assert_same_bits(param, expected)
    assert_same_optimizers(optimizer, twin)


def test_groups():
    # A group of its own is what the message recommends where the others decay.
    def params():
        return [{"params": {"table": finite(1, (9, 3))}, "weight_decay": 0.0, "lr": 0.5}, {"params": [finite(2, 4)]}]

    mine, theirs = params(), params()
    optimizer, twin = fastopt.AdamW(mine, weight_decay=0.1), reference.AdamW(theirs, weight_decay=0.1)
    for seed in (3, 4):
        grads = [{"table": SparseRows(np.array([1, 8, 1]), finite(seed, (3, 3)))}, [finite(seed, 4)]]
        optimizer.step(grads)
        twin.step(grads)
    for (path, array), (_, wanted) in zip(leaves(optimizer.params), leaves(twin.params), strict=True):
        assert_same_bits(array, wanted, path)
    optimizer.param_groups[0]["weight_decay"] = 0.5
    with pytest.raises(ValueError, match=r"grads/0/table: SparseRows need weight_decay = 0: .*group of its own"):
        optimizer.step(grads)


def test_one_gradient_may_serve_two_tables_unless_it_is_zeroed():
    a, b = np.zeros((3, 2)), np.zeros((5, 2))
    grad = SparseRows(np.array([1]), np.ones((1, 2)))
    optimizer = fastopt.SGD([a, b], lr=1.0)
    optimizer.step([grad, grad])
    assert a.sum() == b.sum() == -2
    with pytest.raises(ValueError, match=r"grads/1: expected memory of its own to be written, .* overlaps grads/0"):
        optimizer.step([grad, grad], zero_grads=True)
    assert grad.values.tolist() == [[1, 1]]


# ---- what it is for --------------------------------------------------------------------------------------------------


def test_adam_finds_what_descent_does_not():
    # Least squares on eight features: every 2**j-th example has feature j, and it is 2**j times smaller. The gradients
    # of the last feature are 128 times rarer and 128 times smaller than those of the first, which limits the learning
    # rate of all. Adam divides each by its own size. The data are exact: no answer depends on a generator.
    features = 2 ** np.arange(8)
    size, target = 1 / features, np.where(np.arange(8) % 2, -1.0, 1.0)

    def loss_after_training(make):
        w = np.zeros((8, 1))
        optimizer = make([w])
        for example in range(1, 2001):
            rows = np.flatnonzero(example % features == 0)
            residual = size[rows] @ (w[rows, 0] - target[rows])
            if abs(residual) > 1e6:
                return math.inf
            optimizer.step([SparseRows(rows, (residual * size[rows])[:, None])])
        examples = np.where(np.arange(128)[:, None] % features == 0, size, 0)
        return 0.5 * np.mean((examples @ (w[:, 0] - target)) ** 2)

    adam = loss_after_training(lambda params: fastopt.Adam(params, lr=0.05))
    descents = [
        loss_after_training(lambda params, k=k, momentum=momentum: fastopt.SGD(params, lr=2.0**k, momentum=momentum))
        for k in range(-8, 3)
        for momentum in (0.0, 0.9)
    ]
    assert math.isinf(max(descents))  # the grid reaches beyond the largest rate that converges
    assert descents.index(min(descents)) not in (0, 1)  # and below the best
    assert adam < min(descents) / 10
