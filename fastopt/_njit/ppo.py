"""The losses of PPO inside ``@njit``."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from fastopt import policy
from fastopt._njit.checks import (
    Refused,
    check_array,
    check_finite,
    check_no_output,
    check_numbers,
    check_positive,
    check_shape,
    is_none,
    refuse,
)
from fastopt._njit.kernel import float64, int64, kernel
from fastopt._njit.policy import (
    NO_ACTION,
    check_actions,
    check_batch,
    check_batch_shape,
    check_log_std,
    check_rows,
    check_some_valid,
    check_spread,
    check_valid,
    check_valid_shape,
    column_sums_of,
    filled_rows_of,
    row_blocks,
)

SUMS, RESULTS = 5, 6  # FASTOPT_PPO_SUMS and FASTOPT_PPO_RESULTS
PPOStats = policy.PPOStats

categorical_ppo_loss = kernel("categorical_ppo_loss", 13, int64, int64, float64, float64, float64, float64)
gaussian_ppo_loss = kernel("gaussian_ppo_loss", 15, int64, float64, float64, float64, float64)


# ---- checks ----------------------------------------------------------------------------------------------------------


def check_batches(x, x_name, numbers, clip_range_vf, old_values, valid, out, **batches):
    """Refuse what is no batch of `x`, and what is no number; return functions that give the range of the values and the
    old ones, or 0 and None where they are not clipped."""
    for name, kind in batches.items():
        check_batch(name, kind, x, x_name)
    check_numbers(**numbers)
    if not is_none(old_values):
        check_batch("old_values", old_values, x, x_name)
    check_valid(valid, x.ndim - 1)
    check_no_output(out)
    if is_none(clip_range_vf):
        return register_jitable(lambda clip_range_vf: 0.0), register_jitable(lambda old_values: None)
    check_numbers(clip_range_vf=clip_range_vf)
    if is_none(old_values):
        raise refuse("old_values", "an array, since clip_range_vf is given", old_values)
    return checked_range_vf, register_jitable(lambda old_values: old_values)


@register_jitable
def checked_range_vf(clip_range_vf):
    check_positive("clip_range_vf", clip_range_vf)
    return clip_range_vf


@register_jitable
def check_ppo_numbers(clip_range, entropy_coef, value_coef):
    check_positive("clip_range", clip_range)
    check_finite("entropy_coef", entropy_coef)
    check_finite("value_coef", value_coef)


@register_jitable
def check_ppo_shapes(x, x_name, advantages, old_log_prob, values, returns):
    check_batch_shape("advantages", advantages, x, x_name)
    check_batch_shape("old_log_prob", old_log_prob, x, x_name)
    check_batch_shape("values", values, x, x_name)
    check_batch_shape("returns", returns, x, x_name)


@register_jitable
def check_old_values_shape(old_values, values):
    if old_values is not None:
        check_shape("old_values", old_values, values.shape, "values")


@register_jitable
def sums_of(rows):
    return np.empty(row_blocks(rows) * SUMS)


@register_jitable
def stats_of(results):
    return PPOStats(results[1], results[2], results[3], results[4], results[5])


# ---- categorical -----------------------------------------------------------------------------------------------------


@overload(policy.categorical_ppo_loss)
def _categorical_ppo_loss(
    logits,
    actions,
    advantages,
    old_log_prob,
    values,
    returns,
    clip_range=0.2,
    clip_range_vf=None,
    old_values=None,
    entropy_coef=0.0,
    value_coef=0.5,
    valid=None,
    out=None,
):
    if not isinstance(logits, types.Array):
        raise refuse("logits", "one array of float32 or float64 inside @njit", logits)
    check_rows("logits", logits)
    whole = check_actions(actions, logits)
    batches = {"advantages": advantages, "old_log_prob": old_log_prob, "values": values, "returns": returns}
    numbers = {"clip_range": clip_range, "entropy_coef": entropy_coef, "value_coef": value_coef}
    range_of, used = check_batches(logits, "logits", numbers, clip_range_vf, old_values, valid, out, **batches)

    def implementation(
        logits,
        actions,
        advantages,
        old_log_prob,
        values,
        returns,
        clip_range=0.2,
        clip_range_vf=None,
        old_values=None,
        entropy_coef=0.0,
        value_coef=0.5,
        valid=None,
        out=None,
    ):
        rows = filled_rows_of("logits", logits)
        check_batch_shape("actions", actions, logits, "logits")
        check_ppo_shapes(logits, "logits", advantages, old_log_prob, values, returns)
        check_old_values_shape(old_values, values)
        check_valid_shape(valid, advantages.shape, "advantages")
        check_ppo_numbers(clip_range, entropy_coef, value_coef)
        chosen = actions if whole else actions.astype(np.int64)
        dlogits, dvalues, sums, results = np.empty_like(logits), np.empty_like(values), sums_of(rows), np.empty(RESULTS)
        batch = (dlogits, dvalues, logits, advantages, old_log_prob, values, returns)
        rest = (used(old_values), chosen, None, valid, sums, results, rows, 1)
        numbers = (clip_range, range_of(clip_range_vf), entropy_coef, value_coef)
        wrong = categorical_ppo_loss(*batch, *rest, *numbers)
        if wrong == NO_ACTION:
            raise Refused("actions: expected numbers from 0 to {}, got others", logits.shape[-1] - 1)
        check_some_valid(wrong)
        return results[0], dlogits, dvalues, stats_of(results)

    return implementation


# ---- Gaussian --------------------------------------------------------------------------------------------------------


@overload(policy.gaussian_ppo_loss)
def _gaussian_ppo_loss(
    mean,
    log_std,
    actions,
    advantages,
    old_log_prob,
    values,
    returns,
    clip_range=0.2,
    clip_range_vf=None,
    old_values=None,
    entropy_coef=0.0,
    value_coef=0.5,
    valid=None,
    out=None,
):
    check_rows("mean", mean)
    shared = check_log_std("log_std", log_std, mean, "mean")
    column_sums = column_sums_of if shared else register_jitable(lambda rows, columns: None)
    check_array("actions", actions, mean, "mean")
    batches = {"advantages": advantages, "old_log_prob": old_log_prob, "values": values, "returns": returns}
    numbers = {"clip_range": clip_range, "entropy_coef": entropy_coef, "value_coef": value_coef}
    range_of, used = check_batches(mean, "mean", numbers, clip_range_vf, old_values, valid, out, **batches)

    def implementation(
        mean,
        log_std,
        actions,
        advantages,
        old_log_prob,
        values,
        returns,
        clip_range=0.2,
        clip_range_vf=None,
        old_values=None,
        entropy_coef=0.0,
        value_coef=0.5,
        valid=None,
        out=None,
    ):
        rows = filled_rows_of("mean", mean)
        check_spread("log_std", log_std, mean, "mean", shared)
        check_shape("actions", actions, mean.shape, "mean")
        check_ppo_shapes(mean, "mean", advantages, old_log_prob, values, returns)
        check_old_values_shape(old_values, values)
        check_valid_shape(valid, advantages.shape, "advantages")
        check_ppo_numbers(clip_range, entropy_coef, value_coef)
        dvalues, dmean, dlog_std = np.empty_like(values), np.empty_like(mean), np.empty_like(log_std)
        sums, results, columns = sums_of(rows), np.empty(RESULTS), mean.shape[-1]
        batch = (dvalues, dmean, dlog_std, mean, log_std, actions, advantages, old_log_prob, values, returns)
        rest = (used(old_values), valid, column_sums(rows, columns), sums, results, columns)
        numbers = (clip_range, range_of(clip_range_vf), entropy_coef, value_coef)
        wrong = gaussian_ppo_loss(*batch, *rest, *numbers)
        check_some_valid(wrong)
        return results[0], dmean, dlog_std, dvalues, stats_of(results)

    return implementation
