"""Promise 4: what is wrong is found before anything is written; the error says where, what was expected, what came."""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterator
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
    "l2_penalty": Call(lambda w: fastopt.l2_penalty({"w": w}, 0.5), ("params/w",)),
    "ema_update": Call(
        lambda average, value: fastopt.ema_update(average, value, 0.5), ("average", "value"), ("average",)
    ),
    "grad_norm": Call(lambda w: fastopt.grad_norm({"w": w}), ("grads/w",)),
    "clip_grad_norm_": Call(lambda w: fastopt.clip_grad_norm_({"w": w}, 0.5), ("grads/w",), ("grads/w",)),
    **{
        name: Call(lambda w, grad, name=name: _optimizer_step(name, w, grad), ("params/w", "grads/w"), ("params/w",))
        for name in ("Adam", "AdamW", "SGD")
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


# ---- every number ----------------------------------------------------------------------------------------------------


def _adam_step(step=1, **options):
    fastopt.adam_step(*(np.ones(3) for _ in range(4)), step, **options)


def _sgd_step(step=1, **options):
    fastopt.sgd_step(*(np.ones(3) for _ in range(3)), step, **options)


def _step(grad_multiplier):
    fastopt.SGD(np.ones(3)).step(np.ones(3), grad_multiplier=grad_multiplier)


def _set_lr(lr):
    fastopt.Adam(np.ones(3)).lr = lr


def _set_group(make, key):
    def call(value):
        make(np.ones(3)).param_groups[0][key] = value

    return call


class Number(NamedTuple):
    """A call that takes a number, its name in messages, and values out of its range besides NaN and the infinities."""

    take: Callable[[Any], Any]
    name: str
    wrong: tuple[float, ...] = ()


def _numbers() -> Iterator[Number]:
    yield Number(lambda v: fastopt.leaky_relu(np.ones(3), v), "negative_slope")
    yield Number(lambda v: fastopt.leaky_relu_backward(np.ones(3), np.ones(3), v), "negative_slope")
    yield Number(lambda v: fastopt.dropout(np.ones(3), v), "p", (-1e-9, 1 + 1e-9, 2.0))
    yield Number(lambda v: fastopt.l2_penalty(np.ones(3), v), "weight_decay", (-1e-9,))
    yield Number(lambda v: fastopt.ema_update(np.ones(3), np.ones(3), v), "decay", (-1e-9, 1 + 1e-9))
    yield Number(lambda v: fastopt.clip_grad_norm_(np.ones(3), v), "max_norm", (0.0, -1e-9))
    yield Number(_step, "grad_multiplier")
    yield Number(_set_lr, "lr", (-1e-9,))
    yield Number(lambda v: _adam_step(grad_multiplier=v), "grad_multiplier")
    yield Number(lambda v: _sgd_step(grad_multiplier=v), "grad_multiplier")
    not_negative = {"lr": (-1e-9,), "weight_decay": (-1e-9,)}
    adam = not_negative | {"eps": (0.0, -1e-9)}
    sgd = not_negative | {"momentum": (-1e-9,), "dampening": ()}
    for step, ranges in ((_adam_step, adam), (_sgd_step, sgd)):
        for key, wrong in ranges.items():
            yield Number(lambda v, step=step, key=key: step(**{key: v}), key, wrong)
    for make, ranges in ((fastopt.Adam, adam), (fastopt.AdamW, adam), (fastopt.SGD, sgd)):
        for key, wrong in ranges.items():
            yield Number(lambda v, make=make, key=key: make(np.ones(3), **{key: v}), key, wrong)
            yield Number(lambda v, make=make, key=key: make([{"params": np.ones(3), key: v}]), key, wrong)
            yield Number(_set_group(make, key), key, wrong)
    set_betas = _set_group(fastopt.AdamW, "betas")
    for take in (lambda b: _adam_step(betas=b), lambda b: fastopt.Adam(np.ones(3), betas=b), set_betas):
        yield Number(lambda v, take=take: take((v, 0.5)), "betas[0]", (-1e-9, 1.0, 1.5))
        yield Number(lambda v, take=take: take((0.5, v)), "betas[1]", (-1e-9, 1.0, 1.5))


NUMBERS = list(_numbers())


each_number = pytest.mark.parametrize("number", NUMBERS, ids=[f"{n.name} {k}" for k, n in enumerate(NUMBERS)])


@each_number
def test_numbers_out_of_range(number):
    for value in (math.nan, math.inf, -math.inf, *number.wrong, *map(np.float64, number.wrong)):
        with pytest.raises(ValueError, match=f"^{re.escape(number.name)}: expected .*, got {float(value)}$"):
            number.take(value)


@each_number
def test_numbers_too_large_for_a_float(number):
    with pytest.raises(ValueError, match=f"^{re.escape(number.name)}: expected .*, got "):
        number.take(10**400)


@each_number
@pytest.mark.parametrize(
    "value", ["0.5", b"0.5", None, True, np.True_, 0.5j, [0.5], (0.5,), np.array([0.5]), {}], ids=repr
)
def test_numbers_of_the_wrong_kind(number, value):
    with pytest.raises(TypeError, match=f"^{re.escape(number.name)}: expected a float, got {type(value).__name__}$"):
        number.take(value)


@pytest.mark.parametrize("make", [fastopt.Adam, fastopt.AdamW, fastopt.SGD])
@pytest.mark.parametrize(
    ("name", "wrong"), [("max_grad_norm", (0.0, -1e-9)), ("ema_decay", (-1e-9, 1 + 1e-9))], ids=["norm", "ema"]
)
def test_numbers_that_may_be_none(make, name, wrong):
    make(np.ones(3), **{name: None})
    for value in (math.nan, math.inf, -math.inf, 10**400, *wrong, *map(np.float64, wrong)):
        with pytest.raises(ValueError, match=f"^{name}: expected a finite number .*, got "):
            make(np.ones(3), **{name: value})
    for value in ("0.5", True, np.False_, 0.5j, [0.5], np.array([0.5])):
        with pytest.raises(TypeError, match=f"^{name}: expected a float, got {type(value).__name__}$"):
            make(np.ones(3), **{name: value})


FLAGS = {
    "maximize": lambda v: fastopt.SGD(np.ones(3), maximize=v),
    "skip_nonfinite": lambda v: fastopt.SGD(np.ones(3), skip_nonfinite=v),
    "nesterov": lambda v: fastopt.SGD(np.ones(3), momentum=0.5, nesterov=v),
    "amsgrad": lambda v: fastopt.Adam(np.ones(3), amsgrad=v),
    "decoupled_weight_decay": lambda v: fastopt.Adam(np.ones(3), decoupled_weight_decay=v),
    "zero_grads": lambda v: fastopt.SGD(np.ones(3)).step(np.ones(3), zero_grads=v),
}


@pytest.mark.parametrize(("name", "take"), FLAGS.items(), ids=FLAGS.keys())
def test_flags(name, take):
    for value in (1, 0, "no", None, np.array(True), [True], 1.0):
        with pytest.raises(TypeError, match=f"^{name}: expected True or False, got {re.escape(repr(value))}$"):
            take(value)
    take(np.True_)


@pytest.mark.parametrize("take", [_adam_step, _sgd_step])
@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (0, ValueError, "step: expected 1 <= step < 9223372036854775808, got 0"),
        (-1, ValueError, "step: expected 1 <= step < 9223372036854775808, got -1"),
        (2**63, ValueError, "step: expected 1 <= step < 9223372036854775808, got 9223372036854775808"),
        (1.0, TypeError, "step: expected an int, got float"),
        (True, TypeError, "step: expected an int, got bool"),
        (None, TypeError, "step: expected an int, got NoneType"),
        ("1", TypeError, "step: expected an int, got str"),
    ],
)
def test_step_numbers(take, step, error, message):
    with pytest.raises(error, match=message):
        take(step)


@pytest.mark.parametrize("betas", [0.9, None, (0.9,), (0.9, 0.99, 0.999), "ab", np.array([0.9])])
def test_betas_are_two(betas):
    for take in (lambda b: fastopt.Adam(np.ones(3), betas=b), lambda b: _adam_step(betas=b)):
        with pytest.raises((TypeError, ValueError), match=r"betas.*: expected (two floats|a float), got "):
            take(betas)


def test_eps_that_is_too_small_in_float32():
    w = np.ones(3, np.float32)
    optimizer = fastopt.Adam([w])
    optimizer.param_groups[0]["eps"] = 1e-50
    for take in (
        lambda: fastopt.Adam([w], eps=1e-50),
        lambda: optimizer.step([w.copy()]),
        lambda: fastopt.adam_step(w, w.copy(), w.copy(), w.copy(), 1, eps=1e-50),
    ):
        with pytest.raises(ValueError, match=r"eps: expected at least 2\*\*-87 = .* in float32, .*, got 1e-50"):
            take()
    assert_same_bits(w, np.ones(3, np.float32))
    assert optimizer.step_count == 0


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5, "dampening": 0.1}])
def test_nesterov_needs_momentum_and_no_dampening(options):
    for take in (lambda **o: fastopt.SGD(np.ones(3), **o), _sgd_step):
        with pytest.raises(ValueError, match="nesterov: expected momentum > 0 and dampening = 0, got momentum"):
            take(nesterov=True, **options)


def test_momentum_needs_a_buffer():
    with pytest.raises(TypeError, match=r"momentum_buffer: expected an array for momentum 0.5, got None"):
        fastopt.sgd_step(np.ones(3), np.ones(3), None, 1, momentum=0.5)


@pytest.mark.parametrize("mask", [None, (1, 2, 0.5, (3,)), np.ones(3, bool), "mask"], ids=str)
def test_backward_needs_the_mask(mask):
    with pytest.raises(TypeError, match="mask: expected the DropoutMask that dropout returned, got "):
        fastopt.dropout_backward(np.ones(3), mask)


def test_backward_needs_the_shape_of_the_mask():
    out = np.ones(4)
    with pytest.raises(ValueError, match=r"grad: expected shape \(3,\) like mask, got \(4,\)"):
        fastopt.dropout_backward(np.ones(4), DropoutMask(1, 2, 0.5, (3,)), out=out)
    assert_same_bits(out, np.ones(4))


@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ValueError), (-1, ValueError), (1025, ValueError), (1.0, TypeError), (True, TypeError), ("2", TypeError)],
)
def test_numbers_of_threads(n, error):
    before = fastopt.get_num_threads()
    with pytest.raises(error, match="n: expected "):
        fastopt.set_num_threads(n)
    with pytest.raises(error, match="n: expected "), fastopt.num_threads(n):
        pass
    assert fastopt.get_num_threads() == before


def test_unknown_arguments_are_refused():
    for function in (fastopt.leaky_relu, fastopt.dropout, fastopt.adam_step, fastopt.Adam, fastopt.SGD):
        assert "foo" not in inspect.signature(function).parameters
        with pytest.raises(TypeError, match="foo"):
            function(np.ones(3), foo=1)
