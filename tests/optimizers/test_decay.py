"""A weight decay that is a function of each parameter: groups inside, while all else keeps the form that was given."""

from __future__ import annotations

import copy
import pickle
from collections import namedtuple

import numpy as np
import pytest

import fastopt
from fastopt import reference
from fastopt._tree import leaves, rebuilt

from ..support import assert_same_bits
from .snapshots import assert_same_snapshots, finite, snapshot
from .test_state_dict import through_file

Layer = namedtuple("Layer", ["w", "b"])
OPTIONS = {
    "Adam": {"lr": 0.1, "amsgrad": True, "ema_decay": 0.5},
    "AdamW": {"lr": 0.1, "max_grad_norm": 0.5},
    "SGD": {"lr": 0.1, "momentum": 0.5, "state_dtype": "8bit", "rng": 3},
    "RMSprop": {"lr": 0.1, "centered": True},
}
each_rule = pytest.mark.parametrize("name", OPTIONS)


def decay(path, p):
    return 0.25 if path in ("first/0", "rest/0/w") else 0.0


def new_params():
    arrays = [finite(k, shape, np.float32) for k, shape in enumerate(((20, 30), 7, (15, 40), ()))]
    return {"first": Layer(*arrays[:2]), "rest": [{"w": arrays[2], "b": arrays[3]}]}


def grads_of(step, params):
    return rebuilt(params, (finite(10 * step + k, p.shape, p.dtype.type) for k, (_, p) in enumerate(leaves(params))))


@each_rule
def test_the_bits_are_those_of_groups_made_by_hand(name):
    params, apart, defined = new_params(), new_params(), new_params()
    groups = [
        {"params": [apart["first"].w, apart["rest"][0]["w"]], "weight_decay": 0.25},
        {"params": [apart["first"].b, apart["rest"][0]["b"]], "weight_decay": 0.0},
    ]
    optimizer = getattr(fastopt, name)(params, weight_decay=decay, **OPTIONS[name])
    # The addresses by which small states are rounded count the parameters: by hand they are in another order.
    by_hand = getattr(fastopt, name)(groups, **OPTIONS[name]) if name != "SGD" else None
    twin = getattr(reference, name)(defined, weight_decay=decay, **OPTIONS[name])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.0]
    for step in range(3):
        grads = grads_of(step, params)
        optimizer.step(grads)
        twin.step(grads)
        if by_hand and "max_grad_norm" not in OPTIONS[name]:  # whose sum goes in the order of the parameters
            first, rest = grads["first"], grads["rest"][0]
            by_hand.step([[first.w, rest["w"]], [first.b, rest["b"]]])
            for (path, array), (_, wanted) in zip(leaves(params), leaves(apart), strict=True):
                assert_same_bits(array, wanted, path)
    for (path, array), (_, wanted) in zip(leaves(params), leaves(defined), strict=True):
        assert_same_bits(array, wanted, path)
    assert optimizer.state_dict().keys() == twin.state_dict().keys()
    assert optimizer.params is params
    if name == "Adam":
        assert type(optimizer.ema_params["first"]) is Layer
        assert optimizer.ema_params.keys() == params.keys()


def test_the_steps_are_those_of_torch():
    torch = pytest.importorskip("torch")
    params = {"w": finite(1, (3, 4)), "b": finite(2, 4)}
    theirs = {key: torch.tensor(array, requires_grad=True) for key, array in params.items()}
    optimizer = fastopt.AdamW(params, lr=0.1, weight_decay=lambda path, p: 0.5 if p.ndim > 1 else 0.0)
    twin = torch.optim.AdamW(
        [{"params": [theirs["w"]], "weight_decay": 0.5}, {"params": [theirs["b"]], "weight_decay": 0.0}], lr=0.1
    )
    for step in range(5):
        grads = grads_of(step, params)
        for key, grad in grads.items():
            theirs[key].grad = torch.tensor(grad)
        optimizer.step(grads)
        twin.step()
    for key, array in params.items():
        np.testing.assert_allclose(array, theirs[key].detach().numpy(), rtol=1e-12, atol=1e-13)


def test_it_is_asked_once_for_each_parameter_by_path_and_array():
    params, seen = new_params(), []
    optimizer = fastopt.SGD(params, weight_decay=lambda path, p: seen.append((path, p)) or 0.5)
    assert [path for path, _ in seen] == ["first/0", "first/1", "rest/0/w", "rest/0/b"]
    assert all(p is array for (_, p), (_, array) in zip(seen, leaves(params), strict=True))
    assert len(optimizer.param_groups) == 1
    optimizer.step(grads_of(0, params))
    assert len(seen) == 4


def test_groups_may_have_functions_of_their_own():
    w, b, head = np.ones((2, 2)), np.ones(2), [np.ones(1), np.ones((1, 1))]
    optimizer = fastopt.SGD(
        [
            {"params": {"w": w, "b": b}, "weight_decay": lambda path, p: {"0/w": 0.5, "0/b": 0.25}[path]},
            {"params": []},
            {"params": head, "lr": 0.125, "weight_decay": 0.75},
        ],
        weight_decay=lambda path, p: 1.0,
    )
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        *[(1e-3, 0.5), (1e-3, 0.25), (1e-3, 0.0), (0.125, 0.75)]
    ]
    state = optimizer.state_dict()
    assert [state[f"group/{path}"] for path in ("0/w", "0/b", "2/0", "2/1")] == [0, 1, 3, 3]
    optimizer.step([{"w": w * 0, "b": b * 0}, [], [p * 0 for p in head]])
    assert w[0, 0] == 1 - 1e-3 * 0.5
    assert b[0] == 1 - 1e-3 * 0.25
    assert head[0][0] == 1 - 0.125 * 0.75


def by_letter(path, p):
    return 0.25 if path.endswith("w") else 0.0


@pytest.mark.parametrize(
    "duplicate",
    [lambda one: one, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))],
    ids=["it", "copy", "pickle"],
)
def test_a_group_that_is_added_is_asked_for_too(duplicate):
    optimizer = fastopt.SGD({"w": np.ones(1), "b": np.ones(1)}, lr=1.0, weight_decay=by_letter)
    optimizer.step({"w": np.zeros(1), "b": np.zeros(1)})
    optimizer.param_groups[0]["weight_decay"] = 0.5
    optimizer = duplicate(optimizer)
    optimizer.step({"w": np.zeros(1), "b": np.zeros(1)})
    optimizer.add_param_group({"params": {"b": np.ones(1), "w": np.ones(1)}, "lr": 0.5})
    optimizer.add_param_group({"params": {"w": np.ones(1)}, "weight_decay": 1.0})
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0, 0.0, 0.25, 1.0]
    again = duplicate(optimizer)
    assert repr(again) == repr(optimizer)
    again.step([{"w": np.zeros(1), "b": np.zeros(1)}, {"b": np.zeros(1), "w": np.zeros(1)}, {"w": np.zeros(1)}])
    found = {path: float(array[0]) for path, array in leaves(again.params)}
    assert found == {"0/w": 0.75 * 0.5 * 0.5, "0/b": 1.0, "1/b": 1.0, "1/w": 0.875, "2/w": 0.0}


@each_rule
def test_a_state_goes_on_and_fits_the_same_division_alone(name):
    def made(weight_decay):
        params = {"w": finite(1, (3, 300)), "b": finite(2, 5), "c": finite(3, 6)}
        return getattr(fastopt, name)(params, weight_decay=weight_decay, **OPTIONS[name])

    optimizer, same = made(lambda path, p: 0.5 * (path == "w")), made(lambda path, p: 0.25 * (path == "w"))
    optimizer.step(grads_of(0, optimizer.params))
    state = through_file(optimizer.state_dict())
    for (_, own), (_, array) in zip(leaves(same.params), leaves(optimizer.params), strict=True):
        own[...] = array
    same.load_state_dict(state)
    for one in (optimizer, same):
        one.step(grads_of(1, one.params))
    assert_same_snapshots(snapshot(same, same.params), snapshot(optimizer, optimizer.params))
    other = made(lambda path, p: 0.5 * (path != "c"))
    before = snapshot(other, other.params)
    message = r"state\['group/b'\]: expected 0, as this optimiser was made, got 1; make one so"
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(state)
    assert_same_snapshots(snapshot(other, other.params), before)
    with pytest.raises(ValueError, match=r"unknown \['group/b', "):
        made(0.5).load_state_dict(state)


def test_a_function_that_cannot_be_pickled_is_not_lost_in_silence():
    optimizer = fastopt.Adam([np.ones(2)], weight_decay=lambda path, p: 0.5)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(optimizer)
    copy.deepcopy(optimizer).add_param_group({"params": np.ones(1)})


WRONG = {
    "negative": (lambda path, p: -1.0, ValueError, "weight_decay of params/b: expected a finite number >= 0, got -1.0"),
    "nan": (lambda path, p: np.nan, ValueError, "weight_decay of params/b: expected a finite number >= 0, got nan"),
    "none": (lambda path, p: None, TypeError, "weight_decay of params/b: expected a float, got NoneType"),
    "arguments": (lambda p: 0.5, TypeError, "takes 1 positional argument but 2 were given"),
    "its own": (lambda path, p: {}[path], KeyError, "b"),
}


@pytest.mark.parametrize(("function", "error", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_it_must_return(function, error, message):
    with pytest.raises(error, match=message):
        fastopt.Adam({"b": np.ones(1)}, weight_decay=function)
    optimizer = fastopt.Adam({"b": np.ones(1)})
    with pytest.raises(error, match=message.replace("params/b", "params/1/b").replace("^b", "1/b")):
        optimizer.add_param_group({"params": {"b": np.ones(1)}, "weight_decay": function})
    assert len(optimizer.param_groups) == 1


def test_a_group_holds_numbers():
    optimizer = fastopt.Adam([np.ones(1)])
    with pytest.raises(TypeError, match="weight_decay: expected a float, got function"):
        optimizer.param_groups[0]["weight_decay"] = decay
    with pytest.raises(TypeError, match="params/0: expected"):
        fastopt.Adam([1.0], weight_decay=lambda path, p: 0.5 if p.ndim > 1 else 0.0)
