"""The networks of a policy that are checked once, for fastopt.sb3: the bits of the ops that check each time."""

from __future__ import annotations

import contextlib
import threading
import weakref

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
        own.backward(x)
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
    own.backward(x)
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


def test_two_sizes_at_once():
    """A batch of another size in between is the one that goes backward."""
    own, _, critic, *grads = networks()
    x, others = numbers(0, 6, 5), numbers(1, 3, 5)
    own.forward(x)
    *_, dscores, dvalues = own.forward(others)
    own.values(x)  # in room of its own
    dscores[...], dvalues[...] = 1, 1
    with pytest.raises(RuntimeError, match="backward: expected the batch that has gone forward last"):
        own.backward(x)
    own.backward(others)
    made = policy.perceptron(others, critic)
    assert_all_same(grads[1], policy.perceptron_backward(dvalues[:, None].copy(), others, made, critic))
    assert own.values(numbers(0, 0, 5)).shape == (0,)


def test_no_batch_is_kept():
    own, *_ = networks()
    x = numbers(0, 6, 5)
    alive = weakref.ref(x)
    own.forward(x)
    own.backward(x)
    own.categorical_act(x, np.ones((6, 3), np.float32), None)
    own.values(x)
    del x
    assert alive() is None


def test_one_thread_at_a_time():
    """Or one would write where the other reads."""
    own, *_ = networks(np.float32, (64, 64, 64, 2), (64, 64, 1))
    x = numbers(0, 4096, 64)
    expected = own.forward(x)[0].copy()
    enough, refused = threading.Event(), []

    def run():
        while not enough.is_set():
            with contextlib.suppress(RuntimeError):
                own.forward(x)

    other = threading.Thread(target=run)
    other.start()
    for _ in range(10_000):
        try:
            own.forward(x)
        except RuntimeError as error:
            refused.append(str(error))
            break
    enough.set()
    other.join()
    assert refused == ["these networks are in the middle of a batch in another thread"]
    assert_same_bits(own.forward(x)[0], expected)


def test_errors():
    own, *_ = networks()
    x = numbers(0, 2, 5)
    with pytest.raises(RuntimeError, match="backward: expected the batch that has gone forward last"):
        own.backward(x)
    own.forward(x)
    own.backward(x)
    with pytest.raises(RuntimeError, match="backward: expected the batch that has gone forward last"):
        own.backward(x)
    with pytest.raises(ValueError, match=r"observations: expected shape \(2, 5\)"):
        own.forward(numbers(0, 2, 4))
    with pytest.raises(TypeError, match="observations: expected float32 like actor"):
        own.forward(x.astype(np.float64))
    with pytest.raises(ValueError, match="observations: expected a batch of at least one"):
        own.forward(x[:0])
    for choices in ([2], [5, -2], [3, 0], []):
        with pytest.raises(ValueError, match="choices: expected numbers from 1 of which 3 is the sum"):
            own.categorical_act(x, np.ones((2, 3), np.float32), choices)


def test_errors_when_made():
    own, actor, critic, actor_grads, critic_grads = networks()
    rest = "tanh", 0.0
    with pytest.raises(TypeError):
        _core.ActorCritic.__new__(_core.ActorCritic)
    turned = [(np.asfortranarray(critic[0][0]), critic[0][1]), critic[1]]
    for wrong, message in [
        ((actor, turned, actor_grads, critic_grads), r"critic\[0\]\[0\]: expected a C-contiguous array"),
        ((actor, actor, actor_grads, actor_grads), "critic: expected one output"),
        (
            (actor, critic, [actor[0], *actor_grads[1:]], critic_grads),
            r"actor\[0\]\[0\]: expected memory apart from actor_grads\[0\]\[0\]",
        ),
        (
            (actor, critic, actor_grads, [critic_grads[0], (actor_grads[2][0][:1, :17], critic_grads[1][1])]),
            r"actor_grads\[2\]\[0\]: expected memory of its own to be written, got an array that overlaps critic_grads",
        ),
        (
            (actor, critic, actor_grads, [critic_grads[0], (critic_grads[1][0], np.zeros(2, np.float32))]),
            r"critic_grads\[1\]\[1\]: expected shape \(1,\)",
        ),
        ((actor, critic, actor_grads[:2], critic_grads), "actor_grads: expected 3 pairs"),
        (([], critic, [], critic_grads), "actor: expected at least one layer, got none"),
        (([actor[0][::-1]], critic, [], critic_grads), r"actor\[0\]\[0\]: expected shape \(outputs, inputs\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            _core.ActorCritic(*wrong, *rest)
    wide = [(w.astype(np.float64), b) for w, b in actor_grads]
    with pytest.raises(TypeError, match=r"actor_grads\[0\]\[0\]: expected float32 like actor"):
        _core.ActorCritic(actor, critic, wide, critic_grads, *rest)
    own.forward(numbers(0, 2, 5))
    own.__init__(actor, critic, [], [], *rest)  # makes nothing anew
    own.backward(numbers(0, 2, 5))
