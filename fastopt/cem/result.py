"""What a run of the cross-entropy method ends with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Why a run ended: the name of the rule, its status, whether that is a success, and the message.
STOPS = {
    "xtol": (0, True, "xtol: the std of every dimension has fallen to xtol of its first value"),
    "ftarget": (1, True, "ftarget: the target was reached"),
    "maxiter": (2, False, "maxiter: the generations are used up"),
    "maxfev": (3, False, "maxfev: the evaluations left do not suffice for another generation"),
    "patience": (4, True, "patience: no better candidate for that many generations"),
    "resolution": (
        5,
        True,
        "resolution: the std of every dimension has fallen to the grain of its floating-point type",
    ),
    "callback": (6, False, "callback: it said so"),
    "bad": (7, False, "bad: no two finite scores in any of the last 10 generations; no update was made in them"),
    "overflow": (9, False, "overflow: the distribution has left the range of its floating-point type"),
    "interrupted": (8, False, "interrupted: KeyboardInterrupt; this is the best so far"),
}


HISTORY = ("restart", "nfev", "fun", "fun_generation", "fun_mean", "std")


class Result(dict[str, Any]):
    """What a run found: a dict whose keys are attributes, with the fields of SciPy's OptimizeResult.

    Attributes
    ----------
    x, fun : ndarray, float
        The best candidate and its score; of a run with `noisy` the averaged mean and its score.
    nit, nfev : int
        Generations, and evaluations of the function.
    success, status, message : bool, int, str
        Whether the run ended for a reason that counts as a success (xtol, ftarget, patience or resolution), and
        which: its number, its name and its words.
    x_mean, fun_mean : ndarray, float
        The final mean and its score, NaN if it has none.
    std : ndarray
        The final standard deviation in each dimension.
    covariance : ndarray of float64
        Of the final distribution, if it is full; else there is none.
    history : dict of arrays
        With an element for each generation: restart, its number; nfev, the evaluations by its end; fun, the best score
        so far; fun_generation, that of its candidates; fun_mean, the score of the mean that they were drawn about, NaN
        if it was not scored; std, the largest of all dimensions after the refit.
    settings : dict
        What the run was made with, and what None was taken for: ``minimize_cem(fun, **result.settings)`` is it again.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> result = fastopt.minimize_cem(lambda x: np.square(x).sum(), [1.0, 2.0], rng=0)
    >>> result.success, result["nit"] == result.nit == len(result.history["fun"])
    (True, True)
    """

    # What type checkers know of the keys; an attribute is looked up among them.
    x: NDArray[Any]
    fun: float
    nit: int
    nfev: int
    success: bool
    status: int
    message: str
    x_mean: NDArray[Any]
    fun_mean: float
    std: NDArray[Any]
    covariance: NDArray[np.float64]
    history: dict[str, NDArray[Any]]
    settings: dict[str, Any]

    def __init__(self, fields: dict[str, Any], candidate: Callable[..., NDArray[Any]] | None = None) -> None:
        super().__init__(fields)
        object.__setattr__(self, "_candidate", candidate)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self})

    def copy(self) -> Result:
        return Result(self, object.__getattribute__(self, "_candidate"))

    def __reduce__(self) -> tuple[Any, ...]:
        return Result, (dict(self), object.__getattribute__(self, "_candidate"))

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{key:>{width}}: {_short(key, value)}" for key, value in self.items())

    def candidate(self, generation: int, i: int, problem: int | None = None) -> NDArray[Any]:
        """Return candidate i of a past generation, computed again (:meth:`CEM.candidate`); of a problem, if they are
        several."""
        computed: Callable[..., NDArray[Any]] = object.__getattribute__(self, "_candidate")
        return computed(generation, i) if problem is None else computed(generation, i, problem)


def result_of(cem: Any) -> Result:
    """What a run, a CEM, has found so far."""
    status, success, message = STOPS[cem._rule] if cem._rule else (-1, False, "the run goes on")
    d = cem._distribution
    fields = {
        "x": cem._x.copy(),
        "fun": cem._fun,
        "nit": cem._generation,
        "nfev": cem._nfev,
        "success": success,
        "status": status,
        "message": message,
        "x_mean": cem._x_mean.copy() if cem._fun_mean == cem._fun_mean else cem._whole(cem.mean),
        "fun_mean": cem._fun_mean,
        "std": cem.std,
        "history": {
            name: column.astype(np.int64 if name in ("restart", "nfev") else np.float64)
            for name, column in zip(HISTORY, cem._history_rows().T, strict=True)
        },
        "settings": {
            **{k: v.copy() if isinstance(v, np.ndarray) else v for k, v in cem._settings.items()},
            "rng": cem._rng,
            **cem._called,
        },
    }
    if cem._settings["noisy"]:
        fields |= {name: cem._whole(cem._final().mean).copy() for name in ("x", "x_mean")}
        fields |= {"fun": cem._final_score, "fun_mean": cem._final_score}
    if d.factor is not None:
        scaled = d.factor.astype(np.float64) * d.std
        fields["covariance"] = scaled.T @ scaled
    return Result(fields, cem.candidate)


def _short(key: str, value: Any) -> str:
    """A value as it is printed: long arrays at their ends, and of history and settings what there is."""
    if key in ("history", "settings"):
        return f"{{{', '.join(value[0] if isinstance(value, list) else value)}}}"
    if isinstance(value, list):  # of several problems
        value = np.array(value, object)
    return np.array2string(value, threshold=10, edgeitems=3) if isinstance(value, np.ndarray) else repr(value)
