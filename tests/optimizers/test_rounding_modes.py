"""Promise 1 in a thread that rounds another way than to the nearest number: no scalar of an optimiser is made in it."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt

from ..promises.test_rounding_mode import DIRECTIONS, each_dtype, known_here, rounding
from ..support import assert_same_bits, assert_same_results

pytestmark = known_here


def arrays(dtype, *seeds):
    return [np.abs(np.random.default_rng(seed).standard_normal(300)).astype(dtype) for seed in seeds]


def _train(name, **options):
    def run(dtype):
        params, grads = arrays(dtype, 1, 2), arrays(dtype, 3, 4)
        optimizer = getattr(fastopt, name)(params, lr=0.1, **options)

        def work():
            for _ in range(3):
                optimizer.step(grads, grad_multiplier=1 / 7)
            return optimizer.grad_norm

        return work, [*params, *(a for states in optimizer._states.values() for a in states)]

    return run


def _call(name, count, *rest, **options):
    def run(dtype):
        given = arrays(dtype, *range(count))
        return lambda: getattr(fastopt, name)(*given, *rest, **options), given

    return run


def _all(name, *rest):
    def run(dtype):
        given = arrays(dtype, *range(3))
        return lambda: getattr(fastopt, name)(given, *rest), given

    return run


CALLS = {
    "Adam": _train("Adam", weight_decay=0.1, amsgrad=True),
    "AdamW": _train("AdamW", max_grad_norm=0.3, ema_decay=0.9),
    "SGD": _train("SGD", momentum=0.9, dampening=0.1, weight_decay=0.1, skip_nonfinite=True),
    "RMSprop": _train("RMSprop", momentum=0.9, centered=True, alpha=0.999, weight_decay=0.1),
    "8bit": _train("Adam", state_dtype="8bit", rng=1),
    "bfloat16": _train("SGD", momentum=0.9, state_dtype="bfloat16", rng=1),
    "adam_step": _call("adam_step", 4, 3, lr=0.1, weight_decay=0.1, decoupled_weight_decay=True, grad_multiplier=0.3),
    "sgd_step": _call("sgd_step", 3, 3, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.1),
    "rmsprop_step": _call("rmsprop_step", 5, lr=0.1, alpha=0.3, momentum=0.9, weight_decay=0.1),
    "ema_update": _call("ema_update", 2, 0.9),
    "clip_grad_norm_": _all("clip_grad_norm_", 0.7),
    "grad_norm": _all("grad_norm"),
    "l2_penalty": _all("l2_penalty", 0.1),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@each_dtype
def test_same_bits(call, direction, dtype):
    plainly, expected = call(dtype)
    wanted = plainly()
    work, found = call(dtype)
    with rounding(direction):
        got = work()
    assert_same_results(got, wanted)
    for array, other in zip(found, expected, strict=True):
        assert_same_bits(array, other)
