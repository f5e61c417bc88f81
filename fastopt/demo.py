"""``fastopt demo``: one training loop, run on plain NumPy and on the kernels, with the same bits."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import fastopt
from fastopt import reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]
Tick = Callable[[], object]

# ---- the network and its training, for any module with the names of fastopt ------------------------------------------


@dataclass(frozen=True)
class Recipe:
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9  # of sgd
    weight_decay: float = 1e-4
    dropout: float = 0.25
    negative_slope: float = 0.01
    epochs: int = 100
    batch_size: int = 64
    hidden: tuple[int, ...] = (256, 256)
    seed: int = 0

    @staticmethod
    def for_optimizer(optimizer: str | None, **changes: Any) -> Recipe:
        """Return the default recipe of an optimiser, with some values changed."""
        own = {"adamw": {"weight_decay": 1e-2}, "sgd": {"lr": 0.02}}.get(optimizer or "adam", {})
        return Recipe(optimizer or "adam", **{**own, **changes})

    def __str__(self) -> str:
        name = f"sgd (momentum {self.momentum:g})" if self.optimizer == "sgd" else self.optimizer
        return (
            f"{name}, lr {self.lr:g}, weight decay {self.weight_decay:g}, dropout {self.dropout:g}, "
            f"negative slope {self.negative_slope:g}, {self.epochs} epochs, batch {self.batch_size}, seed {self.seed}"
        )


@dataclass(frozen=True)
class Digits:
    train_x: Array
    train_labels: NDArray[np.int64]
    test_x: Array
    test_labels: NDArray[np.int64]


@dataclass
class Run:
    """What training leaves behind."""

    weights: list[Array]
    biases: list[Array]
    train_entropy: list[float] = field(default_factory=list)  # after each epoch, without dropout
    penalty: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)  # cross-entropy alone
    test_accuracy: float = 0.0
    dead: list[float] = field(
        default_factory=list
    )  # of each hidden layer: the share of units that no training image activates
    product_seconds: float = 0.0
    other_seconds: float = 0.0
    evaluation_seconds: float = 0.0

    @property
    def train_loss(self) -> list[float]:
        """What is minimised: the cross-entropy with the L2 penalty."""
        return [entropy + penalty for entropy, penalty in zip(self.train_entropy, self.penalty, strict=True)]

    @property
    def seconds(self) -> float:
        return self.product_seconds + self.other_seconds + self.evaluation_seconds


class Product:
    """Matrix product that adds up the time it takes."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, a: Array, b: Array) -> Array:
        start = perf_counter()
        c: Array = a @ b
        self.seconds += perf_counter() - start
        return c


def train(ops: ModuleType, data: Digits, recipe: Recipe, tick: Tick = lambda: None) -> Run:
    """Train on the training images; `ops` is fastopt or fastopt.reference; `tick` is called after every step."""
    order = np.random.default_rng(recipe.seed)
    rng = ops.Philox4x32(recipe.seed)
    sizes = (data.train_x.shape[1], *recipe.hidden, int(data.train_labels.max()) + 1)
    run = Run(
        weights=[he_uniform(rng, shape) for shape in pairwise(sizes)],
        biases=[np.zeros(n, np.float32) for n in sizes[1:]],
    )
    optimizer = make_optimizer(ops, recipe, run)
    product = Product()
    steps_seconds = 0.0
    for _ in range(recipe.epochs):
        start = perf_counter()
        shuffled = order.permutation(len(data.train_x))
        steps_seconds += perf_counter() - start
        for begin in range(0, len(shuffled), recipe.batch_size):
            start = perf_counter()
            batch = shuffled[begin : begin + recipe.batch_size]
            x, labels = data.train_x[batch], data.train_labels[batch]
            activations, masks = forward(ops, run, x, recipe, product, rng)
            optimizer.step(backward(ops, run, activations, masks, labels, recipe, product))
            steps_seconds += perf_counter() - start
            tick()
        start = perf_counter()
        evaluate(ops, run, data, recipe)
        run.evaluation_seconds += perf_counter() - start
    run.product_seconds = product.seconds
    run.other_seconds = steps_seconds - product.seconds
    return run


def he_uniform(rng: fastopt.Philox4x32, shape: tuple[int, int]) -> Array:
    """He et al., ICCV 2015, equation 10: variance 2 / inputs, here of a uniform distribution."""
    w = rng.random(shape, dtype=np.float32)
    w -= 0.5
    w *= 2 * np.float32((6 / shape[0]) ** 0.5)
    return np.asarray(w)


def make_optimizer(ops: ModuleType, recipe: Recipe, run: Run) -> Any:
    groups = [
        {"params": run.weights, "weight_decay": recipe.weight_decay},
        {"params": run.biases, "weight_decay": 0.0},  # a bias does not make the function steeper
    ]
    if recipe.optimizer == "sgd":
        return ops.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    return {"adam": ops.Adam, "adamw": ops.AdamW}[recipe.optimizer](groups, lr=recipe.lr)


def forward(
    ops: ModuleType,
    run: Run,
    x: Array,
    recipe: Recipe,
    product: Callable[[Array, Array], Array],
    rng: fastopt.Philox4x32 | None = None,
) -> tuple[list[Array], list[Any]]:
    """Return the input, each hidden layer's output and the logits; and the dropout masks. Without `rng`: inference."""
    activations, masks = [x], []
    for w, b in zip(run.weights[:-1], run.biases[:-1], strict=True):
        z = product(activations[-1], w)
        a, mask = ops.bias_leaky_relu_dropout(
            z, b, recipe.negative_slope, recipe.dropout, training=rng is not None, rng=rng, out=z
        )
        activations.append(a)
        masks.append(mask)
    logits = product(activations[-1], run.weights[-1])
    logits += run.biases[-1]
    return [*activations, logits], masks


def backward(
    ops: ModuleType,
    run: Run,
    activations: list[Array],
    masks: list[Any],
    labels: NDArray[np.int64],
    recipe: Recipe,
    product: Callable[[Array, Array], Array],
) -> list[list[Array]]:
    """Return the gradients of the mean cross-entropy; the optimiser's weight_decay adds that of the L2 penalty."""
    *activations, logits = activations
    weight_grads, bias_grads = [], []
    grad = softmax(logits)
    grad[np.arange(len(labels)), labels] -= 1
    grad /= np.float32(len(labels))
    bias_grads.append(grad.sum(axis=0))
    for k in reversed(range(len(run.weights))):
        weight_grads.append(product(activations[k].T, grad))
        if k > 0:
            grad = product(grad, run.weights[k].T)
            grad, bias_grad = ops.bias_leaky_relu_dropout_backward(
                grad, activations[k], masks[k - 1], recipe.negative_slope, out=grad
            )
            bias_grads.append(bias_grad)
    return [weight_grads[::-1], bias_grads[::-1]]


def softmax(logits: Array) -> Array:
    y: Array = np.exp(logits - logits.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)
    return y


def cross_entropy(logits: Array, labels: NDArray[np.int64]) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    right = shifted[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - right))


def evaluate(ops: ModuleType, run: Run, data: Digits, recipe: Recipe) -> None:
    """Append the losses and refresh the accuracy and the share of dead units."""
    (_, *hidden, logits), _ = forward(ops, run, data.train_x, recipe, np.matmul)
    run.dead = [float(np.mean(ops.inactive_fraction(a) == 1)) for a in hidden]
    coupled = 0.0 if recipe.optimizer == "adamw" else recipe.weight_decay  # AdamW's decay is not in any loss
    run.train_entropy.append(cross_entropy(logits, data.train_labels))
    run.penalty.append(ops.l2_penalty(run.weights, coupled))
    (*_, logits), _ = forward(ops, run, data.test_x, recipe, np.matmul)
    run.test_loss.append(cross_entropy(logits, data.test_labels))
    run.test_accuracy = float(np.mean(logits.argmax(axis=1) == data.test_labels))


def load_digits(seed: int, train_size: int = 1437) -> Digits:
    """8 x 8 images of handwritten digits, 1,797 in all, in [0, 1]; they come with scikit-learn."""
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, labels = (x[order] / 16).astype(np.float32), labels[order].astype(np.int64)
    return Digits(x[:train_size], labels[:train_size], x[train_size:], labels[train_size:])


def steps(data: Digits, recipe: Recipe) -> int:
    return recipe.epochs * -(-len(data.train_x) // recipe.batch_size)


# ---- fastopt demo ----------------------------------------------------------------------------------------------------


def digits(recipe: Recipe, plot: Path | None = None) -> int:
    """Train both ways, print the comparison; return 0 when the parameters are bit-equal, else 1."""
    figure = new_figure(12, 3.8) if plot else None
    data = load_digits(recipe.seed)
    runs = []
    for name, ops in (("fastopt.reference", reference), ("fastopt", fastopt)):
        with one_blas_thread(), progress(f"{name:>17}", steps(data, recipe)) as tick:
            runs.append(train(ops, data, recipe, tick))
    slow, fast = runs
    parameters = sum(p.size for p in fast.weights + fast.biases)
    layers = "-".join(str(w.shape[0]) for w in fast.weights) + f"-{fast.weights[-1].shape[1]}"
    print(f"digits: {len(data.train_x)} training and {len(data.test_x)} test images")
    print(f"network: {layers}, {parameters:,} parameters, float32")
    print(f"threads: {fastopt.get_num_threads()}, and 1 for matrix products")
    print(f"recipe: {recipe}\n")
    print_runs(slow, fast)
    if figure and plot:
        draw_runs(figure, slow, fast, recipe)
        save(figure, plot)
    equal = bit_equal(slow.weights + slow.biases, fast.weights + fast.biases)
    print(f"bit-equal: {'yes' if equal else 'no'}")
    return 0 if equal else 1


def bit_equal(a: Sequence[Array], b: Sequence[Array]) -> bool:
    """Whether two lists of float32 arrays agree as unsigned integers, so that 0.0 and -0.0 differ."""
    return len(a) == len(b) and all(
        np.array_equal(p.view(np.uint32), q.view(np.uint32)) for p, q in zip(a, b, strict=True)
    )


def print_runs(slow: Run, fast: Run) -> None:
    def row(label: str, *cells: str) -> None:
        print(f"{label:<32}" + "".join(f"{cell:>19}" for cell in cells))

    def row_of(label: str, show: str, value: Callable[[Run], float]) -> None:
        row(label, format(value(slow), show), format(value(fast), show))

    def times(label: str, value: Callable[[Run], float]) -> None:
        a, b = value(slow), value(fast)
        row(label, f"{a:.2f} s", f"{b:.2f} s", f"{a / b:.1f} x")

    row("", "fastopt.reference", "fastopt", "speed-up")
    row_of("training loss, first epoch", ".6f", lambda run: run.train_loss[0])
    row_of("training loss, last epoch", ".6f", lambda run: run.train_loss[-1])
    row_of("test loss, first epoch", ".6f", lambda run: run.test_loss[0])
    row_of("test loss, last epoch", ".6f", lambda run: run.test_loss[-1])
    row_of("test accuracy", ".2%", lambda run: run.test_accuracy)
    for k, shares in enumerate(zip(slow.dead, fast.dead, strict=True), start=1):
        row(f"dead units, hidden layer {k}", *(f"{share:.1%}" for share in shares))
    print()
    times("steps: matrix products", lambda run: run.product_seconds)
    times("steps: everything else", lambda run: run.other_seconds)
    times("losses after each epoch", lambda run: run.evaluation_seconds)
    times("whole training run", lambda run: run.seconds)
    print()
    if not 0.8 < slow.product_seconds / fast.product_seconds < 1.25:
        print("The matrix products are the same calls in both: the machine was busy, and the times do not compare.")
    print(
        "The reference draws the very same random numbers in NumPy, which costs; another generator gives other bits.\n"
    )


def draw_runs(figure: Figure, slow: Run, fast: Run, recipe: Recipe) -> None:
    losses, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    epochs = range(1, recipe.epochs + 1)
    for curve, label, colour in (("train_loss", "training, with L2 penalty", BLUE), ("test_loss", "test", ORANGE)):
        losses.plot(epochs, getattr(slow, curve), color=colour, linewidth=7, alpha=0.25, solid_capstyle="round")
        losses.plot(epochs, getattr(fast, curve), color=colour, linewidth=1.6, label=label)
    losses.plot([], [], color=GREY, linewidth=7, alpha=0.35, label="fastopt.reference (wide)")
    losses.plot([], [], color=GREY, linewidth=1.6, label="fastopt (thin)")
    losses.set(yscale="log", xlabel="epoch", ylabel="loss", title=f"Loss: {recipe.optimizer} on handwritten digits")
    losses.legend(frameon=False)

    names = ["fastopt.reference", "fastopt"]
    left = np.zeros(2)
    for part, label, colour in (
        ("product_seconds", "matrix products", GREY),
        ("other_seconds", "everything else in a step", BLUE),
        ("evaluation_seconds", "losses after each epoch", LIGHT),
    ):
        width = np.array([getattr(run, part) for run in (slow, fast)])
        bars.barh(names, width, left=left, height=0.55, color=colour, label=label)
        left += width
    for y, total in enumerate(left):
        bars.text(total, y, f" {total:.2f} s", va="center")
    other, whole = slow.other_seconds / fast.other_seconds, slow.seconds / fast.seconds
    bars.set(xlabel="seconds", title=f"Time: {other:.1f} x outside matrix products, {whole:.1f} x in all")
    bars.set_xlim(0, 1.18 * left.max())
    bars.invert_yaxis()
    bars.legend(frameon=False, loc="lower right")


# ---- fastopt demo --compare ------------------------------------------------------------------------------------------

Table = dict[str, dict[str, Array]]  # row -> column -> one value for each seed


def compare(seed: int = 0, plot: Path | None = None, seeds: int = 5, shorten: int = 1) -> int:
    """Show what Adam, L2, dropout and the leaky slope are good for; `shorten` divides the lengths, for tests."""
    figure = new_figure(15, 4.2) if plot else None
    panels = figure.subplots(1, 3) if figure else (None, None, None)
    runs = range(seed, seed + seeds)
    print(f"Mean ± standard deviation over the seeds {runs[0]} to {runs[-1]}, on the kernels alone.")
    with one_blas_thread():
        compare_optimizers(runs, 64_000 // shorten, panels[0])
        compare_regularisers(runs, 200 // shorten, panels[1])
        compare_slopes(runs, 20 // shorten, panels[2])
    if figure and plot:
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


def deviation(values: Array) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


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


# ---- progress and figures --------------------------------------------------------------------------------------------


def one_blas_thread() -> contextlib.AbstractContextManager[object]:
    """Products this small gain little from a second thread, and OpenBLAS's spin for each other: on a machine with other
    work a product of 50 microseconds then takes milliseconds."""
    from threadpoolctl import threadpool_limits  # scikit-learn brings it

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits


BLUE, ORANGE, GREEN, GREY, LIGHT = "#2b6cb0", "#dd6b20", "#2f855a", "#4a5568", "#cbd5e0"


@contextlib.contextmanager
def progress(label: str, total: int, unit: str = "steps") -> Iterator[Tick]:
    """Show a bar on a terminal, else one line, on stderr; yields what is to be called after each of `total` units."""
    from tqdm import tqdm

    on_terminal = sys.stderr.isatty()
    if not on_terminal:
        print(f"{label}: {total} {unit}", file=sys.stderr, flush=True)
    with tqdm(total=total, desc=label, unit=f" {unit}", disable=not on_terminal, mininterval=0.2) as bar:
        yield bar.update


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(11)
    figure.savefig(path)
    print(f"figure: {path}")
