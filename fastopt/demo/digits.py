"""``fastopt demo``: one training loop, run on plain NumPy and on the kernels, with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import fastopt
from fastopt import reference
from fastopt.demo.common import Array, Tick, bit_equal, one_blas_thread, progress
from fastopt.demo.figures import BLUE, GREY, LIGHT, ORANGE, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    sizes = (data.train_x.shape[1], *recipe.hidden, int(np.max(data.train_labels)) + 1)
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
    if busy(slow, fast):
        print("The matrix products are the same calls in both: the machine was busy, and the times do not compare.")
    print(
        "The reference draws the very same random numbers in NumPy, which costs; another generator gives other bits.\n"
    )


def busy(slow: Run, fast: Run) -> bool:
    """Whether the same calls took different times in both, so that the others do not compare either."""
    return not 0.8 < slow.product_seconds / fast.product_seconds < 1.25


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
    bars.set(
        xlabel=f"seconds, of one run{', on a machine that was busy' if busy(slow, fast) else ''}",
        title=f"Time: {other:.1f} x outside matrix products, {whole:.1f} x in all",
    )
    bars.set_xlim(0, 1.18 * np.max(left))
    bars.invert_yaxis()
    bars.legend(frameon=False, loc="lower right")
