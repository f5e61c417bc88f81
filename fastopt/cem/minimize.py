"""A whole run of the cross-entropy method in one call: score a generation, tell the scores, report."""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastopt._checks import flag, integer
from fastopt.cem.batch import Batch, as_scores, scored, takes_problem
from fastopt.cem.method import CEM
from fastopt.cem.result import Result, result_of
from fastopt.cem.workers import Objective, make_workers, takes_key


def minimize_cem(
    fun: Callable[..., Any],
    x0: Any = None,
    sigma0: Any = None,
    *,
    bounds: Any = None,
    args: Any = (),
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
    n_repeats: int = 1,
    bound_handling: str = "clip",
    maximize: bool = False,
    xtol: float = 1e-8,
    ftarget: float | None = None,
    patience: int | None = None,
    restarts: int = 0,
    integrality: Any = None,
    rng: Any = None,
    workers: Any = 1,
    timeout: float | None = None,
    vectorized: bool = False,
    callback: Callable[..., Any] | None = None,
    progress: bool = False,
) -> Result:
    """Minimise a function by the cross-entropy method, in as many threads, processes or machines as you like.

    Each generation draws `popsize` candidates x = mean + std * z with normal z, scores them, and moves mean and std
    towards those of the best, the elites, whose weights fall with the logarithm of their rank, w = log((elites + 1/2) /
    rank). In units u = (x - mean) / std of the elites, x after bounds, with mu = (sum of w)**2 / sum of w**2::

        m1 = weighted mean of u;    v = weighted mean of u**2
        mean += mean_lr * std * m1
        log(std) += std_lr / 2 * (log(v) - digamma(mu / 2) + log(mu / 2) - skew) + s
        std = sqrt(std**2 + extra_std**2),    at least min_std

    Elites that say nothing, as on a plateau or in noise, leave the std on average where it is (skew, which is for
    weights that differ, is 9 / 4 (sum of w**3 - 1 / mu**2) with w of sum 1). s is one number for all dimensions: the
    path of the last means is longer than that of steps by chance where they go the same way, then all of std grows,
    and shorter where they cancel out (cumulative step-size adaptation).

    ``weights="equal"`` is the textbook's method (Rubinstein and Kroese, The Cross-Entropy Method, 2004): w = 1, no s,
    and std += std_lr * (sqrt(std**2 * v + extra_std**2) - std), v being taken about the old mean or the new one.

    Dimensions are drawn independently of each other. Where the good ones are correlated, a narrow valley that lies
    aslant, use ``covariance="full"``.

    A candidate is a function of (seed, restart, generation, number): the population is never stored. Workers are sent
    the distribution and a range of numbers, elites are computed again for the refit, and any number of threads,
    processes or machines gives the same bits.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` returns the score of x, a 1-D array. NaN, None and infinities of either sign rank last. A
        function with an argument named `key` is given ``key=``, a number of 64 bits that no other evaluation has, to
        seed its own noise with.
    x0 : array_like, optional
        Where to start: the first mean. All arrays are float32 if it is, else float64. None: the middle of the bounds.
        Of shape (B, D) it is the starts of B independent problems, which needs ``vectorized=True``; see the notes.
    sigma0 : float or array_like, optional
        First standard deviation. None: a quarter of the width where there are two finite bounds, else 1.
    bounds : sequence of (min, max) or scipy.optimize.Bounds, optional
        None or an infinity for no bound.
    args : tuple
        Further arguments of `fun`.
    popsize : int, optional
        Candidates of a generation. The mean is scored besides, as number popsize; it is no elite.
    elite_frac : float, optional
        Share of the candidates that are elites, rounded to a number of them; at least two.
    maxiter, maxfev : int, optional
        Limits on generations and on evaluations, over all restarts. `maxfev` is not exceeded. If both are None, maxfev
        is 10,000 times the dimensions, or 100 generations if that is more.
    mean_lr, std_lr : float, optional
        Weights of the new estimate, in (0, 1]. With a full covariance and weights by rank a `std_lr` of None is
        2 (mu - 1.75 + 1 / mu) / ((D + 2)**2 + mu), which follows the population.
    extra_std : float, or a pair (float, int)
        Noise that keeps the search from narrowing too early: a variance of its square is added at each refit. With a
        pair (e, n) the variance falls linearly from e**2 to 0 within n generations (Szita and Lorincz, Neural
        Computation 18, 2006).
    min_std : float
        Floor of the std.
    refit_about : {"old_mean", "new_mean"}, optional
        What the elites' spread is measured about. About the new mean, which is the maximum-likelihood fit, the spread
        shrinks too early on a slope; that needs ``weights="equal"``.
    covariance : {"diag", "full"}
        "full" learns the correlations of the dimensions too, for moderate numbers of them: a refit takes about
        elites * d**2 + d**3 operations. `std_lr` is then the weight of the new covariance; with weights by rank the
        path has one too, 2 (1 - 1 / D) / ((D + 1.3)**2 + mu). Its populations are small: 8 sqrt(D) candidates, half of
        them elites.
    weights : {"log", "equal"}
        "log" as above; "equal" is the textbook's method.
    noisy : bool
        For scores with noise in them: 256 sqrt(D) candidates, half of them elites, and half the `std_lr` of a diagonal
        covariance, where these are None. The result's `x` is not the best candidate, which had most luck, but the
        average of the means of this restart, whose weights rise evenly with the generation; `x_mean` is the same point.
        `fun` and `fun_mean` are its score, NaN where it was not scored (by a `CEM`, or before the end).
    antithetic : bool
        Candidate 2j + 1 is candidate 2j mirrored at the mean.
    n_repeats : int
        Evaluations of each candidate, which are averaged.
    bound_handling : {"clip", "reflect"}
        What becomes of a candidate outside the bounds; one that is reflected to beyond the other bound is clipped.
    maximize : bool
        Look for the highest score.
    xtol : float
        Stop when the std of every dimension is at most xtol times its first value.
    ftarget : float, optional
        Stop when a score is as good as this.
    patience : int, optional
        Stop after that many generations without a better score.
    restarts : int
        How often to begin again, from a point drawn from the first distribution and with twice the population, when
        xtol, patience or the like would stop the run.
    integrality : bool or array_like of bool, optional
        Dimensions that take whole numbers alone, as in SciPy's differential evolution: candidates, and the mean where
        it is scored or returned, are rounded there. So that such a dimension does not freeze its std is 0.3 at least,
        and at first 1; at 0.3 it counts as narrow enough to stop, if two generations have found nothing better. An
        `@njit` function is then called from Python, one candidate at a time.
    rng : int, Philox4x32, numpy.random.Generator, ..., optional
        The seed, or where to take it from. None takes fresh entropy.
    workers : int, Executor or map-like callable
        1 calls `fun` here; n > 1 starts n processes, -1 one for each CPU: then `fun` must be importable, and a script
        needs ``if __name__ == "__main__"``. A ``concurrent.futures.Executor`` or a callable like ``map`` distributes as
        it does. A process of ours that dies is replaced once a generation.
    timeout : float, optional
        Seconds that workers (processes or an executor) may take for a generation before it is a TimeoutError.
    vectorized : bool
        ``fun`` takes an array of shape (candidates, dimensions), the transpose of SciPy's, and returns one score a row.
        It is called with cuts of the population that depend on its size and dimensions alone.
    callback : callable, optional
        Called after each generation, as ``callback(intermediate_result=result)`` if that is its one parameter's name,
        else as ``callback(x)`` with the best candidate so far. The run ends when it returns True or raises
        StopIteration.
    progress : bool
        Show a line on stderr.

    Returns
    -------
    Result
        A dict with attributes: x and fun (the best candidate so far, or with `noisy` the averaged mean), nit, nfev,
        success, status, message; x_mean and fun_mean (the final mean and its score: trust it more than `fun` if the
        function is noisy), std, covariance if it is full;
        history (arrays with an element for each generation, whose names :class:`Result` has); settings (what None was
        taken for: ``minimize_cem(fun, **result.settings)`` is the same run again, also where `rng` was None).
        ``result.candidate(generation, i)`` is any candidate of any generation.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value, or `fun` returns something that is not a score.
    RuntimeError, TimeoutError
        If workers die or take too long.

    Notes
    -----
    The status names what ended the run: 0 xtol, 1 ftarget, 2 maxiter, 3 maxfev, 4 patience, 5 resolution of the
    floating-point type, 6 callback, 7 ten generations without two finite scores, 8 KeyboardInterrupt, which returns the
    best so far, 9 a distribution beyond the range of its floating-point type. `success` is True for 0, 1, 4 and 5,
    where the search had done its work by its own rules, and False where a limit, you or an accident ended it before. It
    does not say that x is the global minimum, nor is x worthless where it is False.

    Threads: fastopt's own draw the candidates. `fun` runs in the calling thread, but a function of ``numba.njit`` in
    all of them, without the interpreter's lock; what it raises within ``objmode`` comes out as it is. Signals are
    looked at between its calls. A fork does not wait for it: a forked child goes on with the run by itself.

    Several problems: ``fun`` is called once a generation with the candidates of all problems that go on, (problems,
    candidates, dimensions), and returns their scores, (problems, candidates). One with an argument named `problem` is
    given ``problem=``, their numbers. Each problem has its own key, child b of one ``spawn(B)`` of `rng` (or ``rng[b]``
    of a list), stops by itself, and gets what it would get alone, with that child as its `rng`, to the bit. The
    result's fields have a leading axis; message and history are lists. `sigma0` and `ftarget` may have one too.
    Restarts, repeats, workers and a callback are for single problems.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> result = fastopt.minimize_cem(lambda x: np.square(x - 3).sum(), np.zeros(4), rng=0)
    >>> result.x.round(6), result.message.partition(":")[0]
    (array([3., 3., 3., 3.]), 'xtol')
    """
    return minimize_with(CEM, **locals())


def minimize_with(
    method: type[CEM],
    fun: Callable[..., Any],
    args: Any,
    n_repeats: int,
    workers: Any,
    timeout: float | None,
    vectorized: bool,
    callback: Callable[..., Any] | None,
    progress: bool,
    **search: Any,
) -> Result:
    """The loop of :func:`minimize_cem`, for this class and for the reference's."""
    cem: Any = method(**search)
    if isinstance(cem, Batch):
        others = {"n_repeats": n_repeats, "workers": workers, "timeout": timeout, "callback": callback}
        return _minimize_all(cem, fun, args, vectorized, **others, progress=progress)
    _begin(cem, n_repeats, vectorized)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a function, got {type(callback).__name__}")
    report = _report_to(callback)
    show = _Progress() if flag("progress", progress) else None
    objective = Objective(
        fun,
        args,
        vectorized=flag("vectorized", vectorized),
        n_repeats=cem._repeats,
        sample=cem._sample,
        integrality=cem._integrality,
    )
    team = make_workers(workers, objective, timeout)
    finished = False
    try:
        while cem._rule is None:
            scores = team.scores(cem._distribution)
            cem._finish(scores, scores.item(-1))
            if show is not None:
                show(cem)
            if report is not None and not report(cem):
                cem._rule = "callback"
        if cem._rule != "callback":
            d = cem._final()
            cem._finish_mean(float(objective(d, d.population, d.population + 1)[0]))
        finished = True
    except KeyboardInterrupt:
        cem._rule = "interrupted"
    finally:
        team.close(wait=finished)
        if show is not None:
            show.close()
    return result_of(cem)


def _begin(cem: CEM, n_repeats: int, vectorized: bool) -> None:
    """What a run that scores its means needs to know; and its limits."""
    repeats = cem._repeats = integer("n_repeats", n_repeats, 1, 2**20)
    cem._reserve = repeats  # the final mean is scored too
    cem._called = {"n_repeats": repeats, "vectorized": flag("vectorized", vectorized)}
    s = cem._settings
    if s["maxiter"] is None and s["maxfev"] is None:
        s["maxfev"] = max(10_000 * cem.x.size, 100 * (cem.popsize + 1)) * repeats
    if s["maxfev"] is not None and s["maxfev"] < (cem.popsize + 2) * repeats:
        raise ValueError(
            f"maxfev: expected at least {(cem.popsize + 2) * repeats}, for one generation of {cem.popsize} candidates, "
            f"its mean and the mean after it, {repeats} times each, got {s['maxfev']}"
        )


def _minimize_all(batch: Batch, fun: Callable[..., Any], args: Any, vectorized: bool, **others: Any) -> Result:
    """The loop for several problems: one call of the function for all of them that go on."""
    usual: dict[str, Any] = {"n_repeats": 1, "workers": 1, "timeout": None, "callback": None, "progress": False}
    shape = batch.x.shape
    for name, value in others.items():
        if value is not usual[name] and not np.array_equal(value, usual[name]):
            raise ValueError(f"{name}: expected {usual[name]!r} for x0 of shape {shape}, got {value!r}")
    if not callable(fun):
        raise TypeError(f"fun: expected a function, got {type(fun).__name__}")
    if not flag("vectorized", vectorized):
        raise ValueError(
            f"vectorized: expected True for x0 of shape {shape}, since fun is called with the candidates of several "
            "problems, (problems, candidates, dimensions), got False"
        )
    args = args if isinstance(args, tuple) else (args,)
    if takes_key(fun, len(args)):
        raise ValueError(f"fun: expected no argument `key` for x0 of shape {shape}: several problems have none")
    named = takes_problem(fun)

    def call(x: Any, problems: Any) -> Any:
        return fun(x, *args, problem=problems) if named else fun(x, *args)

    def scores_of(x: Any, problems: Any, where: str) -> Any:
        return as_scores("fun", scored(call, x, problems, where), x.shape[:2])

    for run in batch.runs:
        _begin(run, 1, vectorized)
    try:
        while batch._running:
            x = batch._drawn(0, batch.popsize + 1)
            scores = scores_of(x, batch.running, f"generation {batch.generation}")
            batch._finish(scores, scores[:, -1].tolist())
        finals = np.stack([run._whole(run._final().mean) for run in batch.runs])
        means = scores_of(finals[:, None], np.arange(len(finals)), "the final mean")
        for run, score in zip(batch.runs, means[:, 0].tolist(), strict=True):
            run._finish_mean(score)
    except KeyboardInterrupt:
        going = [run for run in batch.runs if run._rule is None]  # none while the final means are scored
        for run in going or batch.runs:
            run._rule = "interrupted"
    return batch.result()


def _report_to(callback: Callable[..., Any] | None) -> Callable[[CEM], bool] | None:
    """Return what calls the callback as SciPy does, and says whether to go on."""
    if callback is None:
        return None
    by_name = False
    with contextlib.suppress(ValueError):  # no signature
        signature = inspect.signature(callback)
        by_name = set(signature.parameters) == {"intermediate_result"}
        try:
            signature.bind(*([] if by_name else [0]), **({"intermediate_result": 0} if by_name else {}))
        except TypeError:
            raise TypeError(
                f"callback: expected a function of one argument, x or intermediate_result, got one of {signature}"
            ) from None

    def report(cem: CEM) -> bool:
        try:
            said = callback(intermediate_result=result_of(cem)) if by_name else callback(cem.x)
        except StopIteration:
            return False
        return not (isinstance(said, bool | np.bool) and said)

    return report


class _Progress:
    """One line on stderr, written anew a few times a second."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, cem: CEM) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 0.2
            self._show(cem)
        self._cem = cem

    def _show(self, cem: CEM, end: str = "") -> None:
        if sys.stderr is None:  # without a console
            return
        text = f"generation {cem.generation}, {cem.nfev} evaluations, best {cem.fun:.6g}, mean {cem.fun_mean:.6g}"
        with contextlib.suppress(OSError, ValueError):  # it is closed: the run is worth more than the line
            sys.stderr.write(f"\r{text:<78}{end}")
            sys.stderr.flush()

    def close(self) -> None:
        if self._next:
            self._show(self._cem, "\n")
