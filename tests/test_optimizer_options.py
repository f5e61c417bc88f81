"""The options of Adam and SGD, alone and in pairs: the bits of the reference, and what each option promises."""

from __future__ import annotations

import itertools
import math
import os

import numpy as np
import pytest

import fastopt
from fastopt import reference
from fastopt.optimizers import leaves

from .support import DTYPES, LAYOUTS, OPTIMIZER_GRAIN, SUM_GRAIN, assert_same_bits, laid_out, values

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
STATE_DTYPES = (None, "bfloat16", "8bit")
each_state_dtype = pytest.mark.parametrize("state_dtype", STATE_DTYPES)


def finite(seed, shape, dtype):
    """Numbers of which no square or sum overflows: signed zeros and subnormal ones among them."""
    x = values(seed, shape, dtype)
    return np.where(np.abs(x) < 2**10, x, dtype(0.75))


def snapshot(optimizer, params):
    """Everything that a step may change, copied: parameters, states, averages and counts."""
    state = {key: np.array(value) for key, value in optimizer.state_dict().items() if key != "state_dtype"}
    return state | {f"params/{path}": array.copy() for path, array in leaves(params)}


def assert_same_snapshots(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert_same_bits(one[key], other[key], key)


# ---- every option and every pair of options --------------------------------------------------------------------------

STEP_OPTIONS = {"zero_grads": {"zero_grads": True}, "grad_multiplier": {"grad_multiplier": -1 / 3}}
SHARED = {
    "maximize": {"maximize": True},
    "max_grad_norm": {"max_grad_norm": 0.5},
    "skip_nonfinite": {"skip_nonfinite": True},
    "ema_decay": {"ema_decay": 0.9},
    **STEP_OPTIONS,
}
OPTIONS = {
    "Adam": {
        "amsgrad": {"amsgrad": True},
        "coupled": {"weight_decay": 0.1},
        "decoupled": {"weight_decay": 0.1, "decoupled_weight_decay": True},
        "beta1 0": {"beta1": 0.0},
        "beta2 0": {"beta2": 0.0},
        "bfloat16": {"state_dtype": "bfloat16", "rng": 5},
        "8bit": {"state_dtype": "8bit", "rng": 5},
        **SHARED,
    },
    "SGD": {
        "momentum": {"momentum": 0.75},
        "dampening": {"momentum": 0.9, "dampening": 0.5},
        "nesterov": {"momentum": 0.9, "nesterov": True},
        "weight_decay": {"weight_decay": 0.1},
        "bfloat16": {"momentum": 0.9, "state_dtype": "bfloat16", "rng": 5},
        "8bit": {"momentum": 0.9, "state_dtype": "8bit", "rng": 5},
        **SHARED,
    },
}
EXCLUSIVE = ({"coupled", "decoupled"}, {"bfloat16", "8bit"}, {"dampening", "nesterov"})
PAIRS = [
    (name, chosen)
    for name, options in OPTIONS.items()
    for count in (0, 1, 2)
    for chosen in itertools.combinations(options, count)
    if set(chosen) not in EXCLUSIVE
]


def train(ops, name, chosen, params, grads_of_steps):
    """Step by step what the optimiser shows, gradients included; at the end its state."""
    options = {key: value for one in chosen for key, value in OPTIONS[name][one].items()}
    of_step = {key: options.pop(key) for key in STEP_OPTIONS if key in options}
    if name == "Adam":
        options["betas"] = (options.pop("beta1", 0.9), options.pop("beta2", 0.999))
    optimizer = getattr(ops, name)(params, lr=0.01, **options)
    seen = {}
    for number, grads in enumerate(grads_of_steps):
        assert optimizer.step(grads, **of_step) is None
        for what, nest in (("params", params), ("grads", grads), ("ema", optimizer.ema_params or [])):
            for path, array in leaves(nest):
                if array is not None:
                    seen[f"step {number}: {what}/{path}"] = array.copy()
        seen[f"step {number}: norm"] = optimizer.grad_norm
        seen[f"step {number}: skipped"] = optimizer.skipped_steps
    return seen | optimizer.state_dict()


@pytest.mark.parametrize(("name", "chosen"), PAIRS, ids=[" ".join([name, *chosen]) for name, chosen in PAIRS])
@each_dtype
def test_every_pair_of_options_has_the_bits_of_the_reference(name, chosen, dtype):
    # One parameter has a tail after two whole chunks, the other is a third of a chunk's block of small states.
    size = 2 * OPTIMIZER_GRAIN + 5
    for bad, shapes in ((False, ((size,), (15, 20))), (True, ((300,), (13, size // 13)))):

        def arrays(seed, shapes=shapes):
            return [laid_out(finite(seed, shapes[0], dtype), "C"), laid_out(finite(seed, shapes[1], dtype), "Fortran")]

        params, steps = arrays(1), [arrays(seed) for seed in (2, 3, 4)]
        if bad:
            steps[1][1][-1, -2] = np.nan
        steps[2][0] = None

        def copied(nest):
            return [array if array is None else array.copy(order="K") for array in nest]

        with np.errstate(all="ignore"):
            expected = train(reference, name, chosen, copied(params), [copied(grads) for grads in steps])
        for threads in (1, 3):
            with fastopt.num_threads(threads):
                found = train(fastopt, name, chosen, copied(params), [copied(grads) for grads in steps])
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                what = f"{'a NaN' if bad else 'finite'}, {threads} threads, {key}"
                if value is None or isinstance(value, int | str):
                    assert found[key] == value, what
                else:
                    assert_same_bits(found[key], value, what)


# ---- the norm of the gradients and clipping --------------------------------------------------------------------------


def norm_grads(dtype, layout="C"):
    """More than one chunk of blocks in one array, and an array of no elements and one of one."""
    return {
        "w": laid_out(finite(1, (3, SUM_GRAIN // 2, 1), dtype), layout),
        "none": None,
        "layers": [laid_out(finite(2, (5, 7), dtype), layout), (finite(3, (), dtype), np.ones((0, 3), dtype))],
    }


def zero_params(dtype):
    return {
        "w": np.zeros((3, SUM_GRAIN // 2, 1), dtype),
        "none": np.zeros(3, dtype),
        "layers": [np.zeros((5, 7), dtype), (np.zeros((), dtype), np.zeros((0, 3), dtype))],
    }


@each_dtype
def test_the_norm_is_that_of_all_gradients(dtype):
    grads = norm_grads(dtype)
    everything = np.concatenate([g.ravel() for _, g in leaves(grads) if g is not None]).astype(np.float64)
    # Squares of float32 are exact in float64, those of float64 rounded once: errors of 2**-53 each, and less in a sum
    # of blocks than the n * 2**-53 of a sum in a row.
    exact = math.sqrt(math.fsum(everything**2))
    np.testing.assert_allclose(fastopt.grad_norm(grads), exact, rtol=1e-14)
    assert fastopt.grad_norm([]) == fastopt.grad_norm([None]) == fastopt.grad_norm(np.ones(0)) == 0
    assert fastopt.grad_norm([np.array([3.0]), {"b": np.array(4, np.float32)}]) == 5  # dtypes may differ here


@each_dtype
def test_no_thread_and_no_layout_shows_in_the_norm(dtype):
    expected = reference.grad_norm(norm_grads(dtype))
    for layout, threads in itertools.product(LAYOUTS, (1, 3)):
        grads, what = norm_grads(dtype, layout), f"{layout}, {threads} threads"
        optimizer = fastopt.SGD(zero_params(dtype), skip_nonfinite=True)
        with fastopt.num_threads(threads):
            assert_same_bits(fastopt.grad_norm(grads), expected, what)
            optimizer.step(grads, grad_multiplier=-0.5)
        assert_same_bits(optimizer.grad_norm, 0.5 * expected, what)  # a power of two: exact


@pytest.mark.parametrize("multiplier", [1.0, 0.25, -3.0, 1 / 1024])
@pytest.mark.parametrize("maximize", [False, True])
def test_the_product_with_the_multiplier_is_clipped(multiplier, maximize):
    # A parameter of zero and lr 1: what the step leaves is the gradient that it used, negated.
    w, b = np.zeros(2), np.zeros(())
    grads = [np.array([2.0, -6.0]), np.array(3.0)]  # of norm 7
    optimizer = fastopt.SGD([w, b], lr=1.0, max_grad_norm=1.0, maximize=maximize)
    optimizer.step(grads, grad_multiplier=multiplier)
    norm = 7 * abs(multiplier)
    assert optimizer.grad_norm == norm  # that before clipping
    factor = (1 if maximize else -1) * multiplier * min(1, 1 / (norm + 1e-6))  # one number, rounded once
    assert_same_bits(w, grads[0] * factor)
    assert_same_bits(b, np.asarray(grads[1] * factor))
    assert fastopt.grad_norm([w, b]) <= 1
    assert grads[0].tolist() == [2, -6]


@each_dtype
def test_a_norm_below_the_limit_changes_no_bit(dtype):
    params, plain_params, grads = finite(1, 300, dtype), finite(1, 300, dtype), finite(2, 300, dtype)
    limit = 1.0001 * fastopt.grad_norm(grads)
    optimizer, plain = fastopt.Adam([params], max_grad_norm=limit), fastopt.Adam([plain_params])
    for _ in range(2):
        optimizer.step([grads])
        plain.step([grads])
    assert_same_bits(params, plain_params)


def test_the_norm_is_of_the_last_step_and_none_without_the_options():
    optimizer = fastopt.Adam([np.ones(2), np.ones(2)], max_grad_norm=1.0)
    assert optimizer.grad_norm is None
    optimizer.step([np.array([3.0, 4.0]), None])  # what has no gradient is left out
    assert optimizer.grad_norm == 5
    optimizer.step([np.array([3.0, 4.0]), np.array([12.0, 0.0])])
    assert optimizer.grad_norm == 13
    optimizer.step([None, None])
    assert optimizer.grad_norm == 0
    plain = fastopt.Adam([np.ones(2)], ema_decay=0.5)
    plain.step([np.ones(2)])
    assert plain.grad_norm is None


def test_without_skipping_a_norm_that_is_not_finite_flows_through():
    for bad, wanted in ((np.nan, [np.nan, np.nan]), (np.inf, [0.0, np.nan])):
        w = np.zeros(2)
        optimizer = fastopt.SGD([w], lr=1.0, max_grad_norm=1.0)
        with np.errstate(all="ignore"):
            optimizer.step([np.array([1.0, bad])])
        expected = [-1.0, np.nan] if np.isnan(bad) else wanted  # a NaN clips nothing, an infinity to zero
        np.testing.assert_array_equal(w, expected)
        assert optimizer.skipped_steps == 0
        assert optimizer.step_count == 1


@each_dtype
def test_clip_grad_norm_scales_in_place(dtype):
    for layout, threads in itertools.product(LAYOUTS, (1, 3)):
        grads, expected = norm_grads(dtype, layout), norm_grads(dtype)
        before = fastopt.grad_norm(grads)
        factor = dtype(2 / (before + 1e-6))
        with fastopt.num_threads(threads):
            assert fastopt.clip_grad_norm_(grads, 2) == before
        for (path, grad), (_, plain) in zip(leaves(grads), leaves(expected), strict=True):
            if grad is not None:
                assert_same_bits(grad, np.asarray(plain * factor), f"{layout}, {path}")


def test_clip_grad_norm_leaves_what_is_short_enough():
    grads = [np.array([3.0, -0.0]), None, np.array(4.0)]
    assert fastopt.clip_grad_norm_(grads, 5.1) == 5
    assert_same_bits(grads[0], np.array([3.0, -0.0]))
    assert grads[2] == 4
    assert fastopt.clip_grad_norm_([None], 1.0) == 0


def test_clip_grad_norm_of_what_is_not_finite():
    grad = np.array([1.0, np.nan, 1e9])
    assert math.isnan(fastopt.clip_grad_norm_(grad, 1.0))
    np.testing.assert_array_equal(grad, [1.0, np.nan, 1e9])
    grad = np.array([1.0, -np.inf])
    assert fastopt.clip_grad_norm_(grad, 1.0) == math.inf
    np.testing.assert_array_equal(grad, [0.0, np.nan])


# ---- steps that are skipped ------------------------------------------------------------------------------------------

BAD = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "overflow": 1e200}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("zero_grads", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [("Adam", {"amsgrad": True, "max_grad_norm": 0.5}), ("SGD", {"momentum": 0.9})],
    ids=["Adam", "SGD"],
)
@each_state_dtype
def test_a_skipped_step_changes_nothing(name, options, bad, zero_grads, state_dtype):
    # The square of 1e200 is beyond float64: finite gradients, but no norm to speak of.
    options = options | {"skip_nonfinite": True, "ema_decay": 0.9, "state_dtype": state_dtype, "rng": 3}

    def arrays(seed):
        return {"w": laid_out(finite(seed, (17, 20), np.float64), "Fortran"), "b": [finite(seed, 5000, np.float64)]}

    params, twin_params = arrays(1), arrays(1)
    optimizer, twin = getattr(fastopt, name)(params, **options), getattr(fastopt, name)(twin_params, **options)
    for one in (optimizer, twin):
        one.step(arrays(2))
    before = snapshot(optimizer, params)
    for number, (key, index) in enumerate([("w", (0, 0)), ("w", (16, 19)), ("b", 0), ("b", 4999)]):
        grads = arrays(3)
        array = grads["w"] if key == "w" else grads["b"][0]
        array[index] = bad
        kept = [grads["w"].copy(), grads["b"][0].copy()]
        with np.errstate(over="ignore"):
            optimizer.step(grads, zero_grads=zero_grads)
        assert not math.isfinite(optimizer.grad_norm)
        assert optimizer.skipped_steps == number + 1
        for grad, old in zip((grads["w"], grads["b"][0]), kept, strict=True):
            assert_same_bits(grad, np.zeros_like(old) if zero_grads else old)
        after = snapshot(optimizer, params)
        assert_same_snapshots(after, before | {"skipped_steps": after["skipped_steps"]})
    for one in (optimizer, twin):
        one.step(arrays(4))
        one.step({"w": None, "b": arrays(5)["b"]})
    last = snapshot(optimizer, params)
    assert last["skipped_steps"] == 4
    assert_same_snapshots(last | {"skipped_steps": np.array(0)}, snapshot(twin, twin_params))


def test_steps_are_not_skipped_unless_asked():
    w = np.ones(3)
    optimizer = fastopt.SGD([w], lr=1.0, max_grad_norm=1.0)
    optimizer.step([np.array([1.0, np.nan, 1.0])])
    assert (optimizer.step_count, optimizer.skipped_steps) == (1, 0)
    assert np.isnan(w[1])


def test_what_is_not_finite_only_by_the_multiplier_is_skipped_too():
    w = np.ones(2)
    optimizer = fastopt.SGD([w], skip_nonfinite=True)
    optimizer.step([np.array([1.0, np.inf])], grad_multiplier=0.0)  # 0 * inf
    optimizer.step([np.array([1e150, 0.0])], grad_multiplier=1e200)
    assert (optimizer.step_count, optimizer.skipped_steps) == (0, 2)
    assert w.tolist() == [1, 1]
    optimizer.step([np.array([1.0, 2.0])], grad_multiplier=0.0)
    assert (optimizer.step_count, optimizer.skipped_steps, optimizer.grad_norm) == (1, 2, 0.0)


# ---- gradients set to zero in the same pass --------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parameter", ["C", "Fortran", "every other"])
@each_dtype
@each_state_dtype
def test_gradients_are_positive_zeros(layout, parameter, dtype, state_dtype):
    param, expected = laid_out(finite(1, (6, 7, 8), dtype), parameter), finite(1, (6, 7, 8), dtype)
    optimizer = fastopt.Adam([param], state_dtype=state_dtype, rng=1)
    twin = fastopt.Adam([expected], state_dtype=state_dtype, rng=1)
    for seed in (2, 3):
        plain = values(seed, param.shape, dtype)  # NaN, infinities and negative zeros too
        grad = laid_out(plain, layout)
        optimizer.step([grad], zero_grads=True)
        twin.step([plain])
        assert_same_bits(grad, np.zeros(param.shape, dtype))
        assert_same_bits(param, expected)


@pytest.mark.parametrize("threads", [1, 3])
@each_state_dtype
def test_nothing_else_than_the_gradients_is_zeroed(threads, state_dtype):
    # Chunks end inside these arrays, and each is the middle, or every other element, of a larger one.
    size = 3 * OPTIMIZER_GRAIN + 5
    row, columns = np.ones(size + 2, np.float32), np.ones(2 * size, np.float32)
    optimizer = fastopt.SGD([np.ones(size, np.float32), np.ones(size, np.float32)], state_dtype=state_dtype)
    with fastopt.num_threads(threads):
        optimizer.step([row[1:-1], columns[::2]], zero_grads=True)
    assert row[[0, -1]].tolist() == [1, 1]
    assert not row[1:-1].any()
    assert columns[1::2].all()
    assert not columns[::2].any()


def test_memory_maps_are_zeroed(tmp_path):
    np.ones(1000).tofile(tmp_path / "grad")
    grad = np.memmap(tmp_path / "grad", np.float64, "r+")
    fastopt.Adam([np.ones(1000)]).step([grad], zero_grads=True)
    grad.flush()
    assert not np.fromfile(tmp_path / "grad").any()


def _overlapping(first, second):
    return lambda: (lambda b: [b[first], b[second]])(np.ones(12))


def _one_array():
    grad = np.ones(6)
    return [grad, grad]


SHARING = {
    "one array": _one_array,
    "overlap": _overlapping(np.s_[:6], np.s_[5:11]),
    "reversed": _overlapping(np.s_[:6], np.s_[5::-1]),
    "strided": _overlapping(np.s_[::2], np.s_[4:10]),
}


def assert_refused(optimizer, params, grads, message, **step):
    before, kept = snapshot(optimizer, params), [grad if grad is None else np.array(grad) for grad in grads]
    norm = optimizer.grad_norm
    with pytest.raises(ValueError, match=message):
        optimizer.step(grads, **step)
    assert_same_snapshots(snapshot(optimizer, params), before)
    assert optimizer.grad_norm == norm
    for grad, old in zip(grads, kept, strict=True):
        if grad is not None:
            assert_same_bits(grad, old)


@pytest.mark.parametrize("make", SHARING.values(), ids=SHARING.keys())
@pytest.mark.parametrize("before", ["fresh", "zeroed", "not zeroed"])
def test_gradients_that_share_memory_cannot_be_zeroed(make, before):
    # Which element would be read before it is zeroed depends on the threads.
    params = [np.ones(6), np.ones(6)]
    optimizer = fastopt.Adam(params, skip_nonfinite=True)
    if before != "fresh":
        optimizer.step([np.ones(6), np.ones(6)], zero_grads=before == "zeroed")
    grads = make()
    message = (
        "grads/[01]: expected memory of its own to be written, got an array that overlaps grads/[01]; pass grads/[01]"
    )
    for _ in range(2):  # an error is not remembered as a pass
        assert_refused(optimizer, params, grads, message, zero_grads=True)
    optimizer.step(grads)
    assert_refused(optimizer, params, grads, message, zero_grads=True)


def test_gradients_that_were_zeroed_one_by_one_cannot_be_zeroed_together():
    params, grad = [np.ones(3), np.ones(3)], np.ones(3)
    optimizer = fastopt.SGD(params)
    optimizer.step([grad, None], zero_grads=True)
    optimizer.step([None, grad], zero_grads=True)
    grad[:] = 1
    message = "grads/1: expected memory of its own to be written, got an array that overlaps grads/0"
    assert_refused(optimizer, params, [grad, grad], message, zero_grads=True)


def test_interleaved_and_empty_gradients_can_be_zeroed():
    both, empty = np.ones(12), np.ones(0)
    optimizer = fastopt.SGD([np.ones(6), np.ones(6), np.ones(0), np.ones(0)], lr=0.5)
    optimizer.step([both[::2], both[1::2], empty, empty], zero_grads=True)
    assert not both.any()
    assert [p.tolist() for p in optimizer.params[:2]] == [[0.5] * 6] * 2


@pytest.mark.parametrize("steps_before", [0, 2])
def test_read_only_gradients_cannot_be_zeroed(steps_before):
    params, grads = [np.ones(3), np.ones((2, 3))], [np.ones(3), np.ones((2, 3))]
    optimizer = fastopt.Adam(params)
    for _ in range(steps_before):
        optimizer.step(grads, zero_grads=True)
    grads[1][...] = 1
    grads[1].flags.writeable = False
    message = "grads/1: expected a writeable array, got a read-only one"
    assert_refused(optimizer, params, grads, message, zero_grads=True)
    assert_refused(optimizer, params, [grads[0], np.broadcast_to(1.0, (2, 3))], message, zero_grads=True)
    optimizer.step(grads)


def test_a_read_only_view_of_a_gradient_that_was_zeroed():
    params, grad = [np.ones(3)], np.ones(3)
    optimizer = fastopt.SGD(params)
    optimizer.step([grad], zero_grads=True)
    grad[:] = 1
    view = grad.view()
    view.flags.writeable = False
    assert_refused(optimizer, params, [view], "grads/0: expected a writeable array", zero_grads=True)


# ---- averages of the parameters --------------------------------------------------------------------------------------


def nest(seed, dtype=np.float64):
    return {"w": finite(seed, (3, 4), dtype), "layers": [finite(seed + 1, 300, dtype), {"b": finite(seed, (), dtype)}]}


@each_dtype
def test_averages_start_as_copies_and_follow_the_definition(dtype):
    params = nest(1, dtype)
    optimizer = fastopt.Adam(params, lr=0.1, ema_decay=0.75)
    averages = optimizer.ema_params
    assert averages.keys() == params.keys()
    assert averages["layers"][1].keys() == {"b"}
    expected = [array.copy() for _, array in leaves(params)]
    for (path, average), (_, param) in zip(leaves(averages), leaves(params), strict=True):
        assert_same_bits(average, param, path)
        assert not np.shares_memory(average, param)
    for seed in (5, 6, 7):
        optimizer.step(nest(seed, dtype))
        for average, (_, param) in zip(expected, leaves(params), strict=True):
            average += dtype(0.25) * (param - average)
        for (path, average), wanted in zip(leaves(averages), expected, strict=True):
            assert_same_bits(average, wanted, path)
    assert optimizer.ema_params["w"] is averages["w"]  # the arrays themselves


@pytest.mark.parametrize("layout", LAYOUTS)
@each_state_dtype
def test_averages_of_parameters_in_any_layout(layout, state_dtype):
    param = laid_out(finite(1, (17, 20), np.float64), layout)
    optimizer = fastopt.SGD([param], lr=0.5, ema_decay=0.5, state_dtype=state_dtype)
    expected = param.copy()
    for seed in (2, 3):
        optimizer.step([finite(seed, (17, 20), np.float64)])
        fastopt.ema_update(expected, param, 0.5)
    assert_same_bits(optimizer.ema_params[0], expected)


def test_the_ends_of_the_decay():
    w, grad = np.array([1.0, -2.0]), np.array([3.0, 5.0])
    still = fastopt.SGD([w.copy()], lr=0.5, ema_decay=1)
    still.step([grad])
    assert_same_bits(still.ema_params[0], w)
    close = fastopt.SGD([w.copy()], lr=0.5, ema_decay=0)
    close.step([grad])
    assert_same_bits(close.ema_params[0], close.params[0])


def test_the_average_of_a_parameter_without_gradient_stays():
    optimizer = fastopt.SGD([{"params": [np.ones(2)]}, {"params": {"b": np.ones(2)}}], lr=1.0, ema_decay=0.5)
    for _ in range(2):
        optimizer.step([[np.ones(2)], {"b": np.ones(2)}])
    (w,), b = optimizer.ema_params[0], optimizer.ema_params[1]["b"]
    assert w.tolist() == b.tolist() == [-0.25, -0.25]  # 1 -> 0.5 -> -0.25, while the parameters go 1 -> 0 -> -1
    optimizer.step([[np.ones(2)], {"b": None}])
    assert w.tolist() == [-1.125, -1.125]
    assert b.tolist() == [-0.25, -0.25]


def test_there_is_no_average_unless_asked():
    assert fastopt.Adam([np.ones(2)]).ema_params is None
    assert not any(key.startswith("ema") for key in fastopt.Adam([np.ones(2)]).state_dict())


def test_ema_update_alone():
    average, value = np.array([1.0, -4.0, np.inf]), np.array([2.0, np.nan, np.inf])
    with np.errstate(invalid="ignore"):
        assert fastopt.ema_update(average, value, 0.75) is None
    np.testing.assert_array_equal(average, [1.25, np.nan, np.nan])
    unmoved = np.array([1.0, np.nan])
    fastopt.ema_update(unmoved, np.array([np.inf, 1.0]), 1)
    np.testing.assert_array_equal(unmoved, [1.0, np.nan])
    for layout in LAYOUTS:
        average, value = finite(1, (3, 5), np.float32), laid_out(finite(2, (3, 5), np.float32), layout)
        expected = average + np.float32(0.1) * (value - average)
        target = laid_out(average, layout)
        fastopt.ema_update(target, value, 0.9)
        assert_same_bits(target, expected, layout)


# ---- many steps, large arrays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2**24 - 1, 2**24 + 1, 2**31 - 2, 2**31 + 1, 2**32 - 1, 2**32, 2**40])
@pytest.mark.parametrize(
    # Of a beta2 of 0.999 such a power is zero. This one's power to 2**31 is 0.6, and float32 rounds it to 1.
    ("name", "options"),
    [("Adam", {"betas": (0.9, 1 - 2.0**-32), "eps": 1e-3}), ("SGD", {"momentum": 0.9, "dampening": 0.5})],
    ids=["Adam", "SGD"],
)
@each_dtype
@each_state_dtype
def test_step_counts_beyond_32_bits(name, options, step, dtype, state_dtype):
    param, expected = finite(1, 300, dtype), finite(1, 300, dtype)
    options = options | {"state_dtype": state_dtype, "rng": 3}
    optimizer, twin = getattr(fastopt, name)([param], **options), getattr(reference, name)([expected], **options)
    optimizer.load_state_dict(optimizer.state_dict() | {"step_count": step, "step/0": step})
    twin._steps[0] = twin.step_count = step
    for seed in (2, 3, 4):
        grad = finite(seed, 300, dtype)
        optimizer.step([grad])
        with np.errstate(all="ignore"):
            twin.step([grad])
        assert_same_bits(param, expected)
    assert optimizer.state_dict()["step/0"] == optimizer.step_count == step + 3
    assert_same_snapshots(snapshot(optimizer, [param]), snapshot(twin, [expected]))


def _available_gib():
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError):  # not on this system
        return 0


@pytest.mark.skipif(_available_gib() < 40, reason="needs 40 GiB of free memory")
def test_arrays_beyond_32_bits():
    size = 2**31 + 5
    param, grad = np.zeros(size, np.float32), np.zeros(size, np.float32)
    ends = [slice(0, 1000), slice(2**31 - 500, None)]
    for k, end in enumerate(ends):
        param[end], grad[end] = (finite(seed, param[end].size, np.float32) for seed in (k, k + 2))
    expected = [param[end] - np.float32(0.5) * grad[end] for end in ends]
    fastopt.SGD([param], lr=0.5).step([grad])
    for end, wanted in zip(ends, expected, strict=True):
        assert_same_bits(param[end], wanted)
    assert not param[1000 : 2**31 - 500 : 4097].any()


def test_an_error_in_between_does_not_hide_gradients_that_share_memory():
    # What is known of pointers is forgotten with the first new one, also when a later gradient is refused.
    memory = np.ones(4)
    head, middle = memory[:2], memory[1:3]
    optimizer = fastopt.SGD([np.zeros(2), np.zeros(2)])
    optimizer.step([np.ones(2), middle], zero_grads=True)
    with pytest.raises(ValueError, match="grads/1: expected shape"):
        optimizer.step([head, np.ones(9)], zero_grads=True)
    with pytest.raises(ValueError, match="grads/1: expected memory of its own to be written"):
        optimizer.step([head, middle], zero_grads=True)
