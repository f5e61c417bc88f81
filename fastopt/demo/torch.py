"""``fastopt demo --task torch``: the digits network by torch's own code, with our Adam, and with our hidden layers too.

Another Adam leaves the curve the same. The layers draw other masks than torch's, so that theirs is another of its kind.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import fastopt
import fastopt.torch.nn
import fastopt.torch.optim
from fastopt.demo.common import Tick, progress
from fastopt.demo.digits import Digits, Recipe, load_digits, steps
from fastopt.demo.figures import BLUE, GREY, LIGHT, ORANGE, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {"forward": "network, forward", "backward": "network, backward", "step": "step and zero_grad"}
NAMES = ("torch", "our Adam", "and our layers")
CLOSE = 0.02  # of the first loss: rounding alone keeps the curves closer
AS_GOOD = 0.1  # of accuracy: other masks, or another seed, move it by up to 0.07 in the first epochs


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


def with_our_layers(model: Any) -> Any:
    """The same network with fused hidden layers, which take the biases over: the linear layers are products alone."""
    layers = list(model)
    fused: list[Any] = []
    for k in range(0, len(layers) - 1, 3):
        fused += [layers[k], fastopt.torch.nn.BiasLeakyReLUDropout.from_modules(*layers[k : k + 3])]
    return torch.nn.Sequential(*fused, layers[-1])


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
    """Train the three ways, print losses and times; return 0 when our Adam leaves the curve the same to rounding and
    our layers learn as well, else 1."""
    figure = new_figure(12, 3.8) if plot else None
    recipe = Recipe(seed=seed, epochs=epochs or 30)
    data = load_digits(seed)
    torch.manual_seed(seed)
    first = network(recipe)
    runs = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as elsewhere in these demos: products this small gain nothing from a second one
    try:
        theirs_fused: Any = partial(torch.optim.Adam, fused=True)
        ways: list[Any] = [theirs_fused, fastopt.torch.optim.Adam, fastopt.torch.optim.Adam]
        for name, rule in zip(NAMES, ways, strict=True):
            model = copy.deepcopy(first)
            if name == NAMES[2]:
                model = with_our_layers(model)
            with fastopt.num_threads(1), progress(f"{name:>14}", steps(data, recipe)) as tick:
                runs.append(train(model, rule(groups(model, recipe), lr=recipe.lr), data, recipe, tick))
    finally:
        torch.set_num_threads(threads)
    theirs, ours, fused = runs
    print(f"digits: {len(data.train_x)} training and {len(data.test_x)} test images")
    print(
        f"network: 64-{'-'.join(map(str, recipe.hidden))}-10, {sum(p.numel() for p in first.parameters()):,} parameters"
    )
    print(f"threads: 1; torch {torch.__version__}")
    print(f"recipe: {recipe}; torch.optim.Adam with fused=True\n")
    print_runs(runs)
    if figure and plot:
        draw_runs(figure, runs)
        save(figure, plot)
    distance = apart(ours, theirs)
    same = math.isfinite(distance) and distance <= CLOSE
    as_good = fused.test_accuracy >= theirs.test_accuracy - AS_GOOD
    print(f"same curve: {'yes' if same else 'no'} (our Adam: at most {distance:.1e} of the first loss apart)")
    print(f"as good: {'yes' if as_good else 'no'} (our layers, with masks of their own)")
    return 0 if same and as_good else 1


def print_runs(runs: list[Run]) -> None:
    def row(label: str, *cells: str) -> None:
        print(f"{label:<28}" + "".join(f"{cell:>17}" for cell in cells))

    def times(label: str, *seconds: float) -> None:
        row(label, f"{seconds[0]:.2f} s", *(f"{own:.2f} s, {seconds[0] / own:.1f} x" for own in seconds[1:]))

    row("", *NAMES)
    for label, curve in (("training loss", "train_loss"), ("test loss", "test_loss")):
        for name, k in (("first", 0), ("last", -1)):
            row(f"{label}, {name} epoch", *(f"{getattr(run, curve)[k]:.6f}" for run in runs))
    row("test accuracy", *(f"{run.test_accuracy:.2%}" for run in runs))
    print()
    for part, label in PARTS.items():
        times(label, *(run.seconds[part] for run in runs))
    times("all of it", *(sum(run.seconds.values()) for run in runs))
    print()


def draw_runs(figure: Figure, runs: list[Run]) -> None:
    losses, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    epochs = range(1, len(runs[0].train_loss) + 1)
    styles: tuple[dict[str, Any], ...] = (
        {"linewidth": 7, "alpha": 0.25, "solid_capstyle": "round"},
        {"linewidth": 1.6},
        {"linewidth": 1.2, "linestyle": ":"},
    )
    for curve, colour in (("train_loss", BLUE), ("test_loss", ORANGE)):
        for run, style in zip(runs, styles, strict=True):
            losses.plot(epochs, getattr(run, curve), color=colour, **style)
    for label, colour in (("training, with dropout", BLUE), ("test", ORANGE)):
        losses.plot([], [], color=colour, label=label)
    for name, style in zip(NAMES, styles, strict=True):
        losses.plot([], [], color=GREY, label=name, **style)
    losses.set(yscale="log", xlabel="epoch", ylabel="cross-entropy", title="Loss: handwritten digits in torch")
    losses.legend(frameon=False)

    left = np.zeros(len(runs))
    for (part, label), colour in zip(PARTS.items(), (GREY, LIGHT, BLUE), strict=True):
        width = np.array([run.seconds[part] for run in runs])
        bars.barh(NAMES, width, left=left, height=0.55, color=colour, label=label)
        left += width
    for y, total in enumerate(left):
        bars.text(total, y, f" {total:.2f} s", va="center")
    bars.set(xlabel="seconds", title=f"Time: {left[0] / left[2]:.1f} x as a whole")
    bars.set_xlim(0, 1.18 * np.max(left))
    bars.invert_yaxis()
    bars.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=3)
