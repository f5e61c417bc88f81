"""Several independent problems at once: one job of the kernels draws for all of them, and one refits them all."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt import random as _random
from fastopt._checks import FREE, alone, integer
from fastopt.cem.arguments import numbers_of
from fastopt.cem.result import Result

Array = NDArray[Any]


class Batch:
    """Independent problems of the cross-entropy method that are asked for and told together.

    ``CEM(x0, ...)`` with `x0` of shape (B, D) makes one. `sigma0` and `ftarget` may have a leading axis too; all
    other settings are shared, and there are no restarts, which would double the population of some problems alone.
    Problem b is a :class:`CEM` of its own, with child b of one ``spawn(B)`` as its `rng`: it has the bits of
    ``CEM(x0[b], ..., rng=children[b])`` alone. It stops by its own rules, and is then left out of what is asked for.

    Attributes
    ----------
    running : ndarray of int64
        The numbers of the problems that go on: what the rows of `ask` and of the scores belong to.
    runs : tuple of CEM
        Each problem's state, to be looked at; it is told its scores by the batch.
    generation : int
        Number of the generation that is asked for now.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> targets = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> batch = fastopt.CEM(np.zeros((3, 2)), 1.0, rng=0)
    >>> while not batch.stop():
    ...     x = batch.ask()  # (running problems, popsize, 2)
    ...     _ = batch.tell(np.square(x - targets[batch.running, None]).sum(axis=2))
    >>> batch.result().x.round(4)
    array([[1., 2.],
           [3., 4.],
           [5., 6.]])
    """

    def __init__(self, method: Any, x0: Any, sigma0: Any = None, *, rng: Any = None, **settings: Any) -> None:
        starts = np.asarray(x0)
        if not len(starts):
            raise ValueError("x0: expected at least one problem, got shape (0, ...)")
        if settings.get("restarts", 0) != 0:
            raise ValueError(
                f"restarts: expected 0 for x0 of shape {starts.shape}, since a restart doubles the population of its "
                f"problem alone, got {settings['restarts']!r}"
            )
        sigmas = np.asarray(sigma0) if sigma0 is not None and np.ndim(sigma0) == 2 else None
        if sigmas is not None and sigmas.shape != starts.shape:
            raise ValueError(f"sigma0: expected shape {starts.shape} like x0, got {sigmas.shape}")
        targets = settings.pop("ftarget", None)
        if np.ndim(targets) == 1 and np.shape(targets) != starts.shape[:1]:
            raise ValueError(f"ftarget: expected a number, or {len(starts)} of them, got shape {np.shape(targets)}")
        own = ["x0", *([] if sigmas is None else ["sigma0"]), *(["ftarget"] if np.ndim(targets) == 1 else [])]
        runs = []
        for b, source in enumerate(spawned(rng, len(starts))):
            sigma, target = sigma0 if sigmas is None else sigmas[b], targets[b] if np.ndim(targets) == 1 else targets
            with _of_problem(b, own):
                runs.append(method(starts[b], sigma, ftarget=target, rng=source, **settings))
        self._set_up(tuple(runs))

    def _set_up(self, runs: tuple[Any, ...]) -> None:
        self.runs = runs
        self._held = FREE
        # A tell that was broken off has moved some runs: it is made again by the others.
        of_all = [run.generation for run in runs]
        self._generation = min((run.generation for run in runs if run._rule is None), default=max(of_all))
        self._look_who_runs()

    def __getstate__(self) -> tuple[Any, ...]:
        return tuple(copy(run) for run in self.runs)

    def __setstate__(self, runs: tuple[Any, ...]) -> None:
        self._set_up(runs)

    def _look_who_runs(self) -> None:
        going = [b for b, run in enumerate(self.runs) if run._rule is None]
        distributions = [self.runs[b]._distribution for b in going]
        self._running, self._distributions = going, distributions

    @property
    def running(self) -> NDArray[np.int64]:
        return np.array(self._running, np.int64)

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def popsize(self) -> int:
        """Candidates of a generation of each problem."""
        return int(self.runs[0].popsize)

    @property
    def mean(self) -> Array:
        """The means of all problems, (B, D)."""
        return np.stack([run.mean for run in self.runs])

    @property
    def std(self) -> Array:
        """Their standard deviations, (B, D)."""
        return np.stack([run.std for run in self.runs])

    @property
    def x(self) -> Array:
        """The best candidate of each problem so far, (B, D)."""
        return np.stack([run._x for run in self.runs])

    @property
    def fun(self) -> NDArray[np.float64]:
        """Their scores, (B,)."""
        return np.array([run._fun for run in self.runs])

    def ask(self, first: int = 0, count: int | None = None) -> Array:
        """Return candidates first, first + 1, ... of the problems that go on: (running, count, D); all by default.

        Row k is of problem ``running[k]``.
        """
        first = integer("first", first, 0, self.popsize + 1)
        count = integer("count", self.popsize - first if count is None else count, 0, self.popsize - first + 1)
        return self._drawn(first, count)

    def _drawn(self, first: int, count: int) -> Array:
        run = self.runs[0]
        if not self._running:
            return np.empty((0, count, run._x.size), run._x.dtype)
        return np.asarray(run._whole(run._sample_all(self._distributions, first, count)))

    @alone
    def tell(self, scores: Any, *, fun_mean: Any = None) -> NDArray[np.bool]:
        """Give the scores of all candidates of the problems that go on; each makes its next generation.

        NaN and infinite scores rank last, as in :meth:`CEM.tell`, in their own problem alone. A call that is broken
        off, by a signal, is to be made again.

        Parameters
        ----------
        scores : array_like
            Of shape (running, popsize): row k is of problem ``running[k]``.
        fun_mean : array_like, optional
            The scores of the means, (running,).

        Returns
        -------
        ndarray of bool
            For each of those problems whether it goes on.

        Raises
        ------
        TypeError, ValueError
            If the scores are of the wrong kind or shape; nothing is taken then.
        """
        running, popsize = self._running, self.popsize
        values = as_scores("scores", scores, (len(running), popsize))
        means = None if fun_mean is None else as_scores("fun_mean", fun_mean, (len(running),)).tolist()
        return self._finish(values, means)

    def _finish(self, values: NDArray[np.float64], means: list[float] | None) -> NDArray[np.bool]:
        running = self._running
        if not running:
            return np.zeros(0, np.bool)
        first = self.runs[0]
        options = first._options(self._generation)
        updates = first._update_all(self._distributions, values, first._n_elites, first._maximize, options)
        for k, b in enumerate(running):
            run = self.runs[b]
            if run._generation == self._generation:  # else a call that was broken off has moved it
                run._move(updates[k], None if means is None else means[k], in_parts=False)
        self._look_who_runs()
        self._generation += 1
        return np.array([self.runs[b]._rule is None for b in running], np.bool)

    def stop(self) -> list[str | None] | None:
        """Return None while a problem goes on, else why each has stopped, as :meth:`CEM.stop` says."""
        return None if self._running else [run.stop() for run in self.runs]

    def result(self) -> Result:
        """Return what was found so far: the fields of :func:`minimize_cem` with a leading axis."""
        return stacked(self, [run.result() for run in self.runs])

    def candidate(self, generation: int, i: int, problem: int = 0) -> Array:
        """Return candidate i of a generation of a problem, computed again (:meth:`CEM.candidate`)."""
        return np.asarray(self.runs[integer("problem", problem, 0, len(self.runs))].candidate(generation, i))

    @alone
    def to_dict(self) -> dict[str, Any]:
        """Return the state of all problems: that of each run, its keys after its number, ``"3/mean"``."""
        states = {f"{b}/{key}": value for b, run in enumerate(self.runs) for key, value in run.to_dict().items()}
        return {"problems": len(self.runs), **states}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], method: Any, **limits: Any) -> Batch:
        """Return a batch that goes on where :meth:`to_dict` was called (:meth:`CEM.from_dict` calls it)."""
        count = integer("state['problems']", np.asarray(state["problems"]).item(), 1, 2**31)
        states: list[dict[str, Any]] = [{} for _ in range(count)]
        for key, value in state.items():
            if key != "problems":
                number, _, name = key.partition("/")
                if not number.isdecimal() or int(number) >= count:
                    raise ValueError(f"state: expected keys of problems 0 to {count - 1}, got {key!r}")
                states[int(number)][name] = value
        runs = []
        for b, each in enumerate(states):
            with _of_problem(b, ["state"]):
                runs.append(method.from_dict(each, **limits))
        _refuse_strangers(runs)
        self = cls.__new__(cls)
        self._set_up(tuple(runs))
        return self

    def __repr__(self) -> str:
        return f"Batch(problems={len(self.runs)}, running={len(self._running)}, generation={self._generation})"


@contextlib.contextmanager
def _of_problem(b: int, names: Sequence[str]) -> Iterator[None]:
    """Say of which problem an error is that is about one of these arguments."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if str(error).startswith(tuple(names)):
            error.add_note(f"of problem {b}")
        raise


def _refuse_strangers(runs: Sequence[Any]) -> None:
    """Problems of one batch share what one job of the kernels does for all of them."""
    own = {"x0", "sigma0", "ftarget"}

    def shared(run: Any) -> dict[str, Any]:
        return {
            "dimensions": run._x.size,
            "dtype": run._x.dtype,
            **{name: value for name, value in run._settings.items() if name not in own},
        }

    first = shared(runs[0])
    generation = min((run._generation for run in runs if run._rule is None), default=0)
    for b, run in enumerate(runs):
        for name, value in shared(run).items():
            if not np.array_equal(value, first[name]):
                raise ValueError(
                    f"state: expected problems of one batch, got {name} {value!r} of problem {b} beside {first[name]!r}"
                )
        if run._rule is None and run._generation > generation + 1:  # a tell that was broken off is one ahead
            raise ValueError(
                f"state: expected problems of one batch, got generation {run._generation} of problem {b} beside "
                f"{generation}"
            )


def spawned(rng: Any, count: int) -> list[Any]:
    """The `rng` of each of so many problems: the children of one spawn, or those that are given as a list."""
    if isinstance(rng, list):
        if len(rng) != count:
            raise ValueError(
                f"rng: expected one generator, or a list of one for each of {count} problems, got {len(rng)}"
            )
        return rng
    if not isinstance(rng, _random.Philox4x32):
        rng = _random.Philox4x32(rng if isinstance(rng, int | np.integer) else _random.run_key(rng))
    return list(rng.spawn(count))


def as_scores(name: str, scores: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a C-contiguous float64 array of this shape with the scores."""
    values = numbers_of(name, scores)
    if values.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {values.shape}")
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got an array of {values.dtype}")
    return np.ascontiguousarray(values, np.float64)


def takes_problem(fun: Callable[..., Any]) -> bool:
    """Whether a function has an argument `problem` that is not given to it yet; of a module of torch, its `forward`."""
    if isinstance(fun, partial) and "problem" in fun.keywords:
        return False
    fun = getattr(fun, "py_func", getattr(fun, "forward", fun))
    if type(fun) is FunctionType and not vars(fun):  # as the signature says, in a thirtieth of its time
        code = fun.__code__
        return "problem" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    try:
        return "problem" in inspect.signature(fun).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False


def scored(call: Callable[[Array, NDArray[np.int64]], Any], x: Array, problems: NDArray[np.int64], where: str) -> Any:
    """Return call(x, problems). If it raises, the first problem for which it raises the same kind alone is named.

    What is returned is not looked at here: a shape that does not fit says nothing about a problem. Each call has
    numbers of problems of its own, which it may write to.
    """
    try:
        return call(x, problems.copy())
    except Exception as error:
        guilty, several = error, problems.tolist() if len(problems) > 1 else []
        which = f"problems {several} together" if several else f"problem {problems[0]}"
        for k, b in enumerate(several):
            try:
                call(x[k : k + 1], problems[k : k + 1].copy())
            except Exception as alone_too:
                if type(alone_too) is type(error):  # else it is no function of one problem
                    guilty, which = alone_too, f"problem {b}"
                    break
        guilty.add_note(f"raised while scoring {which}, {where}; nothing was updated")
        if guilty is error:
            raise
    raise guilty


def stacked(batch: Any, results: list[Result]) -> Result:
    """One result of several: each field has an array of them, or a list where they are no numbers."""
    fields: dict[str, Any] = {}
    for name, value in results[0].items():
        values = [result[name] for result in results]
        fields[name] = values if isinstance(value, str | dict) else np.stack(values)
    first = results[0]["settings"]
    fields["settings"] = {
        **first,
        **{name: np.stack([result["settings"][name] for result in results]) for name in ("x0", "sigma0")},
        "rng": [result["settings"]["rng"] for result in results],
    }
    targets = [result["settings"]["ftarget"] for result in results]
    if any(target != targets[0] for target in targets):
        fields["settings"]["ftarget"] = targets
    return Result(fields, batch.candidate)
