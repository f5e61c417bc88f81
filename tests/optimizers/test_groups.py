"""Groups: one more behind the others, and the keys of a group, of which the rule takes some and keeps the others."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import fastopt

from ..support import assert_same_bits, laid_out, run_python
from .snapshots import assert_same_snapshots, finite, snapshot
from .test_state_dict import through_file

MAKERS = {
    "Adam": lambda p: fastopt.Adam(p, lr=0.1, amsgrad=True, weight_decay=0.25, ema_decay=0.5),
    "AdamW": lambda p: fastopt.AdamW(p, lr=0.1, maximize=True),
    "bfloat16": lambda p: fastopt.Adam(p, lr=0.1, state_dtype="bfloat16", rng=3, ema_decay=0.5),
    "8bit": lambda p: fastopt.Adam(p, lr=0.1, state_dtype="8bit", rng=3, max_grad_norm=0.5),
    "SGD": lambda p: fastopt.SGD(p, lr=0.1, momentum=0.5, nesterov=True, max_grad_norm=0.5),
    "SGD 8bit": lambda p: fastopt.SGD(p, lr=0.1, momentum=0.5, state_dtype="8bit", rng=3, skip_nonfinite=True),
    "plain": lambda p: fastopt.SGD(p, lr=0.1),
    "RMSprop": lambda p: fastopt.RMSprop(p, lr=0.1, momentum=0.5, centered=True, ema_decay=0.5),
}
each_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
each_layout = pytest.mark.parametrize("layout", ["C", "Fortran", "every other"])


def new_params(layout="C"):
    first = {"w": laid_out(finite(1, (20, 30), np.float32), layout), "b": finite(2, 7, np.float32)}
    return first, [laid_out(finite(3, (15, 40), np.float32), layout), finite(4, (), np.float32)]


def grads_of(step):
    first = {"w": finite(10 + step, (20, 30), np.float32), "b": None if step == 1 else finite(20 + step, 7, np.float32)}
    return first, [finite(30 + step, (15, 40), np.float32), finite(40 + step, (), np.float32)]


# ---- one more group --------------------------------------------------------------------------------------------------


@each_maker
@each_layout
def test_a_group_that_is_added_is_one_that_had_no_gradient_so_far(make, layout):
    # The same bits as an optimiser that was made with both and got None for the second.
    own = {"lr": 0.05, "weight_decay": 0.125}
    first, second = new_params(layout)
    other_first, other_second = new_params(layout)
    optimizer, other = make(first), make([{"params": other_first}, {"params": other_second, **own}])
    for step in range(3):
        grads = grads_of(step)[0]
        optimizer.step(grads)
        other.step([grads, [None, None]])
    group = {"params": second, **own}
    assert optimizer.add_param_group(group) is None
    assert set(group) == {"params", *own}
    assert dict(optimizer.param_groups[1]) == dict(other.param_groups[1])
    for step in range(3, 6):
        optimizer.step(list(grads_of(step)))
        other.step(list(grads_of(step)))
    mine, its = snapshot(optimizer, [first, second]), snapshot(other, [other_first, other_second])
    assert mine["step_count"] == 6
    assert mine["step/1/0"] == 3
    assert_same_snapshots(mine, its)
    if optimizer.ema_params is not None:
        assert_same_bits(optimizer.ema_params[0]["w"], other.ema_params[0]["w"])
        assert_same_bits(optimizer.ema_params[1][1], other.ema_params[1][1])
    state = through_file(optimizer.state_dict())
    other.load_state_dict(state)
    for duplicate in (copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        again = duplicate(optimizer)
        assert repr(again) == repr(optimizer)
        again.step(list(grads_of(6)))
    optimizer.step(list(grads_of(6)))
    assert_same_snapshots(snapshot(again, again.params), snapshot(optimizer, [first, second]))


def test_its_steps_are_those_of_torch():
    torch = pytest.importorskip("torch")
    mine = [finite(k, 5) for k in range(3)]
    theirs = [torch.tensor(array, requires_grad=True) for array in mine]
    cases = (
        ("Adam", {"betas": (0.5, 0.75)}),
        ("AdamW", {"amsgrad": True}),
        ("RMSprop", {}),
        ("SGD", {"momentum": 0.9}),
    )
    for name, options in cases:
        optimizer = getattr(fastopt, name)([{"params": mine[0]}], lr=0.1, **options)
        twin = getattr(torch.optim, name)([{"params": theirs[:1]}], lr=0.1, **options)
        for step in range(9):
            if step in (3, 5):
                k = len(optimizer.param_groups)
                optimizer.add_param_group({"params": mine[k], "lr": 0.2, "weight_decay": 0.5})
                twin.add_param_group({"params": theirs[k : k + 1], "lr": 0.2, "weight_decay": 0.5})
            grads = [finite(10 * step + k, 5) for k in range(len(optimizer.param_groups))]
            for tensor, grad in zip(theirs, grads, strict=False):
                tensor.grad = torch.tensor(grad)
            optimizer.step(grads)
            twin.step()
        for array, tensor in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(array, tensor.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("params", [np.ones(3), [np.ones(3)], {"0": {"params": np.ones(3)}}, [{"params": np.ones(3)}]])
def test_keys_of_a_state_are_unique_and_those_of_one_made_with_all_groups(params):
    optimizer = fastopt.Adam(params)
    grouped = type(params) is list and type(params[0]) is dict
    tree = params[0]["params"] if grouped else params
    for _ in range(11):
        optimizer.add_param_group({"params": [np.ones(2)]})
    other = fastopt.Adam([{"params": tree}, *({"params": [np.ones(2)]} for _ in range(11))])
    assert list(optimizer.state_dict()) == list(other.state_dict())
    assert optimizer.params[0] is tree


def test_averages_stay_the_same_arrays():
    optimizer = fastopt.SGD([np.ones(3)], ema_decay=0.5)
    average = optimizer.ema_params[0]
    optimizer.add_param_group({"params": np.ones(2)})
    optimizer.step([[np.ones(3)], np.ones(2)])
    assert optimizer.ema_params[0][0] is average
    assert (average < 1).all()


W = np.ones((4, 4))
WRONG = {
    "none": (lambda o: None, TypeError, 'group: expected a dict with the key "params", got NoneType'),
    "array": (lambda o: np.ones(3), TypeError, 'group: expected a dict with the key "params", got ndarray'),
    "no params": (lambda o: {"lr": 1.0}, TypeError, r"group: expected a dict .*, got keys \['lr'\]"),
    "name": (
        lambda o: {"params": np.ones(2), "learning_rate": 1.0},
        ValueError,
        "group: expected hyper-parameters among lr, .*, got learning_rate",
    ),
    "value": (lambda o: {"params": np.ones(2), "lr": -1.0}, ValueError, "lr: expected a finite number >= 0, got -1.0"),
    "eps": (lambda o: {"params": np.ones(2), "eps": 1e-300}, ValueError, "eps: expected"),
    "dtype": (
        lambda o: {"params": {"w": np.ones(2, np.float32)}},
        TypeError,
        "params/1/w: expected float64 like params/0, got float32",
    ),
    "list": (lambda o: {"params": [1.0]}, TypeError, "params/1/0: expected"),
    "second": (lambda o: {"params": [np.ones(2), "x"]}, TypeError, "params/1/1: expected"),
    "twice": (lambda o: {"params": [W]}, ValueError, "params/1/0: .* overlaps params/0; list a tied weight once"),
    "row": (lambda o: {"params": [W[1]]}, ValueError, "params/1/0: .* overlaps params/0; list a tied weight once"),
    "among themselves": (
        lambda o: {"params": [(a := np.ones(2)), a]},
        ValueError,
        "params/1/1: .* overlaps params/1/0",
    ),
    "average": (lambda o: {"params": o.ema_params}, ValueError, "params/1: .* overlaps ema/0"),
    "read-only": (lambda o: {"params": np.broadcast_to(1.0, 3)}, ValueError, "params/1: "),
    "path": (lambda o: {"params": {"a/b": np.ones(1), "a": [np.ones(1)], "a/0": np.ones(1)}}, ValueError, "two arrays"),
    "file": (lambda o: {"params": {"a.npy": np.ones(1)}}, ValueError, "keys that an npz file can hold, got '1/a.npy'"),
}


@pytest.mark.parametrize(("group", "error", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_group_changes_nothing(group, error, message):
    W[...] = 1
    param, twin_param = W[...], W.copy()
    optimizer, twin = fastopt.Adam(param, ema_decay=0.5), fastopt.Adam(twin_param, ema_decay=0.5)
    for one in (optimizer, twin):
        one.step(np.ones((4, 4)))
    with pytest.raises(error, match=message):
        optimizer.add_param_group(group(optimizer))
    assert len(optimizer.param_groups) == 1
    assert optimizer.params is param
    for one in (optimizer, twin):
        one.step(np.ones((4, 4)))
    assert_same_snapshots(snapshot(optimizer, [param]), snapshot(twin, [twin_param]))


def test_a_gradient_of_before_is_compared_with_the_new_parameters():
    grad = np.ones(8)
    optimizer = fastopt.SGD(np.ones(8))
    optimizer.step(grad)  # is known to overlap nothing from now on
    optimizer.add_param_group({"params": grad[:3]})
    with pytest.raises(ValueError, match=r"grads/0: .*params/1"):
        optimizer.step([grad, None])
    assert (grad == 1).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of NumPy 2.5, where a shape or strides are set
def test_a_changed_parameter_is_still_noticed():
    param = np.ones((6, 4))
    optimizer = fastopt.SGD([param])
    param.shape = (4, 6)
    optimizer.add_param_group({"params": np.ones(3)})
    with pytest.raises(ValueError, match=r"^params/0/0: expected float64 of shape \(6, 4\)"):
        optimizer.step([[np.ones((4, 6))], None])


def test_a_state_of_before_and_one_of_other_groups_are_refused():
    optimizer = fastopt.Adam([np.ones(3)])
    state = optimizer.state_dict()
    optimizer.add_param_group({"params": np.ones(3)})
    with pytest.raises(ValueError, match=r"missing .*'exp_avg/0/0'.* unknown .*'exp_avg/0'"):
        optimizer.load_state_dict(state)


def test_a_callback_and_a_second_thread_cannot_add_a_group_amid_a_step():
    class Key:
        def __hash__(self):
            return 7

        def __eq__(self, other):
            with pytest.raises(RuntimeError, match=r"^add_param_group: re-entry: .* in the middle of a step"):
                optimizer.add_param_group({"params": np.ones(2)})
            return True

    optimizer = fastopt.SGD({Key(): np.ones(3)})
    optimizer.step({Key(): np.ones(3)})
    assert len(optimizer.param_groups) == 1
    threads = [
        threading.Thread(target=lambda: [optimizer.add_param_group({"params": np.ones(2)}) for _ in range(20)])
        for _ in range(2)
    ]
    refused = []
    threading.excepthook, before = lambda args: refused.append(args.exc_type), threading.excepthook
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = before
    assert set(refused) <= {RuntimeError}
    assert refused or len(optimizer.param_groups) == 41
    assert len(optimizer.params) == len(optimizer.param_groups) > 20
    optimizer.lr = 0.5
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}


def test_groups_that_are_added_free_what_they_replace():
    run_python(
        """
import gc, resource
import numpy as np
import fastopt

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

optimizer = fastopt.Adam([np.ones(1 << 20)])
for _ in range(20):
    optimizer.add_param_group({"params": [np.ones(4)]})
before = peak()
for _ in range(200):
    optimizer.add_param_group({"params": [np.ones(4)]})
    try:
        optimizer.add_param_group({"params": [np.ones(1 << 18), 1.0]})
    except TypeError:
        pass
assert peak() - before < 30_000, peak() - before  # KiB; an array of states has 8,192
"""
    )


# ---- keys ------------------------------------------------------------------------------------------------------------

MISNAMED = [
    *("learning_rate", "weight_decy", "weightdecay", "WeightDecay", "LR", "bets", "beta1", "epsilon", "momentun"),
    *("amsgrad", "maximize", "max_grad_norm", "nestrov", "params", "rule", "wd", "state_dtype", "a/b", "x.npy", "", 3),
]
KEPT = ["initial_lr", "max_lr", "min_lr", "swa_lr", "base_momentum", "max_momentum", "name", "lr_scale", "foreach"]


@pytest.mark.parametrize("name", MISNAMED)
@pytest.mark.parametrize("kind", [fastopt.Adam, fastopt.RMSprop, fastopt.SGD])
def test_a_name_that_may_be_meant_for_an_option_is_refused(kind, name):
    optimizer = kind([np.ones(3)])
    group = optimizer.param_groups[0]
    before = dict(group)
    for change in (
        lambda: group.update({name: 1.0}),
        lambda: group.setdefault(name, 1.0),
        lambda: group.__setitem__(name, 1.0),
    ):
        with pytest.raises(KeyError, match=f"expected one of lr, .*, got {name}"):
            change()
    if name != "params":
        with pytest.raises(ValueError, match=rf"params\[0\]: expected hyper-parameters among lr, .*, got {name}"):
            kind([{"params": np.ones(3), name: 1.0}])
    assert dict(group) == before


@pytest.mark.parametrize("name", KEPT)
def test_other_keys_are_kept_and_do_nothing(name):
    param, expected = np.ones(3), np.ones(3)
    optimizer = fastopt.SGD([{"params": param, name: 0.5}], momentum=0.5)
    group = optimizer.param_groups[0]
    assert group[name] == group.setdefault(name, 7) == 0.5
    group[name] = 0.25
    optimizer.lr = 0.125
    assert (group[name], group["lr"], list(group)[-1]) == (0.25, 0.125, name)
    assert f"{name}=0.25" in repr(group)
    twin = fastopt.SGD([expected], momentum=0.5, lr=0.125)
    for one in (optimizer, twin):
        one.step([np.ones(3)])
    assert_same_bits(param, expected)
    assert group.scalars == twin.param_groups[0].scalars


def test_the_reference_keeps_them_too():
    param, expected = np.ones(3), np.ones(3)
    for ops, array in ((fastopt, param), (fastopt.reference, expected)):
        ops.Adam([{"params": array, "initial_lr": 0.5}]).step([np.ones(3)])
    assert_same_bits(param, expected)


def test_update_and_setdefault():
    group = fastopt.Adam([np.ones(3)]).param_groups[0]
    group.update(lr=0.5, eps=0.25)
    group.update({"lr": 0.125}, weight_decay=0.75)
    group.update([("eps", 0.5)])
    assert dict(group) == {"lr": 0.125, "betas": (0.9, 0.999), "eps": 0.5, "weight_decay": 0.75}
    assert group.setdefault("lr", 99.0) == 0.125
    with pytest.raises(ValueError, match="eps: expected"):
        group.update(lr=1.0, eps=-1.0)
    assert group["lr"] == 0.125


STORED = {"initial_lr": 0.5, "name": "decay", "epoch": 3, "frozen": True}


@pytest.mark.parametrize("store", [dict, through_file], ids=["dict", "file"])
def test_what_else_a_group_keeps_is_in_its_state(store):
    optimizer = fastopt.Adam([{"params": np.ones(3), **STORED, "history": [1, 2]}, {"params": np.ones(2)}])
    optimizer.param_groups[1]["initial_lr"] = np.float32(0.25)
    state = store(optimizer.state_dict())
    assert "param_groups/0/history" not in state
    other = fastopt.Adam([{"params": np.ones(3), "of_its_own": 1}, {"params": np.ones(2)}])
    other.load_state_dict(state)
    options = dict(fastopt.Adam([np.ones(1)]).param_groups[0])
    assert dict(other.param_groups[0]) == {**options, **STORED}
    assert [type(other.param_groups[0][key]) for key in STORED] == [float, str, int, bool]
    assert other.param_groups[1]["initial_lr"] == 0.25
    for wrong, error, message in (
        ({"param_groups/0/learning_rate": 1.0}, ValueError, r"unknown \['param_groups/0/learning_rate'\]"),
        ({"param_groups/2/initial_lr": 1.0}, ValueError, r"unknown \['param_groups/2/initial_lr'\]"),
        ({"param_groups/0/more": np.ones(2)}, TypeError, r"state\['param_groups/0/more'\]: expected a number or a str"),
        ({3: 1}, (ValueError, TypeError), "state"),
    ):
        with pytest.raises(error, match=message):
            other.load_state_dict({**state, **wrong})
    assert dict(other.param_groups[0]) == {**options, **STORED}


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
@pytest.mark.parametrize("grouped", [False, True])
def test_copies_keep_them_each_group_its_own(duplicate, grouped):
    params = [{"params": np.ones(3)}, {"params": np.ones(2)}] if grouped else [np.ones(3)]
    optimizer = fastopt.SGD(params, lr=0.5)
    optimizer.param_groups[0].update(initial_lr=0.5, history=[1, 2])
    other = duplicate(optimizer)
    assert repr(other) == repr(optimizer)
    group = copy.deepcopy(optimizer.param_groups[0])
    assert dict(group) == dict(optimizer.param_groups[0])
