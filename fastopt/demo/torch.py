"""``fastopt demo --task torch``: the digits network in torch, by torch's own Adam and by that of fastopt.torch."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import fastopt
import fastopt.torch.optim
from fastopt.demo.common import Tick, progress
from fastopt.demo.digits import Digits, Recipe, load_digits, steps
from fastopt.demo.figures import BLUE, GREY, LIGHT, ORANGE, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {"forward": "network, forward", "backward": "network, backward", "step": "step and zero_grad"}
NAMES = ("torch.optim", "fastopt.torch.optim")
CLOSE = 0.02  # of the first loss: rounding alone keeps the curves closer


@dataclass
class Run:
    train_loss: list[float] = field(default_factory=list)  # mean over each epoch's batches, with dropout
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))


def network(recipe: Recipe) -> Any:
    layers: list[Any] = []
    for inputs, outputs in pairwise((64, *recipe.hidden)):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.LeakyReLU(recipe.negative_slope)]
        layers += [torch.nn.Dropout(recipe.dropout)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(recipe.hidden[-1], 10))


def groups(model: Any, recipe: Recipe) -> list[dict[str, Any]]:
    weights = [p for p in model.parameters() if p.dim() == 2]
    biases = [p for p in model.parameters() if p.dim() == 1]
    return [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": biases, "weight_decay": 0.0}]


def train(model: Any, optimizer: Any, data: Digits, recipe: Recipe, tick: Tick = lambda: None) -> Run:
    """Train on the training images; the batches and dropout go by the seed of the recipe."""
    torch.manual_seed(recipe.seed)
    x, labels, test_x, test_labels = (
        torch.from_numpy(a) for a in (data.train_x, data.train_labels, data.test_x, data.test_labels)
    )
    entropy = torch.nn.functional.cross_entropy
    run = Run()
    for _ in range(recipe.epochs):
        losses = []
        model.train()
        order: Any = torch.randperm(len(x))
        for batch in order.split(recipe.batch_size):
            start = perf_counter()
            loss: Any = entropy(model(x[batch]), labels[batch])
            forward = perf_counter()
            loss.backward()
            backward = perf_counter()
            optimizer.step()
            optimizer.zero_grad()
            end = perf_counter()
            for part, seconds in zip(PARTS, (forward - start, backward - forward, end - backward), strict=True):
                run.seconds[part] += seconds
            losses.append(loss.item())
            tick()
        model.eval()
        with torch.no_grad():
            logits = model(test_x)
        run.train_loss.append(sum(losses) / len(losses))
        run.test_loss.append(entropy(logits, test_labels).item())
        run.test_accuracy = (logits.argmax(dim=1) == test_labels).double().mean().item()
    return run


def apart(ours: Run, theirs: Run) -> float:
    """The largest distance of the curves, as a part of the first loss."""
    distance = np.abs(np.subtract(ours.train_loss + ours.test_loss, theirs.train_loss + theirs.test_loss)).max()
    return float(distance) / theirs.train_loss[0]


def main(seed: int = 0, plot: Path | None = None, epochs: int | None = None) -> int:
    """Train both ways, print losses and times; return 0 when the curves are the same to rounding, else 1."""
    figure = new_figure(12, 3.8) if plot else None
    recipe = Recipe(seed=seed, epochs=epochs or 30)
    data = load_digits(seed)
    torch.manual_seed(seed)
    first = network(recipe)
    runs = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as elsewhere in these demos: products this small gain nothing from a second one
    try:
        ways: list[tuple[Any, dict[str, bool]]] = [(torch.optim.Adam, {"fused": True}), (fastopt.torch.optim.Adam, {})]
        for name, (rule, options) in zip(NAMES, ways, strict=True):
            model = copy.deepcopy(first)
            with fastopt.num_threads(1), progress(f"{name:>19}", steps(data, recipe)) as tick:
                runs.append(train(model, rule(groups(model, recipe), lr=recipe.lr, **options), data, recipe, tick))
    finally:
        torch.set_num_threads(threads)
    theirs, ours = runs
    print(f"digits: {len(data.train_x)} training and {len(data.test_x)} test images")
    print(
        f"network: 64-{'-'.join(map(str, recipe.hidden))}-10, {sum(p.numel() for p in first.parameters()):,} parameters"
    )
    print(f"threads: 1; torch {torch.__version__}")
    print(f"recipe: {recipe}; torch.optim.Adam with fused=True\n")
    print_runs(theirs, ours)
    if figure and plot:
        draw_runs(figure, theirs, ours)
        save(figure, plot)
    distance = apart(ours, theirs)
    same = math.isfinite(distance) and distance <= CLOSE
    print(f"same curve: {'yes' if same else 'no'} (at most {distance:.1e} of the first loss apart)")
    return 0 if same else 1


def print_runs(theirs: Run, ours: Run) -> None:
    def row(label: str, *cells: str) -> None:
        print(f"{label:<32}" + "".join(f"{cell:>21}" for cell in cells))

    row("", *NAMES, "speed-up")
    for label, curve in (("training loss", "train_loss"), ("test loss", "test_loss")):
        for name, k in (("first", 0), ("last", -1)):
            row(f"{label}, {name} epoch", *(f"{getattr(run, curve)[k]:.6f}" for run in (theirs, ours)))
    row("test accuracy", *(f"{run.test_accuracy:.2%}" for run in (theirs, ours)))
    print()
    for part, label in PARTS.items():
        times(row, label, theirs.seconds[part], ours.seconds[part])
    times(row, "all of it", sum(theirs.seconds.values()), sum(ours.seconds.values()))
    print()


def times(row: Any, label: str, theirs: float, ours: float) -> None:
    row(label, f"{theirs:.2f} s", f"{ours:.2f} s", f"{theirs / ours:.1f} x")


def draw_runs(figure: Figure, theirs: Run, ours: Run) -> None:
    losses, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    epochs = range(1, len(ours.train_loss) + 1)
    for curve, label, colour in (("train_loss", "training, with dropout", BLUE), ("test_loss", "test", ORANGE)):
        losses.plot(epochs, getattr(theirs, curve), color=colour, linewidth=7, alpha=0.25, solid_capstyle="round")
        losses.plot(epochs, getattr(ours, curve), color=colour, linewidth=1.6, label=label)
    losses.plot([], [], color=GREY, linewidth=7, alpha=0.35, label=f"{NAMES[0]} (wide)")
    losses.plot([], [], color=GREY, linewidth=1.6, label=f"{NAMES[1]} (thin)")
    losses.set(yscale="log", xlabel="epoch", ylabel="cross-entropy", title="Loss: Adam in torch on handwritten digits")
    losses.legend(frameon=False)

    left = np.zeros(2)
    for (part, label), colour in zip(PARTS.items(), (GREY, LIGHT, BLUE), strict=True):
        width = np.array([run.seconds[part] for run in (theirs, ours)])
        bars.barh(NAMES, width, left=left, height=0.55, color=colour, label=label)
        left += width
    for y, total in enumerate(left):
        bars.text(total, y, f" {total:.2f} s", va="center")
    ratio = theirs.seconds["step"] / ours.seconds["step"]
    bars.set(xlabel="seconds", title=f"Time: {ratio:.1f} x in step and zero_grad")
    bars.set_xlim(0, 1.18 * np.max(left))
    bars.invert_yaxis()
    bars.legend(frameon=False, loc="lower right")
