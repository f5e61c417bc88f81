"""Where the candidates of the cross-entropy method are scored: here, in processes of our own, or by someone's executor.

A worker is sent a `Distribution` and a range of candidate numbers and returns their scores. It makes
the candidates itself, so no candidate travels, and a range that is done twice, late or elsewhere gives the same scores.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import pickle
import traceback
from collections.abc import Callable, Iterable
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number, integer
from fastopt._core import CompiledScore, Distribution
from fastopt.cem.arguments import in_default_float_mode, in_whole_numbers, numbers_of
from fastopt.cem.compiled import is_njit, score_function
from fastopt.random import DOMAIN_KEY

Array = NDArray[Any]
Plan = tuple[tuple[int, ...], list[list[tuple[int, int]]], bool]

CUT_ELEMENTS = 2**16  # of a cut, so that it stays in the cache until it is scored
BLOCK_ELEMENTS = 2**20  # of the candidates that are in memory at once
CUT_LEAST, CUTS = 64, 8  # rows that are worth a call; cuts of a population, so that as many workers have one


def cut_rows(population: int, dimensions: int) -> int:
    """Return how many candidates `fun` is given at once: a function of the problem, not of who does the work."""
    padded = (dimensions + 31) // 32 * 32
    return max(1, min(CUT_ELEMENTS // padded, max(CUT_LEAST, -(-population // CUTS))))


def cuts(population: int, dimensions: int) -> list[tuple[int, int]]:
    """Return the ranges of candidates that are scored together; the mean comes with the last."""
    rows = cut_rows(population, dimensions)
    starts = range(0, population, rows)
    return [(first, first + rows if first + rows < population else population + 1) for first in starts]


class Objective:
    """The user's function with the way to call it. It travels to the workers, once where they are ours."""

    def __init__(
        self,
        fun: Callable[..., Any],
        args: Any = (),
        *,
        vectorized: bool = False,
        n_repeats: int = 1,
        sample: Callable[..., Array] = _core.cem_candidates,
        integrality: NDArray[np.bool] | None = None,
    ) -> None:
        if not callable(fun):
            raise TypeError(f"fun: expected a function, got {type(fun).__name__}")
        self.fun = fun
        self.args = args if isinstance(args, tuple) else (args,)
        if integrality is not None:
            sample = functools.partial(sample_whole, sample, integrality)
        self.vectorized, self.n_repeats, self.sample = vectorized, n_repeats, sample
        self.takes_key = takes_key(fun, len(self.args))
        self.fused = is_njit(fun) and not vectorized and not self.takes_key and sample is _core.cem_candidates
        self._compiled: CompiledScore | None = None  # made for the dtype of the run
        self.is_copy = False  # in another process, or as good as
        # Of the range that was asked for last: what it is, its cuts in groups of which the candidates are in memory at
        # once, and whether that is one call. One field: threads of an executor share this object.
        self._planned: Plan = ((), [], False)

    def __call__(self, distribution: Distribution, first: int, stop: int) -> NDArray[np.float64]:
        """Return the scores of candidates first .. stop - 1, averaged over the repeats; NaN for a score of None."""
        if self.fused:
            if self._compiled is None:
                self._compiled = score_function(self.fun, distribution.mean.dtype, self.args)
            together = self._fused(distribution, first, stop)
            if together is not None:
                return together
        planned, blocks, at_once = self._planned
        if (distribution.population, first, stop) != planned:
            _, blocks, at_once = self._planned = self._plan(distribution, first, stop)
        if at_once:  # for speed alone
            return self._scores(self.sample(distribution, first, stop - first), distribution, first, None)
        keys = evaluation_keys(distribution, first, stop, self.n_repeats) if self.takes_key else None
        scores = []
        for block in blocks:
            start, end = block[0][0], block[-1][1]
            total: Any = None
            for repeat in range(self.n_repeats):
                # Made anew each time: a function that wrote into its argument changes nothing for the next call.
                with self._candidates(distribution, start, end - start) as x:
                    parts = [
                        self._scores(
                            x[a - start : b - start],
                            distribution,
                            a,
                            None if keys is None else keys[a - first : b - first, repeat],
                        )
                        for a, b in block
                    ]
                of_block = parts[0] if len(parts) == 1 else np.concatenate(parts)
                total = of_block if repeat == 0 else _add(total, of_block)
            scores.append(_divide(total, self.n_repeats) if self.n_repeats > 1 else total)
        return scores[0] if len(scores) == 1 else np.concatenate(scores)

    def _fused(self, distribution: Distribution, first: int, stop: int) -> NDArray[np.float64] | None:
        """Return the scores by compiled code alone; None where it raised: called the other way it says why."""
        if self._compiled is None:
            return None
        total: Any = None
        for repeat in range(self.n_repeats):
            scores = _core.cem_score(distribution, first, stop - first, self._compiled)
            if scores is None:
                return None
            total = scores if repeat == 0 else _add(total, scores)
        return _divide(total, self.n_repeats) if self.n_repeats > 1 else total

    def _candidates(self, distribution: Distribution, first: int, count: int) -> Any:
        if self.sample is _core.cem_candidates:
            return _core.CandidatesAhead(distribution, first, count)
        return contextlib.nullcontext(self.sample(distribution, first, count))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None, "is_copy": True}

    def _plan(self, distribution: Distribution, first: int, stop: int) -> Plan:
        problem = distribution.population, distribution.mean.size
        pieces = [(max(a, first), min(b, stop)) for a, b in cuts(*problem) if a < stop and b > first]
        together = max(1, BLOCK_ELEMENTS // (cut_rows(*problem) * distribution.mean.size))
        blocks = [pieces[k : k + together] for k in range(0, len(pieces), together)]
        at_once = len(pieces) == self.n_repeats == 1 and not self.takes_key
        return (distribution.population, first, stop), blocks, at_once

    def _scores(self, x: Array, distribution: Distribution, first: int, keys: Array | None) -> NDArray[np.float64]:
        fun, args = self.fun, self.args
        try:
            if self.vectorized:
                # A call without *args takes 50 ns less.
                values = fun(x, *args, key=keys) if keys is not None else fun(x, *args) if args else fun(x)
                scores = _core.cem_scores(values, x)
                return scores_of_rows(values, x.shape) if scores is None else scores
            if keys is None:
                return np.array([as_score(fun(row, *args)) for row in x])
            given = keys if is_njit(fun) else keys.tolist()  # Numba has no int above 2**63, NumPy's uint64 it knows
            return np.array([as_score(fun(row, *args, key=key)) for row, key in zip(x, given, strict=True)])
        except Exception as error:
            error.add_note(
                f"raised while scoring candidates {first} to {first + len(x) - 1} of {distribution.where}"
                " (numbers as of CEM.candidate; the last of a generation is its mean)"
            )
            raise


def sample_whole(
    sample: Callable[..., Array], integrality: NDArray[np.bool], distribution: Distribution, first: int, count: int
) -> Array:
    return in_whole_numbers(sample(distribution, first, count), integrality)


@in_default_float_mode
def _add(total: Any, scores: NDArray[np.float64]) -> Any:
    return total + scores


@in_default_float_mode
def _divide(total: Any, repeats: int) -> Any:
    return total / repeats


def evaluation_keys(distribution: Distribution, first: int, stop: int, repeats: int) -> NDArray[np.uint64]:
    """Return a 64-bit key for each evaluation, shape (candidates, repeats): words 2e (low) and 2e + 1 of the stream in
    domain 5 for evaluation e = candidate * repeats + repeat."""
    words = np.empty(2 * (stop - first) * repeats, np.uint32)
    _core.fill_random_raw(words, distribution.seed, distribution.stream, DOMAIN_KEY, 2 * first * repeats)
    low, high = words[0::2].astype(np.uint64), words[1::2].astype(np.uint64)
    return (low | high << np.uint64(32)).reshape(-1, repeats)


def takes_key(fun: Any, args: int) -> bool:
    """Whether there is an argument `key`, which is not one of the so many after x that the user gives."""
    try:
        parameters = inspect.signature(getattr(fun, "py_func", fun)).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    if "key" not in parameters or parameters["key"].kind == inspect.Parameter.KEYWORD_ONLY:
        return "key" in parameters
    given = list(parameters).index("key") <= args
    return parameters["key"].kind == inspect.Parameter.POSITIONAL_OR_KEYWORD and not given


def as_score(value: Any) -> float:
    if type(value) is float:
        return value
    if value is None:
        return np.nan
    array = np.asarray(value)
    if array.size == 1 and array.dtype.kind in "fiub":
        return float(array.item())
    if isinstance(value, Real | Decimal):  # what NumPy has no type for: 10**20, a Fraction
        return float(value)
    what = f"shape {array.shape} and dtype {array.dtype}" if isinstance(value, np.ndarray) else repr(value)
    raise TypeError(f"fun: expected one real number (or None) for a candidate, got {what}")


def told_scores(scores: Any, most: int, first: int) -> NDArray[np.float64]:
    """Return the scores that a user tells as a new array: of at most so many candidates, from number `first` on."""
    if isinstance(scores, np.ndarray):
        scores = numbers_of("scores", scores)
    else:
        try:
            scores = list(scores)
        except TypeError:
            raise TypeError(f"scores: expected a sequence of numbers, got {type(scores).__name__}") from None
    try:
        values = np.asarray(scores)
    except ValueError:  # numbers beside arrays
        values = np.empty(0, object)
    if isinstance(scores, list) and (values.ndim != 1 or values.dtype.kind not in "fiub"):
        values = np.array([as_score(value) for value in scores], np.float64)
    if values.ndim != 1 or len(values) > most:
        raise ValueError(
            f"scores: expected at most {most} numbers, one for each candidate from {first} on, got shape {values.shape}"
        )
    return np.array(values if values.dtype.kind in "fiub" else [as_score(value) for value in values], np.float64)


def scores_of_rows(values: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the result of a vectorised function as float64, one number for each row of its argument."""
    scores = numbers_of("fun", values)
    if scores.shape != shape[:1]:
        raise ValueError(
            f"fun: expected a result of shape {shape[:1]} for candidates of shape {shape}, got {scores.shape}; with "
            "vectorized=True the candidates are the rows, the transpose of SciPy's (dimensions, candidates)"
        )
    if scores.dtype.kind == "O":
        return np.array([as_score(value) for value in scores], np.float64)
    if scores.dtype.kind not in "fiub":
        raise TypeError(f"fun: expected real numbers, got an array of {scores.dtype}")
    return scores.astype(np.float64)


# ---- who does the work -----------------------------------------------------------------------------------------------


class Here:
    """This thread. The base of the others."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def scores(self, distribution: Distribution) -> NDArray[np.float64]:
        """Return the scores of a whole generation, the mean's last."""
        return self.objective(distribution, 0, distribution.population + 1)

    def close(self, *, wait: bool = True) -> None:
        pass


class Elsewhere(Here):
    """What has several workers: a generation is a few tasks, each a run of whole cuts."""

    tasks = 16

    def ranges(self, distribution: Distribution) -> list[tuple[int, int]]:
        """Return at most `tasks` ranges. A function of one candidate sees no cut, so its ranges may end anywhere."""
        if not self.objective.vectorized:
            total = distribution.population + 1
            edges = np.linspace(0, total, min(self.tasks, total) + 1).astype(int).tolist()
            return list(itertools.pairwise(edges))
        pieces = cuts(distribution.population, distribution.mean.size)
        edges = np.linspace(0, len(pieces), min(self.tasks, len(pieces)) + 1).astype(int).tolist()
        return [(pieces[a][0], pieces[b - 1][1]) for a, b in itertools.pairwise(edges)]

    def put_together(self, distribution: Distribution, ranges: list[Range], results: list[Any]) -> NDArray[np.float64]:
        """The scores of results in any order: each says which candidates it is of."""
        scores = np.empty(distribution.population + 1)
        left = set(ranges)
        for result in results:
            part = result[1] if isinstance(result, tuple) and len(result) == 2 and result[0] in left else None
            if not isinstance(part, np.ndarray) or part.dtype != np.float64:
                raise RuntimeError(
                    f"workers: expected what the function returned for each of {len(ranges)} tasks of "
                    f"{distribution.where}, got {type(result).__name__}"
                )
            left.remove(result[0])
            first, stop = result[0]
            scores[first:stop] = part
        if left:
            raise RuntimeError(f"workers: expected a result for each of {len(ranges)} tasks, got {len(results)}")
        return scores


Range = tuple[int, int]


def score_range(task: tuple[Objective, Distribution, int, int]) -> tuple[Range, NDArray[np.float64]]:
    """What a worker does: (a range, its scores)."""
    objective, distribution, first, stop = task
    try:
        return (first, stop), objective(distribution, first, stop)
    except StopIteration as error:  # which would end the loop of who called
        raise RuntimeError(f"fun: expected a score, got {error!r} raised") from error
    except Exception as error:
        if not objective.is_copy or _travels(error):
            raise
        words = _in_words(error)
    raise words


def _travels(error: Exception) -> bool:
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False


def _in_words(error: Exception) -> RuntimeError:
    """What is raised for an exception that cannot be pickled: its process would seem to have died."""
    said = "".join(traceback.format_exception(error))
    return RuntimeError(f"fun raised an exception that cannot be sent from process to process:\n{said}")


class ByMap(Elsewhere):
    """A map-like callable: ``workers(function, tasks)`` returns the results in order."""

    def __init__(self, objective: Objective, workers: Callable[..., Iterable[Any]]) -> None:
        super().__init__(objective)
        self.map = workers

    def scores(self, distribution: Distribution) -> NDArray[np.float64]:
        ranges = self.ranges(distribution)
        results = list(self.map(score_range, [(self.objective, distribution, *r) for r in ranges]))
        return self.put_together(distribution, ranges, results)


class ByExecutor(Elsewhere):
    """A concurrent.futures.Executor of the user's, which stays theirs: it is not shut down."""

    def __init__(self, objective: Objective, executor: Any, timeout: float | None) -> None:
        super().__init__(objective)
        self.executor, self.timeout = executor, timeout
        self.tasks = 2 * _number_of_workers(executor)

    def submit(self, distribution: Distribution, first: int, stop: int) -> Any:
        return self.executor.submit(score_range, (self.objective, distribution, first, stop))

    def scores(self, distribution: Distribution) -> NDArray[np.float64]:
        ranges = self.ranges(distribution)
        return self.put_together(distribution, ranges, self.gathered(distribution, ranges))

    def gathered(self, distribution: Distribution, ranges: list[Range]) -> list[Any]:
        from concurrent.futures import FIRST_EXCEPTION, BrokenExecutor, wait

        futures: dict[Any, tuple[int, int]] = {}
        try:
            for r in ranges:
                futures[self.submit(distribution, *r)] = r
            done, late = wait(futures, self.timeout, FIRST_EXCEPTION)
            results = [future.result() for future in done]
        except BrokenExecutor as error:
            raise RuntimeError(
                f"workers: a worker died while scoring {distribution.where} (it crashed, ran out of memory, or could "
                "not import fun: a function of a script or notebook is not importable there); nothing was updated"
            ) from error
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        if late:
            for future in late:
                future.cancel()
            first, stop = min(futures[future] for future in late)
            raise TimeoutError(
                f"workers: candidates {first} to {stop - 1} of {distribution.where} were not scored within "
                f"timeout={self.timeout:g} seconds; nothing was updated"
            )
        return results


class OwnProcesses(ByExecutor):
    """A number of processes, started anew (spawn): each is given the objective once, then ranges."""

    def __init__(self, objective: Objective, count: int, timeout: float | None) -> None:
        try:
            self._pickled = pickle.dumps(objective)
        except Exception as error:
            raise TypeError(
                f"fun: expected a function that can be pickled for workers={count}, such as one of a module, "
                f"got {objective.fun!r} ({error})"
            ) from error
        self._count = count
        super().__init__(objective, self._started(), timeout)
        self.tasks = 2 * count

    def _started(self) -> Any:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(
            self._count, multiprocessing.get_context("spawn"), initializer=_remember, initargs=(self._pickled,)
        )

    def submit(self, distribution: Distribution, first: int, stop: int) -> Any:
        return self.executor.submit(_score_remembered, distribution, first, stop)

    def scores(self, distribution: Distribution) -> NDArray[np.float64]:
        try:
            return super().scores(distribution)
        except RuntimeError as error:
            from concurrent.futures import BrokenExecutor

            if not isinstance(error.__cause__, BrokenExecutor):  # fun's own
                self.close(wait=False)
                raise
        except BaseException:
            self.close(wait=False)
            raise
        # A process died: the generation is scored again, from its numbers, by new ones. Once.
        self.close(wait=False)
        self.executor = self._started()
        return super().scores(distribution)

    def close(self, *, wait: bool = True) -> None:
        processes = list((getattr(self.executor, "_processes", None) or {}).values())
        self.executor.shutdown(wait=wait, cancel_futures=True)
        if not wait:
            for process in processes:  # one that hangs would keep this interpreter from ending
                process.kill()


_objective: Objective | None = None  # in a process of OwnProcesses


def _remember(pickled: bytes) -> None:
    global _objective
    _objective = pickle.loads(pickled)
    _core.set_num_threads(1)


def _score_remembered(distribution: Distribution, first: int, stop: int) -> tuple[Range, NDArray[np.float64]]:
    assert _objective is not None
    return score_range((_objective, distribution, first, stop))


def _number_of_workers(executor: Any) -> int:
    count = getattr(executor, "_max_workers", None)
    if count is None and hasattr(executor, "_client"):  # distributed.ClientExecutor
        count = len(executor._client.nthreads())
    return count if isinstance(count, int) and count > 0 else 8


def make_workers(workers: Any, objective: Objective, timeout: Any) -> Here:
    """Return who scores the candidates: `workers` is an int, an Executor or a map-like callable."""
    if timeout is not None:
        timeout = finite_number("timeout", timeout, above=0)
    if hasattr(workers, "submit"):
        return ByExecutor(objective, workers, timeout)
    if callable(workers):
        return ByMap(objective, workers)
    if not isinstance(workers, int | np.integer) or isinstance(workers, bool):
        raise TypeError(
            "workers: expected an int, a map-like callable or a concurrent.futures.Executor, "
            f"got {type(workers).__name__}"
        )
    count = _core.get_num_threads() if workers == -1 else integer("workers", workers, 1, 2**15)
    return Here(objective) if count == 1 and workers != -1 else OwnProcesses(objective, count, timeout)
