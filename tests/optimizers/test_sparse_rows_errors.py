"""SparseRows that are wrong: the error says where, and nothing has moved, in this parameter or another."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastopt
from fastopt import SparseRows
from fastopt._tree import leaves

from ..support import assert_same_bits


def _sparse(indices=(1, 2), values_=None, dtype=np.int64):
    indices = np.array(indices, dtype)
    return SparseRows(indices, np.full((len(indices), 3), 0.5) if values_ is None else values_)


def _two_rows(*shape, dtype=np.float64):
    return _sparse(values_=np.ones(shape, dtype))


WRONG = {
    "negative": (lambda: _sparse([1, -1]), ValueError, "indices: expected row numbers from 0 to 3 of params/w, got -1"),
    "too large": (lambda: _sparse([4, 1]), ValueError, "indices: expected row numbers from 0 to 3 of params/w, got 4"),
    "much too large": (
        lambda: _sparse([0, 2**64 - 1], dtype=np.uint64),
        ValueError,
        "indices: expected row numbers from 0 to 3 of params/w, got 18446744073709551615",
    ),
    "float": (lambda: _sparse(dtype=np.float64), TypeError, r"indices: expected a 1-D array of integers, got float64"),
    "bool": (lambda: _sparse(dtype=bool), TypeError, "indices: expected a 1-D array of integers, got bool"),
    "object": (lambda: _sparse(dtype=object), TypeError, "indices: expected a 1-D array of integers, got object"),
    "2-D": (
        lambda: SparseRows(np.array([[1, 2]]), np.ones((2, 3))),
        TypeError,
        r"indices: expected a 1-D array of integers, got int64 of shape \(1, 2\)",
    ),
    "0-d": (
        lambda: SparseRows(np.array(1), np.ones((1, 3))),
        TypeError,
        r"indices: expected a 1-D array of integers, got int64 of shape \(\)",
    ),
    "list": (lambda: SparseRows([1, 2], np.ones((2, 3))), TypeError, "indices: expected a 1-D array .*, got list"),
    "masked": (
        lambda: SparseRows(np.ma.array([1, 2], mask=[True, False]), np.ones((2, 3))),
        TypeError,
        "indices: expected a 1-D array .*, got .*[Mm]asked",
    ),
    "empty floats": (lambda: _sparse([], dtype=np.float64), TypeError, "indices: expected a 1-D array of integers"),
    "a row too few": (
        lambda: _two_rows(1, 3),
        ValueError,
        r"values: expected shape \(2, 3\), a row for each index, got \(1, 3\)",
    ),
    "a column too many": (lambda: _two_rows(2, 4), ValueError, r"values: expected shape \(2, 3\), .*, got \(2, 4\)"),
    "1-D": (lambda: _two_rows(6), ValueError, r"values: expected shape \(2, 3\), .*, got \(6,\)"),
    "3-D": (lambda: _two_rows(2, 3, 1), ValueError, r"values: expected shape \(2, 3\), .*, got \(2, 3, 1\)"),
    "float32": (
        lambda: _two_rows(2, 3, dtype=np.float32),
        TypeError,
        r"values: expected float64 like params/w, got float32; grads/w.values.astype\(np.float64\)",
    ),
    "integers": (lambda: _two_rows(2, 3, dtype=int), TypeError, "values: expected float32 or float64 .*, got int64"),
    "nested lists": (
        lambda: _sparse(values_=[[1.0] * 3] * 2),
        TypeError,
        "values: expected a numpy.ndarray, got list",
    ),
    "tuple": (lambda: (np.array([1]), np.ones((1, 3))), TypeError, ": expected a numpy.ndarray, got tuple"),
}


def assert_refused(optimizer, grads, error, message, **step):
    before = [(array, array.copy()) for _, array in leaves(optimizer.params)]
    for _, leaf in leaves(grads):
        before += [(g, g.copy()) for g in (leaf if type(leaf) is SparseRows else [leaf]) if isinstance(g, np.ndarray)]
    state = optimizer.state_dict()
    with pytest.raises(error, match=message):
        optimizer.step(grads, **step)
    for array, old in before:
        assert np.array_equal(array, old)
    for key, value in optimizer.state_dict().items():
        assert value == state[key] if isinstance(value, str) else np.array_equal(value, state[key]), key


@pytest.mark.parametrize(("make", "error", "message"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("optimizer", [fastopt.Adam, fastopt.SGD])
def test_wrong_rows(make, error, message, optimizer):
    # The parameter before it has a gradient without fault, and must not have moved either.
    params = {"b": np.ones(3), "w": np.ones((4, 3))}
    grads = {"b": np.full(3, 0.5), "w": make()}
    assert_refused(optimizer(params), grads, error, f"^grads/w.*{message}", zero_grads=True)


@pytest.mark.parametrize("shape", [(), (4,), (4, 3, 1)], ids=str)
def test_the_parameter_must_have_rows(shape):
    message = f"^grads/w: expected a 2-D parameter for SparseRows, got params/w of shape {re.escape(str(shape))}$"
    assert_refused(fastopt.SGD({"w": np.ones(shape)}), {"w": _sparse()}, ValueError, message)


def test_the_parameter_must_be_in_c_order():
    optimizer = fastopt.Adam({"w": np.ones((4, 3), order="F")})
    message = r"^grads/w: SparseRows need a parameter in C order, got params/w in Fortran order; .*ascontiguousarray"
    assert_refused(optimizer, {"w": _sparse()}, ValueError, message)
    fastopt.Adam({"w": np.ones((4, 1), order="F")}).step({"w": SparseRows(np.array([1]), np.ones((1, 1)))})


OTHER_ROWS_WOULD_MOVE = {
    "ema_decay": ("Adam", {"ema_decay": 0.5}, "without state_dtype, ema_decay and amsgrad"),
    "amsgrad": ("Adam", {"amsgrad": True}, "without state_dtype, ema_decay and amsgrad"),
    "centered": ("RMSprop", {"centered": True}, r"without state_dtype, .*amsgrad \(of RMSprop centered\)"),
    "bfloat16": ("Adam", {"state_dtype": "bfloat16"}, "without state_dtype, ema_decay and amsgrad"),
    "8bit": ("SGD", {"state_dtype": "8bit", "momentum": 0.9}, "without state_dtype, ema_decay and amsgrad"),
    "coupled": (
        "Adam",
        {"weight_decay": 0.1},
        "weight_decay = 0: only the rows given move; put the parameter in a group",
    ),
    "decoupled": ("AdamW", {}, "weight_decay = 0: only the rows given move; put the parameter in a group"),
    "sgd": ("SGD", {"weight_decay": 0.1}, "weight_decay = 0: only the rows given move; put the parameter in a group"),
}


@pytest.mark.parametrize(
    ("name", "options", "message"), OTHER_ROWS_WOULD_MOVE.values(), ids=OTHER_ROWS_WOULD_MOVE.keys()
)
def test_options_that_move_other_rows(name, options, message):
    optimizer = getattr(fastopt, name)({"b": np.ones(3), "w": np.ones((4, 3))}, **options)
    grads = {"b": np.full(3, 0.5), "w": _sparse()}
    assert_refused(optimizer, grads, ValueError, f"^grads/w: SparseRows need .*{message}")
    optimizer.step({"b": np.full(3, 0.5), "w": np.ones((4, 3))})  # a dense gradient is fine


def test_values_that_overlap_a_parameter():
    params = {"b": np.ones(3), "w": np.ones((4, 3))}
    optimizer = fastopt.Adam(params)
    message = "grads/w: expected memory apart from params/w, got arrays that overlap"
    assert_refused(optimizer, {"b": None, "w": SparseRows(np.array([1]), params["w"][:1])}, ValueError, message)
    message = "grads/w: expected memory apart from exp_avg/b, got arrays that overlap"
    state = optimizer._states["exp_avg"][0].reshape(1, 3)
    assert_refused(optimizer, {"b": None, "w": SparseRows(np.array([1]), state)}, ValueError, message)


def test_indices_that_overlap_a_parameter():
    # A row number must not become the bits of a parameter while rows are written: the numbers are copied first.
    param = np.zeros((4, 1))
    indices = param.view(np.int64)[2:, 0]  # rows 2 and 3 of the parameter hold the numbers 2 and 1
    indices[:] = (2, 1)
    fastopt.SGD([param], lr=1.0).step([SparseRows(indices, np.ones((2, 1)))])
    assert_same_bits(param[:3], np.array([[0.0], [-1.0], [-1.0]]))
    assert indices[1] == 1


def test_values_that_cannot_be_zeroed():
    grad = _sparse()
    grad.values.flags.writeable = False
    optimizer = fastopt.SGD({"w": np.ones((4, 3))})
    message = "grads/w.*: expected a writeable array, got a read-only one"
    assert_refused(optimizer, {"w": grad}, ValueError, message, zero_grads=True)
    optimizer.step({"w": grad})


def test_the_norm_of_wrong_rows():
    for grad, error in (
        (SparseRows([1], np.ones((1, 2))), TypeError),
        (SparseRows(np.array([1.0]), np.ones((1, 2))), TypeError),
        (SparseRows(np.array([1]), np.ones((2, 2))), ValueError),
        (SparseRows(np.array([1]), np.ones(1)), ValueError),
        (SparseRows(np.array([1]), [[1.0]]), TypeError),
    ):
        for take in (fastopt.grad_norm, lambda grads: fastopt.clip_grad_norm_(grads, 1.0)):
            before = np.array(grad.values)
            with pytest.raises(error, match=r"grads/w.*: expected"):
                take({"b": np.ones(3), "w": grad})
            assert np.array_equal(np.array(grad.values), before)
