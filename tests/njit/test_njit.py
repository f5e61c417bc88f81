"""The public names inside @njit: the bits of the Python calls."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt import DropoutMask, Philox4x32

from ..support import DTYPES, assert_same_bits, assert_same_results, values

numba = pytest.importorskip("numba")
TypingError = numba.core.errors.TypingError

SEED, STREAM = 2**63 + 12345, 2**40 + 5

# ---- the same bits: each case is run as Python and compiled, on two arrays of one shape -----------------------------


def activations(x, g):
    y = fastopt.leaky_relu(x)
    dx = fastopt.leaky_relu_backward(g, x)
    a, b, c = x.copy(), g.copy(), x.copy()
    fastopt.leaky_relu(a, -1.5, out=a)
    fastopt.leaky_relu_backward(b, x, 0, out=b)
    fastopt.leaky_relu_backward(g, c, 0.25, out=c)
    return y, dx, a, b, c, fastopt.leaky_relu(negative_slope=0.5, x=x, out=np.empty_like(x))


def hyperbolic_tangents(x, g):
    bias = np.ascontiguousarray(g[:1]).ravel()[: x.shape[1]] if len(g) else np.ones(x.shape[1], x.dtype)
    y, a, b, c, d = fastopt.tanh(x), x.copy(), g.copy(), x.copy(), g.copy()
    fastopt.tanh(a, out=a)
    fastopt.tanh_backward(b, y, out=b)
    fastopt.bias_tanh(c, bias, out=c)
    fastopt.bias_tanh_backward(d, c, out=d)
    return a, b, c, d, fastopt.tanh_backward(g, y), fastopt.bias_tanh(x, bias), fastopt.bias_tanh_backward(g, c)


def inactive_units(x, g):
    x = x if x.size else np.ones((2, 3), x.dtype)
    cube = x.reshape(x.shape[0], -1, 1)
    return (
        fastopt.inactive_fraction(x),
        fastopt.inactive_fraction(cube, axis=-1),
        fastopt.inactive_fraction(cube, (2, 0)),
    )


def dropout(x, g):
    y, mask = fastopt.dropout(x, rng=(SEED, STREAM))
    dx = fastopt.dropout_backward(g, mask)
    a, b, c, d = x.copy(), g.copy(), x.copy(), x.copy()
    _, rare = fastopt.dropout(a, 2.0**-20, rng=(7, STREAM), out=a)
    fastopt.dropout_backward(b, rare, out=b)
    fastopt.dropout(x, 1, rng=(0, 0), out=c)
    fastopt.dropout(x, 0.0, rng=(0, 0), out=d)
    same, none = fastopt.dropout(x, 0.3, training=False, rng=(SEED, STREAM))
    return y, mask, dx, a, b, c, d, same, none, mask.p, rare.stream, fastopt.dropout_backward(g, none)


def fused_layer(x, g):
    bias = np.ascontiguousarray(g[:1]).ravel()[: x.shape[1]] if len(g) else np.ones(x.shape[1], x.dtype)
    y, mask = fastopt.bias_leaky_relu_dropout(x, bias, 0.01, 0.3, rng=(SEED, STREAM))
    dx, dbias = fastopt.bias_leaky_relu_dropout_backward(g, y, mask, 0.01)
    usual, _ = fastopt.bias_leaky_relu_dropout_backward(g, *fastopt.bias_leaky_relu_dropout(x, bias, rng=(7, 8)))
    a, b, c = x.copy(), g.copy(), g.copy()
    _, none = fastopt.bias_leaky_relu_dropout(a, bias, 0, 0.3, training=False, rng=(0, 0), out=a)
    _, sums = fastopt.bias_leaky_relu_dropout_backward(b, a, none, 0, out=b)
    _, everything = fastopt.bias_leaky_relu_dropout(x, bias, 1, 1, rng=(7, 8), out=c)
    return y, mask, dx, dbias, usual, a, b, c, sums, fastopt.bias_leaky_relu_dropout_backward(g, c, everything, 1)


def adam(x, g):
    p, m, v = x.copy(), np.zeros_like(x), np.zeros_like(x)
    for step in range(1, 4):
        fastopt.adam_step(p, g, m, v, step)
    fastopt.adam_step(p, g, m, v, 4, lr=0.1, betas=(0.5, 0.75), eps=1e-3, weight_decay=0.01, maximize=True)
    fastopt.adam_step(p, g, m, v, 10**9, weight_decay=0.1, decoupled_weight_decay=True, grad_multiplier=0.5)
    fastopt.adam_step(p, g, m, v, 5, lr=0, betas=(0, 0))
    return p, m, v


def sgd(x, g):
    p, q, b, average = x.copy(), x.copy(), np.zeros_like(x), x.copy()
    fastopt.sgd_step(q, g, None, 3, lr=0.1, weight_decay=0.01)
    for step in range(1, 4):
        fastopt.sgd_step(p, g, b, step, momentum=0.9, dampening=0.5, maximize=True)
    fastopt.sgd_step(p, g, b, 4, lr=0.1, momentum=0.9, nesterov=True, grad_multiplier=3)
    fastopt.ema_update(average, p, 0.9)
    fastopt.ema_update(average, p, 1)
    return p, q, b, average


def rmsprop(x, g):
    p, q, v, b, m = x.copy(), x.copy(), np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    fastopt.rmsprop_step(p, g, v)
    fastopt.rmsprop_step(p, g, v, b, lr=0.1, alpha=0.25, momentum=0.9, weight_decay=0.01, maximize=True)
    fastopt.rmsprop_step(p, g, v, b, m, eps=1e-3, momentum=0.5, grad_multiplier=3)
    fastopt.rmsprop_step(q, g, m, grad_avg=v, alpha=0)
    fastopt.rmsprop_step(q, g, m, None, v, lr=0)
    return p, q, v, b, m


def sums(x, g):
    norms = (
        fastopt.grad_norm(x),
        fastopt.grad_norm((x, g)),
        fastopt.grad_norm((x, (g.ravel(), x))),
        fastopt.grad_norm([x, g]),
    )
    return *norms, fastopt.l2_penalty(x, 0.3), fastopt.l2_penalty((g, x.ravel()), 2), fastopt.grad_norm((g, None))


def sums_at_the_ends(x, g):
    """Squares that overflow, or underflow to 0 or to subnormal numbers."""
    huge, tiny, least = np.full(5000, 1e200), np.full((3, 4), 1e-170), np.full(3, 1e-160)
    norms = fastopt.grad_norm(huge), fastopt.grad_norm((x, [huge, huge], None)), fastopt.grad_norm((tiny, (least,)))
    return norms, fastopt.l2_penalty((huge, x), 1e-300), fastopt.l2_penalty([tiny, tiny], 1e300)


def draws(x, g):
    rng = Philox4x32(SEED)
    last = 2**62 - 5  # elements of either dtype
    filled = rng.random(dtype=x.dtype, out=x.copy(), stream=STREAM, offset=last)
    normals = rng.standard_normal(dtype=g.dtype, out=g.copy(), stream=STREAM + 1, offset=5)
    words = rng.random_raw(33, stream=2**56 - 1, offset=2), rng.random_raw((3, 5), stream=0), rng.random_raw(stream=3)
    uniforms = rng.random(33, stream=1), rng.random((2, 3), np.float32, stream=0, offset=7), rng.random(stream=9)
    gaussians = rng.standard_normal(33, np.float32, stream=1), rng.standard_normal((2, 3), stream=4)
    single = rng.standard_normal(stream=6, offset=1), Philox4x32(5).random(dtype=np.float32, stream=2)
    ints = rng.integers(-7, 2**62, 33, stream=3, offset=2), rng.integers(5, size=(2, 3), stream=4)
    order = rng.permutation(len(x), stream=5), rng.permutation(x, stream=2**56 - 1), rng.integers(10, 12, stream=6)
    return filled, normals, words, uniforms, gaussians, single, ints, order, rng.seed


OPS = (
    activations,
    hyperbolic_tangents,
    inactive_units,
    dropout,
    fused_layer,
    adam,
    sgd,
    rmsprop,
    sums,
    sums_at_the_ends,
    draws,
)
CASES = {case.__name__: case for case in OPS}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_compiled_code_has_the_bits_of_python(name, dtype):
    compiled = numba.njit(CASES[name])
    for shape in ((64, 64), (1, 1), (0, 3), (3, 5), (67, 1021), (70, 2100)):
        x, g = (values(seed, shape, dtype) for seed in (1, 2))
        expected = CASES[name](x.copy(), g.copy())
        assert_same_results(compiled(x, g), expected, f"{name} {shape}")
    assert len(compiled.signatures) == 1


def test_dimensions():
    compiled = numba.njit(lambda x: fastopt.dropout(x, 0.3, rng=(1, 2)))
    for shape in ((), (100,), (3, 4, 5)):
        x = values(1, shape, np.float32)
        assert_same_results(compiled(x), fastopt.dropout(x, 0.3, rng=(1, 2)))


def test_masks_and_generators_go_in_and_out():
    """Whatever the seed: Numba would take a Python int for an int64."""
    forward = numba.njit(lambda x, rng: fastopt.dropout(x, 0.3, rng=(rng.seed, 2)))
    backward = numba.njit(lambda g, mask: (fastopt.dropout_backward(g, mask), mask))
    draw = numba.njit(lambda rng: rng.random(5, stream=3))
    x = values(1, (8, 9), np.float32)
    for seed in (0, 2**63 - 1, 2**63, 2**64 - 1):
        y, mask = forward(x, Philox4x32(seed))
        assert type(mask) is DropoutMask
        assert mask == DropoutMask(seed, 2, 0.3, (8, 9))
        dx, same = backward(x, mask)
        assert same == mask
        assert_same_bits(dx, y)
        assert_same_bits(fastopt.dropout_backward(x, mask), y)
        assert_same_bits(y, fastopt.dropout(x, 0.3, rng=(seed, 2))[0])
        assert_same_bits(draw(Philox4x32(seed)), Philox4x32(seed).random(5, stream=3))
    assert [len(f.signatures) for f in (forward, backward, draw)] == [1, 1, 1]


def test_parallel_loops_and_fast_math():
    """Each call is serial, so the loop may be parallel; fastmath is for the user's own arithmetic and not for ours."""

    def run(x, g, p, m, v):
        y = np.empty_like(x)
        norms = np.empty(len(x))
        for k in numba.prange(len(x)):
            _, mask = fastopt.dropout(x[k], 0.3, rng=(SEED, k), out=y[k])
            d = fastopt.dropout_backward(g[k], mask)
            norms[k] = fastopt.grad_norm((d, y[k]))
            fastopt.adam_step(p[k], d, m[k], v[k], k + 1, weight_decay=0.01)
        return y, norms

    outcomes = []
    for function in (run, numba.njit(parallel=True, fastmath=True)(run)):
        arrays = [np.abs(values(k, (40, 999), np.float32)) for k in range(3)]
        arrays += [np.zeros_like(arrays[0]) for _ in range(2)]
        with np.errstate(all="ignore"):
            outcomes.append([*function(*arrays), *arrays])
    assert_same_results(*outcomes)


def test_large_outputs():
    """Written around the cache, and summed in several batches of blocks."""
    x = values(1, 2**22 + 5, np.float32)
    compiled = numba.njit(
        lambda x: (fastopt.leaky_relu(x), fastopt.dropout(x, 0.3, rng=(1, 2))[0], fastopt.grad_norm(x))
    )
    expected = fastopt.leaky_relu(x), fastopt.dropout(x, 0.3, rng=(1, 2))[0], fastopt.grad_norm(x)
    assert_same_results(compiled(x), expected)


def test_flush_to_zero_of_the_caller_does_not_matter():
    torch = pytest.importorskip("torch")
    compiled = numba.njit(lambda x: (fastopt.leaky_relu(x, 0.5), fastopt.grad_norm(x)))
    x = np.full(64, -np.finfo(np.float32).tiny, np.float32)
    expected = compiled(x)
    torch.set_flush_denormal(True)
    try:
        assert_same_results(compiled(x), expected)
    finally:
        torch.set_flush_denormal(False)
    assert (expected[0] != 0).all()
