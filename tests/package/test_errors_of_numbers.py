"""Promise 4, for numbers and flags: what is wrong is refused in words, before anything is written."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastopt
from fastopt import DropoutMask

from ..support import assert_same_bits


def _adam_step(step=1, **options):
    fastopt.adam_step(*(np.ones(3) for _ in range(4)), step, **options)


def _sgd_step(step=1, **options):
    fastopt.sgd_step(*(np.ones(3) for _ in range(3)), step, **options)


def _rmsprop_step(**options):
    fastopt.rmsprop_step(*(np.ones(3) for _ in range(5)), **options)


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
    yield Number(lambda v: _rmsprop_step(grad_multiplier=v), "grad_multiplier")
    not_negative = {"lr": (-1e-9,), "weight_decay": (-1e-9,)}
    adam = not_negative | {"eps": (0.0, -1e-9)}
    sgd = not_negative | {"momentum": (-1e-9,), "dampening": ()}
    rmsprop = adam | {"momentum": (-1e-9,), "alpha": (-1e-9, 1.0, 1.5)}
    for step, ranges in ((_adam_step, adam), (_sgd_step, sgd), (_rmsprop_step, rmsprop)):
        for key, wrong in ranges.items():
            yield Number(lambda v, step=step, key=key: step(**{key: v}), key, wrong)
    classes = ((fastopt.Adam, adam), (fastopt.AdamW, adam), (fastopt.SGD, sgd), (fastopt.RMSprop, rmsprop))
    for make, ranges in classes:
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


@pytest.mark.parametrize("make", [fastopt.Adam, fastopt.AdamW, fastopt.RMSprop, fastopt.SGD])
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
    "centered": lambda v: fastopt.RMSprop(np.ones(3), centered=v),
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
        lambda: fastopt.RMSprop([w], eps=1e-50),
        lambda: fastopt.rmsprop_step(w, w.copy(), w.copy(), eps=1e-50),
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
    with pytest.raises(TypeError, match=r"momentum_buffer: expected an array for momentum 0.5, got None"):
        fastopt.rmsprop_step(np.ones(3), np.ones(3), np.ones(3), momentum=0.5)


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
