"""Every option of Adam, RMSprop and SGD, alone and in pairs: the bits of the reference; many steps and large arrays."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest

import fastopt
from fastopt import reference
from fastopt._tree import leaves

from ..support import OPTIMIZER_GRAIN, assert_same_bits, laid_out
from .snapshots import assert_same_snapshots, each_dtype, each_state_dtype, finite, snapshot

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
    "RMSprop": {
        "momentum": {"momentum": 0.75},
        "centered": {"centered": True},
        "alpha 0": {"alpha": 0.0},
        "weight_decay": {"weight_decay": 0.1},
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
EXCLUSIVE = (
    *({"coupled", "decoupled"}, {"bfloat16", "8bit"}, {"dampening", "nesterov"}),
    *({"centered", "bfloat16"}, {"centered", "8bit"}),
)
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


# ---- many steps, large arrays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2**24 - 1, 2**24 + 1, 2**31 - 2, 2**31 + 1, 2**32 - 1, 2**32, 2**40])
@pytest.mark.parametrize(
    # Of a beta2 of 0.999 such a power is zero. This one's power to 2**31 is 0.6, and float32 rounds it to 1.
    ("name", "options"),
    [
        ("Adam", {"betas": (0.9, 1 - 2.0**-32), "eps": 1e-3}),
        ("SGD", {"momentum": 0.9, "dampening": 0.5}),
        ("RMSprop", {}),
    ],
    ids=["Adam", "SGD", "RMSprop"],
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
