"""Averages of the parameters: ema_decay and ema_update."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt._tree import leaves

from ..support import LAYOUTS, assert_same_bits, laid_out
from .snapshots import each_dtype, each_state_dtype, finite


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
