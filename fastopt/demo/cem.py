"""``fastopt demo --task cem``: a policy for Gymnasium's CartPole-v1 by the cross-entropy method."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import fastopt
from fastopt.demo.figures import BLUE, GREY, LIGHT, ORANGE, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]

TASK = "CartPole-v1"
THRESHOLD = 475  # Gymnasium's own, of 500; the mean of EXAM episodes has to reach it
EXAM = 100
CHECK = 10  # episodes that the mean of the distribution plays in each generation
GOOD = 490  # their mean that ends the training: the exam is taken once, so with something in hand
GENERATIONS = 100


@dataclass
class Training:
    """What training leaves behind."""

    policy: Array
    episodes: list[int] = field(default_factory=list)  # played by the end of each generation
    returns: list[Array] = field(default_factory=list)  # of the candidates
    mean_returns: list[float] = field(default_factory=list)  # of the distribution's mean over CHECK episodes
    stds: list[Array] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Steps of all episodes: each returns 1."""
        return round(sum(map(np.sum, self.returns)) + CHECK * sum(self.mean_returns))


class CartPole:
    """Episodes of CartPole-v1, many at once; a policy is four weights and a bias: push right where w x + b > 0."""

    def __init__(self, seed: int) -> None:
        self.seeds = np.random.default_rng(seed)

    def play(self, policies: Array) -> Array:
        """Return the return of one episode of each policy, shape (n, 5) -> (n,); each from a fresh random start."""
        import gymnasium

        n = len(policies)
        envs = gymnasium.make_vec(TASK, num_envs=n, vectorization_mode="vector_entry_point")
        x, _ = envs.reset(seed=int(self.seeds.integers(2**31)))
        weights, bias = policies[:, :4], policies[:, 4]
        returns, running = np.zeros(n), np.ones(n, bool)
        while running.any():
            push_right = (x * weights).sum(axis=1) + bias > 0
            x, rewards, terminated, truncated, _ = envs.step(push_right.astype(np.int64))
            returns += np.where(running, rewards, 0)
            running &= ~(terminated | truncated)
        envs.close()
        return returns


def train(seed: int, report: Callable[[Training], object] = lambda _: None) -> Training:
    """Run the CEM from a std of 1 about zero until the mean plays well; `report` is called after each generation."""
    task = CartPole(seed)
    cem = fastopt.CEM(np.zeros(5), 1.0, maximize=True, rng=seed)
    run = Training(cem.mean)
    episodes = 0
    for _ in range(GENERATIONS):
        candidates = cem.ask()
        returns = task.play(np.concatenate([candidates, np.tile(cem.mean, (CHECK, 1))]))
        run.policy, mean_return = cem.mean, float(returns[-CHECK:].mean())
        episodes += len(returns)
        run.episodes.append(episodes)
        run.returns.append(returns[:-CHECK])
        run.mean_returns.append(mean_return)
        run.stds.append(cem.std)
        report(run)
        if mean_return >= GOOD:
            break
        cem.tell(returns[:-CHECK], fun_mean=mean_return)
        if cem.stop():
            break
    return run


def exam(policy: Array, seed: int) -> float:
    """The mean return of EXAM episodes, none of which was in the training."""
    return float(CartPole(seed ^ 2**63).play(np.tile(policy, (EXAM, 1))).mean())


def cartpole(seed: int = 0, plot: Path | None = None) -> int:
    """Train, take the exam and print how it went; return 0 when it was passed, else 1."""
    figure = new_figure(9, 3.4) if plot else None

    def report(run: Training) -> None:
        print(
            f"generation {len(run.episodes):>3}: {run.episodes[-1]:>5} episodes, "
            f"candidates {np.median(run.returns[-1]):5.1f} (median), mean policy {run.mean_returns[-1]:5.1f}",
            file=sys.stderr,
            flush=True,
        )

    start = perf_counter()
    run = train(seed, report)
    seconds = perf_counter() - start
    score = exam(run.policy, seed)
    print(f"{TASK}: push right where w x + b > 0; 5 parameters, seed {seed}")
    print(f"policy: w = {np.array2string(run.policy[:4], precision=3)}, b = {run.policy[4]:.3f}")
    print(
        f"generations: {len(run.episodes)} of {len(run.returns[0])} candidates, and {CHECK} episodes of their mean each"
    )
    print(f"episodes: {run.episodes[-1]}")
    print(f"time: {seconds:.1f} s")
    print(f"mean return of {EXAM} fresh episodes: {score:.1f} (threshold {THRESHOLD})")
    if figure and plot:
        draw(figure, run)
        save(figure, plot)
    solved = score >= THRESHOLD
    print(f"solved: {'yes' if solved else 'no'}")
    return 0 if solved else 1


def draw(figure: Figure, run: Training) -> None:
    learning, spread = figure.subplots(1, 2, width_ratios=(3, 2))
    low, middle, high = np.transpose([np.quantile(r, (0.1, 0.5, 0.9)) for r in run.returns])
    learning.fill_between(run.episodes, low, high, color=LIGHT, alpha=0.6, label="candidates, 10% to 90%")
    learning.plot(run.episodes, middle, color=BLUE, label="candidates, median")
    learning.plot(run.episodes, run.mean_returns, color=ORANGE, marker=".", label="mean of the distribution")
    learning.axhline(THRESHOLD, color=GREY, linestyle=":", label=f"threshold, {THRESHOLD}")
    learning.set(xlabel="episodes", ylabel="return", title=f"{TASK} by the cross-entropy method", ylim=(0, 510))
    learning.legend(frameon=False, loc=(0.02, 0.52))
    for values, name in zip(np.transpose(run.stds), ("$x$", "$\\dot x$", "$θ$", "$\\dot θ$", "bias"), strict=True):
        spread.plot(run.episodes, values, label=name)
    spread.set(xlabel="episodes", ylabel="std", title="Std of each parameter")
    spread.legend(frameon=False)
