"""``fastopt demo --compare``: what Adam, L2, dropout and the leaky slope are good for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import fastopt
from fastopt.demo.common import Array, deviation, one_blas_thread, progress, several_minutes
from fastopt.demo.digits import Recipe, load_digits, steps, train
from fastopt.demo.figures import BLUE, GREEN, GREY, LIGHT, ORANGE, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Table = dict[str, dict[str, Array]]  # row -> column -> one value for each seed


def compare(seed: int = 0, plot: Path | None = None, seeds: int = 5, shorten: int = 1) -> int:
    """Show what Adam, L2, dropout and the leaky slope are good for; `shorten` divides the lengths, for tests."""
    figure = new_figure(15, 4.2) if plot else None
    panels = figure.subplots(1, 3) if figure else (None, None, None)
    runs = range(seed, seed + seeds)
    print(f"Mean ± standard deviation over the seeds {runs[0]} to {runs[-1]}, on the kernels alone.")
    several_minutes()
    with one_blas_thread():
        compare_optimizers(runs, 64_000 // shorten, panels[0])
        compare_regularisers(runs, 200 // shorten, panels[1])
        compare_slopes(runs, 20 // shorten, panels[2])
    if figure and plot:
        figure.suptitle(f"Means over {seeds} seeds; error bars are standard deviations", fontsize=10)
        save(figure, plot)
    return 0


def print_table(table: Table, show: dict[str, str], mark: Sequence[str] = ()) -> None:
    """Print mean ± deviation of each cell in the column's format; rows of `mark` are pointed at."""
    width = max(map(len, table)) + 2
    print(" " * width + "".join(f"{column:>24}" for column in show))
    for row, cells in table.items():
        texts = [f"{format(cells[c].mean(), f)} ± {format(deviation(cells[c]), f)}" for c, f in show.items()]
        print(f"{row:<{width}}" + "".join(f"{text:>24}" for text in texts) + ("   <- best" if row in mark else ""))


def print_gain(label: str, losses: Array, others: Array) -> None:
    """Print how much lower the first test losses are, seed by seed: the seeds' own differences drop out."""
    gain = others - losses
    print(f"{label}: test loss lower by {gain.mean():.3f} ± {deviation(gain):.3f}, ", end="")
    print(f"for {np.count_nonzero(gain > 0)} of {len(gain)} seeds")


def compare_optimizers(seeds: range, examples: int, axes: Axes | None) -> None:
    print("\nOne learning rate for all, or one per parameter: vanilla SGD against Adam")
    print(f"Logistic regression on {examples:,} examples, seen once, with 8 of 2,000 features each; frequencies are")
    print("Zipf's and sizes differ by up to 10. Best is the lowest training loss of the grid.\n")
    grid = {"sgd": (0.3, 1.0, 3.0, 10.0, 30.0), "adam": (0.003, 0.01, 0.03, 0.1, 0.3)}
    table: Table = {}
    best = []
    with progress("SGD and Adam", len(seeds) * sum(map(len, grid.values())), "runs") as tick:
        data = [sparse_features(seed, examples) for seed in seeds]
        for optimizer, lrs in grid.items():
            for lr in lrs:
                losses = []
                for features in data:
                    losses.append(train_sparse(optimizer, lr, features))
                    tick()
                columns = np.transpose(losses)
                table[f"{optimizer}, lr {lr:g}"] = {"training loss": columns[0], "test loss": columns[1]}
            best.append(
                min((f"{optimizer}, lr {lr:g}" for lr in lrs), key=lambda row: table[row]["training loss"].mean())
            )
    print_table(table, {"training loss": ".3f", "test loss": ".3f"}, best)
    print_gain("Adam at its best against SGD at its best", *(table[row]["test loss"] for row in best[::-1]))
    if axes:
        for (optimizer, lrs), colour in zip(grid.items(), (ORANGE, BLUE), strict=True):
            cells = [table[f"{optimizer}, lr {lr:g}"]["test loss"] for lr in lrs]
            mean, spread = [c.mean() for c in cells], [deviation(c) for c in cells]
            axes.errorbar(
                lrs, mean, spread, color=colour, marker="o", capsize=3, label={"sgd": "SGD", "adam": "Adam"}[optimizer]
            )
        low = min(cells["test loss"].mean() for cells in table.values())
        axes.set(xscale="log", xlabel="learning rate", ylabel="test loss", title="SGD and Adam on sparse features")
        axes.set_ylim(0.9 * low, 2.2 * low)  # beyond it a learning rate is simply too high
        axes.legend(frameon=False)


@dataclass(frozen=True)
class SparseFeatures:
    size: Array  # of each feature where it is present
    train: tuple[NDArray[np.int64], Array]  # the features present in each example, and its label
    test: tuple[NDArray[np.int64], Array]


def sparse_features(seed: int, examples: int, features: int = 2000, present: int = 8) -> SparseFeatures:
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(10, features + 10)  # Zipf and Mandelbrot's: without the most frequent words
    size = (10 ** -rng.random(features)).astype(np.float32)
    index = rng.choice(features, (examples + examples // 5, present), p=frequency / frequency.sum())
    logits = 3 / present**0.5 * rng.choice([-1, 1], features)[index].sum(axis=1)
    labels = (rng.random(len(index)) < sigmoid(logits)).astype(np.float32)
    return SparseFeatures(size, (index[:examples], labels[:examples]), (index[examples:], labels[examples:]))


def train_sparse(optimizer: str, lr: float, data: SparseFeatures, batch_size: int = 64) -> tuple[float, float]:
    """Return the training and the test loss after one pass."""
    w, b = np.zeros_like(data.size), np.zeros(1, np.float32)
    step = {"sgd": fastopt.SGD, "adam": fastopt.Adam}[optimizer]([w, b], lr=lr).step
    index, labels = data.train
    for begin in range(0, len(index), batch_size):
        rows, y = index[begin : begin + batch_size], labels[begin : begin + batch_size]
        values = data.size[rows]
        error = (sigmoid((w[rows] * values).sum(axis=1) + b) - y) / np.float32(len(y))
        w_grad = np.bincount(rows.ravel(), (error[:, None] * values).ravel(), len(w)).astype(np.float32)
        step([w_grad, error.sum(keepdims=True)])

    def loss(rows: NDArray[np.int64], y: Array) -> float:
        z = (w * data.size)[rows].sum(axis=1) + b
        return float(np.mean(np.logaddexp(0, z) - y * z))

    return loss(*data.train), loss(*data.test)


def sigmoid(x: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(x / 2))


def compare_regularisers(seeds: range, epochs: int, axes: Axes | None) -> None:
    size = 150
    print(f"\nL2 and dropout against overfitting: {size} training images of digits, {epochs} epochs of Adam\n")
    l2, dropout = {"weight_decay": 2e-3}, {"dropout": 0.5}
    recipes: dict[str, dict[str, Any]] = {
        "neither": {},
        "L2 2e-3": l2,
        "dropout 0.5": dropout,
        "both": {**l2, **dropout},
    }
    data = {seed: load_digits(seed, size) for seed in seeds}
    base = Recipe(weight_decay=0.0, dropout=0.0, epochs=epochs, batch_size=32)
    table: Table = {}
    curves: dict[str, Array] = {}
    with progress("L2 and dropout", len(seeds) * len(recipes) * steps(data[seeds[0]], base)) as tick:
        for row, changes in recipes.items():
            runs = [train(fastopt, data[seed], replace(base, seed=seed, **changes), tick) for seed in seeds]
            table[row] = {
                "training cross-entropy": np.array([run.train_entropy[-1] for run in runs]),
                "test cross-entropy": np.array([run.test_loss[-1] for run in runs]),
                "test accuracy": np.array([run.test_accuracy for run in runs]),
            }
            curves[row] = np.mean([run.test_loss for run in runs], axis=0)
    print_table(table, {"training cross-entropy": ".4f", "test cross-entropy": ".4f", "test accuracy": ".2%"})
    for row in list(recipes)[1:]:
        print_gain(f"{row} against neither", table[row]["test cross-entropy"], table["neither"]["test cross-entropy"])
    if axes:
        for (row, curve), colour in zip(curves.items(), (GREY, ORANGE, GREEN, BLUE), strict=True):
            training = table[row]["training cross-entropy"].mean()
            axes.plot(range(1, epochs + 1), curve, color=colour, label=f"{row} (training {training:.4f})")
        low = min(curve.min() for curve in curves.values())
        axes.set(xlabel="epoch", ylabel="test cross-entropy", title=f"L2 and dropout on {size} digits")
        axes.set_ylim(0.95 * low, 1.6 * low)
        axes.legend(frameon=False)


def compare_slopes(seeds: range, epochs: int, axes: Axes | None) -> None:
    print(f"\nDead units: the share of hidden units that no training image activates, {epochs} epochs of Adam")
    print("The dead unit of a ReLU has no gradient; that of a leaky ReLU still has one, and may come back.\n")
    lrs, slopes = (1e-3, 1e-2), (0.0, 0.01, 0.1)
    data = {seed: load_digits(seed) for seed in seeds}
    base = Recipe(weight_decay=0.0, dropout=0.0, epochs=epochs)
    table: Table = {}
    with progress("dead units", len(seeds) * len(lrs) * len(slopes) * steps(data[seeds[0]], base)) as tick:
        for lr in lrs:
            for slope in slopes:
                recipe = replace(base, lr=lr, negative_slope=slope)
                runs = [train(fastopt, data[seed], replace(recipe, seed=seed), tick) for seed in seeds]
                dead = np.array([run.dead for run in runs])
                table[f"lr {lr:g}, negative slope {slope:g}"] = {
                    "dead, layer 1": dead[:, 0],
                    "dead, layer 2": dead[:, 1],
                    "dead, both": dead.mean(axis=1),
                    "test accuracy": np.array([run.test_accuracy for run in runs]),
                }
    print_table(table, dict.fromkeys(["dead, layer 1", "dead, layer 2", "test accuracy"], ".1%"))
    if axes:
        for k, (lr, colour) in enumerate(zip(lrs, (LIGHT, BLUE), strict=True)):
            cells = [table[f"lr {lr:g}, negative slope {slope:g}"]["dead, both"] for slope in slopes]
            x = np.arange(len(slopes)) + 0.4 * (k - 0.5)
            height, spread = [100 * c.mean() for c in cells], [100 * deviation(c) for c in cells]
            axes.bar(x, height, 0.38, yerr=spread, capsize=3, color=colour, label=f"lr {lr:g}")
        axes.set_xticks(range(len(slopes)), ["0 (ReLU)", *(f"{slope:g}" for slope in slopes[1:])])
        axes.set(xlabel="negative slope", ylabel="dead hidden units, %", title="Dead units after a high learning rate")
        axes.legend(frameon=False)
