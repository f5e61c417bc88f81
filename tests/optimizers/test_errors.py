"""Optimisers: wrong parameters and gradients are refused before anything is written, in words that name the place."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import fastopt
from fastopt._tree import leaves

from ..support import assert_same_bits

# ---- the parameters of an optimiser ----------------------------------------------------------------------------------

OPTIMIZERS = [fastopt.Adam, fastopt.AdamW, fastopt.RMSprop, fastopt.SGD]
each_optimizer = pytest.mark.parametrize("make", OPTIMIZERS)


def _tied():
    w = np.ones(3)
    return {"encoder": w, "decoder": w}


def _overlapping(first, second):
    return lambda: (lambda b: [b[first], b[second]])(np.ones((6, 6)))


WRONG_PARAMS = {
    "none": (lambda: None, TypeError, "params: expected a numpy.ndarray, got NoneType"),
    "number": (lambda: 1.0, TypeError, "params: expected a numpy.ndarray, got float"),
    "generator": (
        lambda: (np.ones(2) for _ in range(2)),
        TypeError,
        "params: expected a numpy.ndarray, got .*generator",
    ),
    "empty list": (list, ValueError, "params: expected at least one array, got none"),
    "empty nest": (lambda: {"a": [], "b": ()}, ValueError, "params: expected at least one array, got none"),
    "empty group": (lambda: [{"params": []}], ValueError, "params: expected at least one array, got none"),
    "leaf": (lambda: {"w": [np.ones(2), 3.0]}, TypeError, "params/w/1: expected a numpy.ndarray, got float"),
    "missing leaf": (
        lambda: [np.ones(2), None],
        TypeError,
        "params/1: expected a numpy.ndarray, got NoneType",
    ),
    "mixed": (
        lambda: {"w": np.ones(2), "b": np.ones(2, np.float32)},
        TypeError,
        "params/b: expected float64 like params/w, got float32; use one dtype, or an optimiser for each",
    ),
    "read-only": (lambda: [np.broadcast_to(1.0, 3)], ValueError, "params/0: expected a writeable array"),
    "tied": (_tied, ValueError, "params/decoder: .* overlaps params/encoder; list a tied weight once"),
    "part": (_overlapping(np.s_[:3], np.s_[2:]), ValueError, "params/1: .* overlaps params/0; list a tied weight once"),
    "view": (_overlapping(np.s_[:], np.s_[:, 1]), ValueError, "params/1: .* overlaps params/0"),
    "transposed": (lambda: (lambda b: [b, b.T])(np.ones((3, 3))), ValueError, "params/1: .* overlaps params/0"),
    "across groups": (
        lambda: (lambda b: [{"params": [b]}, {"params": {"w": b[1:]}}])(np.ones(3)),
        ValueError,
        "params/1/w: .* overlaps params/0/0",
    ),
    "one path": (
        lambda: {"a": {"b": np.ones(2)}, "a/b": np.ones(2)},
        ValueError,
        "params: two arrays have the path 'a/b'",
    ),
    "keys alike": (
        lambda: {0: np.ones(2), "0": np.ones(2)},
        ValueError,
        "params: two arrays have the path '0'; rename",
    ),
    "group option": (
        lambda: [{"params": np.ones(2), "learning_rate": 1.0}],
        ValueError,
        r"params\[0\]: expected hyper-parameters among lr, .*, got learning_rate",
    ),
    "group range": (
        lambda: [{"params": np.ones(2)}, {"params": np.ones(2), "lr": -1}],
        ValueError,
        "lr: expected .* -1",
    ),
    "group without params": (
        lambda: [{"params": np.ones(2)}, {"lr": 0.1}],
        (TypeError, ValueError),
        "params",
    ),
}


@each_optimizer
@pytest.mark.parametrize(("params", "error", "message"), WRONG_PARAMS.values(), ids=WRONG_PARAMS.keys())
def test_wrong_params(make, params, error, message):
    with pytest.raises(error, match=message):
        make(params())


# ---- the gradients of a step -----------------------------------------------------------------------------------------


def make_params():
    return {"w": np.ones((2, 3)), "layers": [np.ones(4), (np.ones(()),)]}


def make_grads():
    return {"w": np.full((2, 3), 0.5), "layers": [np.full(4, 0.5), (np.full((), 0.5),)]}


def _changed(*path, to):
    """make_grads with another value at `path`; `to` may be a function of the grads and the parameters."""

    def make(params):
        grads = make_grads()
        inner = grads
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to(params) if callable(to) else to
        return grads

    return make


WRONG_GRADS = {
    "none": (
        lambda p: None,
        ValueError,
        r"grads: expected a dict with the keys of params, \['w', 'layers'\], got NoneType",
    ),
    "array": (lambda p: np.ones(11), ValueError, "grads: expected a dict with the keys of params, .*, got ndarray"),
    "list for dict": (lambda p: list(make_grads().values()), ValueError, "grads: expected a dict .*, got list"),
    "missing key": (
        lambda p: {"w": p["w"].copy()},
        ValueError,
        r"grads: expected .* keys of params, .*, got keys \['w'\]",
    ),
    "other key": (lambda p: {"w": None, "layer": None}, ValueError, r"grads: expected .*, got keys \['w', 'layer'\]"),
    "extra key": (
        lambda p: make_grads() | {"b": None},
        ValueError,
        r"grads: expected .*, got keys \['w', 'layers', 'b'\]",
    ),
    "short list": (
        _changed("layers", to=[None]),
        ValueError,
        r"grads\['layers'\]: expected a list of 2 like params, got 1",
    ),
    "long list": (_changed("layers", to=[None] * 3), ValueError, r"grads\['layers'\]: expected a list of 2 .*, got 3"),
    "none for list": (
        _changed("layers", to=None),
        ValueError,
        r"grads\['layers'\]: expected a list of 2 .*, got NoneType",
    ),
    "array for list": (
        _changed("layers", to=np.ones(2)),
        ValueError,
        r"grads\['layers'\]: expected a list .*, got ndarray",
    ),
    "dict for list": (
        _changed("layers", to={0: None, 1: None}),
        ValueError,
        r"grads\['layers'\]: expected .*, got dict",
    ),
    "none for tuple": (
        _changed("layers", 1, to=None),
        ValueError,
        r"grads\['layers'\]\[1\]: expected a list of 1 .*, got None",
    ),
    "last is wrong": (
        _changed("layers", 1, to=(1.0,)),
        TypeError,
        "grads/layers/1/0: expected a numpy.ndarray, got .*float",
    ),
    "list for array": (
        _changed("w", to=[[1.0] * 3] * 2),
        TypeError,
        "grads/w: expected a numpy.ndarray, got list",
    ),
    "shape": (
        _changed("layers", 0, to=np.ones(5)),
        ValueError,
        r"grads/layers/0: expected shape \(4,\) like params/layers/0, got \(5,\)",
    ),
    "dtype": (
        _changed("layers", 0, to=np.ones(4, np.float32)),
        TypeError,
        r"grads/layers/0: expected float64 like params/layers/0, got float32; grads/layers/0.astype\(np.float64\)",
    ),
    "own parameter": (
        _changed("w", to=lambda p: p["w"]),
        ValueError,
        "grads/w: expected memory apart from params/w, got arrays that overlap",
    ),
    "other parameter": (
        _changed("layers", 0, to=lambda p: p["w"].ravel()[1:5]),
        ValueError,
        "grads/layers/0: expected memory apart from params/w, got arrays that overlap",
    ),
    "0-d view": (
        _changed("layers", 1, to=lambda p: (p["w"][1, 2:].reshape(()),)),
        ValueError,
        "grads/layers/1/0: expected memory apart from params/w, got arrays that overlap",
    ),
}


def assert_step_refused(optimizer, params, grads, error, message):
    before = optimizer.state_dict()
    arrays = [array for _, array in leaves(params) if isinstance(array, np.ndarray)]
    copies = [array.copy() for array in arrays]
    with pytest.raises(error, match=message):
        optimizer.step(grads)
    for array, copy in zip(arrays, copies, strict=True):
        assert_same_bits(array, copy)
    for key, value in optimizer.state_dict().items():
        assert_same_bits(value, before[key], key)


@each_optimizer
@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize(("grads", "error", "message"), WRONG_GRADS.values(), ids=WRONG_GRADS.keys())
def test_wrong_grads(make, steps_before, grads, error, message):
    params = make_params()
    optimizer = make(params)
    for _ in range(steps_before):
        optimizer.step(make_grads())
    assert_step_refused(optimizer, params, grads(params), error, message)


@each_optimizer
def test_gradient_that_overlaps_a_state(make):
    params = make_params()
    optimizer = make(params)
    name, states = next(iter(optimizer._states.items()))
    grads = make_grads()
    grads["layers"][0] = states[1]
    message = f"grads/layers/0: expected memory apart from {name}/layers/0, got arrays that overlap"
    assert_step_refused(optimizer, params, grads, ValueError, message)


@each_optimizer
def test_gradient_that_overlaps_one_of_interleaved_parameters(make):
    buffer = np.ones((3, 8))
    params = [buffer[0, ::2], buffer[0, 1::2]]
    optimizer = make(params)
    optimizer.step([buffer[1, :4], buffer[2, ::2]])
    message = "grads/1: expected memory apart from params/0, got arrays that overlap"
    assert_step_refused(optimizer, params, [buffer[1, :4], buffer[0, ::2]], ValueError, message)


@each_optimizer
def test_gradient_that_begins_where_a_harmless_one_began(make):
    # A step may remember which gradients it has looked at, but not by their first byte alone.
    buffer = np.ones(8)
    params = [buffer[::2]]
    optimizer = make(params)
    optimizer.step([buffer[1::2]])
    message = "grads/0: expected memory apart from params/0, got arrays that overlap"
    assert_step_refused(optimizer, params, [buffer[1:5]], ValueError, message)


def test_the_error_of_an_overlap_says_to_copy_the_gradient():
    # A copy of the parameter would take the update and be lost.
    params = make_params()
    with pytest.raises(ValueError, match=r"pass grads/w\.copy\(\)$"):
        fastopt.Adam(params).step(make_grads() | {"w": params["w"]})


def _replace_in_dict(params):
    params["w"] = params["w"].copy()


def _replace_in_list(params):
    params["layers"][0] = params["layers"][0] * 2


def _replace_inner(params):
    params["layers"][1] = (np.ones(()),)


CHANGED_PARAMS = {
    "dict": (_replace_in_dict, "params/w: no longer the array that the optimiser was made with; write into it"),
    "list": (_replace_in_list, "params/layers/0: no longer the array that the optimiser was made with; write into it"),
    "tuple": (_replace_inner, "params/layers/1/0: no longer the array"),
    "other kind": (lambda params: params.update(w=[1.0]), "params|grads"),
    "longer": (lambda params: params.update(b=np.ones(2)), "params|grads"),
    "shorter": (lambda params: params.pop("w"), "params|grads"),
}


@each_optimizer
@pytest.mark.parametrize(("change", "message"), CHANGED_PARAMS.values(), ids=CHANGED_PARAMS.keys())
def test_replaced_parameters_are_noticed(make, change, message):
    params = make_params()
    optimizer = make(params)
    optimizer.step(make_grads())
    change(params)
    assert_step_refused(optimizer, params, make_grads(), ValueError, message)


@each_optimizer
def test_longer_params_with_gradients_to_match(make):
    params = make_params()
    optimizer = make(params)
    params["b"] = np.ones(2)
    message = "params: no longer the nest of arrays that the optimiser was made with; make a new optimiser"
    assert_step_refused(optimizer, params, make_grads() | {"b": np.ones(2)}, ValueError, message)


@each_optimizer
def test_parameter_made_read_only_since(make):
    params = make_params()
    optimizer = make(params)
    params["layers"][0].flags.writeable = False
    message = "params/layers/0: expected a writeable array, got a read-only one"
    assert_step_refused(optimizer, params, make_grads(), ValueError, message)


@each_optimizer
def test_one_step_at_a_time(make):
    # Two threads step one optimiser until one meets the other inside the kernel. Each step happens whole or is refused.
    param, twin_param = np.ones(1 << 19, np.float32), np.ones(1 << 19, np.float32)
    grad = np.full_like(param, 0.5)
    optimizer, twin = make([param]), make([twin_param])
    done, messages, refused = [0, 0], [], threading.Event()

    def step_until_refused(k):
        while not refused.is_set() and sum(done) < 2000:
            try:
                optimizer.step([grad])
                done[k] += 1
            except RuntimeError as error:
                messages.append(str(error))
                refused.set()

    other = threading.Thread(target=step_until_refused, args=(1,))
    other.start()
    step_until_refused(0)
    other.join()
    assert set(messages) == {"step: this optimiser is in the middle of a step in another thread"}
    assert optimizer.step_count == sum(done)
    for _ in range(sum(done)):
        twin.step([grad])
    assert_same_bits(param, twin_param)


@each_optimizer
@pytest.mark.parametrize(
    "options",
    [
        {"max_grad_norm": 0.5, "skip_nonfinite": True},
        {"ema_decay": 0.5, "max_grad_norm": 0.5},
        {"state_dtype": "8bit", "rng": 1, "ema_decay": 0.5},
    ],
    ids=["norm", "average", "8bit"],
)
@pytest.mark.parametrize("zero_grads", [False, True])
@pytest.mark.parametrize(("grads", "error", "message"), WRONG_GRADS.values(), ids=WRONG_GRADS.keys())
def test_wrong_grads_with_options(make, options, zero_grads, grads, error, message):
    params = make_params()
    optimizer = make(params, **options)
    optimizer.step(make_grads(), zero_grads=zero_grads)
    norm, averages = optimizer.grad_norm, [a.copy() for a in optimizer._states.get("ema", [])]
    wrong = grads(params)
    kept = [(a, a.copy()) for _, a in leaves(wrong) if isinstance(a, np.ndarray)]
    before = {key: value for key, value in optimizer.state_dict().items() if key != "state_dtype"}
    with pytest.raises(error, match=message):
        optimizer.step(wrong, zero_grads=zero_grads)
    for key, value in before.items():
        assert_same_bits(optimizer.state_dict()[key], value, key)
    for array, old in [*kept, *zip(optimizer._states.get("ema", []), averages, strict=True)]:
        assert_same_bits(array, old)
    assert optimizer.grad_norm == norm


@each_optimizer
def test_gradient_that_overlaps_an_average(make):
    params = make_params()
    optimizer = make(params, ema_decay=0.5)
    grads = make_grads() | {"w": optimizer.ema_params["w"]}
    message = "grads/w: expected memory apart from ema/w, got arrays that overlap"
    assert_step_refused(optimizer, params, grads, ValueError, message)


@pytest.mark.parametrize("options", [{"max_grad_norm": 1.0}, {"skip_nonfinite": True}], ids=str)
def test_an_error_after_the_norm_changes_nothing_either(options):
    params = [np.ones(3, np.float32)]
    optimizer = fastopt.Adam(params, **options)
    optimizer.param_groups[0]["eps"] = 1e-50  # what float32 makes of it is only known when the scalars of the step are
    grad = np.ones(3, np.float32)
    assert_step_refused(optimizer, params, [grad], ValueError, r"eps: expected at least 2\*\*-87")
    with pytest.raises(ValueError, match="eps: expected"):
        optimizer.step([grad], zero_grads=True)
    assert_same_bits(grad, np.ones(3, np.float32))
    assert optimizer.grad_norm is None


def _clip_overlapping(first, second):
    buffer = np.ones(12)
    return [buffer[first], buffer[second]]


@pytest.mark.parametrize(
    "grads",
    [(np.s_[:6], np.s_[:6]), (np.s_[:6], np.s_[5:]), (np.s_[:6], np.s_[5::-1]), (np.s_[::2], np.s_[4:])],
    ids=["same", "part", "reversed", "strided"],
)
def test_gradients_that_share_memory_are_not_clipped(grads):
    # They would be scaled twice.
    first, second = _clip_overlapping(*grads)
    with pytest.raises(ValueError, match=r"grads/\S+: expected memory .*overlaps? "):
        fastopt.clip_grad_norm_({"w": first, "b": [second]}, 1.0)
    assert_same_bits(first, np.ones(first.shape))
    assert_same_bits(second, np.ones(second.shape))


def test_a_gradient_that_cannot_be_clipped_leaves_the_others():
    grads = [np.ones(3), np.broadcast_to(1.0, 3)]
    with pytest.raises(ValueError, match="grads/1: expected a writeable array"):
        fastopt.clip_grad_norm_(grads, 0.5)
    assert_same_bits(grads[0], np.ones(3))
    grads[1] = [1.0]
    with pytest.raises(TypeError, match=r"grads/1/0: expected a numpy.ndarray"):
        fastopt.clip_grad_norm_(grads, 0.5)
    assert_same_bits(grads[0], np.ones(3))


def test_an_optimiser_is_initialised_once():
    optimizer = fastopt.Adam([np.ones(3)])
    with pytest.raises(RuntimeError, match="an optimiser is initialised once"):
        optimizer.__init__([np.ones(3)], maximize=True)
    assert not optimizer._maximize


@pytest.mark.parametrize("make", [list, dict], ids=["list", "dict"])
def test_nests_that_contain_themselves(make):
    """When the optimiser is made, and when the nest was tied into itself afterwards; the process goes on either way."""
    array, nest = np.ones(3), make()

    def put(value):
        nest.append(value) if make is list else nest.update(w=value)

    put(nest)
    with pytest.raises(ValueError, match=r"^params: .*, got a nest that contains itself"):
        fastopt.Adam(nest)
    nest.clear()
    put(array)
    optimizer = fastopt.Adam(nest)
    nest.clear()
    put(nest)
    for grads in (nest, [array], {"w": array}):
        with pytest.raises(ValueError, match=r"^(params|grads)"):
            optimizer.step(grads)
    assert_same_bits(array, np.ones(3))
    assert optimizer.step_count == 0


CHANGES_OF_GROUPS = {
    "clear": (
        lambda groups: groups.clear(),
        AttributeError,
        r"^param_groups: no attribute 'clear'; the groups are fixed",
    ),
    "pop": (lambda groups: groups.pop(), AttributeError, r"^param_groups: no attribute 'pop'; the groups are fixed"),
    "append": (lambda groups: groups.append({}), AttributeError, r"'append'; the groups are fixed .*: make a new one"),
    "a dict": (
        lambda groups: groups.__setitem__(0, {"lr": 1.0}),
        TypeError,
        r'^param_groups\[0\]: expected no new group; .* set a value by its key, param_groups\[0\]\["lr"\] = 1e-4$',
    ),
    "del": (
        lambda groups: groups.__delitem__(0),
        TypeError,
        r"^param_groups\[0\]: expected to stay; the groups are fixed",
    ),
    "other": (lambda groups: groups.lr, AttributeError, r"^param_groups: no attribute 'lr'$"),
}


@each_optimizer
@pytest.mark.parametrize(("change", "error", "message"), CHANGES_OF_GROUPS.values(), ids=CHANGES_OF_GROUPS.keys())
def test_groups_cannot_be_changed_behind_the_step(make, change, error, message):
    w, b = np.ones(3), np.ones(4)
    optimizer = make([{"params": [w]}, {"params": [b], "lr": 0.5}])
    with pytest.raises(error, match=message):
        change(optimizer.param_groups)
    with pytest.raises(AttributeError):
        optimizer.param_groups = []
    optimizer.param_groups[1]["lr"] = 0.25
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2 if make is fastopt.RMSprop else 1e-3, 0.25]
    optimizer.step([[np.ones(3)], [np.ones(4)]])
    assert (w < 1).all()
    assert (b < 1).all()
