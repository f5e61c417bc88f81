"""Model-predictive control by the cross-entropy method: a few iterations a decision, one decision after another."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt import random as _random
from fastopt._checks import FREE, alone, integer
from fastopt.cem.arguments import in_default_float_mode, number_of_elites
from fastopt.cem.batch import as_scores, scored, spawned
from fastopt.plan.arguments import RULES, checked_settings, populations
from fastopt.plan.state import restored

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
    unseen: NDArray[np.bool]  # problems that had no finite score yet
    made: Array | None = None  # the first actions, (B, actions), when all is told


class CEMPlanner:
    """Plan by the cross-entropy method: the first action of the sequence with the least cost, for one problem or a batch.

    Each decision takes a few iterations. Each iteration draws sequences of actions, candidates, about a mean; the cost
    of all is told; mean and std are refitted to the best. The next decision begins where this one ended, one step later.

    ::

        candidate = mean + std * noise, clipped to the bounds
        m = sum of w * candidate / sum of w;    v = sum of w * (candidate - m)**2 / sum of w
        mean += mean_lr * (m - mean)
        std += std_lr * (sqrt(v) - std),        within [min_std, max_std]

    `rule` says what the weights are. "elites": 1 for the best, a share `elite_frac` of `popsize`. "softmax", as in
    TD-MPC2 (Hansen, Su and Wang, ICLR 2024): w = exp(-temperature * (cost - least cost)) for the elites; the temperature
    multiplies. "mppi" (Williams et al., ICRA 2017): w = exp(-(cost - least cost) / temperature) for all; it divides.

    Parameters
    ----------
    horizon, actions : int
        Steps of a plan, and numbers of an action.
    batch : int, optional
        So many problems at once, each with a key of its own, child b of one ``spawn(batch)``: it gets the bits that it
        would get from a planner alone with that child as `rng`. All arrays then have a leading axis.
    bounds : sequence of (min, max) or scipy.optimize.Bounds, optional
        Of each action, or one pair for all.
    sigma0 : float or array_like, optional
        The std that each decision begins with; a number, or of shape (actions,) or (horizon, actions). None: half of the
        width between finite bounds, else 1.
    popsize, iterations : int
        Candidates of the first iteration, and iterations of a decision.
    elite_frac : float
        Share of `popsize` that is elites, rounded to a number of them; at least two.
    rule : {"elites", "softmax", "mppi"}
        As above.
    temperature : float
        Of softmax and MPPI.
    adapt_std : bool
        False leaves the std as it is, which is MPPI's usual form.
    mean_lr, std_lr : float or array_like
        Weights of the new estimates, within 0 and 1, as for `sigma0`. (Others count the weight of the old: 1 less.)
    min_std, max_std : float
        Limits of the refitted std.
    noise_beta : float
        Noise whose power falls as 1 / f**noise_beta along the horizon, of variance 1 at each step: 0 is white, 2 to 4
        smooth (iCEM: Pinneri et al., CoRL 2020). At most 512 steps.
    keep_frac : float
        Share of the elites that are candidates again in the next iteration, and, one step on, in the next decision, the
        last action drawn anew; at a start they are all drawn. (iCEM: 0.3.)
    decay : float
        Iteration i draws popsize / decay**i candidates, at least twice as many as there are elites. (iCEM: 1.25.)
    mean_last : bool
        The mean is a candidate of the last iteration, and the action is that of its best candidate, not the mean's.
    truncated : bool
        Draw from the normal distribution between the bounds, instead of clipping.
    rng : int, Philox4x32, numpy.random.Generator, ..., optional
        The seed, or where to take it from; or a list of one for each problem. None takes fresh entropy.
    dtype : {"float32", "float64"}
        Of the candidates.
    tensors : {"numpy", "torch"}
        "torch" hands the cost tensors on the candidates' memory.

    Attributes
    ----------
    mean, std : ndarray
        Copies of the distribution's, (horizon, actions).
    action : ndarray
        What the decision says to do now, (actions,): the mean's first action until it is made.
    seed : int, or ndarray of uint64
        The keys of the random numbers. A plan is a function of (seed, decision), of where it began, and of the costs.
    decision, iteration : int
        Their numbers, from 0.
    running : ndarray of int64
        Problems that go on: one stops within a decision when its std is below the grain of its mean's type.
    settings : dict
        What it was made with.

    Examples
    --------
    A point that is to come to rest at 0, moved by its acceleration:

    >>> import numpy as np, fastopt.plan
    >>> def cost(accelerations, position, speed):
    ...     total = np.zeros(len(accelerations))
    ...     for a in accelerations[:, :, 0].T:
    ...         speed = speed + 0.1 * a
    ...         position = position + 0.1 * speed
    ...         total += position**2 + 0.1 * speed**2
    ...     return total
    >>> planner = fastopt.plan.CEMPlanner(20, 1, bounds=[(-1, 1)], popsize=100, rng=0)
    >>> position, speed = 1.0, 0.0
    >>> for step in range(80):
    ...     action = planner.plan(lambda x: cost(x, position, speed))
    ...     speed += 0.1 * float(action[0])
    ...     position += 0.1 * speed
    >>> abs(position) < 0.05
    True
    """

    # What fastopt.reference.plan.CEMPlanner does in NumPy.
    _noise_factor = staticmethod(_core.plan_noise_factor)
    _candidates = staticmethod(_core.plan_candidates)
    _weigh = staticmethod(_core.plan_weigh)
    _refit = staticmethod(_core.plan_refit)

    @in_default_float_mode
    def __init__(
        self,
        horizon: int,
        actions: int,
        *,
        batch: int | None = None,
        bounds: Any = None,
        sigma0: Any = None,
        popsize: int = 300,
        iterations: int = 5,
        elite_frac: float = 0.1,
        rule: str = "elites",
        temperature: float = 0.5,
        adapt_std: bool = True,
        mean_lr: Any = 1.0,
        std_lr: Any = 1.0,
        min_std: float = 0.0,
        max_std: float = float("inf"),
        noise_beta: float = 0.0,
        keep_frac: float = 0.0,
        decay: float = 1.0,
        mean_last: bool = False,
        truncated: bool = False,
        rng: Any = None,
        dtype: Any = "float32",
        tensors: str = "numpy",
    ) -> None:
        given = locals()
        settings = checked_settings(given)
        sources = [rng] if settings["batch"] is None else spawned(rng, settings["batch"])
        self._set_up(settings, np.array([_random.run_key(source) for source in sources], np.uint64))
        self._decision = self._begun(0, np.ones(len(self._seeds), np.bool))

    def _set_up(self, settings: dict[str, Any], seeds: NDArray[np.uint64]) -> None:
        self._settings, self._seeds, self._held = settings, seeds, FREE
        horizon, actions, dtype = settings["horizon"], settings["actions"], np.dtype(settings["dtype"])
        self._lower = self._upper = None
        middle = np.zeros(actions, dtype)
        if settings["bounds"] is not None:
            low, high = settings["bounds"].T.astype(np.float64)
            finite = np.isfinite(low) & np.isfinite(high)
            middle = np.where(finite, np.where(finite, low, 0) / 2 + np.where(finite, high, 0) / 2, 0)
            middle = np.clip(middle, low, high).astype(dtype)
            self._lower, self._upper = (np.tile(bound, horizon) for bound in settings["bounds"].T)
        self._middle = np.tile(middle, horizon)  # the first mean
        self._std_lr = settings["std_lr"].ravel() * settings["adapt_std"]
        self._populations = populations(settings)
        self._elites = number_of_elites(settings["popsize"], settings["elite_frac"])
        self._kept = max(1, round(settings["keep_frac"] * self._elites)) if settings["keep_frac"] > 0 else 0
        self._factor = None
        if settings["noise_beta"] > 0:
            self._factor = self._noise_factor(horizon, settings["noise_beta"]).astype(dtype)
        self._grain = np.finfo(dtype).eps
        self._fresh = np.zeros(len(seeds), np.bool)  # problems whose next decision begins anew

    # ---- what it shows -----------------------------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """What the planner was made with, by name."""
        return {
            name: value.copy() if isinstance(value, np.ndarray) else value for name, value in self._settings.items()
        }

    @property
    def seed(self) -> Any:
        """The key of the random numbers, or of each problem's."""
        return int(self._seeds[0]) if self._settings["batch"] is None else self._seeds.copy()

    @property
    def decision(self) -> int:
        """The number of the decision, from 0."""
        return self._decision.number

    @property
    def iteration(self) -> int:
        """Iterations of it that are told."""
        return self._decision.iteration

    @property
    def running(self) -> NDArray[np.int64]:
        """The numbers of the problems that go on."""
        return self._decision.running[-1].copy()

    @property
    def mean(self) -> Array:
        """A copy of the mean."""
        return self._shaped(self._decision.means[-1]).copy()

    @property
    def std(self) -> Array:
        """A copy of the standard deviation."""
        return self._shaped(self._decision.stds[-1]).copy()

    @property
    def action(self) -> Array:
        """A copy of the first action of the plan."""
        d = self._decision
        made = d.means[-1][:, : self._settings["actions"]] if d.made is None else d.made
        return (made[0] if self._settings["batch"] is None else made).copy()

    def _shaped(self, x: Array) -> Array:
        x = x.reshape(-1, self._settings["horizon"], self._settings["actions"])
        return x[0] if self._settings["batch"] is None else x

    # ---- a decision --------------------------------------------------------------------------------------------------

    @alone
    def plan(self, cost: Callable[..., Any], *, inject: Any = None) -> Array:
        """Make a decision, the next one if one is made, and return its first action.

        Parameters
        ----------
        cost : callable
            ``cost(candidates)`` returns the costs, (N,), of candidates, (N, horizon, actions). With a batch it is
            ``cost(candidates, problem=...)`` of (R, N, horizon, actions), where the array `problem` has the numbers of
            the R problems that go on, and returns (R, N). It may be a function that Numba has compiled. NaN and infinite
            costs rank last; a problem that has no others keeps its plan, and is named by a warning.
        inject : array_like, optional
            Proposals, (K, horizon, actions), or with a batch (B, K, horizon, actions): candidates besides those drawn,
            in each iteration of this decision.

        Returns
        -------
        ndarray
            A copy, (actions,), or (B, actions).

        Raises
        ------
        TypeError, ValueError
            If the cost returns something else than costs, or `inject` does not fit.
        Exception
            What the cost raises, with a note that names the problem. The planner is as it was before, all of it.
        """
        d = self._decision if self._decision.made is None else self._next(self._decision)
        if inject is not None:
            d = self._with(d, inject)
        while d.made is None:
            where = f"decision {d.number}, iteration {d.iteration}"
            costs = scored(lambda x, problems: self._costs(cost, x, problems), self._drawn(d), d.running[-1], where)
            d = self._told(d, costs)
        if d.number != self._decision.number:
            self._fresh = np.zeros(len(self._seeds), np.bool)
        self._decision = d
        if d.unseen.any():
            which = "" if self._settings["batch"] is None else f" of problems {np.flatnonzero(d.unseen).tolist()}"
            warnings.warn(
                f"cost: expected finite costs, got none in decision {d.number}{which}; the plan stays as it was",
                RuntimeWarning,
                stacklevel=3,
            )
        return self.action

    def _costs(self, cost: Callable[..., Any], x: Array, problems: NDArray[np.int64]) -> NDArray[np.float64]:
        given: Any = x if self._settings["batch"] is not None else x[0]
        if self._settings["tensors"] == "torch":
            from torch import from_numpy

            given = from_numpy(given)
        values = cost(given) if self._settings["batch"] is None else cost(given, problem=problems)
        if hasattr(values, "detach"):
            values = values.detach().cpu().numpy()
        expected = x.shape[1:2] if self._settings["batch"] is None else x.shape[:2]
        return as_scores("cost", values, expected).reshape(x.shape[:2])

    @alone
    def ask(self, *, inject: Any = None) -> Array:
        """Return the candidates of this iteration, (N, horizon, actions); with a batch (R, N, horizon, actions) of the
        problems ``running``.

        First come those drawn, then kept elites and proposals (`inject`, as in :meth:`plan`; they stay for the rest of
        the decision), at last the mean, if it takes part. Asking again gives the same.
        """
        d = self._decision
        if d.made is not None:
            raise RuntimeError(f"ask: expected shift() first, since decision {d.number} is made")
        if inject is not None:
            d = self._decision = self._with(d, inject)
        x = self._drawn(d)
        return x[0] if self._settings["batch"] is None else x

    @alone
    def tell(self, costs: Any) -> bool:
        """Give the costs of the candidates, (N,) or (R, N), and return whether the decision is made.

        Raises
        ------
        TypeError, ValueError
            If they are of another shape or no real numbers; nothing is taken then.
        RuntimeError
            If the decision is made already.
        """
        d = self._decision
        if d.made is not None:
            raise RuntimeError(f"tell: expected shift() first, since decision {d.number} is made")
        shape = (len(d.running[-1]), self._rows(d))
        given = as_scores("costs", costs, shape if self._settings["batch"] is not None else shape[1:])
        self._decision = self._told(d, given.reshape(shape))
        return self._decision.made is not None

    @alone
    def shift(self) -> None:
        """Go on to the next decision: the plan one step on, its last action and the std as at the start."""
        d = self._next(self._decision)
        self._fresh = np.zeros(len(self._seeds), np.bool)
        self._decision = d

    @alone
    def reset(self, problems: Any = None) -> None:
        """Forget the plans, of all problems or of those numbers: where an episode has ended.

        Random numbers go on: a decision that was begun by all is given up, and the next one begins. Single problems can
        be reset between decisions.
        """
        fresh = np.zeros(len(self._seeds), np.bool)
        fresh[slice(None) if problems is None else np.asarray(problems)] = True
        fresh |= self._fresh
        d = self._decision
        if d.made is not None:
            self._fresh = fresh
        elif d.iteration == 0:
            begun = self._begun(d.number, fresh, d)
            self._decision = begun._replace(
                stored=(np.concatenate([begun.stored[0], d.stored[0][:, self._kept :]], 1),)
            )
        elif problems is None:
            self._decision = self._begun(d.number + 1, fresh)
        else:
            raise RuntimeError(
                f"reset: expected the decision to be made first, or problems=None, which gives it up; iteration "
                f"{d.iteration} of {self._settings['iterations']} is under way"
            )

    # ---- how -----------------------------------------------------------------------------------------------------------

    def _begun(self, number: int, fresh: NDArray[np.bool], last: Decision | None = None) -> Decision:
        """A decision's beginning: anew for the problems `fresh`, for the others as `last` stands."""
        count, n = len(self._seeds), len(self._middle)
        mean, std = np.tile(self._middle, (count, 1)), np.tile(self._settings["sigma0"].ravel(), (count, 1))
        stored = self._drawn_anew(number, mean, std)
        if last is not None:
            mean[~fresh] = last.means[-1][~fresh]
            stored[~fresh] = last.stored[-1][~fresh, : self._kept]
        assert mean.shape == std.shape == (count, n)
        return Decision(number, 0, (mean,), (std,), (stored,), (np.arange(count),), np.ones(count, np.bool))

    def _drawn_anew(self, number: int, mean: Array, std: Array) -> Array:
        s = self._settings
        nothing = np.empty((len(mean), 0, s["horizon"], s["actions"]), mean.dtype)
        if self._kept == 0:
            return nothing
        return self._sample(mean, std, nothing, np.arange(len(mean)), number << 16 | ANEW, None, self._kept, self._kept)

    def _next(self, d: Decision) -> Decision:
        s, actions = self._settings, self._settings["actions"]
        following = self._begun(integer("decision", d.number + 1, 0, 2**40), self._fresh, d)
        mean, stored = following.means[0], following.stored[0]
        old = ~self._fresh
        mean[old, :-actions] = d.means[-1][old, actions:]
        mean[old, -actions:] = self._middle[-actions:]
        if self._kept:
            std = np.tile(s["sigma0"].ravel(), (len(mean), 1))
            last = self._drawn_anew(d.number + 1, np.tile(self._middle, (len(mean), 1)), std)[:, :, -1]
            kept = d.stored[-1][:, : self._kept]
            stored[old, :, :-1] = kept[old, :, 1:]
            stored[old, :, -1] = last[old]
        return following

    def _with(self, d: Decision, inject: Any) -> Decision:
        """The decision with these proposals as the last of its stored rows."""
        s = self._settings
        x = np.asarray(inject)
        x = x[None] if s["batch"] is None else x
        shape = (len(self._seeds), x.shape[1] if x.ndim > 1 else 0, s["horizon"], s["actions"])
        if x.shape != shape or x.dtype.kind not in "fiu":
            wanted = ("K", *shape[2:]) if s["batch"] is None else (shape[0], "K", *shape[2:])
            raise ValueError(f"inject: expected real numbers of shape {wanted}, got {np.shape(inject)} of {x.dtype}")
        x = x.astype(s["dtype"])
        if not np.isfinite(x).all():
            raise ValueError("inject: expected finite numbers, got NaN or infinity")
        if s["bounds"] is not None:
            x = np.clip(x, s["bounds"][:, 0], s["bounds"][:, 1])
        return d._replace(stored=(*d.stored[:-1], np.concatenate([d.stored[-1][:, : self._kept], x], axis=1)))

    def _rows(self, d: Decision) -> int:
        last = self._settings["mean_last"] and d.iteration == self._settings["iterations"] - 1
        return self._populations[d.iteration] + d.stored[-1].shape[1] + last

    def _drawn(self, d: Decision, rows: NDArray[np.int64] | None = None) -> Array:
        """The candidates of the problems that go on: all, or these rows of each."""
        count = self._rows(d) if rows is None else rows.shape[1]
        drawn, stream = self._populations[d.iteration], d.number << 16 | d.iteration
        return self._sample(d.means[-1], d.stds[-1], d.stored[-1], d.running[-1], stream, rows, count, drawn)

    def _sample(
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
        s, seeds = self._settings, self._seeds
        if len(which) < len(mean):
            mean, std, stored, seeds = mean[which], std[which], stored[which], seeds[which]
        sizes = count, drawn, s["horizon"], s["actions"]
        found: Array = self._candidates(
            mean, std, self._lower, self._upper, self._factor, stored, seeds, stream, rows, *sizes, s["truncated"]
        )
        return found

    def _told(self, d: Decision, costs: NDArray[np.float64]) -> Decision:
        """The decision after one more iteration."""
        s, running = self._settings, d.running[-1]
        rows, weights, best = self._weigh(costs, self._elites, RULES.index(s["rule"]), s["temperature"])
        x = self._drawn(d, rows)
        whole = len(running) == len(self._seeds)
        mean, std = (v[-1] if whole else v[-1][running] for v in (d.means, d.stds))
        rates = s["mean_lr"].ravel(), self._std_lr
        limits = s["min_std"], s["max_std"]
        moved = self._refit(x, weights, mean, std, self._lower, self._upper, *rates, *limits)
        stored = d.stored[-1]
        if self._kept:
            found = weights[:, 0] > 0
            stored = stored.copy()
            stored[running[found], : self._kept] = x[found, : self._kept]
        unseen = d.unseen
        if unseen.any():
            unseen = unseen.copy()
            unseen[running[best >= 0]] = False
        still = running
        if (moved[1][:, 0] <= self._grain * np.abs(moved[0][:, 0])).any():
            still = running[~(moved[1] <= self._grain * np.abs(moved[0])).all(axis=1)]
        if not whole:
            moved = tuple(_put(v[-1], running, part) for v, part in zip((d.means, d.stds), moved, strict=True))
        made, iteration = None, d.iteration + 1
        if iteration == s["iterations"] or not len(still):
            made = moved[0][:, : s["actions"]].copy()
            if s["mean_last"] and iteration == s["iterations"]:
                seen = best >= 0
                made[running[seen]] = self._drawn(d, best[:, None].clip(0))[seen, 0, 0]
        means, stds = (*d.means, moved[0]), (*d.stds, moved[1])
        return Decision(d.number, iteration, means, stds, (*d.stored, stored), (*d.running, still), unseen, made)

    # ---- what was ----------------------------------------------------------------------------------------------------

    def candidate(self, iteration: int, i: int, problem: int = 0) -> Array:
        """Return candidate i of an iteration of this decision, computed again: (horizon, actions).

        Numbers below those drawn are the drawn ones'; `popsize` is the mean, also where it took no part; the rows that
        were stored, kept elites and proposals, follow it.
        """
        d, popsize = self._decision, self._settings["popsize"]
        most = self._settings["iterations"] if d.made is None else d.iteration
        iteration = integer("iteration", iteration, 0, min(d.iteration + 1, most))
        problem = integer("problem", problem, 0, len(self._seeds))
        stored = d.stored[iteration]
        drawn = self._populations[iteration]
        i = integer("i", i, 0, popsize + 1 + stored.shape[1])
        if drawn <= i < popsize:
            raise ValueError(
                f"i: expected i < {drawn}, as many as iteration {iteration} has drawn, or i >= {popsize}, got {i}"
            )
        row = i if i < drawn else drawn + stored.shape[1] if i == popsize else drawn + i - popsize - 1
        past = d._replace(
            iteration=iteration,
            means=d.means[: iteration + 1],
            stds=d.stds[: iteration + 1],
            stored=d.stored[: iteration + 1],
            running=(np.array([problem]),),
        )
        return self._drawn(past, np.array([[row]]))[0, 0]

    @alone
    def to_dict(self) -> dict[str, Any]:
        """Return the state: a flat dict of arrays, plain numbers and texts; see :meth:`from_dict`.

        ``np.savez(file, **state)`` stores it.
        """
        d = self._decision
        settings = {f"settings/{name}": value for name, value in self.settings.items() if value is not None}
        return {
            "format": 1,
            **settings,
            "seeds": self._seeds.copy(),
            "fresh": self._fresh.copy(),
            "decision": d.number,
            "iteration": d.iteration,
            "means": np.stack(d.means),
            "stds": np.stack(d.stds),
            **{f"stored/{k}": stored.copy() for k, stored in enumerate(d.stored)},
            "running": np.stack([np.isin(np.arange(len(self._seeds)), numbers) for numbers in d.running]),
            "unseen": d.unseen.copy(),
            **({} if d.made is None else {"made": d.made.copy()}),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> CEMPlanner:
        """Return a planner that goes on where :meth:`to_dict` was called, with the same bits.

        Examples
        --------
        >>> import fastopt.plan
        >>> planner = fastopt.plan.CEMPlanner(5, 2, rng=0)
        >>> same = fastopt.plan.CEMPlanner.from_dict(planner.to_dict())
        >>> bool((same.ask() == planner.ask()).all())
        True
        """
        return restored(cls, state, Decision)

    def __getstate__(self) -> dict[str, Any]:
        return self.to_dict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(restored(type(self), state, Decision).__dict__)

    def __repr__(self) -> str:
        s, d = self._settings, self._decision
        return (
            f"CEMPlanner(horizon={s['horizon']}, actions={s['actions']}, batch={s['batch']}, rule={s['rule']!r}, "
            f"decision={d.number}, iteration={d.iteration})"
        )


def _put(whole: Array, which: NDArray[np.int64], part: Array) -> Array:
    new = whole.copy()
    new[which] = part
    return new
