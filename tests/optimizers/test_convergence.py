"""The optimisers reach the minimum of a parabola and of Rosenbrock's function, and the maximum when told to."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt

from ..support import DTYPES

OPTIMIZERS = {
    "Adam": lambda params, **options: fastopt.Adam(params, lr=0.05, **options),
    "AdamW": lambda params, **options: fastopt.AdamW(params, lr=0.05, weight_decay=0.0, **options),
    "SGD": lambda params, **options: fastopt.SGD(params, lr=1e-3, momentum=0.95, **options),
    "Nesterov": lambda params, **options: fastopt.SGD(params, lr=1e-3, momentum=0.95, nesterov=True, **options),
    "RMSprop": lambda params, **options: fastopt.RMSprop(params, lr=2e-4, momentum=0.95, **options),
}
each_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


@each_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("maximize", [False, True])
def test_parabola(make, dtype, maximize):
    target = np.array([1.0, -2.0, 0.5], dtype)
    x = np.zeros(3, dtype)
    optimizer = make(x, maximize=maximize)
    for _ in range(2000):
        grad = 2 * (x - target)
        optimizer.step(-grad if maximize else grad)
    np.testing.assert_allclose(x, target, atol=1e-4)


@each_optimizer
def test_rosenbrock(make):
    point = {"x": np.array(-1.2), "y": np.array(1.0)}
    optimizer = make(point)
    # The valley's wall has a curvature of about 1,000: plain descent must be slow, Adam must not swing. RMSprop's
    # steps do not get shorter.
    optimizer.lr = 2e-4 if isinstance(optimizer, fastopt.SGD | fastopt.RMSprop) else 0.01
    for _ in range(20_000):
        x, y = point["x"], point["y"]
        optimizer.step({"x": np.asarray(-2 * (1 - x) - 400 * x * (y - x * x)), "y": np.asarray(200 * (y - x * x))})
    np.testing.assert_allclose([point["x"], point["y"]], [1, 1], atol=1e-3)


def test_decoupled_decay_shrinks_what_has_no_gradient():
    w = np.ones(3)
    optimizer = fastopt.AdamW(w, lr=0.5, weight_decay=0.5)
    for _ in range(2):
        optimizer.step(np.zeros(3))
    assert w.tolist() == [0.5625] * 3


# The averages in few bits are a few per cent off at each step, as often too large as too small: the direction and
# length of a step have that noise, which shrinks with the gradient. So what is reached is as near as with all bits.
SMALL = {
    "Adam": lambda params, **options: fastopt.Adam(params, lr=0.05, **options),
    "AMSGrad": lambda params, **options: fastopt.Adam(params, lr=0.05, amsgrad=True, **options),
    "SGD": lambda params, **options: fastopt.SGD(params, lr=1e-3, momentum=0.95, **options),
    "Nesterov": lambda params, **options: fastopt.SGD(params, lr=1e-3, momentum=0.95, nesterov=True, **options),
}
each_small = pytest.mark.parametrize("make", SMALL.values(), ids=SMALL.keys())
each_state_dtype = pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])


@each_small
@each_state_dtype
@pytest.mark.parametrize("dtype", DTYPES)
def test_parabola_with_small_states(make, state_dtype, dtype):
    target = np.array([1.0, -2.0, 0.5], dtype)
    x = np.zeros(3, dtype)
    optimizer = make(x, state_dtype=state_dtype, rng=1)
    for _ in range(2000):
        optimizer.step(2 * (x - target))
    np.testing.assert_allclose(x, target, atol=1e-4)


@each_small
@each_state_dtype
def test_rosenbrock_with_small_states(make, state_dtype):
    point = {"x": np.array(-1.2), "y": np.array(1.0)}
    optimizer = make(point, state_dtype=state_dtype, rng=1)
    optimizer.lr = 2e-4 if isinstance(optimizer, fastopt.SGD) else 0.01
    for _ in range(20_000):
        x, y = point["x"], point["y"]
        optimizer.step({"x": np.asarray(-2 * (1 - x) - 400 * x * (y - x * x)), "y": np.asarray(200 * (y - x * x))})
    np.testing.assert_allclose([point["x"], point["y"]], [1, 1], atol=1e-3)


def test_the_average_is_nearer_than_the_noise():
    # Gradients of a parabola with noise of a fixed pattern that adds up to nothing: the parameter keeps swinging by
    # what one step takes, the average over some twenty steps does not.
    x = np.zeros(1)
    optimizer = fastopt.SGD(x, lr=0.1, ema_decay=0.95)
    far, near = [], []
    for step in range(600):
        optimizer.step(2 * (x - 1) + (1.0 if step % 2 else -1.0))
        if step >= 500:
            far.append(abs(x[0] - 1))
            near.append(abs(optimizer.ema_params[0] - 1))
    assert max(near) < min(far) / 5
