"""How a decision is made: its iterations, as functions from where it stands to where it stands next."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import integer
from fastopt.cem.arguments import in_default_float_mode, number_of_elites, numbers_of
from fastopt.plan.arguments import RULES, populations

Array = NDArray[Any]

ANEW = 2**16 - 1  # in place of an iteration's number: what is drawn of the first distribution between two decisions


class Decision(NamedTuple):
    """Where a decision stands. It is replaced, never changed. Arrays are of all problems."""

    number: int
    iteration: int
    means: tuple[Array, ...]  # (B, horizon * actions), of each iteration begun, and of the next
    stds: tuple[Array, ...]
    stored: tuple[Array, ...]  # (B, rows, horizon, actions): kept elites, then proposals
    running: tuple[NDArray[np.int64], ...]  # problems that have not stopped
    unmoved: frozenset[int]  # problems with fewer than two finite costs in one of the iterations
    made: Array | None = None  # the first actions, (B, actions), when all is told


class Search:
    """What all decisions of a planner share. Nothing in it changes."""

    # What fastopt.reference.plan.Search does in NumPy.
    noise_factor = staticmethod(_core.plan_noise_factor)
    candidates = staticmethod(_core.plan_candidates)
    weigh = staticmethod(_core.plan_weigh)
    refit = staticmethod(_core.plan_refit)

    @in_default_float_mode
    def __init__(self, settings: dict[str, Any], seeds: NDArray[np.uint64]) -> None:
        self.settings, self.seeds = settings, seeds
        horizon, actions, dtype = settings["horizon"], settings["actions"], np.dtype(settings["dtype"])
        self.lower = self.upper = None
        middle = np.zeros(actions, dtype)
        if settings["bounds"] is not None:
            low, high = settings["bounds"].T.astype(np.float64)
            finite = np.isfinite(low) & np.isfinite(high)
            middle = np.where(finite, np.where(finite, low, 0) / 2 + np.where(finite, high, 0) / 2, 0)
            middle = np.clip(middle, low, high).astype(dtype)
            self.lower, self.upper = (np.tile(bound, horizon) for bound in settings["bounds"].T)
        count = len(seeds)
        self.first = np.tile(middle, (count, horizon)), np.tile(settings["sigma0"].ravel(), (count, 1))
        self.everyone = np.arange(count)
        self.mean_lr = settings["mean_lr"].ravel()
        self.std_lr = settings["std_lr"].ravel() * settings["adapt_std"]
        self.populations = populations(settings)
        self.elites = number_of_elites(settings["popsize"], settings["elite_frac"])
        self.kept = max(1, round(settings["keep_frac"] * self.elites)) if settings["keep_frac"] > 0 else 0
        self.factor = None
        if settings["noise_beta"] > 0:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # in the reference's
                self.factor = self.noise_factor(horizon, settings["noise_beta"]).astype(dtype)
            if not np.isfinite(self.factor).all():
                raise ValueError(
                    f"noise_beta: expected less with horizon {horizon}, at which the covariance of noise so smooth is "
                    f"singular in float64, got {settings['noise_beta']:g}"
                )
        self.grain = float(np.finfo(dtype).eps)

    def begun(self, number: int) -> Decision:
        """A decision that begins anew: what is kept of the last one is drawn."""
        s, (mean, std) = self.settings, self.first
        stored = np.empty((len(mean), 0, s["horizon"], s["actions"]), mean.dtype)
        if self.kept:
            stream = number << 16 | ANEW
            stored = self.sample(mean, std, stored, self.everyone, stream, None, self.kept, self.kept)
        return Decision(number, 0, (mean,), (std,), (stored,), (self.everyone,), frozenset())

    def following(self, d: Decision, fresh: NDArray[np.bool]) -> Decision:
        """The next decision, one step on; anew for the problems `fresh`."""
        new, actions = self.begun(integer("decision", d.number + 1, 0, 2**40)), self.settings["actions"]
        old: Any = ~fresh if fresh.any() else slice(None)
        mean, stored = new.means[0].copy(), new.stored[0]
        mean[old, :-actions] = d.means[-1][old, actions:]
        if self.kept:
            stored[old, :, :-1] = d.stored[-1][old, : self.kept, 1:]
        return new._replace(means=(mean,))

    def reset(self, d: Decision, fresh: NDArray[np.bool]) -> Decision:
        """The same decision, not told of yet, begun anew for the problems `fresh`."""
        new, old = self.begun(d.number), ~fresh
        mean, kept = new.means[0].copy(), new.stored[0]
        mean[old] = d.means[0][old]
        kept[old] = d.stored[0][old, : self.kept]
        return new._replace(means=(mean,), stored=(np.concatenate([kept, d.stored[0][:, self.kept :]], axis=1),))

    def joined(self, d: Decision, inject: Any) -> Decision:
        """The decision with these proposals as the last of its stored rows."""
        s = self.settings
        x = numbers_of("inject", inject)
        x = x[None] if s["batch"] is None else x
        shape = (len(self.seeds), x.shape[1] if x.ndim > 1 else 0, s["horizon"], s["actions"])
        if x.shape != shape or x.dtype.kind not in "fiu":
            wanted = ("K", *shape[2:]) if s["batch"] is None else (shape[0], "K", *shape[2:])
            raise ValueError(f"inject: expected real numbers of shape {wanted}, got {np.shape(inject)} of {x.dtype}")
        x = x.astype(s["dtype"])
        if not np.isfinite(x).all():
            raise ValueError("inject: expected finite numbers, got NaN or infinity")
        if s["bounds"] is not None:
            x = np.clip(x, s["bounds"][:, 0], s["bounds"][:, 1])
        return d._replace(stored=(*d.stored[:-1], np.concatenate([d.stored[-1][:, : self.kept], x], axis=1)))

    def rows(self, d: Decision) -> int:
        last = self.settings["mean_last"] and d.iteration == self.settings["iterations"] - 1
        return self.populations[d.iteration] + d.stored[-1].shape[1] + last

    def drawn(self, d: Decision, rows: NDArray[np.int64] | None = None) -> Array:
        """The candidates of the problems that go on: all, or these rows of each."""
        count = self.rows(d) if rows is None else rows.shape[1]
        drawn, stream = self.populations[d.iteration], d.number << 16 | d.iteration
        return self.sample(d.means[-1], d.stds[-1], d.stored[-1], d.running[-1], stream, rows, count, drawn)

    def sample(
        self,
        mean: Array,
        std: Array,
        stored: Array,
        which: NDArray[np.int64],
        stream: int,
        rows: NDArray[np.int64] | None,
        count: int,
        drawn: int,
    ) -> Array:
        s, seeds = self.settings, self.seeds
        if len(which) < len(mean):
            mean, std, stored, seeds = mean[which], std[which], stored[which], seeds[which]
        sizes = count, drawn, s["horizon"], s["actions"]
        found: Array = self.candidates(
            mean, std, self.lower, self.upper, self.factor, stored, seeds, stream, rows, *sizes, s["truncated"]
        )
        return found

    def told(self, d: Decision, costs: NDArray[np.float64], x: Array | None = None) -> Decision:
        """The decision after one more iteration. `x` are its candidates, if all of them weigh and they are there."""
        s, running = self.settings, d.running[-1]
        rows, weights, best = self.weigh(costs, self.elites, RULES.index(s["rule"]), s["temperature"])
        x = self.drawn(d, rows) if x is None else x
        whole = len(running) == len(self.seeds)
        mean, std = (v[-1] if whole else v[-1][running] for v in (d.means, d.stds))
        limits = self.lower, self.upper, self.mean_lr, self.std_lr, s["min_std"], s["max_std"]
        moved = self.refit(x, weights, mean, std, *limits)
        stored = d.stored[-1]
        if self.kept:
            # Beyond the finite costs there are no elites; with fewer than two nothing changes.
            finite = np.isfinite(costs).sum(axis=1)
            stored = stored.copy()
            if whole and finite.min() >= max(2, self.kept):  # for speed alone
                stored[:, : self.kept] = x[:, : self.kept]
            else:
                problem, k = np.nonzero((np.arange(self.kept) < finite[:, None]) & (finite[:, None] >= 2))
                stored[running[problem], k] = x[problem, k]
        unmoved = d.unmoved if best.min() >= 0 else d.unmoved.union(running[best < 0].tolist())
        still = running
        if moved[1].item(0) <= self.grain * abs(moved[0].item(0)) or len(running) > 1:  # for speed alone
            narrow = (moved[1] <= self.grain * np.abs(moved[0])).all(axis=1)
            still = running[~narrow] if narrow.any() else running
        if not whole:
            moved = _put(d.means[-1], running, moved[0]), _put(d.stds[-1], running, moved[1])
        made, iteration = None, d.iteration + 1
        if iteration == s["iterations"] or not len(still):
            made = moved[0][:, : s["actions"]].copy()
            if s["mean_last"] and iteration == s["iterations"]:
                seen = best >= 0
                made[running[seen]] = self.drawn(d, best[:, None].clip(0))[seen, 0, 0]
        means, stds = (*d.means, moved[0]), (*d.stds, moved[1])
        return Decision(d.number, iteration, means, stds, (*d.stored, stored), (*d.running, still), unmoved, made)


def _put(whole: Array, which: NDArray[np.int64], part: Array) -> Array:
    new = whole.copy()
    new[which] = part
    return new
