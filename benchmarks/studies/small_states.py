"""What states in fewer bits do to the result: final losses against float32 states, mean of 5 seeds.

`python benchmarks/studies/small_states.py`: the network of `fastopt demo` on digits, and a harder task, the regression
of a random teacher network with noise. Needs scikit-learn.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np

import fastopt
from fastopt.demo import digits as demo
from fastopt.demo.common import one_blas_thread

SEEDS = range(5)


def digits(seed: int, state_dtype: str | None) -> float:
    """Final training loss, with the L2 penalty."""
    adam = partial(fastopt.Adam, state_dtype=state_dtype, rng=seed)
    ops = SimpleNamespace(**{**vars(fastopt), "Adam": adam})
    return demo.train(ops, demo.load_digits(seed), demo.Recipe(seed=seed)).train_loss[-1]


def teacher(seed: int, state_dtype: str | None) -> float:
    """Mean squared error of the last epoch: 8,192 examples of a 16-64-1 teacher, noise 0.1; a 16-128-128-1 student."""
    rng = fastopt.Philox4x32(seed)
    normal = partial(rng.standard_normal, dtype=np.float32)
    x, a, b = normal((8192, 16)), normal((16, 64)) / np.float32(4), normal((64, 1)) / np.float32(8)
    y = np.tanh(x @ a) @ b + np.float32(0.1) * normal((8192, 1))
    sizes = (16, 128, 128, 1)
    weights = [normal((n, m)) * np.float32((2 / n) ** 0.5) for n, m in pairwise(sizes)]
    optimizer = fastopt.Adam(weights, lr=1e-3, state_dtype=state_dtype, rng=seed)
    losses = []
    for epoch in range(40):
        optimizer.lr = 1e-3 * (1 - epoch / 40)
        for begin in range(0, len(x), 128):
            h0, target = x[begin : begin + 128], y[begin : begin + 128]
            h1 = fastopt.leaky_relu(h0 @ weights[0])
            h2 = fastopt.leaky_relu(h1 @ weights[1])
            error = h2 @ weights[2] - target
            d2 = fastopt.leaky_relu_backward(error @ weights[2].T, h2)
            d1 = fastopt.leaky_relu_backward(d2 @ weights[1].T, h1)
            optimizer.step([h0.T @ d1 / 64, h1.T @ d2 / 64, h2.T @ error / 64])
            if epoch == 39:
                losses.append(float(np.mean(error**2)))
    return float(np.mean(losses))


if __name__ == "__main__":
    for task in (digits, teacher):
        means = {}
        for state_dtype in (None, "bfloat16", "8bit"):
            losses = []
            for seed in SEEDS:
                print(f"{task.__name__}, {state_dtype or 'float32'}, seed {seed} ...", file=sys.stderr, flush=True)
                with one_blas_thread():
                    losses.append(task(seed, state_dtype))
            means[state_dtype] = np.mean(losses)
            print(
                f"{task.__name__:<10}{state_dtype or 'float32':<10}{means[state_dtype]:.6f} ± {np.std(losses):.6f}"
                f"   {means[state_dtype] / means[None] - 1:+.2%}"
            )
