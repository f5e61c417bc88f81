"""How the refit of `fastopt.minimize_cem` was chosen: variants of it in plain NumPy, on the functions of `bbob.py`.

`python benchmarks/studies/cem_refits.py [--dimensions 20 10 5] [--instances 2] [--only WORDS]` prints, for each
variant, the share of the 51 targets from 1e2 to 1e-8 that one run reached within 100, 300 and the last number of
evaluations for each dimension (500 in 20 dimensions, else 2,000), without restarts, on the box [-5, 5], from a random
point with sigma0 2; and by how much a generation changes the logarithm of the std where elites are chosen by chance.
`cma` beside it, if it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from bbob import FUNCTIONS, Problem
from numpy.typing import NDArray
from scipy.special import digamma

Array = NDArray[np.float64]
TARGETS = 10.0 ** np.linspace(2, -8, 51)
BOX, SIGMA0 = 5.0, 2.0


@dataclass
class Variant:
    full: bool
    weights: str = "log"  # or "equal"
    scale: bool = True  # one overall scale, from the path
    fair: bool = True  # diagonal: chance leaves the logarithm of std alone; else the textbook's std
    rank_one: str = "path"  # full: the scale's path in the covariance; "own": a path of its own, as CMA-ES; "none"
    popsize: float = 16  # times sqrt(D)
    elite_frac: float = 0.2
    rate: float = 1  # times the rate of std, or of the covariance


VARIANTS = {
    "diag, textbook": Variant(False, "equal", scale=False, fair=False),
    "diag, equal, fair": Variant(False, "equal", scale=False),
    "diag, equal, fair, scale": Variant(False, "equal"),
    "diag, log, fair": Variant(False, scale=False),
    "diag, log, fair, scale (chosen)": Variant(False),
    "diag, log, fair, scale, half are elites": Variant(False, elite_frac=0.5),
    "diag, log, fair, scale, half the rate": Variant(False, rate=0.5),
    "full, textbook": Variant(True, "equal", scale=False, rank_one="none"),
    "full, log, scale": Variant(True, rank_one="none", popsize=8, elite_frac=0.5),
    "full, log, scale, 1.5 times the rate": Variant(True, rank_one="none", popsize=8, elite_frac=0.5, rate=1.5),
    "full, log, scale, path (chosen)": Variant(True, popsize=8, elite_frac=0.5),
    "full, log, scale, path of its own": Variant(True, rank_one="own", popsize=8, elite_frac=0.5),
}


class Finished(Exception):
    """The last target is reached, or the budget used up."""


def search(rows: Any, x0: Array, sigma0: float, maxfev: int, seed: int, v: Variant) -> Array:
    """Return the std at the end; `rows` is given candidates."""
    rng, n = np.random.default_rng(seed), len(x0)
    popsize = round(v.popsize * n**0.5)
    elites = max(2, round(v.elite_frac * popsize))
    w = np.ones(elites) if v.weights == "equal" else np.log((elites + 0.5) / np.arange(1, elites + 1))
    w /= w.sum()
    mu = 1 / np.square(w).sum()
    one = 2 * (1 - 1 / n) / ((n + 1.3) ** 2 + mu) if v.full and v.rank_one != "none" else 0.0
    if not v.full:
        rate = min(1.0, v.rate * 1.5 / n**0.5)
    elif v.weights == "equal":
        rate = min(1.0, v.rate * 2 * elites / (n * (n + 2) + elites))
    else:
        rate = min(1 - one, v.rate * 2 * (mu - 1.75 + 1 / mu) / ((n + 2) ** 2 + mu))
    age, own_age = (mu + 2) / (n + mu + 5), (4 + mu / n) / (n + 4 + 2 * mu / n)
    damping = 1 + 2 * max(0, ((mu - 1) / (n + 1)) ** 0.5 - 1) + age
    by_chance = n**0.5 * (1 - 1 / (4 * n) + 1 / (21 * n * n))
    excess = digamma(mu / 2) - np.log(mu / 2) + 2.25 * ((w**3).sum() - 1 / mu**2)
    mean, std, factor = np.array(x0), np.full(n, sigma0), np.eye(n)
    path, own_path, used, generation = np.zeros(n), np.zeros(n), 0, 0
    while used + popsize + 1 <= maxfev and not (std <= 1e-8 * sigma0).all():
        z = rng.standard_normal((popsize, n))
        x = np.clip(mean + std * (z @ factor if v.full else z), -BOX, BOX)
        order = np.argsort(rows(np.concatenate([x, mean[None]]))[:popsize], kind="stable")[:elites]
        used, generation = used + popsize + 1, generation + 1
        u = (x[order] - mean) / std
        m1 = w @ u
        path = (1 - age) * path + (age * (2 - age) * mu) ** 0.5 * (np.linalg.solve(factor.T, m1) if v.full else m1)
        if v.full:
            c = (1 - rate - one) * (factor.T @ factor) + rate * (u.T * w) @ u
            if v.rank_one == "own":
                expected = (1 - (1 - age) ** (2 * generation)) * n * (2 + 4 / (n + 1))
                moves = float(path @ path < expected)
                own_path = (1 - own_age) * own_path + moves * (own_age * (2 - own_age) * mu) ** 0.5 * m1 * std
                c += one * np.outer(own_path / std, own_path / std)
                c += (1 - moves) * one * own_age * (2 - own_age) * (factor.T @ factor)
            elif v.rank_one == "path":
                c += one * np.outer(path @ factor, path @ factor)
            ratio = np.sqrt(np.diag(c))
            factor = np.linalg.cholesky(c / np.outer(ratio, ratio) + 1e-14 * np.eye(n)).T
        elif v.fair:
            ratio = np.exp(rate / 2 * (np.log(np.maximum(w @ np.square(u), 1e-3)) - excess))
        else:
            ratio = 1 + rate * (np.sqrt(w @ np.square(u)) - 1)
        mean = np.clip(mean + std * m1, -BOX, BOX)
        growth = age / damping * (np.linalg.norm(path) / by_chance - 1) if v.scale else 0.0
        std = std * ratio * np.exp(np.clip(growth, -1, 1))
    return std


class Recorder:
    """The objective: counts evaluations, and notes after how many each target was reached."""

    def __init__(self, problem: Problem, budget: int) -> None:
        self.problem, self.budget, self.used, self.best = problem, budget, 0, np.inf
        self.reached = np.full(len(TARGETS), np.inf)

    def __call__(self, x: Array) -> Array:
        values = self.problem(x) - self.problem.f_opt
        best = np.minimum(np.minimum.accumulate(values), self.best)
        for k in np.flatnonzero(np.isinf(self.reached) & (best[-1] <= TARGETS)):
            self.reached[k] = self.used + 1 + np.argmax(best <= TARGETS[k])
        self.used, self.best = self.used + len(values), best[-1]
        if self.best <= TARGETS[-1] or self.used >= self.budget:
            raise Finished
        return np.asarray(values)


def cma_es(rows: Any, x0: Array, seed: int) -> None:
    import cma

    es = cma.CMAEvolutionStrategy(x0, SIGMA0, {"bounds": [-BOX, BOX], "seed": seed, "verbose": -9})
    while not es.stop():
        points = es.ask()
        es.tell(points, rows(np.array(points)))


def shares(variant: Variant | None, n: int, instances: int) -> str:
    budget = 500 if n >= 20 else 2000
    reached = []
    for number in range(1, len(FUNCTIONS) + 1):
        for instance in range(1, instances + 1):
            recorder = Recorder(Problem(number, n, instance), budget * n)
            x0 = np.random.default_rng((instance, number)).uniform(-0.8 * BOX, 0.8 * BOX, n)
            with contextlib.suppress(Finished):
                if variant is None:
                    cma_es(recorder, x0, instance)
                else:
                    search(recorder, x0, SIGMA0, budget * n, instance, variant)
            reached.append(recorder.reached / n)
    return " ".join(f"{100 * np.mean(np.array(reached) <= b):.1f}" for b in (100, 300, budget))


def drift(v: Variant, n: int) -> float:
    """Per cent of the std a generation, where scores are by chance."""
    evaluations = 100 * (round(v.popsize * n**0.5) + 1)
    ends = []
    for seed in range(20):
        scores = np.random.default_rng(1000 + seed)
        ends.append(
            np.log(search(lambda x, s=scores: s.random(len(x)), np.zeros(n), 1e-3, evaluations, seed, v) / 1e-3)
        )
    return float(np.mean(ends))  # of 100 generations: per cent of one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[20, 10, 5])
    parser.add_argument("--instances", type=int, default=2)
    parser.add_argument("--only", metavar="WORDS", default="", help="the variants whose name contains WORDS")
    o = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    variants: dict[str, Variant | None] = {**VARIANTS}
    with contextlib.suppress(ImportError):
        import cma  # noqa: F401

        variants["CMA-ES (cma)"] = None
    budgets = [f"{n}-D, 100 300 {500 if n >= 20 else 2000}" for n in o.dimensions]
    print(f"| variant | {' | '.join(budgets)} | drift in %, 1, 2, 5-D |\n|{'---|' * (len(budgets) + 2)}")
    for name, variant in variants.items():
        if o.only in name:
            cells = [shares(variant, n, o.instances) for n in o.dimensions]
            cells.append("" if variant is None else " ".join(f"{drift(variant, n):+.1f}" for n in (1, 2, 5)))
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
