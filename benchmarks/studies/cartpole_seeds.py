"""How often `fastopt demo --task cem` solves CartPole-v1: `python benchmarks/studies/cartpole_seeds.py [--seeds 100]`.

Each seed trains a policy and takes the exam of 100 fresh episodes once, as the demo does.
"""

from __future__ import annotations

import argparse
import sys
from time import perf_counter

import numpy as np

from fastopt.demo import cem as demo_cem


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seeds", type=int, default=100)
    seeds = parser.parse_args().seeds
    episodes, seconds, scores = [], [], []
    for seed in range(seeds):
        start = perf_counter()
        run = demo_cem.train(seed)
        seconds.append(perf_counter() - start)
        episodes.append(run.episodes[-1])
        scores.append(demo_cem.exam(run.policy, seed))
        done = f"seed {seed}: {episodes[-1]} episodes, {seconds[-1]:.1f} s, exam {scores[-1]:.1f}"
        print(done, file=sys.stderr, flush=True)
    solved = sum(score >= demo_cem.THRESHOLD for score in scores)
    print(f"{demo_cem.TASK}: solved on {solved} of {seeds} seeds (an exam is {demo_cem.EXAM} fresh episodes)")
    for name, values in (("episodes", episodes), ("seconds", seconds), ("exam", scores)):
        low, middle, high = np.quantile(values, (0, 0.5, 1))
        print(f"{name:>8}: median {middle:.4g}, least {low:.4g}, most {high:.4g}")


if __name__ == "__main__":
    main()
