"""The norm of the gradients: clipping by it, and steps that are skipped because of it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import fastopt
from fastopt import reference
from fastopt._tree import leaves

from ..support import LAYOUTS, SUM_GRAIN, assert_same_bits, laid_out
from .snapshots import assert_same_snapshots, each_dtype, each_state_dtype, finite, snapshot

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
        np.testing.assert_array_equal(w, wanted)
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
    assert np.all(np.isnan(grad))
    grad = np.array([1.0, -np.inf])
    assert fastopt.clip_grad_norm_(grad, 1.0) == math.inf
    np.testing.assert_array_equal(grad, [0.0, np.nan])


# ---- steps that are skipped ------------------------------------------------------------------------------------------

BAD = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("zero_grads", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [("Adam", {"amsgrad": True, "max_grad_norm": 0.5}), ("SGD", {"momentum": 0.9})],
    ids=["Adam", "SGD"],
)
@each_state_dtype
def test_a_skipped_step_changes_nothing(name, options, bad, zero_grads, state_dtype):
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
