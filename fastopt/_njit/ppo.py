"""The losses of PPO inside ``@njit``."""

from __future__ import annotations

from math import inf

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from fastopt import policy
from fastopt._njit.checks import Refused, check_numbers, is_none, refuse
from fastopt._njit.kernel import float64, int64, kernel
from fastopt._njit.policy import (
    NO_ACTION,
    check_actions,
    check_batch,
    check_batch_shape,
    check_entropy_coef,
    check_rows,
    check_whole,
    filled_rows_of,
)

BLOCK, SUMS, RESULTS = 64, 5, 6  # FASTOPT_ROW_BLOCK, FASTOPT_PPO_SUMS and FASTOPT_PPO_RESULTS
PPOStats = policy.PPOStats

categorical_ppo_loss = kernel("categorical_ppo_loss", 13, int64, int64, float64, float64, float64, float64)


# ---- checks ----------------------------------------------------------------------------------------------------------


def check_batches(x, x_name, clip_range_vf, old_values, valid, out, **batches):
    """Refuse what is no batch of `x`; return whether the values are clipped."""
    for name, kind in batches.items():
        check_batch(name, kind, x, x_name)
    clips = not is_none(clip_range_vf)
    if clips or not is_none(old_values):
        check_batch("old_values", old_values, x, x_name)
    if not is_none(valid):
        check_whole("valid", valid, types.boolean, x.ndim - 1)
    if not is_none(out):
        raise refuse("out", "None inside @njit", out)
    return clips


@register_jitable
def check_range(name, value):
    if not 0 <= value < inf:
        raise Refused("{}: expected a finite number >= 0, got {}", name, value)


@register_jitable
def check_ppo_numbers(clip_range, entropy_coef, value_coef):
    check_range("clip_range", clip_range)
    check_entropy_coef(entropy_coef)
    if not -inf < value_coef < inf:
        raise Refused("value_coef: expected a finite number, got {}", value_coef)


@register_jitable
def check_ppo_shapes(x, x_name, advantages, old_log_prob, values, returns):
    check_batch_shape("advantages", advantages, x, x_name)
    check_batch_shape("old_log_prob", old_log_prob, x, x_name)
    check_batch_shape("values", values, x, x_name)
    check_batch_shape("returns", returns, x, x_name)


@register_jitable
def check_optional_shape(name, x, like, like_name):
    if x is not None:
        check_batch_shape(name, x, like, like_name)


@register_jitable
def sums_of(rows):
    return np.empty((rows + BLOCK - 1) // BLOCK * SUMS)


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
    clips = check_batches(logits, "logits", clip_range_vf, old_values, valid, out, **batches)
    check_numbers(clip_range=clip_range, entropy_coef=entropy_coef, value_coef=value_coef)
    if clips:
        check_numbers(clip_range_vf=clip_range_vf)

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
        check_optional_shape("old_values", old_values, logits, "logits")
        check_optional_shape("valid", valid, logits, "logits")
        check_ppo_numbers(clip_range, entropy_coef, value_coef)
        chosen = actions if whole else actions.astype(np.int64)
        dlogits, dvalues, sums, results = np.empty_like(logits), np.empty_like(values), sums_of(rows), np.empty(RESULTS)
        batch = (dlogits, dvalues, logits, advantages, old_log_prob, values, returns)
        rest = (chosen, None, valid, sums, results, rows, 1, clip_range)
        if clips:
            check_range("clip_range_vf", clip_range_vf)
            wrong = categorical_ppo_loss(*batch, old_values, *rest, clip_range_vf, entropy_coef, value_coef)
        else:
            wrong = categorical_ppo_loss(*batch, None, *rest, 0.0, entropy_coef, value_coef)
        if wrong == NO_ACTION:
            raise Refused("actions: expected numbers from 0 to {}, got others", logits.shape[-1] - 1)
        if wrong:
            raise ValueError("valid: expected at least one that is True, got none")
        stats = PPOStats(results[1], results[2], results[3], results[4], results[5])
        return results[0], dlogits, dvalues, stats

    return implementation
