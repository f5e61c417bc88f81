"""What iCEM's additions are worth: returns on an arm of six joints, `python benchmarks/studies/plan_icem.py`.

A task on which plain CEM with 100 candidates is worse than with 300: a plane arm of six joints, each of length 1 / 6
with a torque of its own, swings its tip to a point in 40 steps (horizon 25, 150 numbers a plan). All settings play the
same 20 episodes, all at once, in a batch. Measured (return; less that of CEM with 300, with its standard error):

    CEM, 300                    -7.89
    CEM, 100                    -8.32    -0.44 +- 0.13
    iCEM, 100                   -7.85     0.04 +- 0.20
    iCEM, 100, white noise      -7.69     0.20 +- 0.16
    CEM, 100, coloured noise    -8.49    -0.60 +- 0.17
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastopt.plan import CEMPlanner

Array = NDArray[np.float64]

JOINTS, HORIZON, STEPS, EPISODES = 6, 25, 40, 20
ICEM = {"noise_beta": 2.0, "keep_frac": 0.3, "decay": 1.25, "mean_last": True}
SETTINGS = {
    "CEM, 300": {"popsize": 300},
    "CEM, 100": {"popsize": 100},
    "iCEM, 100": {"popsize": 100, **ICEM},
    "iCEM, 100, white noise": {"popsize": 100, **ICEM, "noise_beta": 0.0},
    "CEM, 100, coloured noise": {"popsize": 100, "noise_beta": 2.0},
}


def step(angles: Array, speeds: Array, torques: Array) -> tuple[Array, Array]:
    speeds = 0.95 * speeds + 0.3 * torques
    return angles + 0.1 * speeds, speeds


def charged(angles: Array, speeds: Array, target: Array) -> Array:
    """The tip's distance to the target, and a little for speed; `target` is (..., 2)."""
    direction = np.cumsum(angles, axis=-1)
    x, y = np.cos(direction).mean(axis=-1) - target[..., 0], np.sin(direction).mean(axis=-1) - target[..., 1]
    return np.sqrt(x * x + y * y) + 0.002 * np.square(speeds).sum(axis=-1)


def returns(seed: int, **options: object) -> Array:
    """Of EPISODES episodes, from one start to targets all around."""
    around = 2 * np.pi * (np.arange(EPISODES) + 0.5) / EPISODES
    targets = 0.6 * np.stack([np.cos(around), np.sin(around)], axis=-1)
    angles, speeds, total = np.zeros((EPISODES, JOINTS)), np.zeros((EPISODES, JOINTS)), np.zeros(EPISODES)
    planner = CEMPlanner(HORIZON, JOINTS, batch=EPISODES, bounds=[(-1, 1)], rng=seed, **options)  # type: ignore[arg-type]

    def cost(plans: Array, problem: NDArray[np.int64]) -> Array:
        a, s = (np.repeat(x[problem, None], plans.shape[1], axis=1) for x in (angles, speeds))
        costs = np.zeros(plans.shape[:2])
        for t in range(HORIZON):
            a, s = step(a, s, plans[:, :, t])
            costs += charged(a, s, targets[problem, None])
        return costs

    for _ in range(STEPS):
        angles, speeds = step(angles, speeds, planner.plan(cost))
        total -= charged(angles, speeds, targets)
    return total


if __name__ == "__main__":
    reference = None
    print("| setting | return | less CEM's with 300, and its standard error |\n|---|---|---|")
    for name, options in SETTINGS.items():
        found = returns(0, **options)
        reference = found if reference is None else reference
        less = found - reference
        print(
            f"| {name} | {found.mean():.2f} | {less.mean():.2f} +- {less.std(ddof=1) / EPISODES**0.5:.2f} |", flush=True
        )
