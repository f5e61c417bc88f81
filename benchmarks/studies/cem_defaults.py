"""How the default settings of `fastopt.minimize_cem` were chosen, and what they reach.

`python benchmarks/studies/cem_defaults.py` prints the experiment again (10 minutes on two cores): each setting is
changed alone and the others stay at their defaults. `python benchmarks/studies/cem_defaults.py --goals` prints only
what the defaults reach on two known tasks (a minute).

A column is a function of `bbob.py` in one dimension. The figure is a share, the more the better: of all pairs of a
target (10 ** 3, 2, ..., -8 above the optimum) and a budget (spread evenly in its logarithm between 10 and 3,000
evaluations for each dimension), those pairs where the target was reached within the budget. So it rewards
a fast start and a precise end alike. CartPole is the noisy task: 5 parameters, one episode for each candidate.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from bbob import Problem
from numpy.typing import NDArray

import fastopt
from fastopt.demo import cem as demo_cem

Array = NDArray[np.float64]
Settings = dict[str, Any]

SEEDS = 10
DIMENSIONS = {"diag": (2, 5, 10, 40), "full": (2, 5, 10)}
FUNCTIONS = {"diag": (1, 2, 3, 8), "full": (1, 10, 15, 9)}  # sphere, ellipsoid, Rastrigin, Rosenbrock; full: rotated
SHORT = ("sphere", "ellipsoid", "Rastrigin", "Rosenbrock")
TARGETS = 10.0 ** np.arange(3, -9, -1)
LEAST, MOST = 10, 3000  # evaluations for each dimension


class Finished(Exception):
    """The last target is reached."""


def share(number: int, dimension: int, covariance: str, settings: Settings, seed: int) -> float:
    problem = Problem(number, dimension, instance=seed + 1)
    reached, count, best = np.full(len(TARGETS), np.inf), 0, np.inf

    def fun(x: Array) -> Array:
        nonlocal count, best
        values = problem(x)
        for value in values - problem.f_opt:
            count += 1
            if value < best:
                best = value
                reached[(value <= TARGETS) & np.isinf(reached)] = count
        if best <= TARGETS[-1]:
            raise Finished
        return values

    with contextlib.suppress(Finished):
        fastopt.minimize_cem(
            fun,
            np.zeros(dimension),
            2.0,
            covariance=covariance,
            maxfev=MOST * dimension,
            vectorized=True,
            rng=seed,
            **of_dimension(settings, dimension, covariance),
        )
    within = (np.log(MOST * dimension) - np.log(reached)) / np.log(MOST / LEAST)
    return float(np.clip(within, 0, 1).mean())


def of_dimension(settings: Settings, dimension: int, covariance: str) -> Settings:
    """Settings whose name ends in ' x' are factors of the default."""
    default = fastopt.CEM(np.zeros(dimension), 1.0, covariance=covariance).settings
    concrete = {}
    for name, value in settings.items():
        if name == "popsize x":
            concrete["popsize"] = round(value * default["popsize"])
        elif name == "std_lr x":
            concrete["std_lr"] = min(1.0, value * (default["std_lr"] or rate_by_rank(default, dimension)))
        else:
            concrete[name] = value
    return concrete


def rate_by_rank(settings: Settings, dimension: int) -> float:
    """What `std_lr` is where None is left to mean that."""
    elites = max(2, round(settings["elite_frac"] * settings["popsize"]))
    w = np.log((elites + 0.5) / np.arange(1, elites + 1))
    mu = w.sum() ** 2 / np.square(w).sum()
    return float(2 * (mu - 1.75 + 1 / mu) / ((dimension + 2) ** 2 + mu))


def cartpole(settings: Settings, seeds: int = 40, episodes: int = 1500) -> tuple[int, float]:
    """Return on how many seeds the mean plays 20 episodes at 475 or more, and the median episodes until it does."""
    task = demo_cem.CartPole(0)
    concrete = of_dimension(settings, 5, "diag")
    runs = [fastopt.CEM(np.zeros(5), 1.0, maximize=True, rng=seed, **concrete) for seed in range(seeds)]
    used = np.full(seeds, np.inf)
    for generation in range(1, episodes // runs[0].popsize + 1):
        open_runs = [k for k in range(seeds) if np.isinf(used[k]) and not runs[k].stop()]
        if not open_runs:
            break
        scores = task.play(np.concatenate([runs[k].ask() for k in open_runs]))
        for k, own in zip(open_runs, np.split(scores, len(open_runs)), strict=True):
            runs[k].tell(own)
        checks = task.play(np.repeat([runs[k].mean for k in open_runs], 20, axis=0)).reshape(-1, 20).mean(axis=1)
        used[np.array(open_runs)[checks >= demo_cem.THRESHOLD]] = generation * runs[0].popsize
    return int(np.isfinite(used).sum()), float(np.median(used))


def rosenbrock(seed: int, settings: Settings | None = None, maxfev: int = 10**6) -> float:
    """100 dimensions, shifted by 0.35, from the origin with sigma0 0.3."""

    def fun(x: Array) -> Array:
        a, b = x[:, :-1] - 0.35, x[:, 1:] - 0.35
        return np.asarray((100 * (b - a * a) ** 2 + (1 - a) ** 2).sum(axis=1))

    concrete = of_dimension(settings or {}, 100, "diag")
    return fastopt.minimize_cem(fun, np.zeros(100), 0.3, maxfev=maxfev, vectorized=True, rng=seed, **concrete).fun


def rotated_ellipsoid(seed: int) -> tuple[float, int]:
    """10 dimensions, condition 1e6, with sigma0 1 from a point about 3 away; returns f and the evaluations used."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((10, 10)))
    optimum, scales = rng.standard_normal(10), 10 ** (6 * np.arange(10) / 9)

    def fun(x: Array) -> Array:
        return np.asarray((scales * ((x - optimum) @ rotation.T) ** 2).sum(axis=1))

    result = fastopt.minimize_cem(
        fun, np.zeros(10), 1.0, covariance="full", maxfev=50_000, vectorized=True, xtol=0.0, ftarget=1e-9, rng=seed
    )
    return result.fun, result.nfev


def goals(pool: Any) -> None:
    values = pool.map(rosenbrock, range(10))
    print(
        f"Rosenbrock 100-D, 1e6 evaluations, 10 seeds: mean {np.mean(values):.2f} (goal: < 87), worst {max(values):.2f}"
    )
    found = pool.map(rotated_ellipsoid, range(10))
    below, most = sum(f < 1e-8 for f, _ in found), max(n for _, n in found)
    print(f"rotated ellipsoid, 10-D, full: below 1e-8 on {below} of 10 seeds; to 1e-9 at most {most:,} evaluations")


VARIANTS: dict[str, list[Settings]] = {
    "diag": [
        {},
        *({"popsize x": x} for x in (0.25, 0.5, 2, 4)),
        *({"elite_frac": x} for x in (0.05, 0.1, 0.3, 0.5)),
        *({"std_lr x": x} for x in (0.25, 0.5, 2, 4)),
        *({"mean_lr": x} for x in (0.25, 0.5, 0.8)),
        {"weights": "equal"},
        {"weights": "equal", "refit_about": "new_mean"},
        {"noisy": True},
    ],
    "full": [
        {},
        *({"popsize x": x} for x in (0.5, 2, 4)),
        *({"elite_frac": x} for x in (0.2, 0.3, 0.4)),
        *({"std_lr x": x} for x in (0.5, 1.5, 2, 4)),
        *({"mean_lr": x} for x in (0.5, 0.8)),
        {"weights": "equal"},
        {"weights": "equal", "refit_about": "new_mean"},
    ],
}


def row(variant: Settings, covariance: str) -> list[str]:
    shares = np.array(
        [
            [[share(n, d, covariance, variant, seed) for seed in range(SEEDS)] for d in DIMENSIONS[covariance]]
            for n in FUNCTIONS[covariance]
        ]
    ).mean(axis=2)
    label = ", ".join(
        f"`{name.removesuffix(' x')}` {'x ' if name.endswith(' x') else ''}{x}" for name, x in variant.items()
    )
    cells = [label or "**defaults**", f"{shares.mean():.3f}"]
    cells += [" ".join(f"{s:.2f}" for s in of_function) for of_function in shares]
    if covariance == "diag":
        solved, episodes = cartpole(variant)
        cells += [f"{np.mean([rosenbrock(seed, variant) for seed in range(3)]):.1f}", f"{solved} of 40, {episodes:.0f}"]
    return cells


def experiment(pool: Any) -> None:
    for covariance, variants in VARIANTS.items():
        dimensions = ", ".join(map(str, DIMENSIONS[covariance]))
        heads = ["setting", "mean share", *(f"{name}, {dimensions}-D" for name in SHORT)]
        if covariance == "diag":
            heads += ["Rosenbrock 100-D, f after 1e6", "CartPole solved, episodes"]
        print(f'\ncovariance="{covariance}":\n\n| {" | ".join(heads)} |\n|{"---|" * len(heads)}')
        start = perf_counter()
        for k, cells in enumerate(pool.imap(partial(row, covariance=covariance), variants), start=1):
            print(
                f"{covariance}: {k} of {len(variants)} rows, {perf_counter() - start:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--goals", action="store_true", help="only the two known tasks")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    fastopt.set_num_threads(1)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        if not options.goals:
            experiment(pool)
            print()
        goals(pool)


if __name__ == "__main__":
    main()
