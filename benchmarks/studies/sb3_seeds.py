"""Whether fastopt.sb3 learns as Stable-Baselines3 does: returns over seeds, and how many seeds solve CartPole.

    python benchmarks/studies/sb3_seeds.py                  20 seeds of CartPole, Acrobot and Pendulum (hours)
    python benchmarks/studies/sb3_seeds.py --solve          10 seeds of ours on CartPole-v1, 60,000 steps each

The 95% interval of the mean difference of returns (ours less theirs) is to lie within 10% of the solved return.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.evaluation import evaluate_policy

import fastopt.sb3

TASKS = {"CartPole-v1": (60_000, 475), "Acrobot-v1": (60_000, -100), "Pendulum-v1": (60_000, -200)}  # steps, solved


def score(package: Any, env: str, seed: int) -> float:
    """The mean return of 20 episodes of the most likely actions after training."""
    model = package.PPO("MlpPolicy", env, seed=seed, device="cpu").learn(TASKS[env][0])
    return float(evaluate_policy(model, model.get_env(), n_eval_episodes=20, deterministic=True)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solve", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.solve:
        scores = [score(fastopt.sb3, "CartPole-v1", seed) for seed in range(10)]
        print(f"CartPole-v1: {sum(s >= 475 for s in scores)} of 10 seeds solved; returns {scores}")
        return
    for env, (steps, solved) in TASKS.items():
        pairs = np.array([[score(p, env, s) for p in (fastopt.sb3, stable_baselines3)] for s in range(options.seeds)])
        difference = pairs[:, 0] - pairs[:, 1]
        half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
        print(
            f"{env}, {steps} steps, {options.seeds} seeds: ours, theirs {pairs.mean(axis=0).round(1)}, "
            f"difference {difference.mean():.1f} +- {half:.1f}; a tenth of the solved return is {abs(solved) / 10:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
