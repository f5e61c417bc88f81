"""Whole runs of Stable-Baselines3's algorithms and of fastopt.sb3's, in turn: seconds and returns of both.

    python benchmarks/runs/sb3.py                  every row, five times
    python benchmarks/runs/sb3.py --only CartPole --repeat 1
    python benchmarks/runs/sb3.py --plot benchmarks/runs/sb3.png

One thread of torch, of the BLAS and of fastopt. The environment alone, stepped as often at random, is what no code
around it can win: "won" is the share of the rest of the rival's time that ours saves. SBX runs where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", FASTOPT_NUM_THREADS="1")  # before they are imported

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.env_util import make_vec_env

import fastopt.sb3
import fastopt.torch.optim
from fastopt.demo.figures import BLUE, GREY, LIGHT, new_figure, save
from fastopt.machine import config


class Row(NamedTuple):
    algorithm: str
    env: str
    envs: int
    steps: int


ROWS = [
    Row("PPO", "CartPole-v1", 1, 20_480),
    Row("PPO", "CartPole-v1", 8, 32_768),
    Row("PPO", "Acrobot-v1", 1, 20_480),
    Row("PPO", "Pendulum-v1", 1, 20_480),
    Row("PPO", "HalfCheetah-v5", 1, 20_480),
    Row("A2C", "CartPole-v1", 1, 10_000),
    Row("A2C", "CartPole-v1", 8, 40_000),
    Row("A2C", "Pendulum-v1", 1, 10_000),
    Row("SAC, optimiser", "Pendulum-v1", 1, 2_000),
]


def algorithms(row: Row) -> dict[str, Callable[[Any, int], Any]]:
    """By contender, what makes a model from an environment and a seed."""
    if row.algorithm.startswith("SAC"):  # only the optimiser is another
        with_ours = {"optimizer_class": fastopt.torch.optim.Adam}
        sac = stable_baselines3.SAC
        return {
            "SB3": lambda env, seed: sac("MlpPolicy", env, seed=seed, device="cpu"),
            "ours": lambda env, seed: sac("MlpPolicy", env, seed=seed, device="cpu", policy_kwargs=with_ours),
        }
    packages = {"SB3": stable_baselines3, "ours": fastopt.sb3}
    if importlib.util.find_spec("sbx") and row.algorithm == "PPO":
        packages["SBX"] = importlib.import_module("sbx")
    return {name: maker(package, row) for name, package in packages.items()}


def maker(package: Any, row: Row) -> Callable[[Any, int], Any]:
    device = {} if package.__name__ == "sbx" else {"device": "cpu"}
    return lambda env, seed: getattr(package, row.algorithm)("MlpPolicy", env, seed=seed, **device)


def run(make: Callable[[Any, int], Any], row: Row, seed: int) -> tuple[float, float]:
    """(seconds, mean return of the last 100 episodes) of one run."""
    env = make_vec_env(row.env, row.envs, seed=seed)
    model = make(env, seed)
    start = perf_counter()
    model.learn(row.steps)
    seconds = perf_counter() - start
    episodes = [episode["r"] for episode in model.ep_info_buffer]
    env.close()
    return seconds, float(np.mean(episodes)) if episodes else float("nan")


def environment_alone(row: Row) -> float:
    env = make_vec_env(row.env, row.envs, seed=0)
    env.reset()
    actions = [np.array([env.action_space.sample() for _ in range(row.envs)]) for _ in range(64)]
    start = perf_counter()
    for k in range(row.steps // row.envs):
        env.step(actions[k % 64])
    seconds = perf_counter() - start
    env.close()
    return seconds


def draw(bars: dict[str, tuple[float, float, float, float]], path: Path, repeat: int) -> None:
    figure = new_figure(8, 0.9 + 0.62 * len(bars))
    axes = figure.subplots()
    for k, (alone, theirs, ours, ratio) in enumerate(bars.values()):
        axes.barh(k - 0.2, theirs, 0.36, color=GREY, label="stable_baselines3")
        axes.barh(k + 0.2, ours, 0.36, color=BLUE, label="fastopt.sb3")
        axes.barh(k + 0.2, min(alone, ours), 0.36, color=LIGHT, label="of it the environment alone")
        axes.text(ours, k + 0.2, f" {ratio:.1f} x", va="center", fontsize=9)
    axes.set_yticks(range(len(bars)), bars)
    axes.invert_yaxis()
    of = "one run of each" if repeat == 1 else f"medians of {repeat} runs"
    axes.set(xlabel=f"seconds, {of}, one thread; {config()['CPU']}", title="Whole runs")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:3], labels[:3], frameon=False)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the seconds of SB3 and of ours")
    options = parser.parse_args()
    bars: dict[str, tuple[float, float, float, float]] = {}  # environment alone, SB3, ours, ratio
    torch.set_num_threads(1)
    print(
        "run, environments, steps: environment alone; seconds (return) of each; SB3's over ours; won of what could be"
    )
    for row in ROWS:
        name = f"{row.algorithm} {row.env} {row.envs} {row.steps}"
        if options.only not in name:
            continue
        try:
            makers = algorithms(row)
            alone = environment_alone(row)
        except Exception as error:
            print(f"{name}: does not run here: {error}")
            continue
        found: dict[str, list[tuple[float, float]]] = {contender: [] for contender in makers}
        for seed in range(options.repeat):
            for contender, make in makers.items():
                found[contender].append(run(make, row, seed))
        seconds = {contender: statistics.median(s for s, _ in runs) for contender, runs in found.items()}
        returns = {contender: statistics.mean(r for _, r in runs) for contender, runs in found.items()}
        ratio = statistics.median(a / b for (a, _), (b, _) in zip(found["SB3"], found["ours"], strict=True))
        won = (seconds["SB3"] - seconds["ours"]) / (seconds["SB3"] - alone)
        each = ", ".join(f"{contender} {seconds[contender]:.2f} ({returns[contender]:.1f})" for contender in makers)
        print(f"{name}: {alone:.2f}; {each}; {ratio:.1f} times; {won:.0%}", flush=True)
        bars[f"{row.algorithm}, {row.env}, {row.envs} env."] = alone, seconds["SB3"], seconds["ours"], ratio
    if options.plot and bars:
        draw(bars, options.plot, options.repeat)


if __name__ == "__main__":
    main()
