"""``fastopt demo --task ppo``: PPO on CartPole-v1 by Stable-Baselines3 and by fastopt.sb3, from the same seed."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fastopt.demo.figures import BLUE, GREY, ORANGE, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASK = "CartPole-v1"
THRESHOLD = 475  # Gymnasium's own, of 500; the mean of EXAM episodes has to reach it
EXAM = 20
STEPS = 60_000


@dataclass
class Run:
    """What one of the two leaves behind."""

    name: str
    model: Any = None
    seconds: float = 0.0
    steps: list[int] = field(default_factory=list)  # by the end of each rollout
    returns: list[float] = field(default_factory=list)  # the mean of the last 100 episodes then


def train(name: str, algorithm: Any, seed: int) -> Run:
    """Train from the defaults of Stable-Baselines3 on one thread of torch."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

    run = Run(name)

    class Report(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            run.steps.append(self.num_timesteps)
            run.returns.append(float(np.mean([episode["r"] for episode in self.model.ep_info_buffer])))
            print(f"{name}: {run.steps[-1]:>6} steps, return {run.returns[-1]:5.1f}", file=sys.stderr, flush=True)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run.model = algorithm("MlpPolicy", TASK, seed=seed, device="cpu")
        start = perf_counter()
        run.model.learn(STEPS, callback=Report())
        run.seconds = perf_counter() - start
    finally:
        torch.set_num_threads(threads)
    return run


def exam(model: Any, seed: int) -> float:
    """The mean return of EXAM fresh episodes of the most likely actions."""
    import gymnasium

    env, returns = gymnasium.make(TASK), []
    for episode in range(EXAM):
        observation, _ = env.reset(seed=seed + 1_000_000 + episode)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def cartpole(seed: int = 0, plot: Path | None = None) -> int:
    """Train with both, take the exam and print how it went; return 0 when ours passed it, else 1."""
    import stable_baselines3

    import fastopt.sb3

    figure = new_figure(9, 3.4) if plot else None
    theirs = train("Stable-Baselines3", stable_baselines3.PPO, seed)
    ours = train("fastopt.sb3", fastopt.sb3.PPO, seed)
    print(f"{TASK}: PPO with Stable-Baselines3's defaults, {ours.steps[-1]} steps, seed {seed}, one thread of torch")
    print("steps   return of the last 100 episodes: Stable-Baselines3, fastopt.sb3")
    for steps, one, other in list(zip(ours.steps, theirs.returns, ours.returns, strict=True))[3::4]:
        print(f"{steps:>6}  {one:5.1f} {other:5.1f}  {'#' * round(other / 10)}")
    apart = max(
        (one - other).abs().max().item()
        for one, other in zip(theirs.model.policy.parameters(), ours.model.policy.parameters(), strict=True)
    )
    print(f"parameters: at most {apart:.1g} apart")
    print(f"time: {theirs.seconds:.1f} s and {ours.seconds:.1f} s, {theirs.seconds / ours.seconds:.1f} times as fast")
    scores = [exam(run.model, seed) for run in (theirs, ours)]
    print(f"mean return of {EXAM} fresh episodes: {scores[0]:.1f} and {scores[1]:.1f} (threshold {THRESHOLD})")
    if figure and plot:
        draw(figure, [theirs, ours])
        save(figure, plot)
    solved = scores[1] >= THRESHOLD
    print(f"solved: {'yes' if solved else 'no'}")
    return 0 if solved else 1


def draw(figure: Figure, runs: list[Run]) -> None:
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    for run, colour, style in zip(runs, (GREY, ORANGE), ("-", "--"), strict=True):
        by_steps.plot(run.steps, run.returns, style, color=colour, label=run.name)
        by_time.plot(np.multiply(run.steps, run.seconds / run.steps[-1]), run.returns, color=colour, label=run.name)
    for axes in (by_steps, by_time):
        axes.axhline(THRESHOLD, color=BLUE, linestyle=":", label=f"threshold, {THRESHOLD}")
    by_steps.set(xlabel="steps", ylabel="return of the last 100 episodes", title="The same run")
    by_time.set(xlabel="seconds", title="in less time")
    by_time.legend(frameon=False)
