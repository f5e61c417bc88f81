"""state_dict and load_state_dict: a flat dict of plain values, from which training goes on with the same bits."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

import fastopt
from fastopt._tree import leaves

from ..support import DTYPES, assert_same_bits, laid_out, values

MAKERS = {
    "Adam": lambda params: fastopt.Adam(params, weight_decay=0.01),
    "AdamW": lambda params: fastopt.AdamW(params, lr=0.5, maximize=True),
    "SGD": lambda params: fastopt.SGD(params, momentum=0.9, nesterov=True),
    "RMSprop": lambda params: fastopt.RMSprop(params, momentum=0.9, centered=True),
    "groups": lambda params: fastopt.Adam([{"params": params, "betas": (0.5, 0.25)}, {"params": [], "lr": 1.0}]),
}
each_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def make_params(dtype=np.float64, layout="C"):
    return {"w": laid_out(values(1, (4, 5, 6), dtype), layout), "layers": [values(2, 7, dtype), values(3, (), dtype)]}


def train(optimizer, params, steps):
    for k in steps:
        grads = {
            "w": values(10 + k, (4, 5, 6), params["w"].dtype),
            "layers": [None if k == 1 else values(20 + k, 7, params["w"].dtype), values(30 + k, (), params["w"].dtype)],
        }
        optimizer.step([grads, []] if len(optimizer.param_groups) == 2 else grads)


def through_file(state):
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    return np.load(file, allow_pickle=False)


def snapshot(optimizer, params):
    state = {key: np.array(value) for key, value in optimizer.state_dict().items() if not key.endswith("/rule")}
    return state | {f"param/{path}": array.copy() for path, array in leaves(params)}


def assert_same_snapshots(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert_same_bits(one[key], other[key], key)


@each_maker
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("store", [dict, through_file], ids=["dict", "file"])
@pytest.mark.parametrize("layout", ["C", "Fortran", "every other"])
def test_going_on_has_the_bits_of_not_having_stopped(make, dtype, store, layout):
    params = make_params(dtype)
    optimizer = make(params)
    train(optimizer, params, range(3))
    stored = store(optimizer.state_dict())

    resumed_params = make_params(dtype, layout)
    resumed_params["w"][...] = params["w"]
    for k in range(2):
        resumed_params["layers"][k][...] = params["layers"][k]
    resumed = make(resumed_params)
    resumed.load_state_dict(stored)
    assert_same_snapshots(snapshot(resumed, resumed_params), snapshot(optimizer, params))

    train(optimizer, params, range(3, 6))
    train(resumed, resumed_params, range(3, 6))
    assert_same_snapshots(snapshot(resumed, resumed_params), snapshot(optimizer, params))


@each_maker
def test_it_is_flat_and_plain(make):
    params = make_params()
    optimizer = make(params)
    train(optimizer, params, range(2))
    state = optimizer.state_dict()
    assert type(state) is dict
    for key, value in state.items():
        assert type(key) is str
        assert type(value) in (int, float, bool, np.ndarray) or (
            type(value) is str and key in ("state_dtype", "param_groups/0/rule", "param_groups/1/rule")
        ), key
    assert type(state["step_count"]) is int
    assert state["step_count"] == 2


def test_its_keys_are_the_paths_of_the_arrays():
    assert set(fastopt.Adam({"w": np.ones(2), "layers": [(np.ones(3),)]}).state_dict()) == {
        *("format", "step_count", "skipped_steps", "max_grad_norm", "skip_nonfinite"),
        *(f"param_groups/0/{key}" for key in ("rule", "amsgrad", "decoupled_weight_decay", "maximize")),
        *(f"param_groups/0/{key}" for key in ("lr", "betas", "eps", "weight_decay")),
        *(f"{key}/{path}" for key in ("step", "exp_avg", "exp_avg_sq") for path in ("w", "layers/0/0")),
    }
    assert {"step", "momentum_buffer"} < set(fastopt.SGD(np.ones(3)).state_dict())


def test_it_is_a_copy():
    params = make_params()
    optimizer = fastopt.Adam(params, betas=np.array([0.5, 0.25]))
    train(optimizer, params, range(2))
    before = snapshot(optimizer, params)
    state = optimizer.state_dict()
    for value in state.values():
        if isinstance(value, np.ndarray):
            value[...] = 0.125
    assert_same_snapshots(snapshot(optimizer, params), before)
    other = fastopt.Adam(make_params())
    other.load_state_dict(state)
    state["exp_avg/w"][...] = 99
    assert not np.any(other.state_dict()["exp_avg/w"] == 99)


def test_it_takes_over_hyper_parameters():
    optimizer = fastopt.SGD(np.ones(3), lr=0.5, momentum=0.25, nesterov=True, weight_decay=0.125)
    other = fastopt.SGD(np.ones(3))
    other.load_state_dict(through_file(optimizer.state_dict()))
    assert dict(other.param_groups[0]) == dict(optimizer.param_groups[0])
    assert type(other.param_groups[0]["nesterov"]) is bool


# However a hyper-parameter was spelt, it is a number: any optimiser of the kind takes over any other value of it.
SPELLINGS = {
    "int": {"lr": 1, "eps": 1, "weight_decay": 0},
    "list": {"betas": [0.9, 0.999]},
    "array": {"betas": np.array([0.9, 0.999])},
    "array 0-d": {"lr": np.array(0.5)},
    "float32": {"lr": np.float32(0.5)},
    "int64": {"weight_decay": np.int64(0)},
}


@pytest.mark.parametrize("options", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize("store", [dict, through_file], ids=["dict", "file"])
def test_a_state_loads_however_the_hyper_parameters_were_spelt(options, store):
    plain = fastopt.Adam(np.ones(3), lr=0.1, betas=(0.5, 0.75), eps=0.3, weight_decay=0.7)
    spelt = fastopt.Adam(np.ones(3), **options)
    for value in spelt.state_dict().values():
        assert type(value) in (int, float, bool, np.ndarray, str)
    before = spelt.param_groups[0].scalars
    spelt.load_state_dict(store(spelt.state_dict()))
    assert spelt.param_groups[0].scalars == before
    spelt.load_state_dict(store(plain.state_dict()))
    assert dict(spelt.param_groups[0]) == dict(plain.param_groups[0])
    assert spelt.param_groups[0].scalars == plain.param_groups[0].scalars


def _without(key):
    return lambda state: {name: value for name, value in state.items() if name != key}


WRONG_STATES = {
    "missing": (_without("exp_avg/w"), ValueError, r"state: expected .* missing \['exp_avg/w'\].* unknown \[\]"),
    "unknown": (lambda state: state | {"exp_avg/v": 1}, ValueError, r"missing \[\].* unknown \['exp_avg/v'\]"),
    "empty": (lambda state: {}, ValueError, "state: expected the keys of .*state_dict.* missing"),
    "other optimiser": (lambda state: fastopt.SGD(make_params()).state_dict(), ValueError, "expected 'adam', .*'sgd'"),
    "format": (lambda state: state | {"format": 2}, ValueError, r"state\['format'\]: expected 1, .*, got 2"),
    "flag": (
        lambda state: state | {"skip_nonfinite": 1},
        TypeError,
        r"state\['skip_nonfinite'\]: expected bool, got 1",
    ),
    "kind": (lambda state: list(state.items()), TypeError, "state: expected"),
    "none": (lambda state: None, TypeError, "state: expected"),
    "shape": (
        lambda state: state | {"exp_avg/w": np.zeros((4, 30))},
        ValueError,
        r"state\['exp_avg/w'\]: expected shape \(4, 5, 6\), got \(4, 30\)",
    ),
    "dtype": (
        lambda state: state | {"exp_avg_sq/layers/0": np.zeros(7, np.float32)},
        TypeError,
        r"state\['exp_avg_sq/layers/0'\]: expected float64, got float32",
    ),
    "scalar": (lambda state: state | {"exp_avg/w": 0.0}, ValueError, r"state\['exp_avg/w'\]: expected shape"),
    "text": (lambda state: state | {"exp_avg/w": "zeros"}, TypeError, r"state\['exp_avg/w'\]: expected float64"),
    "count": (lambda state: state | {"step/w": -1}, ValueError, r"state\['step/w'\]: expected 0 <= .*, got -1"),
    "count kind": (lambda state: state | {"step/w": 1.5}, TypeError, r"state\['step/w'\]: expected int, got 1.5"),
    "count size": (lambda state: state | {"step/w": 2**63}, ValueError, r"state\['step/w'\]: expected"),
    "step count size": (lambda state: state | {"step_count": 2**63}, ValueError, r"state\['step_count'\]: expected"),
    "step count": (
        lambda state: state | {"step_count": None},
        TypeError,
        r"state\['step_count'\]: expected int, got None",
    ),
    "lr": (lambda state: state | {"param_groups/0/lr": -1.0}, ValueError, "lr: expected a finite number >= 0, got -1"),
    "lr kind": (
        lambda state: state | {"param_groups/0/lr": "1"},
        TypeError,
        r"state\['param_groups/0/lr'\]: expected float",
    ),
    "lr nan": (
        lambda state: state | {"param_groups/0/lr": np.nan},
        ValueError,
        "lr: expected a finite number >= 0, got nan",
    ),
    "betas": (
        lambda state: state | {"param_groups/0/betas": np.array([0.9])},
        ValueError,
        r"state\['param_groups/0/betas'\]: expected shape \(2,\), got \(1,\)",
    ),
    "betas range": (lambda state: state | {"param_groups/0/betas": np.array([0.9, 1.0])}, ValueError, r"betas\[1\]: "),
}


@pytest.mark.parametrize(("change", "error", "message"), WRONG_STATES.values(), ids=WRONG_STATES.keys())
def test_a_state_that_does_not_fit_changes_nothing(change, error, message):
    params = make_params()
    optimizer = fastopt.Adam(params)
    train(optimizer, params, range(2))
    before, scalars = snapshot(optimizer, params), optimizer.param_groups[0].scalars
    # Every other entry differs from the optimiser's own, so that any that is taken over shows.
    other = fastopt.Adam(make_params(), lr=0.5, betas=(0.25, 0.5), eps=0.5, weight_decay=0.5)
    train(other, make_params(), range(3, 7))
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(change(other.state_dict()))
    assert_same_snapshots(snapshot(optimizer, params), before)
    assert optimizer.param_groups[0].scalars == scalars


# ---- with the options ------------------------------------------------------------------------------------------------

EVERY = {"max_grad_norm": 0.5, "skip_nonfinite": True, "ema_decay": 0.75}
WITH_OPTIONS = {
    "Adam": (fastopt.Adam, {"amsgrad": True, "weight_decay": 0.1, **EVERY}),
    "AdamW": (fastopt.AdamW, {"maximize": True, **EVERY}),
    "SGD": (fastopt.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, **EVERY}),
    "RMSprop": (fastopt.RMSprop, {"momentum": 0.9, "weight_decay": 0.1, **EVERY}),
    "SGD dampening": (fastopt.SGD, {"momentum": 0.9, "dampening": 0.5, "maximize": True}),
}
each_with_options = pytest.mark.parametrize(("make", "options"), WITH_OPTIONS.values(), ids=WITH_OPTIONS.keys())
each_state_dtype = pytest.mark.parametrize("state_dtype", [None, "bfloat16", "8bit"])


def plain_snapshot(optimizer, params):
    """As snapshot, but texts, whose bits assert_same_bits does not compare, are left out."""
    return {key: value for key, value in snapshot(optimizer, params).items() if value.dtype.kind != "U"}


def finite_params(dtype, layout="C"):
    rng = np.random.default_rng(1)
    return {"w": laid_out(rng.standard_normal((20, 30)).astype(dtype), layout), "b": [np.ones((), dtype)]}


def train_finite(optimizer, dtype, steps, bad=()):
    """Steps of which number 2 has no gradient for one parameter, and those in `bad` have a NaN."""
    for step in steps:
        rng = np.random.default_rng(10 + step)
        grads = {"w": rng.standard_normal((20, 30)).astype(dtype), "b": [None if step == 2 else np.ones((), dtype)]}
        if step in bad:
            grads["w"][3, 4] = np.nan
        optimizer.step(grads, zero_grads=True)


@each_with_options
@each_state_dtype
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("store", [dict, through_file], ids=["dict", "file"])
def test_going_on_with_options_and_small_states(make, options, state_dtype, dtype, store):
    params = finite_params(dtype)
    optimizer = make(params, state_dtype=state_dtype, rng=1, **options)
    train_finite(optimizer, dtype, range(5), bad={4} if "skip_nonfinite" in options else ())
    stored = store(optimizer.state_dict())
    assert optimizer.skipped_steps == ("skip_nonfinite" in options)

    # Another seed and other averages to begin with: what decides is in the state.
    resumed_params = finite_params(dtype, "Fortran")
    resumed = make(resumed_params, state_dtype=state_dtype, rng=2, **options)
    train_finite(resumed, dtype, range(7, 9))
    resumed_params["w"][...], resumed_params["b"][0][...] = params["w"], params["b"][0]
    averages = resumed.ema_params
    resumed.load_state_dict(stored)
    if averages is not None:
        assert resumed.ema_params["w"] is averages["w"]  # filled, not replaced
    assert_same_snapshots(plain_snapshot(resumed, resumed_params), plain_snapshot(optimizer, params))

    for one in (optimizer, resumed):
        train_finite(one, dtype, range(5, 8))
    assert_same_snapshots(plain_snapshot(resumed, resumed_params), plain_snapshot(optimizer, params))


@each_with_options
@each_state_dtype
def test_it_is_flat_and_plain_with_options(make, options, state_dtype):
    optimizer = make(finite_params(np.float32), state_dtype=state_dtype, rng=1, **options)
    train_finite(optimizer, np.float32, range(5))
    state = optimizer.state_dict()
    for key, value in state.items():
        assert type(key) is str
        if key == "state_dtype":
            assert value == state_dtype
        elif key in ("format", "max_grad_norm", "skip_nonfinite", "ema_decay"):
            assert type(value) in (int, float, bool)
        elif key.startswith(("step", "skipped_steps", "rounding_key")):
            assert type(value) is int, key
        elif key.startswith("param_groups/"):
            assert type(value) in (float, bool) or key.endswith(("/betas", "/rule")), key
        else:
            wanted = np.float32 if state_dtype is None or key.startswith("ema/") else np.uint8
            assert value.dtype == (np.uint16 if wanted is np.uint8 and state_dtype == "bfloat16" else wanted), key
    assert ("state_dtype" in state) == ("rounding_key" in state) == (state_dtype is not None)
    assert any(key.startswith("ema/") for key in state) == ("ema_decay" in options)
    assert any("_exponent/" in key for key in state) == (state_dtype == "8bit")
    assert set(through_file(state)) == set(state)  # without pickle


def test_the_states_are_written_and_read_in_the_shape_of_the_parameter():
    for layout in ("C", "Fortran", "every other"):
        optimizer = fastopt.Adam(finite_params(np.float32, layout), state_dtype="8bit", ema_decay=0.5, rng=1)
        state = optimizer.state_dict()
        assert state["exp_avg/w"].shape == state["ema/w"].shape == (20, 30)
        assert state["exp_avg_exponent/w"].shape == (3,)  # blocks of 256 elements
        assert state["exp_avg/b/0"].shape == ()


def test_a_file_takes_the_place_of_the_averages():
    optimizer = fastopt.SGD(finite_params(np.float64), lr=0.5, ema_decay=0.5)
    state = optimizer.state_dict() | {"ema/w": np.full((20, 30), 7.0)}
    optimizer.load_state_dict(state)
    assert np.all(optimizer.ema_params["w"] == 7)
    assert np.all(optimizer.params["w"] != 7)


OTHER_KINDS = {
    "float to 8bit": ({}, {"state_dtype": "8bit"}, "missing .*'exp_avg_exponent/b/0'"),
    "8bit to float": ({"state_dtype": "8bit"}, {}, "unknown .*'exp_avg_exponent/b/0'"),
    "float to bfloat16": ({}, {"state_dtype": "bfloat16"}, r"missing \['rounding_key', 'state_dtype'\]"),
    "bfloat16 to float": ({"state_dtype": "bfloat16"}, {}, r"unknown \['rounding_key', 'state_dtype'\]"),
    "ema": ({"ema_decay": 0.5}, {}, r"missing \[\].*unknown \['ema/b/0', 'ema/w', 'ema_decay'\]"),
    "no ema": ({}, {"ema_decay": 0.5}, r"missing \['ema/b/0', 'ema/w', 'ema_decay'\].*unknown \[\]"),
}


@pytest.mark.parametrize(("source", "target", "message"), OTHER_KINDS.values(), ids=OTHER_KINDS.keys())
@pytest.mark.parametrize("store", [dict, through_file], ids=["dict", "file"])
def test_a_state_of_another_kind_changes_nothing(source, target, message, store):
    other = fastopt.Adam(finite_params(np.float32), lr=0.5, rng=1, **source)
    train_finite(other, np.float32, range(2))
    params = finite_params(np.float32)
    optimizer = fastopt.Adam(params, rng=2, **target)
    optimizer.step(finite_params(np.float32))
    before = plain_snapshot(optimizer, params)
    with pytest.raises(ValueError, match=f"^state: expected the keys of state_dict.*{message}"):
        optimizer.load_state_dict(store(other.state_dict()))
    assert_same_snapshots(plain_snapshot(optimizer, params), before)


OTHER_OPTIONS = {
    "maximize": {"maximize": True},
    "amsgrad": {"amsgrad": True},
    "decoupled_weight_decay": {"decoupled_weight_decay": True},
    "max_grad_norm": {"max_grad_norm": 2.0},
    "skip_nonfinite": {"skip_nonfinite": True},
    "ema_decay": {"ema_decay": 0.25},
    "state_dtype": {"state_dtype": "bfloat16"},
}


@pytest.mark.parametrize(("name", "option"), OTHER_OPTIONS.items(), ids=OTHER_OPTIONS.keys())
@pytest.mark.parametrize("store", [dict, through_file], ids=["dict", "file"])
def test_a_state_of_other_options_changes_nothing(name, option, store):
    """They are part of what comes next: Adam(maximize=True) would turn round in an Adam."""
    common = {"ema_decay": {"ema_decay": 0.5}, "state_dtype": {"state_dtype": "8bit"}}.get(name, {})
    for source, target in ((common | option, common), (common, common | option)):
        other = fastopt.Adam(finite_params(np.float32), lr=0.5, rng=1, **source)
        train_finite(other, np.float32, range(2))
        params = finite_params(np.float32)
        optimizer = fastopt.Adam(params, rng=2, **target)
        before = snapshot(optimizer, params)
        with pytest.raises(ValueError, match=rf"^state\['(param_groups/0/)?{name}'\]: .*, got .*; make one so"):
            optimizer.load_state_dict(store(other.state_dict()))
        after = snapshot(optimizer, params)
        assert {k: v.tobytes() for k, v in after.items()} == {k: v.tobytes() for k, v in before.items()}


@pytest.mark.parametrize("name", ["w.npy", "a\0b"])
def test_names_that_a_file_would_mix_up_are_refused(name):
    with pytest.raises(ValueError, match="params: expected keys that an npz file can hold, got "):
        fastopt.Adam({"w": np.ones(2), "layer": {name: np.ones(2)}})


def test_odd_names_go_through_a_file():
    names = ["a/b", "a", "w.npy.npz", "", " ", "ü/..", "0", ".npy/x"]
    make = lambda: fastopt.Adam({name: np.ones(k) for k, name in enumerate(names, 1)})  # noqa: E731
    one, other = make(), make()
    one.step({name: np.full(k, k / 8) for k, name in enumerate(names, 1)})
    other.load_state_dict(through_file(one.state_dict()))
    assert_same_snapshots(
        {k: np.asarray(v) for k, v in other.state_dict().items() if "rule" not in k},
        {k: np.asarray(v) for k, v in one.state_dict().items() if "rule" not in k},
    )


WRONG_SMALL_STATES = {
    "tag": ({"state_dtype": "bfloat16"}, ValueError, r"state\['state_dtype'\]: expected '8bit', .*, got 'bfloat16'"),
    "no tag": ({"state_dtype": None}, TypeError, r"state\['state_dtype'\]: expected a str, got None"),
    "key": ({"rounding_key": -1}, ValueError, r"state\['rounding_key'\]: expected 0 <= .*, got -1"),
    "key size": ({"rounding_key": 2**64}, (TypeError, ValueError), r"state\['rounding_key'\]: expected"),
    "key kind": ({"rounding_key": 1.0}, TypeError, r"state\['rounding_key'\]: expected int, got 1.0"),
    "codes": (
        {"exp_avg/w": np.zeros((20, 30), np.float32)},
        TypeError,
        r"state\['exp_avg/w'\]: expected uint8, got float32",
    ),
    "signed": ({"exp_avg_sq/w": np.zeros((20, 30), np.int8)}, TypeError, "expected uint8, got int8"),
    "exponents": (
        {"exp_avg_exponent/w": np.zeros(4, np.uint8)},
        ValueError,
        r"state\['exp_avg_exponent/w'\]: expected shape \(3,\), got \(4,\)",
    ),
    "skipped": ({"skipped_steps": -1}, ValueError, r"state\['skipped_steps'\]: expected 0 <= .*, got -1"),
    "average": ({"ema/w": np.zeros((20, 30))}, TypeError, r"state\['ema/w'\]: expected float32, got float64"),
}


@pytest.mark.parametrize(("change", "error", "message"), WRONG_SMALL_STATES.values(), ids=WRONG_SMALL_STATES.keys())
def test_a_small_state_that_does_not_fit_changes_nothing(change, error, message):
    params = finite_params(np.float32)
    optimizer = fastopt.Adam(params, state_dtype="8bit", ema_decay=0.5, rng=1)
    optimizer.step(finite_params(np.float32))
    before = plain_snapshot(optimizer, params)
    other = fastopt.Adam(finite_params(np.float32), lr=0.5, state_dtype="8bit", ema_decay=0.5, rng=2)
    for _ in range(2):
        other.step(finite_params(np.float32))
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(other.state_dict() | change)
    assert_same_snapshots(plain_snapshot(optimizer, params), before)


@each_state_dtype
def test_keys_and_counts_at_the_ends_of_their_range(state_dtype):
    optimizer = fastopt.SGD([np.ones(3)], momentum=0.5, state_dtype=state_dtype)
    large = {"step_count": 2**63 - 2, "skipped_steps": 2**63 - 2, "step/0": 2**63 - 2}
    if state_dtype is not None:
        large["rounding_key"] = 2**64 - 1
    optimizer.load_state_dict(through_file(optimizer.state_dict() | large))
    state = optimizer.state_dict()
    assert {key: state[key] for key in large} == large


class Interrupted(BaseException):
    pass


def broken_off(call, at):
    """Run the call with an exception at line number `at`, in NumPy's Python too; whether the call was broken off."""
    left = at

    def line(*_):
        nonlocal left
        left -= 1
        if left < 0:
            sys.settrace(None)
            raise Interrupted
        return line

    tracing = sys.gettrace()
    sys.settrace(line)
    try:
        call()
    except Interrupted:
        return True
    finally:
        sys.settrace(tracing)
    return False


def test_an_interrupt_leaves_a_state_that_loads():
    # NumPy takes note of which arrays it makes a text of: an interrupt there, and the next of that address reads "...".
    make = lambda: fastopt.SGD([np.ones(6)], momentum=0.5, state_dtype="8bit", rng=1)  # noqa: E731
    optimizer, state = make(), make().state_dict()
    at = 0
    while broken_off(lambda: optimizer.load_state_dict(state), at):
        optimizer.load_state_dict(state)
        at += 1
    assert at > 100
