"""What RMSprop has of its own: all its options beside torch, a variance that rounding makes negative, late momentum."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastopt
from fastopt import reference

from ..support import DTYPES, assert_equals_reference, assert_same_bits, run_python, values
from .snapshots import each_dtype, each_state_dtype, finite


@given(
    dtype=st.sampled_from(DTYPES),
    options=st.fixed_dictionaries(
        {},
        optional={
            "lr": st.floats(0, 10),
            "alpha": st.floats(0, 1, exclude_max=True),
            "eps": st.floats(1e-26, 1),
            "weight_decay": st.floats(0, 10),
            "momentum": st.floats(0, 2),
            "maximize": st.booleans(),
            "grad_multiplier": st.floats(-1e3, 1e3),
        },
    ),
    centered=st.booleans(),
)
def test_steps_with_any_hyper_parameters(dtype, options, centered):
    arrays = [values(k, 203, dtype) for k in range(4 + centered)]
    assert_equals_reference(lambda ops, *arrays: ops.rmsprop_step(*arrays, **options), arrays)


# ---- torch -----------------------------------------------------------------------------------------------------------

ALL = list(itertools.product((0.0, 0.1), (0.0, 0.9), (False, True), (False, True), (0.99, 0.25)))
NAMES = ("weight_decay", "momentum", "centered", "maximize", "alpha")


@each_dtype
@pytest.mark.parametrize("chosen", ALL, ids=str)
def test_steps_of_torch_with_all_options(chosen, dtype):
    torch = pytest.importorskip("torch")
    steps, options = 200, dict(zip(NAMES, chosen, strict=True))
    rng = np.random.default_rng(1)
    mine = rng.standard_normal(50).astype(dtype)
    theirs = torch.tensor(mine, requires_grad=True)
    optimizer, twin = fastopt.RMSprop([mine], **options), torch.optim.RMSprop([theirs], **options)
    for _ in range(steps):
        grad = rng.standard_normal(50).astype(dtype)
        theirs.grad = torch.tensor(grad)
        twin.step()
        optimizer.step([grad])
    # Each rounds a parameter once a step, by half a unit at most, and its step a few times.
    tolerance = steps * np.finfo(dtype).eps
    np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=tolerance, atol=tolerance)


# ---- a variance below 0 ----------------------------------------------------------------------------------------------


def constant(dtype):
    """Gradients that stay the same: the average of squares and the square of the average come to the same number."""
    return np.random.default_rng(3).uniform(0.5, 8, 1000).astype(dtype)


@each_dtype
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_variance_below_0_counts_as_0(dtype, momentum):
    options = {"alpha": 0.5, "eps": 1.0, "lr": 0.125, "momentum": momentum, "centered": True}
    param, expected, grad = np.zeros(1000, dtype), np.zeros(1000, dtype), constant(dtype)
    optimizer, twin = fastopt.RMSprop([param], **options), reference.RMSprop([expected], **options)
    below = 0
    for _ in range(100):
        optimizer.step([grad])
        twin.step([grad])
        state = optimizer.state_dict()
        below += np.count_nonzero(state["square_avg/0"] < state["grad_avg/0"] * state["grad_avg/0"])
    assert below > 1000  # it does happen
    assert np.isfinite(param).all()
    assert_same_bits(param, expected)
    fastopt.rmsprop_step(param, grad, np.full(1000, 1, dtype), None, np.full(1000, 8, dtype), alpha=0.5)
    assert np.isfinite(param).all()


def test_torch_has_a_nan_there():
    torch = pytest.importorskip("torch")
    param = torch.zeros(1000, requires_grad=True)
    optimizer = torch.optim.RMSprop([param], alpha=0.5, eps=1.0, centered=True)
    for _ in range(100):
        param.grad = torch.tensor(constant(np.float32))
        optimizer.step()
    assert torch.isnan(param).any()


@each_dtype
def test_a_nan_stays_one(dtype):
    param, grad = np.ones(3, dtype), np.array([1, np.nan, 1], dtype)
    optimizer = fastopt.RMSprop([param], centered=True)
    optimizer.step([grad])
    assert np.isnan(param).tolist() == [False, True, False]


@each_dtype
def test_a_gradient_without_a_square_makes_no_long_step(dtype):
    # Its square is 0, so that eps alone is the denominator: no larger step than that of a gradient with one.
    for options, centered in itertools.product(({}, {"alpha": 0.5}, {"momentum": 0.5}), (False, True)):
        for exponent in range(-149 if dtype == np.float32 else -1074, -50):
            param = np.zeros(1, dtype)
            optimizer = fastopt.RMSprop([param], lr=1.0, eps=1e-26, centered=centered, **options)
            optimizer.step([np.full(1, 2.0**exponent, dtype)])
            assert abs(param[0]) <= 10.1, exponent


# ---- momentum --------------------------------------------------------------------------------------------------------


def trained(ops, dtype, schedule, resume_at=None, **options):
    """A step for each momentum; taken up from its state in between, where asked for."""
    param = finite(1, (30, 20), dtype)
    optimizer = ops.RMSprop([param], **options)
    for step, momentum in enumerate(schedule):
        if step == resume_at:
            state = {key: np.array(value) for key, value in optimizer.state_dict().items()}
            optimizer = ops.RMSprop([param], **options)
            optimizer.load_state_dict(state)
        optimizer.param_groups[0]["momentum"] = momentum
        with np.errstate(all="ignore"):
            optimizer.step([finite(5 + step, (30, 20), dtype)])
    return param, optimizer.state_dict()


SCHEDULES = [[0.0] * 4 + [0.9] * 3, [0.9, 0.0, 0.9], [1e-60, 1e-60, 0.9]]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_buffer_begins_at_0_whenever_momentum_does(schedule):
    param, _ = trained(fastopt, np.float64, schedule)
    expected, square, buffer = finite(1, (30, 20), np.float64), 0.0, 0.0
    for step, momentum in enumerate(schedule):
        grad = finite(5 + step, (30, 20), np.float64)
        square = 0.99 * square + 0.01 * grad * grad
        update = grad / (np.sqrt(square) + 1e-8)
        if momentum:
            update = buffer = momentum * buffer + update
        expected -= 0.01 * update
    np.testing.assert_allclose(param, expected, rtol=1e-13, atol=1e-13)


@each_dtype
@each_state_dtype
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_same_bits_whenever_momentum_begins(schedule, state_dtype, dtype):
    options = {"state_dtype": state_dtype, "rng": 3}
    param, state = trained(fastopt, dtype, schedule, **options)
    for ops, resume_at in ((reference, None), *((fastopt, k) for k in range(1, len(schedule)))):
        again, states = trained(ops, dtype, schedule, resume_at, **options)
        assert_same_bits(again, param)
        assert states.keys() == state.keys()
        for key in state.keys() - {"state_dtype"}:
            assert_same_bits(states[key], state[key], key)


def test_without_momentum_the_buffer_is_left_alone():
    arrays = [np.ones(5), np.ones(5), np.ones(5), np.full(5, np.nan)]
    fastopt.rmsprop_step(*arrays)
    assert np.isnan(arrays[3]).all()
    assert fastopt.rmsprop_step(*arrays[:3]) is None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="what memory is in use is read from /proc")
def test_without_momentum_the_memory_of_the_buffer_is_not_used():
    run_python(
        """
import resource
import numpy as np
import fastopt

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

size = 1 << 24
param, grad = np.ones(size, np.float32), np.ones(size, np.float32)
before = used()
optimizer = fastopt.RMSprop([param])
optimizer.step([grad])
assert 0.9 * param.nbytes < used() - before < 1.5 * param.nbytes, (used() - before) / param.nbytes
optimizer.param_groups[0]["momentum"] = 0.5
optimizer.step([grad])
assert used() - before > 1.9 * param.nbytes
"""
    )


# ---- centred ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
def test_small_states_are_refused_when_centred(state_dtype):
    rng = fastopt.Philox4x32(1)
    with pytest.raises(ValueError, match=f"^state_dtype: expected None when centered, .*, got '{state_dtype}'$"):
        fastopt.RMSprop([np.ones(3)], centered=True, state_dtype=state_dtype, rng=rng)
    assert rng.state == fastopt.Philox4x32(1).state


def test_states_of_another_kind_are_not_taken_over():
    plain, centered = fastopt.RMSprop([np.ones(3)]), fastopt.RMSprop([np.ones(3)], centered=True)
    assert {"momentum_buffer/0", "square_avg/0", "grad_avg/0"} <= centered.state_dict().keys()
    assert "grad_avg/0" not in plain.state_dict()
    with pytest.raises(ValueError, match=r"param_groups/0/centered'\]: expected True, .* got False; make one so"):
        centered.load_state_dict(plain.state_dict())


def test_momentum_and_alpha_are_settable_by_group():
    optimizer = fastopt.RMSprop([{"params": np.ones(3), "alpha": 0.5}, {"params": np.ones(2)}], momentum=0.25)
    assert [group["alpha"] for group in optimizer.param_groups] == [0.5, 0.99]
    with pytest.raises(KeyError, match="expected one of lr, alpha, eps, weight_decay, momentum, got centered"):
        optimizer.param_groups[0]["centered"] = True
