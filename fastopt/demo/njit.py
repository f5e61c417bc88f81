"""``fastopt demo --task njit``: a whole training loop inside one compiled function, and the same loop in Python."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

import fastopt
from fastopt import reference
from fastopt.demo.common import bit_equal, one_blas_thread
from fastopt.demo.figures import BLUE, LIGHT, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]

# ---- to be copied: a network of 4-64-64-2 units learns by Adam from minibatches that it draws itself ----------------

INPUTS, HIDDEN, OUTPUTS, SLOPE = 4, 64, 2, 0.01
PARAMETERS = (INPUTS + 1) * HIDDEN + (HIDDEN + 1) * HIDDEN + (HIDDEN + 1) * OUTPUTS


@njit(cache=True)
def layers(flat: Array) -> tuple[Array, ...]:
    """Return weights and biases as views of one array, so that one call of Adam updates them all."""
    a = INPUTS * HIDDEN
    b = a + HIDDEN
    c = b + HIDDEN * HIDDEN
    d = c + HIDDEN
    e = d + HIDDEN * OUTPUTS
    w1, w2, w3 = flat[:a].reshape(INPUTS, HIDDEN), flat[b:c].reshape(HIDDEN, HIDDEN), flat[d:e].reshape(HIDDEN, OUTPUTS)
    return w1, flat[a:b], w2, flat[c:d], w3, flat[e:]


@njit(cache=True)
def train(params: Array, x: Array, target: Array, steps: int, batch: int, lr: float, p: float, seed: int) -> Array:
    """Train `params` in place, with dropout p, and return the mean squared error of each minibatch. All is float32."""
    w1, b1, w2, b2, w3, b3 = layers(params)
    grads, exp_avg, exp_avg_sq = np.zeros_like(params), np.zeros_like(params), np.zeros_like(params)
    dw1, db1, dw2, db2, dw3, db3 = layers(grads)
    rng = fastopt.Philox4x32(seed)
    losses = np.empty(steps)
    for step in range(steps):
        stream = 3 * step  # for the minibatch; the next two are for dropout
        rows = rng.random_raw(batch, stream=stream) % np.uint32(len(x))
        xs = x[rows]

        z1 = np.dot(xs, w1)
        h1, mask1 = fastopt.bias_leaky_relu_dropout(z1, b1, SLOPE, p, rng=(seed, stream + 1), out=z1)
        z2 = np.dot(h1, w2)
        h2, mask2 = fastopt.bias_leaky_relu_dropout(z2, b2, SLOPE, p, rng=(seed, stream + 2), out=z2)
        error = np.dot(h2, w3)
        error += b3
        error -= target[rows]
        losses[step] = fastopt.l2_penalty(error, 2 / error.size)  # half of the 2, times the sum of squares

        error *= np.float32(2 / error.size)
        np.dot(h2.T, error, dw3)
        db3[:] = error.sum(axis=0)
        dh2 = np.dot(error, w3.T)
        dz2, db2[:] = fastopt.bias_leaky_relu_dropout_backward(dh2, h2, mask2, SLOPE, out=dh2)
        np.dot(h1.T, dz2, dw2)
        dh1 = np.dot(dz2, w2.T)
        dz1, db1[:] = fastopt.bias_leaky_relu_dropout_backward(dh1, h1, mask1, SLOPE, out=dh1)
        np.dot(xs.T, dz1, dw1)
        fastopt.adam_step(params, grads, exp_avg, exp_avg_sq, step + 1, lr=lr)
    return losses


# ---- the comparison --------------------------------------------------------------------------------------------------


# The very source of `train`, run by Python: over the kernels, and over their definitions in NumPy.
train_in_python: Callable[..., Array] = train.py_func
train_in_numpy: Callable[..., Array] = types.FunctionType(
    train_in_python.__code__, {**train_in_python.__globals__, "fastopt": reference}
)


def problem(seed: int, size: int = 4096) -> tuple[Array, Array, Array]:
    """Return random parameters, inputs, and two smooth functions of these to learn."""
    rng = fastopt.Philox4x32(seed)
    params = rng.standard_normal(PARAMETERS, dtype=np.float32)
    for layer in layers(params):
        layer *= np.float32((2 / len(layer)) ** 0.5) if layer.ndim == 2 else np.float32(0)  # He et al., ICCV 2015
    x = rng.standard_normal((size, INPUTS), dtype=np.float32)
    target = np.stack([np.sin(x[:, 0] + x[:, 1]), x[:, 2] * np.tanh(x[:, 3])], axis=1)
    return params, x, target


def main(seed: int = 0, steps: int = 1000, plot: Path | None = None) -> int:
    """Run the three, print times and ratios; return 0 when the parameters are bit-equal, else 1."""
    figure = new_figure(9, 3.4) if plot else None
    params, x, target = problem(seed)
    batch, lr, p = 32, 1e-3, 0.1
    start = perf_counter()
    train(params.copy(), x, target, 1, batch, lr, p, seed)
    loaded = "loaded from its cache" if sum(train.stats.cache_hits.values()) else "compiled"
    print(f"network: {INPUTS}-{HIDDEN}-{HIDDEN}-{OUTPUTS}, {PARAMETERS:,} parameters, float32")
    print(f"recipe: Adam, lr {lr:g}, batch {batch}, dropout {p:g}, seed {seed}, {steps:,} steps")
    print(f"threads: 1; train() was {loaded} in {perf_counter() - start:.2f} s\n")

    print(f"{'':<28}{'first loss':>12}{'last loss':>12}{'us a step':>12}{'':>10}")
    results, losses, micros = [], {}, {}
    for name, function in (
        ("inside @njit", train),
        ("Python, fastopt", train_in_python),
        ("Python, fastopt.reference", train_in_numpy),
    ):
        trained = params.copy()
        with one_blas_thread(), fastopt.num_threads(1):
            start = perf_counter()
            losses[name] = function(trained, x, target, steps, batch, lr, p, seed)
            micros[name] = 1e6 * (perf_counter() - start) / steps
        results.append(trained)
        first, last = (np.mean(part) for part in (losses[name][:100], losses[name][-100:]))
        times = micros[name] / micros["inside @njit"]
        print(f"{name:<28}{first:>12.4f}{last:>12.4f}{micros[name]:>12.1f}{times:>8.1f} x")
    print(
        "\nThe reference draws the very same random numbers in NumPy, which costs; another generator gives other bits."
    )
    equal = all(bit_equal(results[:1], [other]) for other in results[1:])
    if figure and plot:
        draw(figure, losses["inside @njit"], micros, seed)
        save(figure, plot)
    print(f"bit-equal: {'yes' if equal else 'no'}")
    return 0 if equal else 1


def draw(figure: Figure, losses: Array, micros: dict[str, float], seed: int) -> None:
    curve, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    steps = np.arange(1, len(losses) + 1)
    curve.plot(steps, losses, ".", color=LIGHT, markersize=3, label="one minibatch")
    window = min(50, len(losses))
    means = np.convolve(losses, np.full(window, 1 / window), "valid")
    curve.plot(steps[window - 1 :], means, color=BLUE, label=f"mean of the last {window}")
    curve.set(yscale="log", xlabel="step", ylabel="mean squared error", title=f"Loss of all three, seed {seed}")
    curve.legend(frameon=False)

    bars.barh(list(micros), list(micros.values()), height=0.55, color=BLUE)
    for y, each in enumerate(micros.values()):
        bars.text(each, y, f" {each:.0f} us", va="center")
    bars.set(xlabel="microseconds a step, of one run", title="Time")
    bars.set_xlim(0, 1.25 * max(micros.values()))
    bars.invert_yaxis()
