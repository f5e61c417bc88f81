"""Perceptrons and acting inside @njit: the bits of Python, and messages for what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fastopt import policy

from ..support import DTYPES, assert_same_results

numba = pytest.importorskip("numba")


def networks(sizes, outputs, dtype, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [*zip(sizes, (*sizes[1:], outputs), strict=True)]
    return tuple((rng.standard_normal((m, n)).astype(dtype), rng.standard_normal(m).astype(dtype)) for n, m in shapes)


def tanh_network(x, layers, grad):
    outputs = policy.perceptron(x, layers)
    return outputs, policy.perceptron_backward(grad, x, outputs, layers)


def leaky_network(x, layers, grad):
    outputs = policy.perceptron(x, layers, activation="leaky_relu", negative_slope=0.1)
    gradients = policy.perceptron_backward(grad, x, outputs, layers, activation="leaky_relu", negative_slope=0.1)
    return outputs[-1], gradients


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", [tanh_network, leaky_network])
def test_networks_have_the_bits_of_python(network, dtype):
    compiled = numba.njit(network)
    for rows, sizes, outputs in ((1, (4, 64, 64), 2), (130, (4, 64, 70), 5), (70, (200, 9, 1), 1)):
        x, grad = (np.random.default_rng(n).standard_normal((rows, n)).astype(dtype) for n in (sizes[0], outputs))
        layers = networks(sizes, outputs, dtype)
        assert_same_results(compiled(x, layers, grad), network(x, layers, grad), f"{rows} {sizes}")
    assert len(compiled.signatures) == 1


def act(x, actor, critic, exponential, normal, log_std):
    one = policy.categorical_act(x, actor, critic, exponential)
    several = policy.categorical_act(x, actor, critic, exponential, choices=(2, 1, 3), activation="tanh")
    return one, several, policy.gaussian_act(x, actor, critic, log_std, normal, activation="leaky_relu")


@pytest.mark.parametrize("dtype", DTYPES)
def test_acting_has_the_bits_of_python(dtype):
    compiled = numba.njit(act)
    for rows in (0, 1, 130):
        rng = np.random.default_rng(rows)
        x, normal = rng.standard_normal((rows, 4)).astype(dtype), rng.standard_normal((rows, 6)).astype(dtype)
        exponential, log_std = rng.exponential(size=(rows, 6)).astype(dtype), rng.standard_normal(6).astype(dtype)
        if rows > 3:
            x[2] = np.nan  # which is no distribution
        given = x, networks((4, 64, 64), 6, dtype), networks((4, 64), 1, dtype, 1), exponential, normal, log_std
        assert_same_results(compiled(*given), act(*given), f"{rows} rows")


def test_layers_in_a_list():
    layers = networks((3, 5), 2, np.float32)
    x = np.ones((2, 3), np.float32)

    @numba.njit
    def made_inside(x, layers):
        some = [layers[0]]
        some.append((np.ones((2, 5), np.float32), np.zeros(2, np.float32)))
        return policy.perceptron(x, some)[-1]

    wanted = policy.perceptron(x, [layers[0], (np.ones((2, 5), np.float32), np.zeros(2, np.float32))])[-1]
    np.testing.assert_array_equal(made_inside(x, layers), wanted)


X, TWO = np.ones((2, 3)), networks((3, 4), 2, np.float64)
ONE, NOISE = networks((3,), 1, np.float64), np.ones((2, 2))
WRONG_SIZES = {
    "input": (lambda: policy.perceptron(X[:, :2].copy(), TWO), r"layers\[0\]\[0\]: expected shape \(outputs, 2\)"),
    "between": (lambda: policy.perceptron(X, (TWO[0], TWO[0])), r"layers\[1\]\[0\]: expected shape \(outputs, 4\)"),
    "bias": (
        lambda: policy.perceptron(X, ((TWO[0][0], TWO[1][1]),)),
        r"layers\[0\]\[1\]: expected shape \(4.*, got \(2",
    ),
    "slope": (lambda: policy.perceptron(X, TWO, negative_slope=-1.0), "negative_slope: expected a finite number >= 0"),
    "grad": (lambda: policy.perceptron_backward(X, X, [X, X], TWO), r"outputs\[0\]: expected shape \(2, 4\)"),
    "batch": (lambda: policy.perceptron_backward(X[:0], X[:0], [X], ONE), "x: expected a batch of at least one"),
    "noise": (lambda: policy.categorical_act(X, TWO, ONE, X), r"noise: expected shape \(2, 2\)"),
    "critic": (lambda: policy.categorical_act(X, TWO, TWO, NOISE), "critic: expected one output, got 2"),
    "choices": (
        lambda: policy.categorical_act(X, TWO, ONE, NOISE, choices=(1, 2)),
        "choices: expected positive numbers of which 2 is the sum",
    ),
    "choices that wrap": (
        lambda: policy.categorical_act(X, TWO, ONE, NOISE, choices=(2**63 - 1, 2**63 - 1, 4)),
        "choices: expected positive numbers of which 2 is the sum",
    ),
    "log_std": (
        lambda: policy.gaussian_act(X, TWO, ONE, X[0], NOISE),
        r"log_std: expected shape \(2,\) like the actor's outputs, got \(3,\)",
    ),
}
WRONG_KINDS = {
    "layers": (lambda: policy.perceptron(X, X), "layers: expected a tuple or list"),
    "pair": (lambda: policy.perceptron(X, ((X,),)), r"layers\[0\]: expected a \(weight, bias\) pair"),
    "dtype": (lambda: policy.perceptron(X.astype(np.float32), TWO), r"layers\[0\]\[0\]: expected float32 like x"),
    "order": (lambda: policy.perceptron(X, ((X.T, X[0]),)), r"layers\[0\]\[0\]: expected a C-contiguous array"),
    "outputs": (lambda: policy.perceptron_backward(X, X, X, ONE), "outputs: expected what perceptron returned"),
    "activation": (lambda: policy.perceptron(X, TWO, activation="elu"), 'activation: expected "tanh" or "leaky_relu"'),
    "out": (lambda: policy.perceptron(X, TWO, out=[X]), "out: expected None inside @njit"),
    "choices": (lambda: policy.categorical_act(X, TWO, ONE, NOISE, choices=2), "choices: expected a tuple of ints"),
    "no choice": (lambda: policy.categorical_act(X, TWO, ONE, NOISE, choices=()), "choices: expected a tuple of ints"),
    "kinds of choices": (
        lambda: policy.categorical_act(X, TWO, ONE, NOISE, choices=(np.int32(1), len(X) - 1)),
        "choices: expected a tuple of ints of one type",
    ),
}


@pytest.mark.parametrize("what", WRONG_SIZES)
def test_wrong_sizes_are_refused(what):
    call, message = WRONG_SIZES[what]
    with pytest.raises(ValueError, match=message):
        numba.njit(call)()


@pytest.mark.parametrize("what", WRONG_KINDS)
def test_wrong_kinds_are_refused_when_compiled(what):
    call, message = WRONG_KINDS[what]
    with pytest.raises(numba.core.errors.TypingError, match=message):
        numba.njit(call)()
