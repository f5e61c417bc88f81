"""Perceptrons: the bits of the definition for every size, torch's numbers, and errors before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import fastopt
from fastopt import policy
from fastopt.reference import policy as reference_policy

from ..support import DTYPES, assert_same_bits

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
SHAPES = [[4, 64, 64, 2], [3, 1], [17, 5, 70, 33, 6], [130, 200, 9], [1, 1, 1]]
each_shape = pytest.mark.parametrize("sizes", SHAPES, ids=str)
ACTIVATIONS = [{}, {"activation": "leaky_relu", "negative_slope": 0.1}, {"activation": "leaky_relu"}]


def layers(sizes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    pairs = zip(sizes[1:], sizes[:-1], strict=True)
    return [
        ((rng.standard_normal(pair) / np.sqrt(pair[1])).astype(dtype), rng.standard_normal(pair[0]).astype(dtype))
        for pair in pairs
    ]


def numbers(seed, *shape, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_all_same(got, expected):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        if isinstance(one, tuple):
            assert_all_same(one, other)
        else:
            assert_same_bits(one, other)


@each_dtype
@each_shape
@pytest.mark.parametrize("options", ACTIVATIONS, ids=str)
def test_the_bits_of_the_definition(sizes, options, dtype):
    own = layers(sizes, dtype)
    for rows in (1, 3, 6, 12, 64, 65, 130):
        x, grad = numbers(1, rows, sizes[0], dtype=dtype), numbers(2, rows, sizes[-1], dtype=dtype)
        outputs = reference_policy.perceptron(x, own, **options)
        assert_all_same(policy.perceptron(x, own, **options), outputs)
        expected = reference_policy.perceptron_backward(grad, x, outputs, own, **options)
        assert_all_same(policy.perceptron_backward(grad, x, outputs, own, **options), expected)


@each_dtype
@each_shape
def test_the_bits_of_acting(sizes, dtype):
    actor, critic = layers(sizes, dtype), layers([*sizes[:-1], 1], dtype, 1)
    for rows in (1, 5, 256):
        x = numbers(3, rows, sizes[0], dtype=dtype)
        waits = np.random.default_rng(4).exponential(size=(rows, sizes[-1])).astype(dtype)
        for choices in (None, (1,) * sizes[-1], (sizes[-1],), (1, sizes[-1] - 1)):
            if choices is None or min(choices) > 0:
                a, b = (
                    ops.categorical_act(x, actor, critic, waits, choices=choices) for ops in (policy, reference_policy)
                )
                assert_all_same(a, b)
        rest = actor, critic, numbers(5, sizes[-1], dtype=dtype), numbers(6, rows, sizes[-1], dtype=dtype)
        assert_all_same(policy.gaussian_act(x, *rest), reference_policy.gaussian_act(x, *rest))


@each_dtype
def test_a_row_does_not_depend_on_the_others_nor_on_threads(dtype):
    own, x = layers([100, 300, 7], dtype), numbers(1, 2000, 100, dtype=dtype)
    whole = policy.perceptron(x, own)
    for one, row in ((x[5:6], 5), (x[1999:], 1999)):
        assert_all_same([y[0] for y in policy.perceptron(one, own)], [y[row] for y in whole])
    grads = policy.perceptron_backward(whole[-1], x, whole, own)
    for threads in (1, 3):
        with fastopt.num_threads(threads):
            assert_all_same(policy.perceptron(x, own), whole)
            assert_all_same(policy.perceptron_backward(whole[-1], x, whole, own), grads)


@each_dtype
def test_a_row_alone_has_the_bits_of_its_row_among_others(dtype):
    """It is multiplied by a loop of its own: inputs and outputs about the width of its registers and its blocks."""
    rng = np.random.default_rng(3)
    for inputs in (1, 2, 3, 4, 5, 9, 63, 64, 65, 66, 130):
        x = rng.standard_normal((5, inputs)).astype(dtype)
        for outputs in (1, 3, 4, 5, 8, 9, 17, 64, 65, 71):
            layer = rng.standard_normal((outputs, inputs)).astype(dtype), rng.standard_normal(outputs).astype(dtype)
            (rows,) = policy.perceptron(x, [layer])
            (alone,) = policy.perceptron(x[2:3], [layer])
            assert_same_bits(alone[0], rows[2])


@each_dtype
def test_layouts_and_outputs(dtype):
    own = layers([6, 9, 4], dtype)
    x, grad = numbers(1, 10, 6, dtype=dtype), numbers(2, 10, 4, dtype=dtype)
    expected = policy.perceptron(x, own)
    turned = [(np.asfortranarray(weight), np.repeat(bias, 2)[::2]) for weight, bias in own]
    assert_all_same(policy.perceptron(np.asfortranarray(x), turned), expected)
    outputs = [np.full((10, n), np.nan, dtype) for n in (9, 4)]
    assert policy.perceptron(x, own, out=outputs)[0] is outputs[0]
    assert_all_same(outputs, expected)
    into = [(np.empty_like(weight), np.empty_like(bias)) for weight, bias in own]
    assert policy.perceptron_backward(grad, x, outputs, own, out=into)[1][0] is into[1][0]
    assert_all_same(into, policy.perceptron_backward(np.asfortranarray(grad), x[:], outputs, turned))


class Made(Sequence):
    """Layers that are made when they are asked for, and that nobody else holds."""

    def __init__(self, layers):
        self.layers = layers
        self.asked = 0

    def __len__(self):
        return len(self.layers)

    def __getitem__(self, k):
        weight, bias = self.layers[k]
        self.asked += 1
        return weight.copy(), bias.copy()


@each_dtype
def test_layers_that_nobody_else_holds(dtype):
    own, x = layers([64, 64, 64, 1], dtype), numbers(1, 64, 64, dtype=dtype)
    outputs, noise = policy.perceptron(x, own), np.ones((64, 1), dtype)
    assert_all_same(policy.perceptron(x, Made(own)), outputs)
    made = Made(own)
    assert_all_same(policy.perceptron(x, made, out=[np.empty_like(y) for y in outputs]), outputs)
    assert made.asked == 3
    grads = policy.perceptron_backward(outputs[2], x, outputs, own)
    into = [(np.empty_like(weight), np.empty_like(bias)) for weight, bias in own]
    for out in (None, into):
        assert_all_same(policy.perceptron_backward(outputs[2], x, outputs, Made(own), out=out), grads)
    expected = policy.gaussian_act(x, own, own, np.zeros(1, dtype), noise)
    assert_all_same(policy.gaussian_act(x, Made(own), Made(own), np.zeros(1, dtype), noise), expected)


@each_dtype
def test_spreads_beyond_the_range_of_exp(dtype):
    """Products with exp(log_std) that are within the range are so where exp(log_std) is not, as in gaussian_sample."""
    rows, beyond = 600, 100 if dtype == np.float32 else 800
    log_std = np.array([beyond, -beyond, 0.5, 3 * beyond], dtype)
    for columns in (3, 4, 40):
        spread = np.resize(log_std, columns)
        actor, critic = layers([2, columns], dtype), layers([2, 1], dtype)
        x, noise = numbers(1, rows, 2, dtype=dtype), numbers(2, rows, columns, dtype=dtype)
        noise[::3, 0] *= np.exp(-60) if dtype == np.float32 else np.exp(-400)
        noise[::5] = 0
        actions = policy.gaussian_act(x, actor, critic, spread, noise)[0]
        with np.errstate(over="ignore", invalid="ignore"):
            half = np.exp(spread.astype(np.float64) / 2)
            exact = np.where(noise == 0, 0, (half * noise) * half) + policy.perceptron(x, actor)[0]
            assert_same_bits(actions, reference_policy.gaussian_act(x, actor, critic, spread, noise)[0])
        inside = np.abs(exact) < np.finfo(dtype).max
        assert inside[::3, 0].all()
        assert inside[::5].all()
        few = 10 * np.finfo(dtype).eps  # of the result, or of what is added up where that cancels
        np.testing.assert_allclose(actions[inside], exact[inside], rtol=few, atol=few)


def test_gradients_of_biases_are_added_in_float64():
    """As those of a log_std that is for all, and as bias_tanh_backward's: float32 would lose the half of these."""
    grad = np.tile(np.array([[1e8], [1.0], [-1e8], [1.0]], np.float32), (100, 1))
    x, own = np.ones((400, 1), np.float32), layers([1, 1], np.float32)
    assert policy.perceptron_backward(grad, x, policy.perceptron(x, own), own)[0][1] == 200
    assert fastopt.bias_tanh_backward(grad, np.zeros_like(grad))[1] == 200


@pytest.mark.parametrize("options", ACTIVATIONS, ids=str)
def test_against_torch(options):
    torch = pytest.importorskip("torch")
    own = layers([5, 20, 8, 3], np.float64)
    slope = options.get("negative_slope", 0.0)
    act = torch.tanh if not options else lambda z: torch.nn.functional.leaky_relu(z, slope)
    tensors = [tuple(torch.tensor(a, requires_grad=True) for a in layer) for layer in own]
    x, grad = numbers(1, 100, 5, dtype=np.float64), numbers(2, 100, 3, dtype=np.float64)
    y = torch.tensor(x)
    for k, (weight, bias) in enumerate(tensors):
        y = torch.nn.functional.linear(y, weight, bias)
        y = act(y) if k < 2 else y
    y.backward(torch.tensor(grad))
    outputs = policy.perceptron(x, own, **options)
    np.testing.assert_allclose(outputs[-1], y.detach(), rtol=1e-12, atol=1e-13)
    for pair, tensor in zip(policy.perceptron_backward(grad, x, outputs, own, **options), tensors, strict=True):
        for one, other in zip(pair, tensor, strict=True):
            np.testing.assert_allclose(one, other.grad, rtol=1e-11, atol=1e-12)


def test_a_race_is_a_sample():
    """Of 40,000 races each action wins in proportion to its probability, within 5 standard deviations."""
    p = np.array([0.5, 0.3, 0.15, 0.05])
    actor, critic = [(np.zeros((4, 1)), np.log(p))], [(np.zeros((1, 1)), np.zeros(1))]
    n = 40_000
    actions, log_prob, values = policy.categorical_act(
        np.zeros((n, 1)), actor, critic, np.random.default_rng(0).exponential(size=(n, 4))
    )
    assert (np.abs(np.bincount(actions) - n * p) < 5 * np.sqrt(n * p * (1 - p))).all()
    np.testing.assert_allclose(log_prob, np.log(p)[actions], rtol=1e-12)
    assert not values.any()


def test_what_torch_draws():
    """The same noise gives the actions that torch.multinomial and Normal.rsample take from the generator."""
    torch = pytest.importorskip("torch")
    actor, critic = layers([3, 4], np.float32), layers([3, 1], np.float32)
    x = numbers(1, 50, 3)
    logits = torch.tensor(policy.perceptron(x, actor)[-1])
    torch.manual_seed(1)
    expected = torch.distributions.Categorical(logits=logits).sample()
    torch.manual_seed(1)
    actions, log_prob, _ = policy.categorical_act(x, actor, critic, torch.empty(50, 4).exponential_().numpy())
    np.testing.assert_array_equal(actions, expected)
    np.testing.assert_allclose(
        log_prob, torch.distributions.Categorical(logits=logits).log_prob(expected), rtol=1e-5, atol=1e-6
    )
    log_std = numbers(2, 4)
    normal = torch.distributions.Normal(logits, torch.tensor(log_std).exp())
    torch.manual_seed(1)
    expected = normal.rsample()
    torch.manual_seed(1)
    actions, log_prob, _ = policy.gaussian_act(x, actor, critic, log_std, torch.empty(50, 4).normal_().numpy())
    np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_prob, normal.log_prob(expected).sum(1), rtol=1e-5, atol=1e-5)


def test_no_distribution():
    actor, critic = [(np.zeros((2, 1)), np.array([np.nan, 0.0]))], [(np.zeros((1, 1)), np.zeros(1))]
    actions, log_prob, _ = policy.categorical_act(np.zeros((1, 1)), actor, critic, np.ones((1, 2)))
    assert actions.tolist() == [-1]
    assert np.isnan(log_prob).all()


def wrong(message, function, *args, error=ValueError, **options):
    with pytest.raises(error, match=message):
        function(*args, **options)


def test_errors():
    x, own = numbers(1, 10, 6), layers([6, 9, 4], np.float32)
    outputs = policy.perceptron(x, own)
    wrong(r"x: expected a numpy.ndarray, got list", policy.perceptron, [[1.0]], own, error=TypeError)
    wrong(r"x: expected shape \(batch, inputs\)", policy.perceptron, x[0], own)
    wrong(r"layers: expected 1 to 32 layers, got 0", policy.perceptron, x, [])
    wrong(r"layers\[0\]\[0\]: expected shape \(outputs, 6\)", policy.perceptron, x, own[1:])
    wrong(r"layers\[1\]\[1\]: expected shape \(4,\)", policy.perceptron, x, [own[0], (own[1][0], own[0][1])])
    wrong(r"layers\[0\]\[0\]: expected float32", policy.perceptron, x, layers([6, 2], np.float64), error=TypeError)
    wrong(r'activation: expected "tanh" or "leaky_relu"', policy.perceptron, x, own, activation="relu6")
    wrong(r"out: expected 2 arrays", policy.perceptron, x, own, out=outputs[:1])
    wrong(r"out\[0\]: expected shape \(10, 9\)", policy.perceptron, x, own, out=outputs[::-1])
    wrong(
        r"out\[1\]: expected float32 like x, got float64",
        *(policy.perceptron, x, own),
        out=[outputs[0], outputs[1].astype(np.float64)],
        error=TypeError,
    )
    wrong(r"layers: expected a sequence of \(weight, bias\), got int", policy.perceptron, x, 3, error=TypeError)
    wrong(r"layers\[0\]: expected a pair \(weight, bias\), got 1", policy.perceptron, x, [own[0][:1]], error=TypeError)
    wrong(r'activation: expected "tanh" or "leaky_relu", got \[\]', policy.perceptron, x, own, activation=[])
    back, given = policy.perceptron_backward, (outputs[1], x, outputs, own)
    wrong(r"grad: expected shape \(10, 4\)", back, outputs[0], x, outputs, own)
    wrong(r"outputs: expected 2 arrays", back, outputs[1], x, outputs[:1], own)
    wrong(r"x: expected a batch of at least one", back, outputs[1][:0], x[:0], [y[:0] for y in outputs], own)
    wrong(r"grad: expected float32 like x", back, outputs[1].astype(np.float64), x, outputs, own, error=TypeError)
    wrong(
        r"out\[1\]: expected a pair \(weight, bias\), got NoneType", back, *given, out=[own[0], None], error=TypeError
    )
    critic, noise = layers([6, 1], np.float32), np.ones((10, 4), np.float32)
    wrong(r"critic: expected one output, got 4", policy.categorical_act, x, own, own, noise)
    wrong(r"noise: expected shape \(10, 4\)", policy.categorical_act, x, own, critic, noise[:, :3])
    act = x, own, critic, noise
    wrong(
        r"choices: expected numbers from 1 of which 4 is the sum, got \[2, 3\]",
        policy.categorical_act,
        *act,
        choices=(2, 3),
    )
    wrong(r"choices\[1\]: expected 1 <= choices", policy.categorical_act, *act, choices=(4, 0))
    wrong(
        r"choices\[0\]: expected an int, got float", policy.categorical_act, *act, choices=[2.5, 1.5], error=TypeError
    )
    wrong(r"choices: expected a sequence of ints, got int", policy.categorical_act, *act, choices=3, error=TypeError)
    wrong(r"log_std: expected shape \(4,\)", policy.gaussian_act, x, own, critic, noise[0, :3], noise)
    log_std = noise[0].astype(np.float64)
    wrong(
        r"log_std: expected float32 like observations", policy.gaussian_act, *act[:3], log_std, noise, error=TypeError
    )


def test_outputs_that_overlap():
    own, square = layers([6, 9, 4], np.float32), layers([6, 6], np.float32)
    x, grad = numbers(1, 10, 6), numbers(2, 10, 4)
    outputs, wide = policy.perceptron(x, own), np.zeros((10, 12), np.float32)
    before = wide.copy()
    given = grad, x, outputs, own
    for name, of, call in (
        ("x", r"out\[0\]", lambda: policy.perceptron(x, square, out=[x])),
        # Of which a copy is worked on, as it is not contiguous.
        ("x", r"out\[0\]", lambda: policy.perceptron(wide[:, ::2], square, out=[wide.ravel()[:60].reshape(10, 6)])),
        (r"layers\[0\]\[0\]", r"out\[0\]", lambda: policy.perceptron(x[:6], square, out=[square[0][0]])),
        (r"layers\[0\]\[0\]", r"out\[0\]\[0\]", lambda: policy.perceptron_backward(*given, out=own)),
        (
            r"outputs\[0\]",
            r"out\[0\]\[0\]",
            lambda: policy.perceptron_backward(
                *given, out=[(outputs[0].ravel()[:54].reshape(9, 6), own[0][1].copy()), [a.copy() for a in own[1]]]
            ),
        ),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected memory apart from {of}, got arrays that overlap"):
            call()
    with pytest.raises(ValueError, match=r"out\[1\]: expected memory of its own .* overlaps out\[0\]"):
        policy.perceptron(x, layers([6, 6, 6], np.float32), out=[wide.reshape(20, 6)[:10]] * 2)
    assert_same_bits(wide, before)
    # Between the elements of another array there is room.
    got = policy.perceptron(x, own, out=outputs)
    assert_all_same(got, policy.perceptron(np.repeat(x, 2, axis=1)[:, ::2], own))
