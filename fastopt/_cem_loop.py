"""The loop of minimize_cem: score a generation, tell the scores, report."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastopt._cem_result import Result
from fastopt._cem_workers import Objective, make_workers
from fastopt._checks import flag, integer

if TYPE_CHECKING:
    from fastopt.cem import CEM


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
    cem = method(**search)
    repeats = cem._repeats = integer("n_repeats", n_repeats, 1, 2**20)
    cem._reserve = repeats  # the final mean is scored too
    s = cem.settings
    if s["maxiter"] is None and s["maxfev"] is None:
        s["maxfev"] = max(10_000 * cem.x.size, 100 * (cem.popsize + 1)) * repeats
    if s["maxfev"] is not None and s["maxfev"] < (cem.popsize + 2) * repeats:
        raise ValueError(
            f"maxfev: expected at least {(cem.popsize + 2) * repeats}, for one generation of {cem.popsize} candidates, "
            f"its mean and the mean after it, {repeats} times each, got {s['maxfev']}"
        )
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a function, got {type(callback).__name__}")
    report = _report_to(callback)
    show = _Progress() if flag("progress", progress) else None
    objective = Objective(fun, args, vectorized=flag("vectorized", vectorized), n_repeats=repeats, sample=cem._sample)
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
            d = cem._distribution
            cem._finish_mean(float(objective(d, d.population, d.population + 1)[0]))
        finished = True
    except KeyboardInterrupt:
        cem._rule = "interrupted"
    finally:
        team.close(wait=finished)
        if show is not None:
            show.close()
    return cem.result()


def _report_to(callback: Callable[..., Any] | None) -> Callable[[CEM], bool] | None:
    """Return what calls the callback as SciPy does, and says whether to go on."""
    if callback is None:
        return None
    try:
        by_name = set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (TypeError, ValueError):
        by_name = False

    def report(cem: CEM) -> bool:
        try:
            if by_name:
                callback(intermediate_result=cem.result())
            else:
                callback(cem.x.copy())
        except StopIteration:
            return False
        return True

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
        text = f"generation {cem.generation}, {cem.nfev} evaluations, best {cem.fun:.6g}, mean {cem.fun_mean:.6g}"
        sys.stderr.write(f"\r{text:<78}{end}")
        sys.stderr.flush()

    def close(self) -> None:
        if self._next:
            self._show(self._cem, "\n")
