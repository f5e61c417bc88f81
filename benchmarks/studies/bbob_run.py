"""Evaluations to target on the 24 noiseless BBOB functions: fastopt's CEM beside pycma and SciPy.

`python benchmarks/studies/bbob_run.py [--dimensions 2 5 10] [--instances 5] [--budget 2000] [--processes 2]
[--plot FILE.png]`

Each optimiser runs with its default settings, on the box [-5, 5], until it is 1e-8 above the optimum or has used its
budget (in evaluations for each dimension); one that stops sooner starts again with a larger population where it has
that, else afresh. The CEM and CMA-ES start from the same random point with sigma0 2, differential evolution from a
sample of the box. Prints a table for each dimension: expected evaluations over dimension to 1e-8 (all evaluations of
all runs over the number that got there), or in brackets the median precision where none did.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import cma
import numpy as np
import scipy
from bbob import FUNCTIONS, Problem
from numpy.typing import NDArray
from scipy.optimize import differential_evolution

import fastopt

Array = NDArray[np.float64]
TARGETS = 10.0 ** np.linspace(2, -8, 51)
BOX = 5.0
SIGMA0 = 2.0


class Finished(Exception):
    """The last target is reached, or the budget used up."""


class Recorder:
    """The objective: counts evaluations and notes after how many each target was reached."""

    def __init__(self, problem: Problem, budget: int) -> None:
        self.problem, self.budget = problem, budget
        self.evaluations, self.best = 0, np.inf
        self.reached = np.full(len(TARGETS), np.inf)

    def rows(self, x: Array) -> Array:
        """Evaluate points of shape (count, dimension)."""
        values = self.problem(x)
        for value in (values - self.problem.f_opt)[: self.budget - self.evaluations]:
            self.evaluations += 1
            if value < self.best:
                self.best = value
                self.reached[(value <= TARGETS) & np.isinf(self.reached)] = self.evaluations
        if self.best <= TARGETS[-1] or self.evaluations >= self.budget:
            raise Finished
        return values

    def columns(self, x: Array) -> Array:
        """SciPy's convention: points of shape (dimension, count), or one of shape (dimension,)."""
        values = self.rows(x.reshape(len(x), -1).T)
        return values if x.ndim == 2 else values[0]


def run_cem(recorder: Recorder, x0: Array, seed: int, covariance: str) -> None:
    fastopt.minimize_cem(
        recorder.rows,
        x0,
        SIGMA0,
        bounds=[(-BOX, BOX)] * len(x0),
        covariance=covariance,
        vectorized=True,
        maxfev=recorder.budget,
        restarts=9,
        rng=seed,
    )


def run_cma(recorder: Recorder, x0: Array, seed: int) -> None:
    """IPOP: the population doubles with each start."""
    popsize = None
    start = x0
    rng = np.random.default_rng(seed)
    while True:
        options = {"bounds": [-BOX, BOX], "seed": seed, "verbose": -9} | ({"popsize": popsize} if popsize else {})
        es = cma.CMAEvolutionStrategy(start, SIGMA0, options)
        while not es.stop():
            points = es.ask()
            es.tell(points, recorder.rows(np.array(points)))
        popsize, seed, start = 2 * es.popsize, seed + 1, rng.uniform(-0.8 * BOX, 0.8 * BOX, len(x0))


def run_de(recorder: Recorder, x0: Array, seed: int) -> None:
    """With its polishing by L-BFGS-B; vectorised, which needs the deferred updating."""
    box = [(-BOX, BOX)] * len(x0)
    while True:
        differential_evolution(recorder.columns, box, vectorized=True, updating="deferred", rng=seed)
        seed += 1


OPTIMISERS: dict[str, Callable[[Recorder, Array, int], None]] = {
    "CEM": partial(run_cem, covariance="diag"),
    "CEM, full": partial(run_cem, covariance="full"),
    "CMA-ES (cma)": run_cma,
    "DE (scipy)": run_de,
}


def run(name: str, number: int, dimension: int, instances: int, budget: int) -> tuple[Array, Array]:
    """Return the evaluations to each target (instances, targets), infinite where not reached, and the best values."""
    reached, best = [], []
    for instance in range(1, instances + 1):
        problem = Problem(number, dimension, instance)
        recorder = Recorder(problem, budget * dimension)
        x0 = np.random.default_rng((instance, number)).uniform(-0.8 * BOX, 0.8 * BOX, dimension)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pycma tells of its stops and its bounds
            with contextlib.suppress(Finished):
                OPTIMISERS[name](recorder, x0, instance)
        reached.append(recorder.reached)
        best.append(recorder.best)
    return np.array(reached), np.array(best)


Job = tuple[str, int, int]
Results = dict[Job, tuple[Array, Array]]


def run_job(job: Job, instances: int, budget: int) -> tuple[Job, tuple[Array, Array]]:
    return job, run(*job, instances, budget)


def run_all(dimensions: list[int], instances: int, budget: int, processes: int) -> Results:
    jobs = [(name, n, d) for d in dimensions[::-1] for n in range(1, len(FUNCTIONS) + 1) for name in OPTIMISERS]
    results: Results = {}
    start = perf_counter()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for job, result in pool.imap_unordered(partial(run_job, instances=instances, budget=budget), jobs):
            results[job] = result
            text = (
                f"{len(results)} of {len(jobs)} jobs, {perf_counter() - start:.0f} s: {job[0]}, f{job[1]} in {job[2]}-D"
            )
            on_terminal = sys.stderr.isatty()
            if on_terminal or len(results) % 24 == 0:
                print(
                    f"\r{text:<70}" if on_terminal else text,
                    end="" if on_terminal else "\n",
                    file=sys.stderr,
                    flush=True,
                )
    print(file=sys.stderr)
    return results


def table(results: Results, dimension: int, instances: int, budget: int) -> str:
    lines = [
        f"**{dimension} dimensions**\n",
        "| function | " + " | ".join(OPTIMISERS) + " |",
        "|---|" + "---:|" * len(OPTIMISERS),
    ]
    for number in range(1, len(FUNCTIONS) + 1):
        costs, texts = [], []
        for name in OPTIMISERS:
            reached, best = results[name, number, dimension]
            last = reached[:, -1]
            solved = int(np.isfinite(last).sum())
            spent = np.where(np.isfinite(last), last, budget * dimension).sum() / dimension
            costs.append(spent / solved if solved else np.inf)
            share = "" if solved == instances else f" ({solved} of {instances})"
            texts.append(f"{costs[-1]:,.0f}{share}" if solved else f"[{np.median(best):.0e}]")
        fastest = int(np.argmin(costs))
        if np.isfinite(costs[fastest]):
            texts[fastest] = f"**{texts[fastest]}**"
        lines.append(f"| f{number} {Problem(number, dimension).title} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


GROUPS = {
    "separable (f1-f5)": range(1, 6),
    "moderate conditioning (f6-f9)": range(6, 10),
    "ill-conditioned (f10-f14)": range(10, 15),
    "multi-modal (f15-f19)": range(15, 20),
    "multi-modal, weak structure (f20-f24)": range(20, 25),
    "all": range(1, 25),
}


def summary(results: Results, dimensions: list[int], budget: int) -> str:
    """The share of the 51 targets from 1e2 to 1e-8 that was reached."""
    budgets = [b for b in (30, 100, 300, 1000, 3000, 10000) if b < budget] + [budget]
    rows = [(f"{group}, {budget:,}", numbers, budget) for group, numbers in GROUPS.items()]
    rows += [(f"all, {b:,}", GROUPS["all"], b) for b in budgets[:-1][::-1]]
    lines = [
        "| functions, evaluations / dimension | " + " | ".join(OPTIMISERS) + " |",
        "|---|" + "---:|" * len(OPTIMISERS),
    ]
    for label, numbers, most in rows:
        shares = [
            np.mean([results[name, n, d][0] <= most * d for n in numbers for d in dimensions]) for name in OPTIMISERS
        ]
        texts = [f"**{s:.0%}**" if s == max(shares) else f"{s:.0%}" for s in shares]
        lines.append(f"| {label} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def plot(results: Results, dimensions: list[int], budget: int, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(dimensions), 3.6), dpi=130, layout="constrained")
    grid = np.geomspace(1, budget, 200)
    panels = figure.subplots(1, len(dimensions), sharey=True, squeeze=False)[0]
    for axes, dimension in zip(panels, dimensions, strict=True):
        for name, colour in zip(OPTIMISERS, ("#2b6cb0", "#2f855a", "#dd6b20", "#4a5568"), strict=True):
            ratios = np.concatenate([results[name, n, dimension][0].ravel() for n in GROUPS["all"]]) / dimension
            axes.plot(grid, [np.mean(ratios <= g) for g in grid], color=colour, label=name)
        axes.set(xscale="log", xlabel="evaluations / dimension", title=f"{dimension} dimensions", ylim=(0, 1))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of targets reached, f1 to f24")
    panels[0].legend(frameon=False)
    instances = len(next(iter(results.values()))[0])
    figure.suptitle(f"{instances} instances of each function, 51 targets from 1e2 to 1e-8", fontsize=10)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--instances", type=int, default=5)
    parser.add_argument("--budget", type=int, default=2000, help="evaluations for each dimension (2000)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    o = parser.parse_args()
    start = perf_counter()
    results = run_all(o.dimensions, o.instances, o.budget, o.processes)
    print(
        f"fastopt {fastopt.__version__}, cma {cma.__version__}, scipy {scipy.__version__}; {o.instances} instances, "
        f"{o.budget:,} evaluations / dimension at most; {perf_counter() - start:.0f} s\n"
    )
    print("Share of the 51 targets from 1e2 to 1e-8 reached:\n")
    print(summary(results, o.dimensions, o.budget))
    print("Expected evaluations / dimension to 1e-8; in brackets the median precision where no run got there:\n")
    for dimension in o.dimensions:
        print(table(results, dimension, o.instances, o.budget))
    if o.plot:
        plot(results, o.dimensions, o.budget, o.plot)


if __name__ == "__main__":
    main()
