"""Tuples and lists of arrays inside @njit: each array as a call of its own in Python, all of them or none."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import fastopt

from ..support import DTYPES, assert_same_bits, values

numba = pytest.importorskip("numba")
TypingError = numba.core.errors.TypingError

SHAPES = (64, 7), (7,), (2, 3, 4), (0, 3), ()


def steps(params, grads, exp_avg, exp_avg_sq):
    for step in (1, 2, 10**9):
        fastopt.adam_step(
            params, grads, exp_avg, exp_avg_sq, step, weight_decay=0.01, maximize=True, grad_multiplier=0.5
        )
    fastopt.sgd_step(params, grads, None, 3, lr=0.1)
    fastopt.sgd_step(params, grads, exp_avg, 4, momentum=0.9, nesterov=True)
    fastopt.ema_update(exp_avg_sq, params, 0.9)


def two_lists(params, grads, exp_avg, exp_avg_sq):
    a, b, c, d = params
    e, f, g, h = grads
    i, j, k, m = exp_avg
    n, o, p, q = exp_avg_sq
    steps(([a, b], ([c, d],)), ([e, f], ([g, h],)), ([i, j], ([k, m],)), ([n, o], ([p, q],)))


def made(shapes, dtypes):
    """Parameters, gradients and two averages, a list each."""
    return [
        [values(10 * k + j, shape, dtype) for j, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))]
        for k in range(3)
    ] + [[np.asarray(np.abs(values(90 + j, *one))) for j, one in enumerate(zip(shapes, dtypes, strict=True))]]


def nested(arrays):
    a, b, *others = arrays
    return (a, (b, tuple(others)))


def check(run, given, form):
    expected = [[array.copy() for array in arrays] for arrays in given]
    for single in zip(*expected, strict=True):
        steps(*single)
    run(*[form(arrays) for arrays in given])
    for name, arrays, wanted in zip(("param", "grad", "exp_avg", "exp_avg_sq"), given, expected, strict=True):
        for array, other in zip(arrays, wanted, strict=True):
            assert_same_bits(array, other, name)


compiled_steps = numba.njit(steps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tuples_have_the_bits_of_their_arrays(dtype):
    check(compiled_steps, made(SHAPES, [dtype] * len(SHAPES)), nested)


def test_dtypes_may_differ_from_array_to_array():
    check(compiled_steps, made(SHAPES, [np.float32, np.float64, np.float32, np.float32, np.float64]), tuple)


def test_lists():
    shapes = (5, 7), (3, 4), (1, 1), (70, 100)
    check(compiled_steps, made(shapes, [np.float32] * 4), numba.typed.List)
    inner = numba.njit(two_lists.__class__(two_lists.__code__, {"steps": compiled_steps}))
    check(inner, made(shapes, [np.float64] * 4), tuple)


def test_nothing_at_all():
    compiled_steps((), (), (), ())


def clip(grads):
    return fastopt.clip_grad_norm_(grads, 0.5), fastopt.clip_grad_norm_(grads, 1e9), fastopt.grad_norm(grads)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_has_the_bits_of_python(dtype):
    compiled = numba.njit(clip)
    large, finite = values(1, (70, 100), dtype), np.linspace(-3, 2, 5000).astype(dtype)
    infinite, huge = np.array([np.inf, 1, -2], dtype), np.full(9, np.finfo(dtype).max)
    for given in (
        large,
        (finite, None),
        (finite, (infinite, huge)),
        (np.full(3, np.nan, dtype), finite),
        (huge,),
        (None,),
    ):
        assert_clipped_alike(compiled, given)


def assert_clipped_alike(compiled, given):
    def copied(nest):
        return nest.copy() if isinstance(nest, np.ndarray) else nest and tuple(copied(part) for part in nest)

    def flat(nest):
        return [nest] if isinstance(nest, np.ndarray) else [a for part in nest or () for a in flat(part)]

    ours, theirs = copied(given), copied(given)
    np.testing.assert_array_equal(compiled(ours), clip(theirs))
    for one, other in zip(flat(ours), flat(theirs), strict=True):
        assert_same_bits(one, other)


# ---- what is refused -------------------------------------------------------------------------------------------------

A, B, SHORT = np.ones((3, 4)), np.ones(5, np.float32), np.ones(3, np.float32)
BUFFER = np.zeros(9)


def adam(*nests, **options):
    return numba.njit(lambda p, g, m, v, eps: fastopt.adam_step(p, g, m, v, 1, eps=eps))(
        *nests, options.get("eps", 1e-8)
    )


def fresh():
    return A.copy(), B.copy()


LATER = {
    "grad[1]: expected shape (5,) like param[1], got (3,)": lambda: (fresh(), (A, SHORT), fresh(), fresh()),
    "exp_avg_sq[1]: expected shape (5,) like param[1], got (3,)": lambda: (
        fresh(),
        fresh(),
        fresh(),
        (A.copy(), SHORT.copy()),
    ),
    "exp_avg: expected length 2 like param, got 1": lambda: [
        numba.typed.List([A.copy() for _ in range(count)]) for count in (2, 2, 1, 2)
    ],
    "expected memory apart, got arrays that overlap": lambda: (
        (BUFFER[:4], BUFFER[5:]),
        (BUFFER[:4].copy(), BUFFER[5:].copy()),
        (np.zeros(4), BUFFER[3:7]),
        (np.zeros(4), np.zeros(4)),
    ),
}


@pytest.mark.parametrize("message", LATER)
def test_refused_at_run_time_before_anything_is_written(message):
    nests = LATER[message]()
    before = [array.copy() for nest in nests for array in nest]
    with pytest.raises(ValueError, match="expected") as caught:
        adam(*nests)
    assert message in str(caught.value)
    for array, was in zip([array for nest in nests for array in nest], before, strict=True):
        assert_same_bits(array, was)


def test_a_number_that_one_dtype_cannot_take_is_refused_for_all():
    """2**-100 is no eps for float32, which comes second."""
    params = fresh()
    with pytest.raises(ValueError, match="eps: expected at least"):
        adam(params, fresh(), fresh(), fresh(), eps=2.0**-100)
    for array, was in zip(params, (A, B), strict=True):
        assert_same_bits(array, was)


def test_gradients_may_share_memory():
    grad = np.ones(4)
    params = np.zeros(4), np.zeros(4)
    adam(params, (grad, grad), (np.zeros(4), np.zeros(4)), (np.zeros(4), np.zeros(4)))
    assert_same_bits(*params)
    with pytest.raises(ValueError, match="overlap"):
        adam((params[0], params[0]), (grad, grad), (np.zeros(4), np.zeros(4)), (np.zeros(4), np.zeros(4)))


WHEN_COMPILED = {
    "grad: expected a tuple of 2 like param": lambda a, b: fastopt.sgd_step((a, b), (a,), None, 1),
    "grad[1]: expected a list like param[1]": lambda a, b: fastopt.sgd_step((a, [b]), (a, b), None, 1),
    "exp_avg[1]: expected float32 like param[1], got float64": lambda a, b: fastopt.adam_step(
        (a, b), (a, b), (a, a.ravel()), (a, b), 1
    ),
    "value: expected an array of float32 or float64, got": lambda a, b: fastopt.ema_update(a, (a,), 0.5),
    "grad[0]: expected an array of float32 or float64, got none": lambda a, b: fastopt.sgd_step((a,), (None,), None, 1),
    "param[1]: expected a writeable array": lambda a, b: fastopt.sgd_step((a, CONSTANT), (a, b), None, 1),
    "grads[0]: expected a C-contiguous array": lambda a, b: fastopt.clip_grad_norm_((a.T, b), 1.0),
    "grads: expected a writeable array": lambda a, b: fastopt.clip_grad_norm_(CONSTANT, 1.0),
    "max_norm: expected a float, got": lambda a, b: fastopt.clip_grad_norm_(a, "1"),
    "error_if_nonfinite: expected True or False, got": lambda a, b: fastopt.clip_grad_norm_(a, 1.0, 1),
}
CONSTANT = np.ones(5, np.float32)


@pytest.mark.parametrize("message", WHEN_COMPILED)
def test_refused_when_compiled(message):
    with pytest.raises(TypingError) as caught:
        numba.njit(WHEN_COMPILED[message])(A.copy(), B.copy())
    assert message in str(caught.value)


def test_what_clipping_refuses():
    compiled = numba.njit(lambda g, most, strict: fastopt.clip_grad_norm_(g, most, error_if_nonfinite=strict))
    for most in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="max_norm: expected a finite number > 0, got"):
            compiled(A.copy(), most, False)
    grads = np.array([1.0, np.inf]), np.ones(3)
    with pytest.raises(
        ValueError, match="grads: expected a finite norm, got inf; error_if_nonfinite=False scales by it"
    ):
        compiled(grads, 1.0, True)
    with pytest.raises(ValueError, match="grads: expected memory apart, got arrays that overlap"):
        compiled((BUFFER[:5], BUFFER[4:]), 1.0, False)
    assert_same_bits(grads[1], np.ones(3))


def test_an_error_inside_prange_ends_a_share_of_the_loop():
    """What the README says of it; whether there is a SystemError depends on the thread."""

    def run(x, p):
        for k in numba.prange(len(x)):
            fastopt.dropout(x[k], p[k], rng=(1, k), out=x[k])

    x, p = np.ones((40, 9)), np.ones(40)
    p[7] = 1.5
    with contextlib.suppress(SystemError):
        numba.njit(parallel=True)(run)(x, p)
    assert not x[0].any()
    assert x[7].all()
