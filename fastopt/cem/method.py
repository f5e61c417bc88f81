"""The cross-entropy method as a loop of your own: its state, its rules, and what was."""

from __future__ import annotations

import inspect
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt import random as _random
from fastopt._checks import FREE, alone, integer
from fastopt._core import Distribution
from fastopt.cem.arguments import (
    averaged,
    checked_settings,
    in_default_float_mode,
    in_whole_numbers,
    least_std,
    noise_variance,
    number_of_elites,
)
from fastopt.cem.batch import Batch
from fastopt.cem.fields import Field, Setting, Settings
from fastopt.cem.result import HISTORY, STOPS, Result, result_of
from fastopt.cem.state import restore, saved
from fastopt.cem.workers import as_score, told_scores

Array = NDArray[Any]

BAD_GENERATIONS, IDLE_TELLS = 10, 100  # in a row; of the latter none brings a score that was missing
_row = struct.Struct(f"{len(HISTORY)}d").pack


class CEM:
    """The cross-entropy method as a loop of your own: ask for candidates, score them, tell the scores.

    The parameters are those of :func:`minimize_cem` that concern the search itself. With `x0` of shape (B, D) it is B
    problems at once, a :class:`fastopt.cem.batch.Batch`.

    Attributes
    ----------
    generation, restart : int
        Numbers of the generation that is asked for now, counted from 0 over all restarts, and of its restart.
    popsize : int
        Candidates of this generation; doubled at each restart.
    mean, std : ndarray
        Copies of the distribution's.
    x, fun : ndarray, float
        The best candidate so far and its score.
    x_mean, fun_mean : ndarray, float
        The mean that was scored last and its score.
    nfev : int
        Scores told.
    settings : mapping
        What the run was made with, by name.
    seed : int
        The key of the run's random numbers, which `rng` gave.

    All of them are read only.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> cem = fastopt.CEM(np.zeros(3), 1.0, rng=0)
    >>> while not cem.stop():
    ...     x = cem.ask()  # (popsize, 3)
    ...     _ = cem.tell(np.square(x - [1, 2, 3]).sum(axis=1))
    >>> cem.result().x.round(4)
    array([1., 2., 3.])
    """

    __slots__ = (
        *("_settings", "_seed", "_generation", "_nfev", "_restart", "_popsize", "_fun", "_x", "_fun_mean", "_x_mean"),
        *("_rng", "_called", "_lower", "_upper", "_maximize", "_restarts", "_sign", "_constant_options", "_grain"),
        *("_std_stop", "_largest_std_stop", "_repeats", "_reserve", "_held", "_final_score", "_rule", "_elites"),
        *("_history", "_begun", "_replayed", "_distribution", "_average", "_best_of_restart", "_stale", "_bad"),
        *("_idle", "_n_elites", "_scores", "_told", "_told_mean", "_integrality", "_floor", "__weakref__"),
    )

    settings = Field[Settings]("What the run was made with, by name.", lambda run: Settings(run._settings))
    seed = Field[int]("The key of the run's random numbers, which `rng` gave.")
    generation = Field[int]("Number of the generation that is asked for now, counted from 0 over all restarts.")
    restart = Field[int]("Number of the restart that it belongs to.")
    popsize = Field[int]("Candidates of this generation; doubled at each restart.")
    mean = Field[Array]("A copy of the distribution's mean.", lambda run: run._distribution.mean)
    std = Field[Array]("A copy of its standard deviation in each dimension.", lambda run: run._distribution.std)
    nfev = Field[int]("Scores told.")
    x = Field[Array]("A copy of the best candidate so far; `x0` while there is none.")
    fun = Field[float]("Its score; NaN while there is none.")
    x_mean = Field[Array]("A copy of the mean that was scored last; `x0` while there is none.")
    fun_mean = Field[float]("Its score; NaN while there is none.")

    # What fastopt.reference.CEM does in NumPy.
    _sample: ClassVar[Callable[..., Array]] = staticmethod(_core.cem_candidates)
    _update: ClassVar[Callable[..., tuple[NDArray[np.int64], int, float, Distribution]]]
    _update = staticmethod(_core.cem_update)
    _refit: ClassVar[Callable[..., Distribution]] = staticmethod(_core.cem_refit)
    _sample_all: Any = staticmethod(_core.cem_candidates_of)
    _update_all: Any = staticmethod(_core.cem_update_of)

    def __new__(cls, x0: Any = None, *arguments: Any, **settings: Any) -> Self:
        """Several problems, x0 of shape (B, D), are an object of another class."""
        made: Any = Batch(cls, x0, *arguments, **settings) if np.ndim(x0) == 2 else object.__new__(cls)
        return made

    @in_default_float_mode
    def __init__(
        self,
        x0: Any = None,
        sigma0: Any = None,
        *,
        bounds: Any = None,
        popsize: int | None = None,
        elite_frac: float | None = None,
        maxiter: int | None = None,
        maxfev: int | None = None,
        mean_lr: float | None = None,
        std_lr: float | None = None,
        extra_std: float | tuple[float, int] = 0.0,
        min_std: float = 0.0,
        refit_about: str | None = None,
        covariance: str = "diag",
        weights: str = "log",
        noisy: bool = False,
        antithetic: bool = False,
        bound_handling: str = "clip",
        maximize: bool = False,
        xtol: float = 1e-8,
        ftarget: float | None = None,
        patience: int | None = None,
        restarts: int = 0,
        integrality: Any = None,
        rng: Any = None,
    ) -> None:
        given = locals()
        source, seed = _random.run_address(rng)
        self._set_up(checked_settings(given), seed, source)

    @in_default_float_mode
    def _set_up(self, settings: dict[str, Any], seed: int, rng: tuple[int, int]) -> None:
        """Begin the run that these checked settings describe; `rng` is what the seed was derived from."""
        self._settings, self._seed, self._rng = settings, seed, rng
        self._called: dict[str, Any] = {}  # further arguments of minimize_cem that a repetition needs
        bounds = settings["bounds"]
        self._lower: Array | None = None if bounds is None else bounds[:, 0].copy()
        self._upper: Array | None = None if bounds is None else bounds[:, 1].copy()
        self._maximize, self._restarts = settings["maximize"], settings["restarts"]
        self._sign = -1 if self._maximize else 1  # of scores that are compared
        self._constant_options = None if isinstance(settings["extra_std"], tuple) else self._options(0)
        self._grain = float(np.finfo(settings["x0"].dtype).eps)
        self._std_stop = settings["xtol"] * settings["sigma0"].astype(np.float64)
        self._integrality = settings["integrality"]
        self._floor = least_std(self._integrality, settings["x0"].dtype)
        self._std_stop = self._std_stop if self._floor is None else np.maximum(self._std_stop, self._floor)
        self._largest_std_stop = float(self._std_stop.max())
        self._repeats, self._reserve = 1, 0  # what minimize_cem sets: evaluations a score, and those kept for the end
        self._held = FREE
        self._generation = self._nfev = self._restart = 0
        self._fun = self._fun_mean = self._final_score = math.nan
        self._x, self._x_mean = (self._whole(settings["x0"]).copy() for _ in range(2))
        self._rule: str | None = None
        # Of each generation that is finished; what follows those is left of a call that was broken off.
        self._elites: list[NDArray[np.int64]] = []  # with them a generation can be computed again
        self._history = bytearray()  # rows of float64
        self._begun = [0]  # the generation in which each restart began
        self._replayed: tuple[int, Distribution] | None = None
        self._distribution = self._first_distribution(0)
        self._average = self._distribution.mean.astype(np.float64)  # of this restart's means, if it is noisy
        self._best_of_restart, self._stale, self._bad, self._idle = math.nan, 0, 0, 0
        self._await_scores()

    def _await_scores(self) -> None:
        self._popsize = self._distribution.population
        self._n_elites = self._elites_of(self._popsize)
        self._scores, self._told = _none_told(self._popsize)
        self._told_mean: float | None = None

    def _elites_of(self, popsize: int) -> int:
        return number_of_elites(popsize, self._settings["elite_frac"])

    def _first_distribution(self, restart: int) -> Distribution:
        """Restart 0 begins at x0; the others at a candidate of the first distribution, drawn for the purpose."""
        s = self._settings
        n = s["x0"].size
        factor = np.eye(n, dtype=s["x0"].dtype) if s["covariance"] == "full" else None
        first = Distribution(
            s["x0"].copy(),
            s["sigma0"].copy(),
            factor,
            self._lower,
            self._upper,
            self._seed,
            0xFFFFFFFF | restart << 32,
            s["popsize"] * 2**restart,
            s["antithetic"],
            s["bound_handling"] == "reflect",
            np.zeros(n) if s["weights"] == "log" else None,
        )
        if restart > 0:
            first = first.replaced(mean=self._sample(first, 0, 1)[0])
        return first.replaced(stream=restart << 32)

    # ---- ask and tell ------------------------------------------------------------------------------------------------

    def ask(self, first: int = 0, count: int | None = None) -> Array:
        """Return candidates first, first + 1, ... of this generation as the rows of a new array; all by default.

        Asking again gives the same candidates, and any range may be asked for in any order, anywhere.
        """
        d = self._distribution
        first = integer("first", first, 0, d.population + 1)
        count = integer("count", d.population - first if count is None else count, 0, d.population - first + 1)
        return self._whole(self._sample(d, first, count))

    def _whole(self, x: Array) -> Array:
        return in_whole_numbers(x, self._integrality)

    def _floored(self, d: Distribution) -> Distribution:
        return d if self._floor is None else d.replaced(std=np.maximum(d.std, self._floor))

    @alone
    def tell(self, scores: Any, *, first: int = 0, generation: int | None = None, fun_mean: Any = None) -> bool:
        """Give the scores of candidates first, first + 1, ...; the last of them makes the next generation.

        NaN, None and infinite scores of either sign rank last and are never elites. With fewer than two finite scores
        the distribution stays as it is, and the next generation is drawn from it anew.

        Parameters
        ----------
        scores : sequence or iterator of numbers
            What float() takes, or arrays of one number. A part of the generation will do. A score that is told twice
            counts once, the later.
        first : int
            Number of the first candidate that is scored.
        generation : int, optional
            The generation that the scores are of: those of a past one, which come too late, are ignored.
        fun_mean : float, optional
            The score of the distribution's mean, which has the least of a noisy function's luck in it.

        Returns
        -------
        bool
            Whether this made the next generation.

        Raises
        ------
        TypeError, ValueError
            If the scores are of the wrong kind or number; nothing is taken then.
        RuntimeError
            If another thread is within `tell`, `result` or `to_dict` of this run: one call after the other; or if only
            scores that were told already have come for long, while others are missing.
        """
        if generation is not None and integer("generation", generation, 0, self._generation + 1) < self._generation:
            return False
        first = integer("first", first, 0, self._popsize + 1)
        values = told_scores(scores, self._popsize - first, first)
        mean_score = self._told_mean if fun_mean is None else as_score(fun_mean)
        stop = first + len(values)
        if len(values) < self._popsize and not (self._told[:first].all() and self._told[stop:].all()):
            idle = self._idle + 1 if self._told[first:stop].all() else 0
            if idle >= IDLE_TELLS:
                missing = np.flatnonzero(~self._told)
                raise RuntimeError(
                    f"tell: expected the scores that are missing, {len(missing)} of {self._popsize}, the first of "
                    f"candidate {missing[0]}; got those of {first} to {stop - 1} again, as in the last {idle} calls"
                )
            self._scores[first:stop], self._told[first:stop] = values, True
            self._told_mean, self._idle = mean_score, idle
            return False
        all_scores = self._scores.copy()
        all_scores[first:stop] = values
        self._finish(all_scores, mean_score, in_parts=True)
        return True

    def _finish(self, scores: NDArray[np.float64], fun_mean: float | None, *, in_parts: bool = False) -> None:
        """The scores of the whole generation are there (and others may follow): refit, and look whether to stop."""
        d = self._distribution
        options = self._constant_options or self._options(d.stream & 0xFFFFFFFF)
        self._move(self._update(d, scores, self._n_elites, self._maximize, options), fun_mean, in_parts=in_parts)

    def _move(self, updated: tuple[Any, ...], fun_mean: float | None, *, in_parts: bool) -> None:
        """Go on to the next generation, by what the update has returned."""
        d, sign = self._distribution, self._sign
        elites, best, found, following = updated
        following = self._floored(following)
        generation, stale, bad = self._generation, self._stale + 1, 0 if len(elites) else self._bad + 1
        nfev = self._nfev + (self._popsize + (fun_mean is not None)) * self._repeats
        score, x_mean, mean_score, average = found, self._x_mean, self._fun_mean, self._average
        if self._settings["noisy"]:
            average = averaged(average, following.mean, following.stream & 0xFFFFFFFF)
        if fun_mean is not None:
            x_mean, mean_score = self._whole(d.mean), fun_mean
            if math.isfinite(fun_mean) and not sign * fun_mean >= sign * found:  # found may be NaN
                score, best = fun_mean, self._popsize
        best_of_restart, fun, x = self._best_of_restart, self._fun, self._x
        if best >= 0 and not sign * score >= sign * best_of_restart:  # which is NaN at first
            best_of_restart, stale = score, 0
            if not sign * score >= sign * fun:
                fun, x = score, self._whole(self._sample(d, best, 1)[0])
        restart, row_of = self._restart, following
        rule, begins = self._look(following, fun, stale, bad, generation + 1, nfev, fun_mean is not None)
        if begins:
            restart += 1
            following = self._first_distribution(restart)
            best_of_restart, stale, bad = math.nan, 0, 0
            average = following.mean.astype(np.float64)
        popsize, n_elites, next_scores, told = self._popsize, self._n_elites, self._scores, self._told
        if begins or in_parts:
            popsize = following.population
            n_elites = self._elites_of(popsize)
            next_scores, told = _none_told(popsize)
        row = _row(self._restart, nfev, fun, found, mean_score, row_of.largest_std)
        if len(self._elites) != generation:  # which is deleted last: what is broken off here is done again
            del self._begun[self._restart + 1 :], self._history[generation * len(row) :], self._elites[generation:]
        self._elites.append(elites)
        self._history += row
        if begins:
            self._begun.append(generation + 1)
        generation += 1
        # From here on nothing is called, so that no signal and no other thread comes in, and nothing needs memory.
        self._scores, self._told, self._told_mean, self._idle = next_scores, told, None, 0
        self._distribution, self._popsize, self._n_elites = following, popsize, n_elites
        self._nfev, self._stale, self._bad = nfev, stale, bad
        self._fun, self._x, self._best_of_restart = fun, x, best_of_restart
        self._fun_mean, self._x_mean, self._rule, self._average = mean_score, x_mean, rule, average
        self._restart, self._generation = restart, generation

    def _options(self, generation: int) -> tuple[Any, ...]:
        """The last arguments of a refit, for a generation of a restart."""
        s = self._settings
        added = noise_variance(s["extra_std"], generation)
        return s["refit_about"] == "new_mean", s["mean_lr"], s["std_lr"] or 0.0, added, s["min_std"]

    def _final(self) -> Distribution:
        """The distribution whose mean is the result's."""
        d = self._distribution
        if not self._settings["noisy"]:
            return d
        x = self._average.astype(d.mean.dtype)
        if self._lower is not None and self._upper is not None:  # an average may lie outside by a rounding
            x = np.minimum(np.maximum(x, self._lower), self._upper)
        return d.replaced(mean=x)

    def _finish_mean(self, score: float) -> None:
        """The final mean was scored on its own, at the end."""
        d, sign, fun, x, best = self._final(), self._sign, self._fun, self._x, self._best_of_restart
        if math.isfinite(score) and not sign * score >= sign * best:
            best = score
            if not sign * score >= sign * fun:
                fun, x = score, self._whole(d.mean)
        nfev, x_mean = self._nfev + self._repeats, self._whole(d.mean)
        self._nfev, self._fun_mean, self._x_mean = nfev, score, x_mean
        self._fun, self._x, self._best_of_restart = fun, x, best
        self._final_score = score

    def _look(
        self, d: Distribution, fun: float, stale: int, bad: int, generation: int, nfev: int, scores_mean: bool
    ) -> tuple[str | None, bool]:
        """Apply the rules, in this order: return (the one that ends the run, whether the next restart begins)."""
        s, begins = self._settings, False
        target = s["ftarget"]
        if target is not None and (fun >= target if self._maximize else fun <= target):
            return "ftarget", False
        local = None
        if bad >= BAD_GENERATIONS:
            local = "bad"
        elif math.isinf(d.largest_std) or math.isinf(d.largest_mean):
            local = "overflow"
        elif d.largest_std <= self._largest_std_stop or d.largest_std <= self._grain * d.largest_mean:  # nearly never
            local = self._narrowed(d, stale)
        if local is None and s["patience"] is not None and stale >= s["patience"]:
            local = "patience"
        if local is not None:
            if self._restart >= self._restarts:
                return local, False
            begins = True
        if s["maxiter"] is not None and generation >= s["maxiter"]:
            return "maxiter", begins
        if s["maxfev"] is not None:
            next_one = (d.population * (2 if begins else 1) + scores_mean) * self._repeats
            if nfev + next_one + self._reserve > s["maxfev"]:
                return "maxfev", begins
        return None, begins

    def _narrowed(self, d: Distribution, stale: int) -> str | None:
        mean, std = d.mean, d.std
        if self._floor is not None and stale < 2:  # the std says no more whether the search has arrived
            return None
        if (std <= self._std_stop).all():
            return "xtol"
        return "resolution" if (std <= np.maximum(self._std_stop, self._grain * np.abs(mean))).all() else None

    def stop(self) -> str | None:
        """Return None, or the rule that says to stop and why: a str that begins with the rule's name."""
        return None if self._rule is None else STOPS[self._rule][2]

    @alone
    def result(self) -> Result:
        """Return what was found so far (:func:`minimize_cem` has the fields)."""
        return result_of(self)

    def _history_rows(self) -> NDArray[np.float64]:
        rows = bytes(self._history)  # a view would stay in a child that is forked meanwhile, and forbid further rows
        return np.frombuffer(rows, count=self._generation * len(HISTORY)).reshape(-1, len(HISTORY)).copy()

    # ---- what was ----------------------------------------------------------------------------------------------------

    def candidate(self, generation: int, i: int) -> Array:
        """Return candidate i of a generation, this one or a past one, computed again.

        Number popsize is the generation's mean. A past generation's distribution is found by refitting from the start
        of its restart: what is kept of a generation is the numbers of its elites.
        """
        d = self._past(integer("generation", generation, 0, self._generation + 1))
        return self._whole(self._sample(d, integer("i", i, 0, d.population + 1), 1)[0])

    def _past(self, generation: int) -> Distribution:
        restart = sum(begun <= generation for begun in self._begun[: self._restart + 1]) - 1
        start = self._begun[restart]
        if restart == self._restart and generation == self._generation:
            return self._distribution
        at, d, replayed = start, None, self._replayed
        if replayed is not None and start <= replayed[0] <= generation:
            at, d = replayed
        if d is None:
            d = self._first_distribution(restart)
        for k in range(at, generation):
            d = self._floored(self._refit(d, self._elites[k], *self._options(k - start)))
        self._replayed = generation, d
        return d

    @alone
    def to_dict(self) -> dict[str, Any]:
        """Return the state of the run: a flat dict of arrays, plain numbers and texts; see :meth:`from_dict`.

        ``np.savez(file, **state)`` stores it, and so does ``json.dumps(state, default=np.ndarray.tolist)``.
        """
        return saved(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], *, maxiter: int | None = None, maxfev: int | None = None) -> CEM:
        """Return a run that goes on where :meth:`to_dict` was called, with the same bits.

        Parameters
        ----------
        state : mapping
            What :meth:`to_dict` returned, also by way of an npz or a JSON file.
        maxiter, maxfev : int, optional
            Other limits than before, with which a run that had reached one, or was interrupted, goes on.

        Raises
        ------
        TypeError, ValueError
            If an entry is missing, unknown, or not what a run can have there.

        Examples
        --------
        >>> import fastopt
        >>> cem = fastopt.CEM([0.0, 0.0], 1.0, rng=0)
        >>> same = fastopt.CEM.from_dict(cem.to_dict())
        >>> bool((same.ask() == cem.ask()).all())
        True
        """
        limits = {"maxiter": maxiter, "maxfev": maxfev}
        self: Any = object.__new__(cls)
        if isinstance(state, Mapping) and "problems" in state:
            return Batch.from_dict(state, cls, **limits)  # type: ignore[return-value]
        restore(self, state, _ARGUMENTS, {name: value for name, value in limits.items() if value is not None})
        return self

    def __getstate__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return saved(self), self._called

    def __setstate__(self, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
        restore(self, state[0], _ARGUMENTS, {})
        self._called = state[1]

    def __repr__(self) -> str:
        return (
            f"CEM(dimensions={self._x.size}, popsize={self._popsize}, generation={self._generation}, "
            f"restart={self._restart}, told={np.count_nonzero(self._told)}, fun={self._fun:g}, nfev={self._nfev}, "
            f"stop={self._rule!r})"
        )


def _none_told(popsize: int) -> tuple[NDArray[np.float64], NDArray[np.bool]]:
    return np.full(popsize, math.nan), np.zeros(popsize, np.bool)


_all = [*inspect.signature(CEM.__init__).parameters.values()][1:]
CEM.__signature__ = inspect.Signature(_all)  # type: ignore[attr-defined]  # __new__ takes anything
_ARGUMENTS = [parameter.name for parameter in _all[:-1]]  # without rng
for _class in (CEM, Batch):
    for _name in [name for name in _ARGUMENTS if not hasattr(_class, name)]:
        setattr(_class, _name, Setting(_name))
