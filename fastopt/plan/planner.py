"""Model-predictive control by the cross-entropy method: a few iterations a decision, one decision after another."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt import random as _random
from fastopt._checks import FREE, alone, integer
from fastopt.cem.arguments import in_default_float_mode
from fastopt.cem.batch import as_scores, scored, spawned, takes_problem
from fastopt.cem.fields import Setting
from fastopt.plan.arguments import checked_settings
from fastopt.plan.decision import Search
from fastopt.plan.state import restore

Array = NDArray[Any]

OWN = "_search", "_held", "_fresh", "_decision"  # what a planner has


class CEMPlanner:
    """Plan by the cross-entropy method: the first action of the cheapest sequence, for one problem or a batch of them.

    Each decision takes a few iterations. Each iteration draws sequences of actions, candidates, about a mean; the cost
    of all is told; mean and std are refitted to the best. The next decision begins where this one ended, one step on.

    ::

        candidate = mean + std * noise, clipped to the bounds
        m = sum of w * candidate / sum of w;    v = sum of w * (candidate - m)**2 / sum of w
        mean += mean_lr * (m - mean)
        std += std_lr * (sqrt(v) - std),        within [min_std, max_std]

    `rule` says what the weights are. "elites": 1 for the best, a share `elite_frac` of `popsize`. "softmax", as in
    TD-MPC2 (Hansen, Su and Wang, ICLR 2024): w = exp(-temperature * (cost - least cost)) for the elites; the
    temperature multiplies. "mppi" (Williams et al., ICRA 2017): w = exp(-(cost - least cost) / temperature) for all; it
    divides.

    Parameters
    ----------
    horizon, actions : int
        Steps of a plan, and numbers of an action.
    batch : int, optional
        So many problems at once, each with a key of its own, child b of one ``spawn(batch)``: it gets the bits that it
        would get from a planner alone with that child as `rng`. All arrays then have a leading axis.
    bounds : sequence of (min, max) or scipy.optimize.Bounds, optional
        Of each action, or a list of one pair for all, ``[(-1, 1)]``.
    sigma0 : float or array_like, optional
        The std that each decision begins with; a number, or of shape (actions,) or (horizon, actions). None: half of
        the width between finite bounds, else 1.
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
        smooth (iCEM: Pinneri et al., CoRL 2020). At most 512 steps; refused where its covariance is singular in float64
        (14 at 30 steps).
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

    _search_by = Search  # fastopt.reference.plan has another

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
        self._decision = self._search.begun(0)

    def _set_up(self, settings: dict[str, Any], seeds: NDArray[np.uint64]) -> None:
        self._search, self._held = self._search_by(settings, seeds), FREE
        self._fresh = np.zeros(len(seeds), np.bool)  # problems whose next decision begins anew

    # ---- what it shows -----------------------------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """What the planner was made with, by name."""
        return {
            name: value.copy() if isinstance(value, np.ndarray) else value
            for name, value in self._search.settings.items()
        }

    @property
    def seed(self) -> Any:
        """The key of the random numbers, or of each problem's."""
        return int(self._search.seeds[0]) if self._search.settings["batch"] is None else self._search.seeds.copy()

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
        made = d.means[-1][:, : self._search.settings["actions"]] if d.made is None else d.made
        return (made[0] if self._search.settings["batch"] is None else made).copy()

    def _shaped(self, x: Array) -> Array:
        x = x.reshape(-1, self._search.settings["horizon"], self._search.settings["actions"])
        return x[0] if self._search.settings["batch"] is None else x

    # ---- a decision --------------------------------------------------------------------------------------------------

    @alone
    def plan(self, cost: Callable[..., Any], *, inject: Any = None) -> Array:
        """Make a decision, the next one if one is made, and return its first action.

        Parameters
        ----------
        cost : callable
            ``cost(candidates)`` returns the costs, (N,), of candidates, (N, horizon, actions); with a batch (R, N) of
            (R, N, horizon, actions), of the R problems that go on. Where it has an argument `problem`, that is an array
            of their numbers (a default of one's own, ``problem=b``, is overridden). It may be a function that Numba has
            compiled, or a module of torch. NaN and infinite costs rank last; an iteration with fewer than two others
            leaves the plan of its problem as it was, and a warning names the problem.
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
            What the cost raises, with a note that names the problem: with a batch it is called for one problem after
            another then, until one raises the same. The planner is as it was before, all of it.
        """
        d = self._decision if self._decision.made is None else self._search.following(self._decision, self._fresh)
        if inject is not None:
            d = self._search.joined(d, inject)
        all_weigh, named = self._search.settings["rule"] == "mppi", takes_problem(cost)
        while d.made is None:
            where = f"decision {d.number}, iteration {d.iteration}"
            x, problems = self._search.drawn(d), d.running[-1]
            given = x.copy() if all_weigh else x  # what the cost writes into it changes nothing
            values = scored(lambda x, problems: self._called(cost, named, x, problems), given, problems, where)
            shape = x.shape[:2]
            costs = as_scores("cost", values, shape[1:] if self._search.settings["batch"] is None else shape)
            d = self._search.told(d, costs.reshape(shape), x if all_weigh else None)
        if d.number != self._decision.number:
            self._fresh = np.zeros(len(self._search.seeds), np.bool)
        self._decision = d
        self._tell_of_unmoved("cost")
        return self.action

    def _tell_of_unmoved(self, name: str) -> None:
        d = self._decision
        if d.made is not None and d.unmoved:
            which = "" if self._search.settings["batch"] is None else f" of problems {sorted(d.unmoved)}"
            warnings.warn(
                f"{name}: expected at least two finite costs in each iteration, got fewer in decision {d.number}"
                f"{which}; that iteration leaves the plan as it was",
                RuntimeWarning,
                stacklevel=4,
            )

    def _called(self, cost: Callable[..., Any], named: bool, x: Array, problems: NDArray[np.int64]) -> Any:
        given: Any = x if self._search.settings["batch"] is not None else x[0]
        if self._search.settings["tensors"] == "torch":
            from torch import from_numpy

            given = from_numpy(given)
        return cost(given, problem=problems) if named else cost(given)

    @alone
    def ask(self, *, inject: Any = None) -> Array:
        """Return the candidates of this iteration, (N, horizon, actions); with a batch (R, N, horizon, actions) of the
        problems ``running``.

        First come those drawn, then kept elites and proposals (`inject`, as in :meth:`plan`; they stay for the rest of
        the decision), at last the mean, if it takes part. Asking again gives the same. They are NumPy's also with
        ``tensors="torch"``, which is for :meth:`plan`.
        """
        d = self._decision
        if d.made is not None:
            raise RuntimeError(f"ask: expected shift() first, since decision {d.number} is made")
        if inject is not None:
            d = self._decision = self._search.joined(d, inject)
        x = self._search.drawn(d)
        return x[0] if self._search.settings["batch"] is None else x

    @alone
    def tell(self, costs: Any) -> bool:
        """Give the costs of the candidates, (N,) or (R, N), and return whether the decision is made.

        NaN and infinite costs are as in :meth:`plan`, with its warning when the decision is made.

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
        shape = (len(d.running[-1]), self._search.rows(d))
        given = as_scores("costs", costs, shape if self._search.settings["batch"] is not None else shape[1:])
        self._decision = self._search.told(d, given.reshape(shape))
        self._tell_of_unmoved("costs")
        return self._decision.made is not None

    @alone
    def shift(self) -> None:
        """Go on to the next decision: the plan one step on, its last action and the std as at the start."""
        d = self._search.following(self._decision, self._fresh)
        self._fresh = np.zeros(len(self._search.seeds), np.bool)
        self._decision = d

    @alone
    def reset(self, problems: Any = None) -> None:
        """Forget the plans, of all problems or of those numbers: where an episode has ended.

        Random numbers go on: a decision of which an iteration is told is given up, and the next one begins; before that
        it begins anew, with the proposals that it was given. Single problems can be reset between decisions, and before
        the first iteration is told.

        Raises
        ------
        TypeError, ValueError
            If `problems` are no numbers of problems.
        RuntimeError
            If single problems are to be reset within a decision.
        """
        fresh = self._fresh.copy()
        fresh[slice(None) if problems is None else self._numbers(problems)] = True
        d = self._decision
        if d.made is not None:
            self._fresh = fresh
        elif d.iteration == 0:
            self._decision = self._search.reset(d, fresh)
        elif problems is None:
            self._decision = self._search.begun(d.number + 1)
        else:
            raise RuntimeError(
                f"reset: expected the decision to be made first, or problems=None, which gives it up; iteration "
                f"{d.iteration} of {self._search.settings['iterations']} is under way"
            )

    def _numbers(self, problems: Any) -> NDArray[np.int64]:
        found, count = np.asarray(problems), len(self._search.seeds)
        if found.size and found.dtype.kind not in "iu":  # a mask would be one of numbers 0 and 1
            raise TypeError(f"problems: expected their numbers, ints, or None for all, got {problems!r}")
        if not ((found >= 0) & (found < count)).all():
            raise ValueError(f"problems: expected numbers from 0 to {count - 1}, got {problems!r}")
        return found.astype(np.int64)

    # ---- what was ----------------------------------------------------------------------------------------------------

    def candidate(self, iteration: int, i: int, problem: int = 0) -> Array:
        """Return candidate i of an iteration of this decision, computed again: (horizon, actions).

        Numbers below those drawn are the drawn ones'; `popsize` is the mean, also where it took no part; the rows that
        were stored, kept elites and proposals, follow it. A problem that has stopped has no iterations after that.
        """
        d, popsize = self._decision, self._search.settings["popsize"]
        problem = integer("problem", problem, 0, len(self._search.seeds))
        begun = d.running if d.made is None else d.running[: d.iteration]
        iteration = integer("iteration", iteration, 0, sum(problem in numbers for numbers in begun))
        stored = d.stored[iteration]
        drawn = self._search.populations[iteration]
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
        return self._search.drawn(past, np.array([[row]]))[0, 0]

    @alone
    def to_dict(self) -> dict[str, Any]:
        """Return the state: a flat dict of arrays, plain numbers and texts; see :meth:`from_dict`.

        ``np.savez(file, **state)`` stores it, and so does ``json.dumps(state, default=np.ndarray.tolist)``.
        """
        d = self._decision
        settings = {f"settings/{name}": value for name, value in self.settings.items() if value is not None}
        return {
            "format": 1,
            **settings,
            "seeds": self._search.seeds.copy(),
            "fresh": self._fresh.copy(),
            "decision": d.number,
            "iteration": d.iteration,
            "means": np.stack(d.means),
            "stds": np.stack(d.stds),
            **{f"stored/{k}": stored.copy() for k, stored in enumerate(d.stored)},
            "running": np.stack([np.isin(np.arange(len(self._search.seeds)), numbers) for numbers in d.running]),
            "unmoved": np.array(sorted(d.unmoved), np.int64),
            **({} if d.made is None else {"made": d.made.copy()}),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> CEMPlanner:
        """Return a planner that goes on where :meth:`to_dict` was called, with the same bits.

        Parameters
        ----------
        state : mapping
            What :meth:`to_dict` returned, also by way of an npz or a JSON file.

        Raises
        ------
        TypeError, ValueError
            If an entry is missing, unknown, or not what a planner can have there.

        Examples
        --------
        >>> import fastopt.plan
        >>> planner = fastopt.plan.CEMPlanner(5, 2, rng=0)
        >>> same = fastopt.plan.CEMPlanner.from_dict(planner.to_dict())
        >>> bool((same.ask() == planner.ask()).all())
        True
        """
        self = cls.__new__(cls)
        restore(self, state, _ARGUMENTS)
        return self

    def __getstate__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        state = self.to_dict()
        return state, {name: value for name, value in vars(self).items() if name not in OWN}  # a subclass's

    def __setstate__(self, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
        restore(self, state[0], _ARGUMENTS)
        vars(self).update(state[1])

    def __repr__(self) -> str:
        s, d = self._search.settings, self._decision
        return (
            f"CEMPlanner(horizon={s['horizon']}, actions={s['actions']}, batch={s['batch']}, rule={s['rule']!r}, "
            f"decision={d.number}, iteration={d.iteration})"
        )


_ARGUMENTS = [name for name in inspect.signature(CEMPlanner).parameters if name != "rng"]
for _name in _ARGUMENTS:
    setattr(CEMPlanner, _name, Setting(_name, "a planner is made with its settings, CEMPlanner(...)"))
