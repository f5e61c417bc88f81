"""Promise 4: what is wrong is found before anything is written; the error says where, what was expected, what came.

Of arrays here, of numbers and flags in test_errors_of_numbers.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import fastopt
from fastopt import DropoutMask

from ..support import DTYPES, assert_same_bits, values

# ---- every array argument of every op --------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call by named arrays. `written` are those it writes; `in_place` the pairs of which the two may be one array."""

    run: Callable[..., Any]
    arrays: tuple[str, ...]
    written: tuple[str, ...] = ()
    in_place: tuple[tuple[str, str], ...] = ()


def _backward(grad, out, mask=DropoutMask(1, 2, 0.5, (6, 4))):  # noqa: B008
    return fastopt.dropout_backward(grad, mask, out=out)


def _optimizer_step(name, w, grad):
    optimizer = getattr(fastopt, name)({"w": w})
    before = optimizer.state_dict()
    try:
        optimizer.step({"w": grad})
    except Exception:
        for key, value in optimizer.state_dict().items():
            assert_same_bits(value, before[key], key)
        raise


CALLS = {
    "leaky_relu": Call(lambda x, out: fastopt.leaky_relu(x, out=out), ("x", "out"), ("out",), (("x", "out"),)),
    "leaky_relu_backward": Call(
        lambda grad, x, out: fastopt.leaky_relu_backward(grad, x, out=out),
        ("grad", "x", "out"),
        ("out",),
        (("grad", "out"), ("x", "out"), ("grad", "x")),
    ),
    "tanh": Call(lambda x, out: fastopt.tanh(x, out=out), ("x", "out"), ("out",), (("x", "out"),)),
    "tanh_backward": Call(
        lambda grad, y, out: fastopt.tanh_backward(grad, y, out=out),
        ("grad", "y", "out"),
        ("out",),
        (("grad", "out"), ("y", "out"), ("grad", "y")),
    ),
    "inactive_fraction": Call(fastopt.inactive_fraction, ("x",)),
    "dropout": Call(lambda x, out: fastopt.dropout(x, rng=(1, 2), out=out), ("x", "out"), ("out",), (("x", "out"),)),
    "dropout_backward": Call(_backward, ("grad", "out"), ("out",), (("grad", "out"),)),
    "adam_step": Call(
        lambda param, grad, exp_avg, exp_avg_sq: fastopt.adam_step(param, grad, exp_avg, exp_avg_sq, 1),
        ("param", "grad", "exp_avg", "exp_avg_sq"),
        ("param", "exp_avg", "exp_avg_sq"),
    ),
    "sgd_step": Call(
        lambda param, grad, momentum_buffer: fastopt.sgd_step(param, grad, momentum_buffer, 2, momentum=0.5),
        ("param", "grad", "momentum_buffer"),
        ("param", "momentum_buffer"),
    ),
    "rmsprop_step": Call(
        lambda param, grad, v, b, m: fastopt.rmsprop_step(param, grad, v, b, m, momentum=0.5),
        ("param", "grad", "square_avg", "momentum_buffer", "grad_avg"),
        ("param", "square_avg", "momentum_buffer", "grad_avg"),
    ),
    "l2_penalty": Call(lambda w: fastopt.l2_penalty({"w": w}, 0.5), ("params/w",)),
    "ema_update": Call(
        lambda average, value: fastopt.ema_update(average, value, 0.5), ("average", "value"), ("average",)
    ),
    "grad_norm": Call(lambda w: fastopt.grad_norm({"w": w}), ("grads/w",)),
    "clip_grad_norm_": Call(lambda w: fastopt.clip_grad_norm_({"w": w}, 0.5), ("grads/w",), ("grads/w",)),
    **{
        name: Call(lambda w, grad, name=name: _optimizer_step(name, w, grad), ("params/w", "grads/w"), ("params/w",))
        for name in ("Adam", "AdamW", "RMSprop", "SGD")
    },
}
ARGUMENTS = [(name, argument) for name, call in CALLS.items() for argument in call.arrays]
WRITTEN = [(name, argument) for name, call in CALLS.items() for argument in call.written]
PAIRS = [
    (name, one, other)
    for name, call in CALLS.items()
    for k, one in enumerate(call.arrays)
    for other in call.arrays[k + 1 :]
    if {one, other} & set(call.written)
]


def good_arrays(name: str, dtype: Any = np.float64) -> dict[str, Any]:
    return {argument: values(k, (6, 4), dtype) for k, argument in enumerate(CALLS[name].arrays)}


def call(name: str, arrays: dict[str, Any]) -> Any:
    return CALLS[name].run(*arrays.values())


def assert_refused(name: str, arrays: dict[str, Any], error: type[Exception], message: str) -> None:
    """The call raises, and no array has changed, nor a buffer that an array is a view of."""
    watched = {}
    for argument, array in arrays.items():
        while isinstance(array, np.ndarray):
            watched[argument, id(array)] = (array, np.array(array, subok=False))
            array = array.base
    with pytest.raises(error, match=message):
        call(name, arrays)
    for array, before in watched.values():
        assert np.array_equal(np.array(array, subok=False), before, equal_nan=before.dtype.kind == "f")


def _matrix(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(x)


def _torch_tensor(x):
    return pytest.importorskip("torch").tensor(x)


class _Frame:
    __module__ = "pandas.core.frame"


WRONG_KINDS = {
    "list": (lambda x: x.tolist(), r"expected a numpy.ndarray, got list; pass np.asarray\("),
    "tuple": (lambda x: tuple(x[0].tolist()), r"expected a numpy.ndarray, got tuple; pass np.asarray\("),
    "float": (lambda x: 1.0, r"expected a numpy.ndarray, got float; pass np.asarray\("),
    "scalar": (lambda x: np.float32(1), r"expected a numpy.ndarray, got numpy.float32; pass np.asarray\("),
    "text": (lambda x: "1.0", r"expected a numpy.ndarray, got str; pass np.asarray\("),
    "masked": (np.ma.array, r"expected a numpy.ndarray, got numpy.ma(.core)?.MaskedArray; pass .*\.filled\(value\)"),
    "matrix": (_matrix, r"expected a numpy.ndarray, got numpy.matrix.*; pass np.asarray\("),
    "record": (lambda x: x.view(np.recarray), r"expected a numpy.ndarray, got numpy.*recarray; pass np.asarray\("),
    "torch": (_torch_tensor, r"expected a numpy.ndarray, got torch.Tensor; pass .*\.detach\(\)\.numpy\(\)"),
    "frame": (lambda x: _Frame(), r"expected a numpy.ndarray, got pandas.core.frame._Frame; pass .*\.to_numpy\(\)"),
}
WRONG_DTYPES = {
    "int64": (lambda x: np.zeros(x.shape, np.int64), "float64"),
    "uint8": (lambda x: np.zeros(x.shape, np.uint8), "float32"),
    "bool": (lambda x: np.zeros(x.shape, bool), "float32"),
    "float16": (lambda x: np.zeros(x.shape, np.float16), "float32"),
    "longdouble": (lambda x: np.zeros(x.shape, np.longdouble), "float32"),
    "complex": (lambda x: np.zeros(x.shape, np.complex64), "float64"),
    "object": (lambda x: x.astype(object), "float64"),
    "text": (lambda x: x.astype("U8"), "float32"),
    ">f4": (lambda x: np.zeros(x.shape, ">f4"), "float32"),
    ">f8": (lambda x: x.astype(">f8"), "float64"),
}


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
@pytest.mark.parametrize(("make", "message"), WRONG_KINDS.values(), ids=WRONG_KINDS.keys())
def test_wrong_kind(name, argument, make, message):
    arrays = good_arrays(name)
    arrays[argument] = make(arrays[argument])
    if isinstance(arrays[argument], list | tuple):
        if "params" in argument or name in ("grad_norm", "clip_grad_norm_"):
            message = r"expected a numpy.ndarray, got float"  # a list is a nest, of which the numbers are wrong
        elif "grads" in argument:
            message = r"expected a numpy.ndarray, got (list|tuple)"
    elif "params" in argument and not isinstance(
        arrays[argument], np.ndarray
    ):  # a copy of them would be trained, which nobody has
        message = message.replace(r"pass np.asarray\(", "make an array of it first, and keep that")
    assert_refused(name, arrays, TypeError, f"^{argument}(/0(/0)?)?: {message}")


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
@pytest.mark.parametrize(("make", "mend"), WRONG_DTYPES.values(), ids=WRONG_DTYPES.keys())
def test_wrong_dtype(name, argument, make, mend):
    arrays = good_arrays(name)
    arrays[argument] = make(arrays[argument])
    got = arrays[argument].dtype
    got = repr(got.str) if not got.isnative else str(got)
    message = rf"^{argument}: expected float32 or float64 in native byte order, got {got}; .*astype\(np.{mend}\)"
    assert_refused(name, arrays, TypeError, message)


@pytest.mark.parametrize(("name", "argument"), [pair for pair in ARGUMENTS if len(CALLS[pair[0]].arrays) > 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_mixed_dtypes(name, argument, dtype):
    arrays = good_arrays(name, dtype)
    other = DTYPES[dtype == np.float32]
    with np.errstate(over="ignore"):
        arrays[argument] = arrays[argument].astype(other)
    assert_refused(
        name, arrays, TypeError, r"expected float(32|64) like \S+, got float(32|64); .*astype\(np.float(32|64)\)"
    )


@pytest.mark.parametrize(("name", "argument"), [pair for pair in ARGUMENTS if len(CALLS[pair[0]].arrays) > 1])
@pytest.mark.parametrize("shape", [(4, 6), (6, 1), (1, 4), (4,), (24,), (6, 4, 1), (0, 4), ()], ids=str)
def test_wrong_shape(name, argument, shape):
    arrays = good_arrays(name)
    arrays[argument] = np.zeros(shape)
    assert_refused(name, arrays, ValueError, r"expected shape \(.*\) like \S+, got \(.*\)")


def test_the_shape_error_says_all():
    with pytest.raises(ValueError, match=r"^grad: expected shape \(64, 32\) like param, got \(32, 64\)$"):
        fastopt.sgd_step(np.ones((64, 32)), np.ones((32, 64)), None, 1)


@pytest.mark.parametrize(("name", "argument"), WRITTEN)
def test_read_only_output(name, argument):
    arrays = good_arrays(name)
    arrays[argument].flags.writeable = False
    assert_refused(name, arrays, ValueError, f"^{argument}: expected a writeable array, got a read-only one")


@pytest.mark.parametrize(("name", "argument"), [pair for pair in ARGUMENTS if pair not in WRITTEN])
def test_read_only_input_is_fine(name, argument):
    arrays = good_arrays(name)
    arrays[argument].flags.writeable = False
    call(name, arrays)


@pytest.mark.parametrize(("name", "argument"), WRITTEN)
@pytest.mark.parametrize("strides", [(8, 8), (0, 8), (16, 0), (4 * 8, 4), (-8, 8)], ids=str)
def test_output_that_overlaps_itself(name, argument, strides):
    arrays = good_arrays(name)
    arrays[argument] = as_strided(np.zeros(64)[20:], (6, 4), strides)
    assert_refused(name, arrays, ValueError, f"^{argument}: expected an array whose elements are distinct in memory")


@pytest.mark.parametrize(("name", "argument"), [pair for pair in ARGUMENTS if pair not in WRITTEN])
def test_input_that_overlaps_itself_is_fine(name, argument):
    arrays = good_arrays(name)
    expected = good_arrays(name)
    expected[argument] = np.full((6, 4), 0.5)
    arrays[argument] = np.broadcast_to(0.5, (6, 4))
    call(name, arrays)
    call(name, expected)
    for key, array in arrays.items():
        assert_same_bits(array, expected[key], key)


OVERLAPS = {
    "shifted": lambda: (lambda b: (b[:24].reshape(6, 4), b[1:25].reshape(6, 4)))(np.ones(25)),
    "bytes": lambda: (lambda b: (b[:192].view("f8").reshape(6, 4), b[4:196].view("f8").reshape(6, 4)))(
        np.zeros(200, "u1")
    ),
    "reversed": lambda: (lambda b: (b, b[::-1]))(np.ones((6, 4))),
    "transposed": lambda: (lambda b: (b[:6, :4], b.T[:6, :4]))(np.ones((6, 6))),
    "strided": lambda: (lambda b: (b[::2].reshape(6, 4), b[:24].reshape(6, 4)))(np.ones(48)),
    "one element": lambda: (lambda b: (b[:24].reshape(6, 4), b[23:].reshape(6, 4)))(np.ones(47)),
}


@pytest.mark.parametrize(("name", "one", "other"), PAIRS)
@pytest.mark.parametrize("make", OVERLAPS.values(), ids=OVERLAPS.keys())
def test_partial_overlap(name, one, other, make):
    for first, second in ((one, other), (other, one)):
        arrays = good_arrays(name)
        arrays[first], arrays[second] = make()
        assert_refused(name, arrays, ValueError, r": expected memory apart from \S+, got arrays that overlap")


@pytest.mark.parametrize(("name", "one", "other"), PAIRS)
def test_the_very_same_array(name, one, other):
    arrays = good_arrays(name)
    expected = good_arrays(name)
    expected[one] = arrays[other].copy()
    arrays[one] = arrays[other]
    if (one, other) in CALLS[name].in_place:
        result, wanted = call(name, arrays), call(name, expected)
        assert_same_bits(*(r[0] if isinstance(r, tuple) else r for r in (result, wanted)))
    else:
        assert_refused(name, arrays, ValueError, r": expected memory apart from \S+, got arrays that overlap")


@pytest.mark.parametrize(("name", "one", "other"), PAIRS)
def test_interleaved_and_neighbouring_views_are_apart(name, one, other):
    buffer = np.full((6, 8), 0.5)
    for first, second in ((buffer[:, ::2], buffer[:, 1::2]), (buffer[:, :4], buffer[:, 4:])):
        arrays = good_arrays(name)
        arrays[one], arrays[other] = first, second
        expected = {argument: array.copy() for argument, array in arrays.items()}
        call(name, arrays)
        call(name, expected)
        for key, array in arrays.items():
            assert_same_bits(array, expected[key], key)


def test_empty_arrays_never_overlap():
    empty = np.ones(0)
    fastopt.adam_step(empty, empty, empty, empty, 1)
    fastopt.Adam([empty, empty]).step([empty, empty])
