"""The public names inside @njit: what is refused when it is compiled or run, in our own words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastopt
from fastopt import DropoutMask, Philox4x32

from ..support import assert_same_bits

numba = pytest.importorskip("numba")
TypingError = numba.core.errors.TypingError

X = np.ones((3, 4), np.float32)
READ_ONLY = X.copy()
READ_ONLY.flags.writeable = False

NOT_COMPILED = {
    "x: expected an array of float32 or float64, got float64": lambda x: fastopt.leaky_relu(1.0),
    "x: expected an array of float32 or float64, got array(int64, 1d, C); x.astype(np.float32) converts it": (
        lambda x: fastopt.leaky_relu(np.arange(3))
    ),
    "param: expected an array of float32 or float64, got array(uint16, 2d, C); codes of bfloat16 are for calls from": (
        lambda x: fastopt.sgd_step(x.astype(np.uint16), x, None, 1)
    ),
    "x: expected a C-contiguous array, got array(float32, 2d, F); np.ascontiguousarray(x) makes one": (
        lambda x: fastopt.leaky_relu(x.T)
    ),
    "grad: expected a C-contiguous array, got array(float32, 1d, A); np.ascontiguousarray(grad) makes one": (
        lambda x: fastopt.leaky_relu_backward(x[:, 0], x[0])
    ),
    "grad: expected 2 dimensions like x, got 1": lambda x: fastopt.leaky_relu_backward(x[0], x),
    "grad: expected float32 like x, got float64; grad.astype(np.float32) converts it": (
        lambda x: fastopt.leaky_relu_backward(x.astype(np.float64), x)
    ),
    "negative_slope: expected a float, got unicode_type": lambda x: fastopt.leaky_relu(x, "0.1"),
    "axis: expected an int or a tuple of ints, got float64": lambda x: fastopt.inactive_fraction(x, 1.0),
    "axis: expected an int or a tuple of ints, got Tuple()": lambda x: fastopt.inactive_fraction(x, ()),
    "axis: expected axes of the 2 dimensions of x, got UniTuple(int64 x 3)": (
        lambda x: fastopt.inactive_fraction(x, (0, 1, 0))
    ),
    "negative_slope: expected a float, got bool": lambda x: fastopt.leaky_relu(x, x.size > 3),
    "out: expected an array of float32 or float64, got": lambda x: fastopt.leaky_relu(x, out=(x, x)),
    "rng: expected a (seed, stream) pair of ints inside @njit, got None": lambda x: fastopt.dropout(x, 0.5),
    "rng: expected a (seed, stream) pair of ints inside @njit, got int": lambda x: fastopt.dropout(x, 0.5, rng=len(x)),
    "rng: expected a (seed, stream) pair of ints inside @njit, got fastopt.Philox4x32": (
        lambda x: fastopt.dropout(x, 0.5, rng=Philox4x32(3))
    ),
    "rng: expected a (seed, stream) pair of ints inside @njit, got UniTuple(float64 x 2)": (
        lambda x: fastopt.dropout(x, 0.5, rng=(1.0, 2.0))
    ),
    "training: expected True or False, got": lambda x: fastopt.dropout(x, 0.5, training=len(x), rng=(1, 2)),
    "mask: expected the DropoutMask that dropout returned, got array(float32, 2d, C)": (
        lambda x: fastopt.dropout_backward(x, x)
    ),
    "grad: expected 2 dimensions like mask, got 1": (
        lambda x: fastopt.dropout_backward(x[0], fastopt.dropout(x, 0.5, rng=(1, 2))[1])
    ),
    "bias: expected float32 like x, got float64; bias.astype(np.float32) converts it": (
        lambda x: fastopt.bias_leaky_relu_dropout(x, np.ones(4), 0.1, 0.5, rng=(1, 2))
    ),
    "x, bias: expected arrays of shape (..., columns) and (columns,), got 2 and 2 dimensions": (
        lambda x: fastopt.bias_leaky_relu_dropout(x, x, 0.1, 0.5, rng=(1, 2))
    ),
    "y: expected 2 dimensions like mask, got 1": (
        lambda x: fastopt.bias_leaky_relu_dropout_backward(x[0], x[0], fastopt.dropout(x, rng=(1, 2))[1], 0.1)
    ),
    "step: expected an int, got float64": lambda x: fastopt.adam_step(x, x, x, x, 1.0),
    "betas: expected a tuple of two floats, got float64": lambda x: fastopt.adam_step(x, x, x, x, 1, betas=0.9),
    "lr: expected a float, got none": lambda x: fastopt.sgd_step(x, x, None, 1, lr=None),
    "momentum_buffer: expected an array of float32 or float64, got float64": lambda x: fastopt.sgd_step(x, x, 0.0, 1),
    "grad_avg: expected float32 like param, got float64": (
        lambda x: fastopt.rmsprop_step(x, x, x, None, x.astype(np.float64))
    ),
    "alpha: expected a float, got Tuple": lambda x: fastopt.rmsprop_step(x, x, x, alpha=()),
    "grads[1][0]: expected an array of float32 or float64, got float64": lambda x: fastopt.grad_norm((x, (1.0,))),
    "params[0]: expected a C-contiguous array, got array(float32, 2d, F)": lambda x: fastopt.l2_penalty([x.T], 0.1),
    "seed: expected an int inside @njit, got None": lambda x: Philox4x32().random(3, stream=0),
    "stream: expected an int: inside @njit each draw names its stream, got None": lambda x: Philox4x32(1).random(3),
    "dtype: expected np.float32 or np.float64, got": lambda x: Philox4x32(1).random(3, np.int64, stream=0),
    "out: expected an array of float64 (the dtype argument), got": lambda x: Philox4x32(1).random(out=x, stream=0),
    "size: expected None beside out inside @njit, got": (
        lambda x: Philox4x32(1).standard_normal(12, np.float32, x, stream=0)
    ),
    "size: expected an int or a tuple of ints, got float64": lambda x: Philox4x32(1).random_raw(2.0, stream=0),
}


@pytest.mark.parametrize("message", NOT_COMPILED)
def test_what_does_not_compile_says_why(message):
    with pytest.raises(TypingError) as caught:
        numba.njit(NOT_COMPILED[message])(X)
    assert message in str(caught.value)


def test_read_only_arrays_are_not_written():
    compiled = numba.njit(lambda x, out: fastopt.leaky_relu(x, out=out))
    assert_same_bits(compiled(READ_ONLY, X.copy()), X)
    with pytest.raises(TypingError, match=r"out: expected a writeable array, got .*; pass out.copy\(\)"):
        compiled(X, READ_ONLY)


nan, inf = float("nan"), float("inf")
REFUSED = {
    "leaky_relu": (
        lambda x, y, slope: fastopt.leaky_relu(x, slope, out=y),
        (
            (X, X[:, :2].copy(), 0.1, "out: expected shape (3, 4), got (3, 2)"),
            (X, X.copy(), nan, "negative_slope: expected a finite number, got nan"),
        ),
    ),
    "leaky_relu_backward": (
        lambda g, x, out: fastopt.leaky_relu_backward(g, x, out=out),
        ((X[:2], X, X.copy(), "grad: expected shape (3, 4) like x, got (2, 4)"),),
    ),
    "inactive_fraction": (
        lambda x, axis: fastopt.inactive_fraction(x, axis),
        (
            (X, 2, "axis: expected different axes of the 2 dimensions of x, got 2"),
            (X, -3, "axis: expected different axes of the 2 dimensions of x, got -3"),
            (X, (1, -1), "axis: expected different axes of the 2 dimensions of x, got (1, -1)"),
            (X[:0], 0, "x: expected a batch of at least one along axis 0, got shape (0, 4)"),
        ),
    ),
    "dropout": (
        lambda x, p, seed, stream: fastopt.dropout(x, p, rng=(seed, stream), out=x)[0],
        (
            (X.copy(), 1.5, 0, 0, "p: expected a number from 0 to 1, got 1.5"),
            (X.copy(), nan, 0, 0, "p: expected a number from 0 to 1, got nan"),
            (X.copy(), 0.5, -1, 0, "seed: expected 0 <= seed < 2**64, got -1"),
            (X.copy(), 0.5, 1, 2**56, f"stream: expected 0 <= stream < 2**56, got {2**56}"),
        ),
    ),
    "dropout_backward": (
        lambda g, mask: fastopt.dropout_backward(g, mask, out=g),
        (
            (X.copy(), DropoutMask(1, 2, 0.5, (4, 3)), "grad: expected shape (4, 3) like mask, got (3, 4)"),
            (X.copy(), DropoutMask(1, 2, 1.5, (3, 4)), "p: expected a number from 0 to 1, got 1.5"),
            (X.copy(), DropoutMask(1, 2**56, 0.5, (3, 4)), f"stream: expected 0 <= stream < 2**56, got {2**56}"),
        ),
    ),
    "bias_leaky_relu_dropout": (
        lambda x, bias, slope, p: fastopt.bias_leaky_relu_dropout(x, bias, slope, p, rng=(1, 2), out=x),
        (
            (X.copy(), X[0, :3].copy(), 0.1, 0.5, "bias: expected one number for each of the 4 columns of x, got 3"),
            (X.copy(), X[0], -0.1, 0.5, "negative_slope: expected a finite number >= 0, got -0.1"),
            (X.copy(), X[0], 0.1, 1.5, "p: expected a number from 0 to 1, got 1.5"),
        ),
    ),
    "bias_leaky_relu_dropout_backward": (
        lambda g, y, mask, slope: fastopt.bias_leaky_relu_dropout_backward(g, y, mask, slope, out=g),
        (
            (X.copy(), X, DropoutMask(1, 2, 0.5, (4, 3)), 0.1, "y: expected shape (4, 3) like mask, got (3, 4)"),
            (X[:2].copy(), X, DropoutMask(1, 2, 0.5, (3, 4)), 0.1, "grad: expected shape (3, 4) like y, got (2, 4)"),
            (
                X.copy(),
                X,
                DropoutMask(1, 2, 0.5, (3, 4)),
                inf,
                "negative_slope: expected a finite number >= 0, got inf",
            ),
        ),
    ),
    "adam_step": (
        lambda p, g, m, v, step, lr, b1, eps, decay, scale: fastopt.adam_step(
            p, g, m, v, step, lr, (b1, 0.9), eps, decay, grad_multiplier=scale
        ),
        (
            (*[X.copy() for _ in range(4)], 0, 0.1, 0.9, 1e-8, 0.0, 1.0, "step: expected an int >= 1, got 0"),
            (
                *[X.copy() for _ in range(4)],
                np.uint64(2**63 + 1),
                0.1,
                0.9,
                1e-8,
                0.0,
                1.0,
                "step: expected an int < 2**63, got 9223372036854775809",
            ),
            (
                *[X.copy() for _ in range(4)],
                1,
                -0.1,
                0.9,
                1e-8,
                0.0,
                1.0,
                "lr: expected a finite number >= 0, got -0.1",
            ),
            (*[X.copy() for _ in range(4)], 1, 0.1, 1.0, 1e-8, 0.0, 1.0, "betas: expected two numbers >= 0 and < 1"),
            (*[X.copy() for _ in range(4)], 1, 0.1, 0.9, 0.0, 0.0, 1.0, "eps: expected a finite number > 0, got 0.0"),
            (
                *[X.copy() for _ in range(4)],
                1,
                0.1,
                0.9,
                1e-50,
                0.0,
                1.0,
                "eps: expected at least 2**-87 in float32",
            ),
            (*[X.copy() for _ in range(4)], 1, 0.1, 0.9, 1e-8, inf, 1.0, "weight_decay: expected a finite number >= 0"),
            (*[X.copy() for _ in range(4)], 1, 0.1, 0.9, 1e-8, 0.0, nan, "grad_multiplier: expected a finite number"),
            (X.copy(), X[:2], X, X, 1, 0.1, 0.9, 1e-8, 0.0, 1.0, "grad: expected shape (3, 4) like param, got (2, 4)"),
            (X.copy(), X, X[:2], X, 1, 0.1, 0.9, 1e-8, 0.0, 1.0, "exp_avg: expected shape (3, 4) like param"),
            (X.copy(), X, X, X[:2], 1, 0.1, 0.9, 1e-8, 0.0, 1.0, "exp_avg_sq: expected shape (3, 4) like param"),
        ),
    ),
    "sgd_step": (
        lambda p, g, b, momentum, dampening, nesterov: fastopt.sgd_step(
            p, g, b, 1, 0.1, momentum, dampening, nesterov=nesterov
        ),
        (
            (X.copy(), X.copy(), X.copy(), -0.5, 0.0, False, "momentum: expected a finite number >= 0, got -0.5"),
            (X.copy(), X.copy(), X.copy(), 0.5, inf, False, "dampening: expected a finite number, got inf"),
            (X.copy(), X.copy(), X.copy(), 0.5, 0.5, True, "nesterov: expected momentum > 0 and dampening = 0"),
            (X.copy(), X.copy(), X[:1].copy(), 0.5, 0.0, True, "momentum_buffer: expected shape (3, 4) like param"),
            (
                X.copy(),
                X.copy(),
                None,
                0.5,
                0.0,
                False,
                "momentum_buffer: expected an array for momentum 0.5, got None",
            ),
        ),
    ),
    "rmsprop_step": (
        lambda p, g, v, b, m, alpha, eps, momentum: fastopt.rmsprop_step(
            p, g, v, b, m, alpha=alpha, eps=eps, momentum=momentum
        ),
        (
            (*[X.copy() for _ in range(5)], 1.0, 1e-8, 0.0, "alpha: expected a number >= 0 and < 1, got 1.0"),
            (*[X.copy() for _ in range(5)], 0.5, 0.0, 0.0, "eps: expected a finite number > 0, got 0.0"),
            (
                *[X.astype(np.float32) for _ in range(5)],
                *(0.5, 1e-50, 0.0, "eps: expected at least 2**-87 in float32"),
            ),
            (*[X.copy() for _ in range(5)], 0.5, 1e-8, -0.5, "momentum: expected a finite number >= 0, got -0.5"),
            (X.copy(), X[:2], X, X, X, 0.5, 1e-8, 0.0, "grad: expected shape (3, 4) like param, got (2, 4)"),
            (X.copy(), X, X[:2], X, X, 0.5, 1e-8, 0.0, "square_avg: expected shape (3, 4) like param, got (2, 4)"),
            (X.copy(), X, X, X[:2], X, 0.5, 1e-8, 0.0, "momentum_buffer: expected shape (3, 4) like param"),
            (X.copy(), X, X, X, X[:2], 0.5, 1e-8, 0.0, "grad_avg: expected shape (3, 4) like param, got (2, 4)"),
            (X.copy(), X, X, None, X, 0.5, 1e-8, 0.5, "momentum_buffer: expected an array for momentum 0.5, got None"),
        ),
    ),
    "ema_update": (
        lambda a, b, decay: fastopt.ema_update(a, b, decay),
        (
            (X.copy(), X[:2], 0.5, "value: expected shape (3, 4) like average, got (2, 4)"),
            (X.copy(), X.copy(), -0.5, "decay: expected a number from 0 to 1, got -0.5"),
        ),
    ),
    "l2_penalty": (
        lambda x, decay: fastopt.l2_penalty(x, decay),
        ((X, -1.0, "weight_decay: expected a finite number >= 0, got -1.0"),),
    ),
    "draws": (
        lambda out, seed, stream, offset: Philox4x32(seed).random(out=out, stream=stream, offset=offset),
        (
            (np.ones(4), -1, 0, 0, "seed: expected 0 <= seed < 2**64, got -1"),
            (np.ones(4), 1, -1, 0, "stream: expected 0 <= stream < 2**56, got -1"),
            (
                np.ones(4),
                1,
                0,
                -1,
                "offset: expected one whose elements are within the 2**64 words of a stream, got -1",
            ),
            (np.ones(4), 1, 0, 2**63 - 3, f"within the 2**64 words of a stream, got {2**63 - 3}"),
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_when_it_runs(name):
    function, calls = REFUSED[name]
    compiled = numba.njit(function)
    for *arguments, message in calls:
        before = [np.copy(a) for a in arguments if isinstance(a, np.ndarray)]
        with pytest.raises(ValueError, match="expected") as caught:
            compiled(*arguments)
        assert message in str(caught.value)
        for array, was in zip([a for a in arguments if isinstance(a, np.ndarray)], before, strict=True):
            assert_same_bits(array, was, message)


def test_overlap_is_refused():
    buffer = np.arange(300, dtype=np.float32)
    c, d, before = np.zeros(64, np.float32), np.zeros(64, np.float32), buffer.copy()
    calls = [
        numba.njit(lambda a, b, c, d: fastopt.leaky_relu(a, out=b)),
        numba.njit(lambda a, b, c, d: fastopt.leaky_relu_backward(a, c, out=b)),
        numba.njit(lambda a, b, c, d: fastopt.leaky_relu_backward(c, a, out=b)),
        numba.njit(lambda a, b, c, d: fastopt.dropout(a, 0.5, rng=(1, 2), out=b)),
        numba.njit(lambda a, b, c, d: fastopt.bias_leaky_relu_dropout(a, c, 0.1, 0.5, rng=(1, 2), out=b)),
        numba.njit(lambda a, b, c, d: fastopt.bias_leaky_relu_dropout(c, a, 0.1, 0.5, rng=(1, 2), out=b)),
        numba.njit(lambda a, b, c, d: fastopt.adam_step(a, c, d, b, 1)),
        numba.njit(lambda a, b, c, d: fastopt.adam_step(c, a, b, d, 1)),
        numba.njit(lambda a, b, c, d: fastopt.sgd_step(a, b, None, 1)),
        numba.njit(lambda a, b, c, d: fastopt.sgd_step(c, a, b, 1)),
        numba.njit(lambda a, b, c, d: fastopt.rmsprop_step(c, d, a, None, b)),
        numba.njit(lambda a, b, c, d: fastopt.rmsprop_step(a, c, d, b)),
        numba.njit(lambda a, b, c, d: fastopt.ema_update(a, b, 0.5)),
    ]
    for call, shift in itertools.product(calls, (1, -1, 63)):
        with pytest.raises(ValueError, match="overlap"):
            call(buffer[100:164], buffer[100 + shift : 164 + shift], c, d)
        assert_same_bits(buffer, before)
        assert not c.any()
        assert not d.any()
