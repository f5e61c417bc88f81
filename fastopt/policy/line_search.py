"""A step along a direction, as long as a limit on the KL divergence allows, or none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastopt import _core
from fastopt._checks import finite_number, integer
from fastopt._tree import ArrayTree, label, leaves, same_structure

__all__ = ["LineSearchResult", "kl_line_search"]

_AIM = 0.9  # of the step at which the KL is expected to meet its limit: the KL is not exactly a square
_MOST_CHANGE = 10.0  # from one step to the next: far from the limit the square says little
_WORTH = 1.1  # a step longer by less is not tried
_SHORTEN = 0.5  # when the KL is within its limit and the surrogate has not risen

Moves = list[tuple[NDArray[Any], NDArray[Any]]]  # parameters and their directions


class LineSearchResult(NamedTuple):
    """What :func:`kl_line_search` did. It is a tuple, so it is always true: ask for ``success``.

    Attributes
    ----------
    success : bool
        Whether the parameters were moved.
    step : float
        The parameters are now ``params + step * direction``; 0.0 without success.
    kl : float
        What `evaluate` returned for the parameters as they are now.
    gain : float
        Surrogate now minus surrogate at the start, > 0 with success; else 0.0.
    evaluations : int
        Calls of `evaluate`, the one at the start among them.
    status : str
        ``"accepted"``, ``"zero_direction"``, ``"nonfinite"``, ``"no_improvement"`` or ``"kl_above_limit"``.
    message : str
        The same in words, with figures.
    """

    success: bool
    step: float
    kl: float
    gain: float
    evaluations: int
    status: str
    message: str


def kl_line_search(
    params: ArrayTree,
    direction: ArrayTree,
    evaluate: Callable[[], tuple[float, float]],
    *,
    max_kl: float = 0.01,
    initial_step: float = 1.0,
    max_evaluations: int = 12,
) -> LineSearchResult:
    """Move parameters in place along a direction, as far as a policy may change, or leave them as they are.

    params += step * direction, with a step at which the surrogate is above that at the start and the KL divergence of
    the new policy from the old one is at most max_kl. Both are measured at every step that is tried, never inferred.

    The KL grows with the square of a small step, so each measurement says where the limit lies: the next step is
    0.9 * sqrt(max_kl / kl) times this one, shorter or longer, by a factor of at most 10 each way. A step within the
    limit that raises nothing is halved. Longer steps are tried while they are expected to be longer by a tenth or more,
    and the accepted step with the highest surrogate is kept.

    Parameters
    ----------
    params : array, or arrays in lists, tuples and dicts, nested to any depth
        float32 or float64; dtypes may differ. Written.
    direction : arrays in the form of `params`
        Each of the shape and dtype of its parameter, in separate memory; only read. A direction of ascent of the
        surrogate: its gradient, or that times a positive definite matrix, such as a natural gradient. The
        gradient of a loss descends: :func:`categorical_policy_gradient` and :func:`gaussian_policy_gradient` give one
        of ascent for ``-advantages`` and ``-entropy_coef``. Its length matters little. None leaves a parameter alone.
    evaluate : callable
        ``evaluate() -> (surrogate, kl)``, two numbers for the present values of `params`: the surrogate, which is to
        be raised, such as mean(exp(log_prob - old_log_prob) * advantages), and KL(old || new), the mean over the batch
        of the exact divergence. It must give the same for the same parameters: one batch, and with dropout in the
        policy the masks of the old policy (``rng=mask``), so that KL(old || old) is 0. It is called once before the
        first step, and the last call need not be for the step that is kept.
    max_kl : float
        > 0, in nats. A KL may fall below 0 by rounding; its magnitude is what counts.
    initial_step : float
        The first step, > 0. That of the last search (``result.step``) saves evaluations.
    max_evaluations : int
        Calls of `evaluate`, >= 2.

    Returns
    -------
    LineSearchResult
        success, step, kl, gain, evaluations, status, message.

    Raises
    ------
    TypeError, ValueError
        If an argument, or what `evaluate` returns, is of the wrong kind or value.

    Whatever `evaluate` raises, KeyboardInterrupt too, is passed on.

    After an error or without success the parameters are as they were, bit for bit, copied back and not subtracted. A
    step fails when its surrogate, KL or parameters are not finite; the search fails when all its steps do, when the
    surrogate or KL is not finite or the KL above the limit before any step, and when `direction` is zero or not finite.

    Notes
    -----
    The surrogate, its constraint and the search for both along a direction are those of Schulman, Levine, Moritz,
    Jordan and Abbeel, "Trust region policy optimization", ICML 2015, appendix C. There the step begins at
    sqrt(2 max_kl / (d . A d)), where A is the matrix of second derivatives of the KL, and shrinks exponentially; here
    the measured KL takes the place of A, so no products with A are needed, and the step may grow.

    Step and direction are multiplied in the dtype of the parameter, to which the step is rounded. A copy of the
    parameters is kept for the time of the search.

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> logits = np.zeros(3)                                    # a policy without a state; its gain is the third action
    >>> old = np.exp(logits) / np.exp(logits).sum()
    >>> def evaluate():
    ...     new = np.exp(logits) / np.exp(logits).sum()
    ...     return new[2], np.sum(old * np.log(old / new))
    >>> result = fastopt.policy.kl_line_search([logits], [np.array([-1.0, -1.0, 2.0])], evaluate, max_kl=0.01)
    >>> result.success, result.status, result.kl <= 0.01
    (True, 'accepted', True)
    >>> bool(np.all(logits == result.step * np.array([-1.0, -1.0, 2.0])))
    True
    """
    with _core.DefaultFloatMode() as mode:
        return _checked_search(params, direction, evaluate, mode, max_kl, initial_step, max_evaluations)


def _checked_search(
    params: ArrayTree,
    direction: ArrayTree,
    evaluate: Callable[[], tuple[float, float]],
    mode: _core.DefaultFloatMode,
    max_kl: float,
    initial_step: float,
    max_evaluations: int,
) -> LineSearchResult:
    moves = _moves(params, direction)
    if not callable(evaluate):
        raise TypeError(f"evaluate: expected a function of no arguments, got {type(evaluate).__name__}")
    max_kl = finite_number("max_kl", max_kl, above=0)
    initial_step = finite_number("initial_step", initial_step, above=0)
    max_evaluations = integer("max_evaluations", max_evaluations, 2, 2**31)

    if not any(np.any(d) for _, d in moves):
        return LineSearchResult(False, 0.0, 0.0, 0.0, 0, "zero_direction", "direction is zero everywhere")
    if not all(np.isfinite(d).all() for _, d in moves):
        return LineSearchResult(False, 0.0, 0.0, 0.0, 0, "nonfinite", "direction has NaN or infinite elements")
    saved = [a.copy(order="K") for a, _ in moves]
    result = None
    try:
        result = _search(moves, saved, lambda: mode.outside(evaluate), max_kl, initial_step, max_evaluations)
    finally:
        if result is None or not result.success:
            for (a, _), s in zip(moves, saved, strict=True):
                np.copyto(a, s)
    return result


def _search(
    moves: Moves,
    saved: list[NDArray[Any]],
    evaluate: Callable[[], tuple[float, float]],
    max_kl: float,
    initial_step: float,
    max_evaluations: int,
) -> LineSearchResult:
    start, kl = _measured(evaluate)
    evaluations = 1
    kept = LineSearchResult(False, 0.0, kl, 0.0, 1, "", "")
    at_start = f"surrogate {start:.6g} and KL {kl:.3g} before any step"
    if not (math.isfinite(start) and math.isfinite(kl)):
        return kept._replace(status="nonfinite", message=at_start)
    if abs(kl) > max_kl:
        message = f"{at_start}, above max_kl {max_kl:g}: is the old policy that of params, with the same masks?"
        return kept._replace(status="kl_above_limit", message=message)

    following = initial_step
    failed = math.inf  # the shortest step known to fail
    for _ in range(max_evaluations - 1):
        step, surrogate, kl = following, math.nan, math.nan
        if _move(moves, saved, step):
            surrogate, kl = _measured(evaluate)
            evaluations += 1
        gain = surrogate - start
        if not (math.isfinite(gain) and math.isfinite(kl)):
            status, failed, factor = "nonfinite", step, 1 / _MOST_CHANGE
        else:
            factor = _AIM * math.sqrt(max_kl / abs(kl)) if kl != 0 else math.inf
            if abs(kl) > max_kl:
                status, failed = "kl_above_limit", step
            elif gain > kept.gain:
                status = "accepted"
                kept = LineSearchResult(True, step, kl, gain, evaluations, status, "")
            else:
                status = "no_improvement"
                if gain != 0 or kl != 0:  # else too short to change anything
                    failed, factor = step, min(factor, _SHORTEN)
        following = step * min(max(factor, 1 / _MOST_CHANGE), _MOST_CHANGE)
        if not _WORTH * kept.step < following < failed:
            break

    if kept.success:
        _move(moves, saved, kept.step)
        message = (
            f"surrogate higher by {kept.gain:.3g} with KL {kept.kl:.3g} of {max_kl:g}, by a step of {kept.step:.3g}"
        )
        return kept._replace(evaluations=evaluations, message=message)
    had = {
        "nonfinite": f"surrogate {surrogate} and KL {kl}",
        "kl_above_limit": f"KL {kl:.3g}, above max_kl {max_kl:g}",
        "no_improvement": f"a surrogate that differs by {gain:.3g} from {start:.6g}; is direction one of ascent?",
    }
    message = f"no step accepted; the last, {step:.3g}, had {had[status]}"
    return kept._replace(evaluations=evaluations, status=status, message=message)


def _moves(params: ArrayTree, direction: ArrayTree) -> Moves:
    """Return (parameter, its direction) for each that has one, all checked."""
    names, arrays, moves = [], [], []
    for (name, a), (d, _) in zip(leaves(params), same_structure(direction, params, "direction"), strict=True):
        like, own = label("params", name), label("direction", name)
        _core.check_array(a, like)
        names.append(like)
        arrays.append(a)
        if d is None:
            continue
        _core.check_array(d, own)
        if d.dtype != a.dtype:
            raise TypeError(
                f"{own}: expected {a.dtype} like {like}, got {d.dtype}; {own}.astype(np.{a.dtype}) converts it"
            )
        if d.shape != a.shape:
            raise ValueError(f"{own}: expected shape {a.shape} like {like}, got {d.shape}")
        moves.append((own, a, d))
    _core.check_disjoint(arrays, names)
    for own, _, d in moves:
        for like, a in zip(names, arrays, strict=True):
            if np.may_share_memory(a, d):
                raise ValueError(
                    f"{own}: expected memory apart from {like}, got arrays that overlap; pass {own}.copy()"
                )
    return [(a, d) for _, a, d in moves]


def _measured(evaluate: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    result = evaluate()
    try:
        surrogate, kl = result
        return float(surrogate), float(kl)
    except (TypeError, ValueError):
        raise TypeError(f"evaluate: expected to get (surrogate, kl), two numbers, got {result!r}") from None


def _move(moves: Moves, saved: list[NDArray[Any]], step: float) -> bool:
    """Set params to saved + step * direction; return whether all are finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        for (a, d), s in zip(moves, saved, strict=True):
            np.multiply(d, a.dtype.type(step), out=a)
            np.add(s, a, out=a)
    return all(np.isfinite(a).all() for a, _ in moves)
