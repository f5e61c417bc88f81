"""The networks of a policy that are checked once, as fastopt.sb3 uses them: the bits of the ops that check each time."""

from __future__ import annotations

import numpy as np
import pytest

from fastopt import _core, policy

from ..support import DTYPES, assert_same_bits
from .test_networks import ACTIVATIONS, assert_all_same, layers, numbers

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def networks(dtype=np.float32, actor_sizes=(5, 70, 33, 3), critic_sizes=(5, 17, 1), **options):
    actor, critic = layers(actor_sizes, dtype), layers(critic_sizes, dtype, 1)
    grads = [[(np.full_like(w, 7), np.full_like(b, 7)) for w, b in net] for net in (actor, critic)]
    options = {"activation": "tanh", "negative_slope": 0.0, **options}
    return _core.ActorCritic(actor, critic, *grads, *options.values()), actor, critic, *grads


@each_dtype
@pytest.mark.parametrize("options", ACTIVATIONS, ids=str)
def test_there_and_back(options, dtype):
    own, actor, critic, *grads = networks(dtype, **options)
    for rows in (1, 64, 3, 64):
        x = numbers(rows, rows, 5, dtype=dtype)
        scores, values, dscores, dvalues = own.forward(x)
        outputs = [policy.perceptron(x, net, **options) for net in (actor, critic)]
        assert_all_same([scores, values], [outputs[0][-1], outputs[1][-1][:, 0]])
        dscores[...], dvalues[...] = numbers(3, rows, 3), numbers(4, rows)
        own.backward()
        for net, made, grad, into in zip((actor, critic), outputs, (dscores, dvalues[:, None]), grads, strict=True):
            assert_all_same(into, policy.perceptron_backward(grad.copy(), x, made, net, **options))
        for net in (actor, critic):  # a step in place counts
            net[0][0][...] *= dtype(0.9)


def test_networks_of_one_layer():
    own, actor, critic, *grads = networks(np.float32, (4, 2), (4, 1))
    x = numbers(0, 9, 4)
    scores, values, dscores, dvalues = own.forward(x)
    assert_all_same([scores, values], [policy.perceptron(x, actor)[0], policy.perceptron(x, critic)[0][:, 0]])
    dscores[...], dvalues[...] = 1, 1
    own.backward()
    assert_all_same(grads[0], policy.perceptron_backward(np.ones((9, 2), np.float32), x, [scores], actor))


@each_dtype
def test_acting(dtype):
    own, actor, critic, *_ = networks(dtype)
    x, noise, log_std = numbers(0, 4, 5, dtype=dtype), abs(numbers(1, 4, 3, dtype=dtype)), numbers(2, 3, dtype=dtype)
    assert_all_same(own.categorical_act(x, noise, None), policy.categorical_act(x, actor, critic, noise))
    of_two = policy.categorical_act(x, actor, critic, noise, choices=[2, 1])
    assert_all_same(own.categorical_act(x, noise, [2, 1]), of_two)
    assert_all_same(own.gaussian_act(x, log_std, noise), policy.gaussian_act(x, actor, critic, log_std, noise))
    values = own.values(x)
    assert_same_bits(values, of_two[2])
    own.values(x + 1)
    assert_same_bits(values, of_two[2])


def test_order_of_the_memory_of_a_batch():
    own, *_ = networks()
    x = numbers(0, 6, 5)
    expected = own.forward(x)[0].copy()
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]):
        assert_same_bits(own.forward(other)[0], expected)


def test_errors():
    own, actor, critic, actor_grads, critic_grads = networks()
    rest = "tanh", 0.0
    with pytest.raises(RuntimeError, match="backward: expected a batch to have gone forward"):
        own.backward()
    own.forward(numbers(0, 2, 5))
    own.values(numbers(0, 2, 5))
    with pytest.raises(RuntimeError, match="backward: expected a batch to have gone forward"):
        own.backward()
    for wrong in (numbers(0, 2, 4), numbers(0, 2, 5, dtype=np.float64)):
        with pytest.raises(ValueError, match="observations: expected float32 of shape"):
            own.forward(wrong)
    with pytest.raises(ValueError, match="observations: expected a batch of at least one"):
        own.forward(numbers(0, 0, 5))
    turned = [(np.asfortranarray(critic[0][0]), critic[0][1]), critic[1]]
    with pytest.raises(ValueError, match=r"critic\[0\]\[0\]: expected a C-contiguous array"):
        _core.ActorCritic(actor, turned, actor_grads, critic_grads, *rest)
    with pytest.raises(ValueError, match="critic: expected one output"):
        _core.ActorCritic(actor, actor, actor_grads, actor_grads, *rest)
    with pytest.raises(ValueError, match=r"actor_grads\[0\]\[0\]: expected memory of its own|overlap"):
        _core.ActorCritic(actor, critic, [actor[0], *actor_grads[1:]], critic_grads, *rest)
    with pytest.raises(ValueError, match=r"critic_grads\[1\]\[1\]: expected shape"):
        _core.ActorCritic(actor, critic, actor_grads, [critic_grads[0], (critic_grads[1][0], np.zeros(2, np.float32))], *rest)
    with pytest.raises(ValueError, match="actor: expected at least one layer"):
        _core.ActorCritic([], critic, [], critic_grads, *rest)
