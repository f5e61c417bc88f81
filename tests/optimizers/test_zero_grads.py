"""Gradients that are set to zero in the same pass, and those that cannot be."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt

from ..support import LAYOUTS, OPTIMIZER_GRAIN, assert_same_bits, laid_out, values
from .snapshots import assert_same_snapshots, each_dtype, each_state_dtype, finite, snapshot


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
