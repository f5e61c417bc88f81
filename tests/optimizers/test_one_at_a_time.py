"""One call at a time of an optimiser, on parameters and states that nobody changes behind its back."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest

import fastopt

from ..support import assert_same_bits, run_python

RULES = {
    "Adam": fastopt.Adam,
    "RMSprop": fastopt.RMSprop,
    "SGD": lambda params, **o: fastopt.SGD(params, momentum=0.5, **o),
}
each_rule = pytest.mark.parametrize("make", RULES.values(), ids=RULES.keys())


class Key:
    """A key whose comparison calls back. Two of them are always equal."""

    def __init__(self, hook=None):
        self.hook = hook

    def __hash__(self):
        return 7

    def __eq__(self, other):
        for key in (self, other):
            if key.hook:
                key.hook()
        return True


# ---- threads ---------------------------------------------------------------------------------------------------------

CALLS = {
    "state_dict": "optimizer.state_dict()",
    "load_state_dict": "optimizer.load_state_dict(stored)",
    "lr": "optimizer.lr = 0.5",
    "step": "optimizer.step([grad])",
}


@pytest.mark.parametrize("call", CALLS)
def test_a_second_thread_is_refused_or_served_whole(call):
    # All elements are equal after whole steps.
    run_python(
        """
import sys, threading, time
import numpy as np
import fastopt

name = sys.argv[1]
w, grad = np.zeros(1 << 19, "f4"), np.ones(1 << 19, "f4")
optimizer = fastopt.Adam([w], lr=1e-3)
stored = optimizer.state_dict()
refused, end = [], time.monotonic() + 20
done = threading.Event()

def other():
    while not done.is_set():
        try:
            optimizer.step([grad])
        except RuntimeError:
            time.sleep(0)

thread = threading.Thread(target=other)
thread.start()
while time.monotonic() < end and len(refused) < 10:
    try:
        """
        + CALLS[call]
        + """
    except RuntimeError as error:
        refused.append(str(error))
    try:
        state = optimizer.state_dict()
    except RuntimeError:
        continue
    for kind in ("exp_avg/0", "exp_avg_sq/0"):
        assert state[kind].min() == state[kind].max(), kind
done.set()
thread.join()
assert set(refused) == {f"{name}: this optimiser is in the middle of a step in another thread"}, set(refused)
assert w.min() == w.max()
""",
        arguments=[call],
    )


def test_two_threads_that_set_two_values_of_a_group_lose_none():
    group = fastopt.Adam([np.ones(3)]).param_groups[0]

    def work(name):
        for k in range(300):
            group[name] = k
            assert group[name] == k

    threads = [threading.Thread(target=work, args=(name,)) for name in ("lr", "weight_decay")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (group["lr"], group["weight_decay"]) == (299, 299)


@each_rule
@pytest.mark.parametrize("name", ["step", "state_dict", "load_state_dict", "lr"])
def test_a_call_from_within_a_step_is_refused(make, name):
    param, errors = np.ones(3), []
    optimizer = make([{Key(): param}])
    state = optimizer.state_dict()
    calls = {
        "step": lambda: optimizer.step([{Key(): np.ones(3)}]),
        "state_dict": optimizer.state_dict,
        "load_state_dict": lambda: optimizer.load_state_dict(state),
        "lr": lambda: setattr(optimizer, "lr", 0.5),
    }

    def hook():
        repr(optimizer)  # which never raises
        with pytest.raises(RuntimeError, match=f"^{name}: re-entry: .* in the middle of a step in this very thread"):
            calls[name]()
        errors.append(name)

    optimizer.step([{Key(hook): np.ones(3)}])
    assert errors
    assert optimizer.step_count == 1
    optimizer.step([{Key(): np.ones(3)}])  # the next one is let in again


@each_rule
@pytest.mark.parametrize("wrong", [None, 1.0])
def test_a_step_that_is_refused_lets_the_next_in(make, wrong):
    optimizer = make([np.ones(3)])
    with pytest.raises((TypeError, ValueError)):
        optimizer.step(wrong)
    optimizer.step([np.ones(3)])


# ---- containers that change ------------------------------------------------------------------------------------------


@each_rule
@pytest.mark.parametrize("change", ["clear", "pop", "params"])
def test_nests_that_a_key_changes(make, change):
    grads, key = [], Key()
    params = [{key: np.ones(4)}, np.ones(4)]
    arrays = [params[0][key], params[1]]
    optimizer = make(params)
    hook = {"clear": grads.clear, "pop": lambda: len(grads) > 1 and grads.pop(), "params": params.clear}[change]
    grads.extend([{Key(hook): np.ones(4)}, np.ones(4)])
    with pytest.raises((ValueError, IndexError)):
        optimizer.step(grads)
    for array in arrays:
        assert_same_bits(array, np.ones(4))
    assert optimizer.step_count == 0


# ---- parameters that change in place ---------------------------------------------------------------------------------


def _strides(a):
    a.strides = a.strides[::-1]


def _shape(a):
    a.shape = (36,)


def _dtype(a):
    a.dtype = np.int64


def _swapped(a):
    a.dtype = a.dtype.newbyteorder()


CHANGES = {"strides": _strides, "shape": _shape, "dtype": _dtype, "byte order": _swapped}


@each_rule
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of NumPy 2.5, where a shape or strides are set
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_parameter_that_was_changed_in_place_is_refused(make, change, order):
    params = [np.ones(3), np.ones((6, 6), order=order)]
    optimizer = make(params)
    if change is _shape and order == "F":
        pytest.skip("NumPy does not reshape it in place")
    kept = params[1].view()
    grads = [np.ones(3), np.ones((6, 6))]
    optimizer.step(grads)
    before = [params[0].copy(), kept.copy()]
    change(params[1])
    for given in (grads, [grads[0], None], [grads[0], np.ones(params[1].shape)]):
        with pytest.raises(ValueError, match=r"^params/1: expected float64 of shape \(6, 6\) and strides .*, got "):
            optimizer.step(given)
    assert_same_bits(params[0], before[0])
    assert_same_bits(kept, before[1])
    assert optimizer.step_count == 1


@each_rule
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parameters_that_were_made_to_overlap_are_refused(make):
    buffer = np.ones(16)
    params = [buffer[:8:2], buffer[1:8:2]]
    optimizer = make(params)
    params[0].strides = (8,)
    with pytest.raises(ValueError, match=r"^params/0: expected float64 of shape \(4,\) and strides \(16,\) as when"):
        optimizer.step([np.ones(4), np.ones(4)])
    assert_same_bits(buffer, np.ones(16))


# ---- memory that is handed out ---------------------------------------------------------------------------------------


@each_rule
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("size", [1, 1000, 100_000])
@pytest.mark.parametrize("state_dtype", [None, "8bit"])
def test_no_state_can_be_resized_or_changed_through_what_was_handed_out(make, size, state_dtype):
    optimizer = make([np.ones(size)], ema_decay=0.5, state_dtype=state_dtype, rng=1)
    twin = make([np.ones(size)], ema_decay=0.5, state_dtype=state_dtype, rng=1)
    for array in (*optimizer.ema_params, *(a for arrays in optimizer._states.values() for a in arrays)):
        with pytest.raises(ValueError, match="cannot resize this array: it does not own its data"):
            array.resize(8 + size, refcheck=False)
        array.flags.writeable = False
        array.shape = (array.size, 1)
    for one in (optimizer, twin):
        one.step([np.full(size, 0.5)])
    state, wanted = optimizer.state_dict(), twin.state_dict()
    for key, value in wanted.items():
        if isinstance(value, np.ndarray):
            assert_same_bits(state[key], value, key)
    assert optimizer._states["ema"][0].flags.writeable


def test_an_average_outlives_its_optimiser():
    average = fastopt.SGD([np.full(100_000, 3.0)], ema_decay=0.5).ema_params[0]
    assert (average == 3).all()


def test_a_group_can_be_copied():
    group = fastopt.Adam([np.ones(3)], lr=0.5).param_groups[0]
    other = copy.deepcopy(group)
    other["lr"] = 0.25
    assert (group["lr"], other["lr"], dict(group).keys()) == (0.5, 0.25, dict(other).keys())
