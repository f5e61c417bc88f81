"""What definition and kernel could get wrong together: powers, very small numbers, averages that forget. Against exact
arithmetic, decimal arithmetic or float64."""

from __future__ import annotations

import decimal
import math
import random
from fractions import Fraction

import numpy as np
import pytest

import fastopt
from fastopt import reference
from fastopt.reference.core import power

from ..support import assert_equals_reference, assert_same_bits
from .snapshots import each_dtype, finite

# ---- powers ----------------------------------------------------------------------------------------------------------

BETAS = [0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999]
LATEST = [1, 2, 3, 4, 5, 7, 10, 31, 100, 255, 256, 999, 1000, 3999, 10_000, 99_999, 10**6, 12_345_678, 10**9]


def exact_power(x, n):
    with decimal.localcontext(prec=60, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX):
        return decimal.Decimal(x) ** n


def error_in_ulp(x, n):
    exact = exact_power(x, n)
    with decimal.localcontext(prec=60, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX):
        return abs(decimal.Decimal(power(x, n)) - exact) / decimal.Decimal(math.ulp(float(exact)))


def test_powers_are_right_to_the_last_bit():
    # 4 units are promised; the significand of 128 bits leaves little more than the half of the last rounding.
    rng = random.Random(7)
    pairs = [(beta, step) for beta in BETAS for step in LATEST]
    pairs += [(rng.uniform(0.5, 0.99999), int(10 ** rng.uniform(0, 9))) for _ in range(3000)]
    pairs += [(1 - 10 ** rng.uniform(-16, -1), int(10 ** rng.uniform(0, 17))) for _ in range(3000)]
    pairs += [(10 ** rng.uniform(-320, 0), rng.randint(1, 6)) for _ in range(1000)]
    pairs = [(x, n) for x, n in pairs if 0 < x < 1]
    results = [power(x, n) for x, n in pairs]
    tiny = np.finfo(np.float64).tiny
    assert 0.0 in results
    assert any(0 < result < tiny for result in results)
    assert max(error_in_ulp(x, n) for x, n in pairs) < 0.5001


def test_powers_at_the_ends():
    assert power(0.0, 1) == power(0.0, 2**63 - 1) == 0.0
    for x in (0.3, 0.9, 5e-324, 1 - 2.0**-53):
        assert power(x, 1) == x
    assert [power(0.5, n) for n in (1074, 1075, 1076, 2**63 - 1)] == [5e-324, 0.0, 0.0, 0.0]
    assert power(0.875, 17) == 0.875**17 == float(Fraction(7, 8) ** 17)
    assert power(1 - 2.0**-53, 2**50) == pytest.approx(math.exp(-0.125), rel=1e-15)


@pytest.mark.parametrize("beta", [0.0, 0.3, *BETAS])
@pytest.mark.parametrize("place", [0, 1])
def test_steps_have_these_powers(beta, place):
    betas = (0.9, beta) if place else (beta, 0.9)
    arrays = [finite(seed, 9, np.float64) for seed in (1, 2, 3)] + [finite(4, 9, np.float64) ** 2]
    for step in [*LATEST, *range(3000, 3100), 2**53 + 1, 2**63 - 1]:
        assert_equals_reference(lambda ops, *a, step=step: ops.adam_step(*a, step, lr=1.0, betas=betas), arrays)


# ---- second moments that must not vanish -----------------------------------------------------------------------------


def steps_of(dtype, grads, eps, name="Adam", **options):
    """How far a parameter has moved, by the class or, where `name` is adam_step, by the function."""
    p = np.zeros((1, 1), dtype)
    if name == "adam_step":
        m, v = np.zeros_like(p), np.zeros_like(p)
        for step, grad in enumerate(grads, 1):
            fastopt.adam_step(p, np.full_like(p, grad), m, v, step, eps=eps)
    else:
        optimizer = fastopt.Adam([p], eps=eps, **options)
        for grad in grads:
            g = np.full_like(p, grad)
            optimizer.step([fastopt.SparseRows(np.array([0]), g) if name == "rows" else g])
    return -float(p[0, 0])


WAYS = {
    "Adam": {},
    "amsgrad": {"amsgrad": True},
    "adam_step": {"name": "adam_step"},
    "rows": {"name": "rows"},
    "bfloat16": {"state_dtype": "bfloat16", "rng": 1},
    "8bit": {"state_dtype": "8bit", "rng": 1},
}
each_way = pytest.mark.parametrize("options", WAYS.values(), ids=WAYS.keys())


@each_way
def test_gradients_whose_squares_are_subnormal(options):
    grads = [1e-18, 0.0] * 100
    exact = steps_of(np.float64, grads, 1e-25)
    assert 0.1 < exact < 0.2
    assert 0.5 * exact < steps_of(np.float32, grads, 1e-25, **options) < 1.1 * exact


@each_way
@pytest.mark.parametrize("eps", [1e-20, 1e-22, 1e-25, 1e-26])
def test_no_step_is_longer_than_an_exact_one(options, eps):
    longest = 1.5 if options.get("state_dtype") == "8bit" else 1.05  # three bits of mantissa, rounded by chance
    for size in 10.0 ** np.arange(-30, -14):
        for grads in ([size] * 30, [size, 0.0] * 15, [size, *[0.0] * 40]):
            exact = steps_of(np.float64, grads, eps)
            assert 0 <= steps_of(np.float32, grads, eps, **options) <= longest * exact, (size, len(grads))


@pytest.mark.parametrize("size", [1e-170, 1e-160, 1e-155, 1e-150])
def test_the_same_in_float64(size):
    # In units of 1e-130, whose squares are nothing special.
    for eps in (1e-160, 1e-169):
        exact = steps_of(np.float64, [size * 1e130, 0.0] * 20, eps * 1e130)
        assert 0 <= steps_of(np.float64, [size, 0.0] * 20, eps) <= 1.05 * exact


@each_dtype
@pytest.mark.parametrize("beta2", [0.999, 0.25])
def test_a_second_moment_ends_at_the_smallest_number(dtype, beta2):
    tiny = np.finfo(dtype).tiny
    p, grad = np.ones(40, dtype), np.where(np.arange(40) % 2, dtype(1), dtype(0))
    optimizer = fastopt.Adam([p], betas=(0.5, beta2), amsgrad=True)
    state = optimizer._states["exp_avg_sq"][0]
    optimizer.step([grad * np.sqrt(tiny * dtype(1e3))])
    for _ in range(12_000):
        optimizer.step([np.zeros(40, dtype)])
        assert np.all((state == 0) | (state >= tiny))
    assert_same_bits(state, np.where(grad != 0, 2 * tiny, dtype(0)))
    largest = optimizer._states["max_exp_avg_sq"][0]
    assert np.all((largest >= tiny) == (grad != 0))
    assert_same_bits(optimizer._states["exp_avg"][0], np.zeros(40, dtype))


@each_dtype
def test_what_is_no_small_number_stays(dtype):
    tiny, least = np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal
    start = np.array([0.0, -0.0, least, tiny, 2 * tiny, 4 * tiny, 1.0, np.inf, np.nan], dtype)
    p, m, v, grad = np.ones(9, dtype), np.zeros(9, dtype), start.copy(), np.zeros(9, dtype)
    fastopt.adam_step(p, grad, m, v, 5, betas=(0.9, 0.75))
    expected = np.array([0, 0, 2 * tiny, 2 * tiny, 2 * tiny, 3 * tiny, 0.75, np.inf, np.nan], dtype)
    assert_same_bits(v, expected)


# ---- averages --------------------------------------------------------------------------------------------------------

DECAYS = [0.0, 1e-12, 1e-3, 0.1, 0.3, 0.49999, 0.5, 0.6, 0.9, 0.999, 1 - 1e-12, 1.0]
PAIRS = [
    (1e8, 1.0),
    (1.0, 1e8),
    (1e20, -1.0),
    (1.0, 1.0),
    (3.0, -3.0),
    (1e-20, 1e20),
    (0.0, 2.0),
    (2.0, 0.0),
    (1e30, 1.0),
]


def by_ema_update(average, value, decay, dtype):
    a = np.full(3, average, dtype)
    fastopt.ema_update(a, np.full(3, value, dtype), decay)
    return a[0]


def by_steps(average, value, decay, dtype, **options):
    """An average of a parameter that jumps: it starts as a copy, and the step of length 1 is the difference."""
    p = np.full(3, average, dtype)
    optimizer = fastopt.SGD([p], lr=0.0, ema_decay=decay, **options)
    p[...] = value
    optimizer.step([np.ones(3, dtype)])
    return optimizer.ema_params[0][0]


def by_first_moment(average, value, decay, dtype):
    m, v = np.full(3, average, dtype), np.ones(3, dtype)
    fastopt.adam_step(np.ones(3, dtype), np.full(3, value, dtype), m, v, 5, betas=(decay, 0.9))
    return m[0]


@each_dtype
@pytest.mark.parametrize(
    "move",
    [
        by_ema_update,
        by_steps,
        by_first_moment,
        lambda *arguments: by_steps(*arguments, momentum=0.9, state_dtype="8bit", rng=1),
    ],
)
def test_no_average_loses_what_it_moves_to(dtype, move):
    for decay in DECAYS:
        if move is by_first_moment and decay == 1:
            continue
        for average, value in PAIRS:
            a, v, d = Fraction(float(dtype(average))), Fraction(float(dtype(value))), Fraction(decay)
            exact = d * a + (1 - d) * v
            room = Fraction(float(np.finfo(dtype).eps)) * 3 * (d * abs(a) + (1 - d) * abs(v))
            got = Fraction(float(move(average, value, decay, dtype)))
            assert abs(got - exact) <= room, (decay, average, value)


@each_dtype
def test_a_decay_of_0_copies_whatever_was_there(dtype):
    a, value = np.array([np.nan, np.inf, 1.0, 1.0, 0.0], dtype), np.array([1.0, 2.0, -0.0, np.inf, np.nan], dtype)
    fastopt.ema_update(a, value, 0.0)
    assert_same_bits(a, value)


# ---- momentum that begins later --------------------------------------------------------------------------------------


def trained(ops, dtype, schedule, resume_at=None, rows=(), **options):
    """SGD whose momentum is as in the schedule, step by step; taken up from its state in between, where asked for."""
    p = finite(1, (30, 20), dtype)
    optimizer = ops.SGD([p], lr=0.1, **options)
    for step, momentum in enumerate(schedule):
        if step == resume_at:
            state = {key: np.array(value) for key, value in optimizer.state_dict().items()}
            optimizer = ops.SGD([p], lr=0.1, **options)
            optimizer.load_state_dict(state)
        optimizer.param_groups[0].update({"momentum": momentum, "dampening": 0.5 if momentum else 0.0})
        grad = finite(5 + step, (30, 20), dtype)
        optimizer.step([fastopt.SparseRows(np.arange(30), grad) if step in rows else None if step == 3 else grad])
    return p, optimizer.state_dict()


SCHEDULES = [[0.0] * 4 + [0.9] * 3, [0.0, 0.9, 0.9, 0.0, 0.0, 0.9], [0.9, 0.0, 0.9], [0.0] * 5]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_buffer_begins_with_the_gradient(schedule):
    p, _ = trained(fastopt, np.float64, schedule)
    expected, buffer = finite(1, (30, 20), np.float64), None
    for step, momentum in enumerate(schedule):
        grad = finite(5 + step, (30, 20), np.float64)
        if step == 3:
            continue
        if momentum:
            buffer = grad if buffer is None else momentum * buffer + 0.5 * grad
        expected -= 0.1 * (buffer if momentum else grad)
    np.testing.assert_allclose(p, expected, rtol=1e-13, atol=1e-13)


@each_dtype
@pytest.mark.parametrize("state_dtype", [None, "bfloat16", "8bit"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_same_bits_whenever_momentum_begins(schedule, state_dtype, dtype):
    options = {"state_dtype": state_dtype, "rng": 3}
    p, state = trained(fastopt, dtype, schedule, **options)
    expected, wanted = trained(reference, dtype, schedule, **options)
    assert_same_bits(p, expected)
    assert state.keys() == wanted.keys()
    for key in state.keys() - {"state_dtype"}:
        assert_same_bits(state[key], wanted[key], key)
    for resume_at in range(1, len(schedule)):
        resumed, again = trained(fastopt, dtype, schedule, resume_at, **options)
        assert_same_bits(resumed, p)
        for key in state.keys() - {"state_dtype"}:
            assert_same_bits(again[key], state[key], key)


@each_dtype
def test_rows_whose_momentum_begins_later(dtype):
    for schedule in SCHEDULES:
        p, state = trained(fastopt, dtype, schedule, rows=(0, 2, 4))
        expected, wanted = trained(reference, dtype, schedule, rows=(0, 2, 4))
        assert_same_bits(p, expected)
        assert_same_bits(state["momentum_buffer/0"], wanted["momentum_buffer/0"])


def test_a_momentum_that_is_0_in_float32_is_none():
    p, _ = trained(fastopt, np.float32, [1e-60, 1e-60, 0.9])
    expected, _ = trained(reference, np.float32, [1e-60, 1e-60, 0.9])
    assert_same_bits(p, expected)


def test_more_steps_before_the_buffer_than_there_were():
    optimizer = fastopt.SGD(np.ones(3))
    optimizer.step(np.ones(3))
    state = optimizer.state_dict()
    assert (state["step"], state["steps_before_momentum_buffer"]) == (1, 1)
    with pytest.raises(ValueError, match=r"steps_before_momentum_buffer'\]: expected at most 1, .* got 2"):
        optimizer.load_state_dict(state | {"steps_before_momentum_buffer": 2})
