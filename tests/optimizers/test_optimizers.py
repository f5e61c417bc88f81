"""All optimisers against their definitions: hyper-parameters, nests, groups, missing gradients, idle parameters.

The bits of single steps in all sizes, layouts and values are in test_same_bits.py, state_dict in test_state_dict.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastopt
from fastopt import reference
from fastopt._tree import leaves

from ..support import DTYPES, LAYOUTS, OPTIMIZER_GRAIN, assert_equals_reference, assert_same_bits, laid_out, values

OPTIMIZERS = {
    "Adam": {"weight_decay": 0.01},
    "AdamW": {},
    "SGD": {"momentum": 0.9, "nesterov": True},
    "SGD plain": {},
    "RMSprop": {"weight_decay": 0.01},
    "RMSprop centered": {"centered": True, "momentum": 0.9},
}
each_optimizer = pytest.mark.parametrize(
    ("name", "options"), [(key.split()[0], options) for key, options in OPTIMIZERS.items()], ids=OPTIMIZERS.keys()
)


def assert_same_optimizers(optimizer, expected):
    """Parameters are compared by the caller; here the counts and the states."""
    for key, value in expected.state_dict().items():
        assert_same_bits(optimizer.state_dict()[key], value, key)


def copied(nest):
    if isinstance(nest, dict):
        return {key: copied(value) for key, value in nest.items()}
    if isinstance(nest, list | tuple):
        return type(nest)(map(copied, nest))
    return nest.copy() if isinstance(nest, np.ndarray) else nest


# ---- hyper-parameters ------------------------------------------------------------------------------------------------

finite = st.floats(-1e3, 1e3)


@given(
    dtype=st.sampled_from(DTYPES),
    step=st.one_of(st.integers(1, 50), st.integers(1, 2**63 - 1)),
    options=st.fixed_dictionaries(
        {},
        optional={
            "lr": st.floats(0, 10),
            "betas": st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
            "eps": st.floats(1e-26, 1),
            "weight_decay": st.floats(0, 10),
            "decoupled_weight_decay": st.booleans(),
            "maximize": st.booleans(),
            "grad_multiplier": finite,
        },
    ),
)
def test_adam_step_with_any_hyper_parameters(dtype, step, options):
    arrays = [values(k, 203, dtype) for k in range(4)]
    assert_equals_reference(lambda ops, *arrays: ops.adam_step(*arrays, step, **options), arrays)


@given(
    dtype=st.sampled_from(DTYPES),
    step=st.integers(1, 3),
    options=st.fixed_dictionaries(
        {},
        optional={
            "lr": st.floats(0, 10),
            "momentum": st.floats(0, 2),
            "dampening": finite,
            "weight_decay": st.floats(0, 10),
            "maximize": st.booleans(),
            "grad_multiplier": finite,
        },
    ),
    nesterov=st.booleans(),
)
def test_sgd_step_with_any_hyper_parameters(dtype, step, options, nesterov):
    if nesterov and options.get("momentum", 0) > 0:
        options |= {"nesterov": True, "dampening": 0.0}
    arrays = [values(k, 203, dtype) for k in range(3)]
    assert_equals_reference(lambda ops, *arrays: ops.sgd_step(*arrays, step, **options), arrays)


def test_a_momentum_of_zero_leaves_the_buffer_alone():
    param, grad, buffer = np.ones(5), np.ones(5), np.full(5, np.nan)
    fastopt.sgd_step(param, grad, buffer, 1)
    assert_same_bits(buffer, np.full(5, np.nan))


def test_integers_and_numpy_numbers_are_hyper_parameters():
    grad = values(1, 50, np.float64)
    params = [np.ones(50) for _ in range(3)]
    for param, lr in zip(params, (1, 1.0, np.float32(1)), strict=True):
        fastopt.Adam(param, lr=lr, betas=[np.float64(0.5), 0], weight_decay=np.int64(0)).step(grad)
    assert_same_bits(params[1], params[0])
    assert_same_bits(params[2], params[0])


def test_hyper_parameters_can_be_set_between_steps():
    param, grad = values(1, 50, np.float32), values(2, 50, np.float32)
    expected = param.copy()
    optimizer, twin = fastopt.Adam(param), reference.Adam(expected)
    for key, value in [("betas", (0.5, 0.25)), ("eps", 1e-3), ("weight_decay", 0.5), ("lr", 0.25)]:
        optimizer.param_groups[0][key] = value
        twin.param_groups[0][key] = value
        assert optimizer.param_groups[0][key] == value
        with np.errstate(all="ignore"):
            twin.step(grad)
        optimizer.step(grad)
        assert_same_bits(param, expected, key)
    optimizer.lr = twin.lr = 0.5
    assert optimizer.lr == optimizer.param_groups[0]["lr"] == 0.5
    optimizer.param_groups[0].update({"lr": 0.75, "eps": 0.5})
    assert dict(optimizer.param_groups[0]) == {"lr": 0.75, "betas": (0.5, 0.25), "eps": 0.5, "weight_decay": 0.5}


@pytest.mark.parametrize("values_", [{"lr": 2.0, "eps": -1.0}, {"lr": 2.0, "bets": 1}, {"eps": "1", "lr": 2.0}])
def test_setting_a_wrong_hyper_parameter_changes_nothing(values_):
    optimizer = fastopt.Adam([np.ones(3)])
    before, scalars = dict(optimizer.param_groups[0]), optimizer.param_groups[0].scalars
    with pytest.raises((TypeError, ValueError, KeyError), match=r"eps: expected|expected one of lr, betas"):
        optimizer.param_groups[0].update(values_)
    assert dict(optimizer.param_groups[0]) == before
    assert optimizer.param_groups[0].scalars == scalars


def test_setting_a_wrong_lr_changes_no_group():
    optimizer = fastopt.SGD([{"params": np.ones(3), "lr": 0.5}, {"params": np.ones(3)}])
    with pytest.raises(ValueError, match="lr: expected a finite number >= 0, got -1"):
        optimizer.lr = -1
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1e-3]


# ---- nests -----------------------------------------------------------------------------------------------------------


def _nest(k, dtype):
    def x(*shape):
        return values(k + len(shape), shape, dtype)

    return {
        "scalar": x(),
        "empty": x(0, 3),
        "layers": [(x(4, 5), x(5)), {"w": laid_out(x(3, 2, 4), "Fortran"), 7: [x(1)]}],
        "nothing": [],
        "large": x(OPTIMIZER_GRAIN * 3 + 5),
    }


@each_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_nests(name, options, dtype, threads):
    fastopt.set_num_threads(threads)
    params = _nest(0, dtype)
    expected = copied(params)
    optimizer, twin = getattr(fastopt, name)(params, **options), getattr(reference, name)(expected, **options)
    assert optimizer.params is params
    for k in range(3):
        grads = _nest(10 + k, dtype)
        if k == 1:
            grads["layers"][1]["w"] = None
            grads["large"] = None
        optimizer.step(grads)
        with np.errstate(all="ignore"):
            twin.step(grads)
    for (path, array), (_, wanted) in zip(leaves(params), leaves(expected), strict=True):
        assert_same_bits(array, wanted, path)
    assert_same_optimizers(optimizer, twin)


@each_optimizer
def test_a_missing_gradient_leaves_a_parameter_and_its_count_alone(name, options):
    w, b = np.ones(4), np.ones(3)
    optimizer = getattr(fastopt, name)({"w": w, "b": b}, **options)
    grad = np.full(4, 0.5)
    optimizer.step({"w": grad, "b": np.full(3, 0.5)})
    before = b.copy(), {key: value for key, value in optimizer.state_dict().items() if key.endswith("/b")}
    for _ in range(3):
        optimizer.step({"w": grad, "b": None})
    assert_same_bits(b, before[0])
    state = optimizer.state_dict()
    for key, value in before[1].items():
        assert_same_bits(state[key], value, key)
    assert (optimizer.step_count, state["step/w"], state["step/b"]) == (4, 4, 1)
    optimizer.step({"w": None, "b": None})
    assert (optimizer.step_count, optimizer.state_dict()["step/w"]) == (5, 4)


def test_groups_have_their_own_hyper_parameters():
    w, b, grad = np.ones(4), np.ones(4), np.full(4, 0.25)
    alone_w, alone_b = w.copy(), b.copy()
    optimizer = fastopt.AdamW([{"params": [w]}, {"params": {"b": b}, "lr": 0.5, "weight_decay": 0.0}], lr=0.125)
    for _ in range(3):
        optimizer.step([[grad], {"b": grad}])
    fastopt_w, fastopt_b = fastopt.AdamW(alone_w, lr=0.125), fastopt.AdamW(alone_b, lr=0.5, weight_decay=0.0)
    for _ in range(3):
        fastopt_w.step(grad)
        fastopt_b.step(grad)
    assert_same_bits(w, alone_w)
    assert_same_bits(b, alone_b)
    assert optimizer.lr == 0.125
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.5]
    assert [
        array is other for array, other in zip((w, b), (optimizer.params[0][0], optimizer.params[1]["b"]), strict=True)
    ]


@pytest.mark.parametrize(
    ("parameter", "gradient"),
    [("Fortran", "C"), ("C", "Fortran"), ("reversed", "every other"), ("unaligned", "columns")],
)
def test_gradients_may_change_their_layout_from_step_to_step(parameter, gradient):
    param = laid_out(values(1, (5, 6, 7), np.float32), parameter)
    expected = np.array(param, order="C")
    optimizer, twin = fastopt.Adam([param]), reference.Adam([expected])
    for k, layout in enumerate([gradient, *LAYOUTS, parameter]):
        grad = laid_out(values(k, param.shape, np.float32), layout)
        optimizer.step([grad])
        with np.errstate(all="ignore"):
            twin.step([grad])
        assert_same_bits(param, expected, layout)


@each_optimizer
def test_interleaved_views_are_two_parameters(name, options):
    buffer = np.arange(1.0, 41.0)
    even, odd = buffer[::2], buffer[1::2]
    expected = [even.copy(), odd.copy()]
    optimizer, twin = getattr(fastopt, name)([even, odd], **options), getattr(reference, name)(expected, **options)
    for k in range(3):
        grads = [values(k, 20, np.float64), values(k + 9, 20, np.float64)]
        optimizer.step(grads)
        with np.errstate(all="ignore"):
            twin.step(grads)
    assert_same_bits(even, expected[0])
    assert_same_bits(odd, expected[1])


def test_one_gradient_may_serve_two_parameters():
    a, b, grad = np.ones(4), np.ones(4), np.full(4, 0.5)
    fastopt.SGD([a, b], lr=1.0).step([grad, grad])
    assert_same_bits(a, np.full(4, 0.5))
    assert_same_bits(b, np.full(4, 0.5))


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_memory_maps(tmp_path, mode):
    file = tmp_path / "w"
    np.ones(1000, np.float32).tofile(file)
    w, grad = np.memmap(file, np.float32, mode), values(2, 1000, np.float32)
    grad.tofile(tmp_path / "grad")
    expected = np.ones(1000, np.float32)
    optimizer, twin = fastopt.Adam({"w": w}), reference.Adam({"w": expected})
    for _ in range(2):
        optimizer.step({"w": np.memmap(tmp_path / "grad", np.float32, "r")})
        with np.errstate(all="ignore"):
            twin.step({"w": grad})
    assert_same_bits(np.asarray(w), expected)
    w.flush()
    assert_same_bits(np.fromfile(file, np.float32), expected if mode == "r+" else np.ones(1000, np.float32))


# ---- idle parameters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {"betas": (0.9, 0.25)}),
        ("AdamW", {"betas": (0.5, 0.5)}),
        ("SGD", {"momentum": 0.5}),
        ("SGD", {"momentum": -0.0}),
        ("RMSprop", {"alpha": 0.5}),
        ("RMSprop", {"alpha": 0.5, "momentum": 0.5, "centered": True}),
    ],
)
def test_states_of_idle_parameters_end_at_zero_or_at_the_smallest_number(dtype, name, options):
    # 2,000 steps take 0.9**t below the smallest normal number of float32, 0.5**t below that of float64 as well.
    param, twin_param = values(1, 300, np.float32).astype(dtype), values(1, 300, np.float32).astype(dtype)
    param[~np.isfinite(param)] = twin_param[~np.isfinite(twin_param)] = 1
    optimizer, twin = getattr(fastopt, name)([param], **options), getattr(reference, name)([twin_param], **options)
    tiny = np.finfo(dtype).tiny
    with np.errstate(all="ignore"):
        for one in (optimizer, twin):
            one.step([np.full(300, 0.5, dtype)])
        for _ in range(2000):
            optimizer.step([np.zeros(300, dtype)])
            twin.step([np.zeros(300, dtype)])
    for key, state in optimizer.state_dict().items():
        if key.endswith("/0") and isinstance(state, np.ndarray):
            assert not np.any((state != 0) & (np.abs(state) < tiny)), key
            if dtype == np.float32 or "0.9" not in str(options):
                # An average of squares stands in a denominator: it stays at twice the smallest normal number.
                assert_same_bits(state, np.full(300, 2 * tiny if "_sq/" in key or "square" in key else 0, dtype), key)
    assert_same_bits(param, twin_param)
    assert_same_optimizers(optimizer, twin)


# ---- what one sees ---------------------------------------------------------------------------------------------------


def test_counts_and_representation():
    optimizer = fastopt.SGD({"w": np.ones((3, 4)), "b": np.ones(4)}, lr=0.5)
    assert optimizer.step_count == 0
    optimizer.step({"w": np.ones((3, 4)), "b": None})
    assert optimizer.step_count == 1
    assert repr(optimizer) == (
        "SGD(2 arrays, 16 parameters, step 1, "
        "ParamGroup(lr=0.5, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False))"
    )


CHOSEN = {
    "Adam": (
        {"amsgrad": True, "max_grad_norm": 0.5, "ema_decay": 0.0},
        "amsgrad=True, max_grad_norm=0.5, ema_decay=0.0",
    ),
    "AdamW": ({"maximize": True, "state_dtype": "8bit", "rng": 1}, "maximize=True, state_dtype='8bit'"),
    "SGD": ({"skip_nonfinite": True}, "skip_nonfinite=True"),
}


@pytest.mark.parametrize(("name", "chosen"), CHOSEN.items(), ids=CHOSEN.keys())
def test_options_that_were_chosen_are_in_the_representation(name, chosen):
    options, shown = chosen
    optimizer = getattr(fastopt, name)([np.ones(2)], **options)
    assert repr(optimizer).startswith(f"{name}(1 arrays, 2 parameters, step 0, {shown}, ParamGroup(lr=")
    assert repr(fastopt.Adam([np.ones(2)], decoupled_weight_decay=True)).count("decoupled_weight_decay=True") == 1


def test_step_returns_none():
    assert fastopt.Adam([np.ones(2)]).step([np.ones(2)]) is None
    assert fastopt.sgd_step(np.ones(2), np.ones(2), None, 1) is None
