"""Optimisers are copied and pickled with copies of their parameters; attributes that do nothing are refused."""

from __future__ import annotations

import collections
import copy
import pickle

import numpy as np
import pytest

import fastopt

from ..support import assert_same_bits, laid_out, values

COPIES = {"deepcopy": copy.deepcopy, "copy": copy.copy, "pickle": lambda one: pickle.loads(pickle.dumps(one))}
each_copy = pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())
MAKERS = {
    "Adam": lambda p: fastopt.Adam(p, lr=0.1, amsgrad=True, max_grad_norm=0.5, ema_decay=0.5),
    "AdamW": lambda p: fastopt.AdamW(p, lr=0.1, maximize=True, skip_nonfinite=True),
    "8bit": lambda p: fastopt.Adam(p, lr=0.1, state_dtype="8bit", rng=3),
    "SGD": lambda p: fastopt.SGD(p, lr=0.1, momentum=0.5, nesterov=True),
    "RMSprop": lambda p: fastopt.RMSprop(p, lr=0.1, momentum=0.5, centered=True, ema_decay=0.5),
    "groups": lambda p: fastopt.Adam([{"params": p, "lr": 0.2}, {"params": [], "betas": (0.5, 0.5)}]),
}


def train(optimizer, steps):
    for step in steps:
        grads = {"w": values(step, (20, 30), np.float32), "b": None if step == 1 else values(step, 7, np.float32)}
        optimizer.step([grads, []] if len(optimizer.param_groups) == 2 else grads)


def arrays_of(optimizer):
    params = optimizer.params[0] if len(optimizer.param_groups) == 2 else optimizer.params
    return {**params, **{k: np.asarray(v) for k, v in optimizer.state_dict().items() if not isinstance(v, str)}}


@each_copy
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize("layout", ["C", "Fortran", "every other"])
def test_a_copy_goes_on_alike_and_apart(duplicate, make, layout):
    w = laid_out(values(1, (20, 30), np.float32), layout)
    optimizer = make({"w": w, "b": values(2, 7, np.float32)})
    train(optimizer, range(3))
    optimizer.param_groups[0]["weight_decay"] = 0.25
    before = w.copy()
    other = duplicate(optimizer)
    assert type(other) is type(optimizer)
    assert repr(other) == repr(optimizer)
    train(other, range(3, 6))
    assert_same_bits(w, before)
    train(optimizer, range(3, 6))
    mine, its = arrays_of(optimizer), arrays_of(other)
    assert mine.keys() == its.keys()
    for key in mine:
        assert_same_bits(its[key], mine[key], key)
    assert not np.shares_memory(its["w"], w)


@pytest.mark.parametrize("duplicate", [COPIES["deepcopy"], COPIES["pickle"]])
def test_a_model_that_is_copied_with_its_optimizer_is_trained_by_it(duplicate):
    w = np.ones(3)
    model = duplicate({"w": w, "optimizer": fastopt.Adam([w], lr=0.1)})
    assert model["optimizer"].params[0] is model["w"]
    model["optimizer"].step([np.ones(3)])
    assert model["w"].max() < 1
    assert w.min() == 1


class Named(fastopt.Adam):
    """A class with a constructor and attributes of its own."""

    def __init__(self, name, params):
        super().__init__(params)
        self.name = name


@each_copy
def test_a_subclass(duplicate):
    other = duplicate(Named("mine", [np.ones(3)]))
    assert type(other) is Named
    assert other.name == "mine"


Layer = collections.namedtuple("Layer", "w b")


def test_averages_have_the_form_of_the_parameters():
    params = collections.OrderedDict(one=Layer(np.ones(2), np.ones(1)), two=(np.ones(3), [np.ones(4)]))
    averages = fastopt.Adam(params, ema_decay=0.5).ema_params
    assert type(averages) is collections.OrderedDict
    assert list(averages) == ["one", "two"]
    assert type(averages["one"]) is Layer
    assert [type(part) for part in (averages["two"], averages["two"][1])] == [tuple, list]
    assert averages["one"].w is not params["one"].w


@pytest.mark.parametrize("name", ["learning_rate", "betas", "max_grad_norm", "step_count", "params", "grad_norm"])
@pytest.mark.parametrize("kind", [fastopt.Adam, fastopt.AdamW, fastopt.RMSprop, fastopt.SGD])
def test_attributes_that_would_do_nothing_are_refused(kind, name):
    optimizer = kind([np.ones(3)])
    with pytest.raises(AttributeError, match=f"{kind.__name__}.{name}: expected lr, .*lr, .*are set by key"):
        setattr(optimizer, name, 1)
    optimizer.lr = 0.5
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_group_has_its_values_by_key():
    group = fastopt.Adam([np.ones(3)]).param_groups[0]
    with pytest.raises(AttributeError, match=r"""ParamGroup.lr: expected a key, group\["lr"\] = ..."""):
        group.lr = 1.0
