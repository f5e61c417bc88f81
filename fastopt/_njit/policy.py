"""The names of :mod:`fastopt.policy` that work inside ``@njit``."""

from __future__ import annotations

from math import inf

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from fastopt import policy
from fastopt._njit.checks import (
    Refused,
    check_address,
    check_array,
    check_finite,
    check_integers,
    check_numbers,
    check_output,
    check_rng,
    check_shape,
    given,
    is_none,
    new_or_checked,
    refuse,
)
from fastopt._njit.kernel import float64, int64, kernel, uint64
from fastopt.random import DOMAIN_ACTION

# What the functions of kernels/core/njit.cpp return for an action that is no column, and where no row is valid.
NO_ACTION, NONE_VALID = 3, 4
ROW_BLOCK = 64  # FASTOPT_ROW_BLOCK

categorical_kl = kernel("categorical_kl", 3, int64)
gaussian_kl = kernel("gaussian_kl", 5, int64, int64, int64)
categorical_log_prob = kernel("categorical_log_prob", 3, int64)
gaussian_log_prob = kernel("gaussian_log_prob", 4, int64, int64)
categorical_entropy = kernel("categorical_entropy", 2, int64)
gaussian_entropy = kernel("gaussian_entropy", 2, int64)
categorical_policy_gradient = kernel("categorical_policy_gradient", 7, int64, float64, contract=2)
gaussian_policy_gradient = kernel("gaussian_policy_gradient", 10, int64, float64, contract=2)
categorical_sample = kernel("categorical_sample", 2, int64, uint64, uint64, int64)
gaussian_sample = kernel("gaussian_sample", 3, int64, int64, uint64, uint64, int64)
discounted_returns = kernel("discounted_returns", 5, int64, float64)
gae = kernel("gae", 8, int64, float64, float64, contract=2)
vtrace = kernel("vtrace", 8, int64, float64, float64, float64, float64)
normalize_advantage = kernel("normalize_advantage", 2, int64, float64, contract=2)
mean_of = kernel("mean", 1, result=float64)


# ---- checks ----------------------------------------------------------------------------------------------------------


def check_rows(name, kind):
    check_array(name, kind)
    if kind.ndim == 0:
        raise refuse(name, "at least one dimension", "0")


def check_batch(name, kind, like, like_name):
    """One value for each row of `like`."""
    check_array(name, kind)
    if kind.dtype != like.dtype:
        raise refuse(name, f"{like.dtype} like {like_name}", kind.dtype, f"{name}.astype(np.{like.dtype}) converts it")
    if kind.ndim != like.ndim - 1:
        raise refuse(name, f"{like.ndim - 1} dimensions, one less than {like_name}", kind.ndim)


def check_log_std(name, kind, mean, mean_name):
    """Return whether it is one row for all."""
    if isinstance(kind, types.Array) and kind.ndim == 1 and kind.dtype == mean.dtype:
        check_array(name, kind)
        return True
    check_array(name, kind, mean, mean_name)
    return False


def check_whole(name, kind, dtype, dimensions):
    if not isinstance(kind, types.Array) or kind.dtype != dtype:
        raise refuse(name, f"an array of {dtype}", kind, f"{name}.astype(np.{dtype}) makes one")
    if kind.layout != "C" or not kind.aligned:
        raise refuse(name, "a C-contiguous array", kind, f"np.ascontiguousarray({name}) makes one")
    if kind.ndim != dimensions:
        raise refuse(name, f"{dimensions} dimensions", kind.ndim)


def check_actions(kind, logits):
    """Return whether they are int64 already, as the kernels take them."""
    if not isinstance(kind, types.Array) or not isinstance(kind.dtype, types.Integer):
        raise refuse("actions", "an array of integers", kind, "actions.astype(np.int64) makes one")
    check_whole("actions", kind, kind.dtype, logits.ndim - 1)
    return kind.dtype == int64


def check_valid(kind, dimensions):
    if not is_none(kind):
        check_whole("valid", kind, types.boolean, dimensions)


def wants_per_sample(kind):
    """The result is an array or a float: which one must be known when the code is compiled."""
    if not given(kind):
        return bool(getattr(kind, "value", kind))
    if not isinstance(kind, types.BooleanLiteral):
        raise refuse("per_sample", "True or False written out inside @njit", kind)
    return kind.literal_value


@register_jitable
def rows_of(name, x):
    if x.shape[-1] == 0:
        raise Refused("{}: expected shape (..., actions) with at least one action, got {}", name, x.shape)
    return x.size // x.shape[-1]


@register_jitable
def filled_rows_of(name, x):
    rows = rows_of(name, x)
    if rows == 0:
        raise Refused("{}: expected a batch of at least one, got shape {}", name, x.shape)
    return rows


@register_jitable
def check_columns(name, x, columns):
    if x.shape[-1] != columns:
        raise Refused("{}: expected {} actions, got shape {}", name, columns, x.shape)


@register_jitable
def check_spread(name, x, mean, mean_name, shared):
    """A log_std has the shape of its mean, or its last axis alone."""
    check_columns(name, x, mean.shape[-1])
    if not shared:
        check_shape(name, x, mean.shape, mean_name)


@register_jitable
def check_batch_shape(name, x, like, like_name):
    if x.shape != like.shape[:-1]:
        raise Refused(
            "{}: expected shape {}, one for each row of {}, got {}", name, like.shape[:-1], like_name, x.shape
        )


@register_jitable
def check_valid_shape(x, shape, like_name):
    if x is not None and x.shape != shape:
        raise Refused("valid: expected shape {} like {}, got {}", shape, like_name, x.shape)


@register_jitable
def check_some_valid(wrong):
    if wrong == NONE_VALID:
        raise ValueError("valid: expected at least one that is True, got none")


# ---- divergences -----------------------------------------------------------------------------------------------------


@overload(policy.categorical_kl, prefer_literal=True)
def _categorical_kl(old_logits, new_logits, per_sample=False):
    check_rows("old_logits", old_logits)
    check_array("new_logits", new_logits, old_logits, "old_logits")

    def of_samples(old_logits, new_logits, per_sample=False):
        rows_of("old_logits", old_logits)
        check_shape("new_logits", new_logits, old_logits.shape, "old_logits")
        kl = np.empty(old_logits.shape[:-1], old_logits.dtype)
        categorical_kl(kl, old_logits, new_logits, old_logits.shape[-1])
        return kl

    def mean(old_logits, new_logits, per_sample=False):
        kl = np.empty(filled_rows_of("old_logits", old_logits), old_logits.dtype)
        check_shape("new_logits", new_logits, old_logits.shape, "old_logits")
        categorical_kl(kl, old_logits, new_logits, old_logits.shape[-1])
        return mean_of(kl)

    return of_samples if wants_per_sample(per_sample) else mean


@overload(policy.gaussian_kl, prefer_literal=True)
def _gaussian_kl(old_mean, old_log_std, new_mean, new_log_std, per_sample=False):
    check_rows("old_mean", old_mean)
    old_shared = check_log_std("old_log_std", old_log_std, old_mean, "old_mean")
    check_array("new_mean", new_mean, old_mean, "old_mean")
    new_shared = check_log_std("new_log_std", new_log_std, old_mean, "old_mean")

    @register_jitable
    def fill(kl, old_mean, old_log_std, new_mean, new_log_std):
        check_spread("old_log_std", old_log_std, old_mean, "old_mean", old_shared)
        check_shape("new_mean", new_mean, old_mean.shape, "old_mean")
        check_spread("new_log_std", new_log_std, old_mean, "old_mean", new_shared)
        columns = old_mean.shape[-1]
        old_stride, new_stride = 0 if old_shared else columns, 0 if new_shared else columns
        gaussian_kl(kl, old_mean, old_log_std, new_mean, new_log_std, columns, old_stride, new_stride)

    def of_samples(old_mean, old_log_std, new_mean, new_log_std, per_sample=False):
        rows_of("old_mean", old_mean)
        kl = np.empty(old_mean.shape[:-1], old_mean.dtype)
        fill(kl, old_mean, old_log_std, new_mean, new_log_std)
        return kl

    def mean(old_mean, old_log_std, new_mean, new_log_std, per_sample=False):
        kl = np.empty(filled_rows_of("old_mean", old_mean), old_mean.dtype)
        fill(kl, old_mean, old_log_std, new_mean, new_log_std)
        return mean_of(kl)

    return of_samples if wants_per_sample(per_sample) else mean


# ---- log-probabilities and entropies ---------------------------------------------------------------------------------


@overload(policy.categorical_log_prob)
def _categorical_log_prob(logits, actions):
    check_rows("logits", logits)
    whole = check_actions(actions, logits)

    def implementation(logits, actions):
        rows_of("logits", logits)
        check_batch_shape("actions", actions, logits, "logits")
        log_prob, columns = np.empty(logits.shape[:-1], logits.dtype), logits.shape[-1]
        chosen = actions if whole else actions.astype(np.int64)
        if categorical_log_prob(log_prob, logits, chosen, columns):
            raise Refused("actions: expected numbers from 0 to {}, got others", columns - 1)
        return log_prob

    return implementation


@overload(policy.gaussian_log_prob)
def _gaussian_log_prob(mean, log_std, actions):
    check_rows("mean", mean)
    shared = check_log_std("log_std", log_std, mean, "mean")
    check_array("actions", actions, mean, "mean")

    def implementation(mean, log_std, actions):
        rows_of("mean", mean)
        check_spread("log_std", log_std, mean, "mean", shared)
        check_shape("actions", actions, mean.shape, "mean")
        log_prob, columns = np.empty(mean.shape[:-1], mean.dtype), mean.shape[-1]
        gaussian_log_prob(log_prob, mean, log_std, actions, columns, 0 if shared else columns)
        return log_prob

    return implementation


@register_jitable
def one_a_row(fill, name, x):
    rows_of(name, x)
    result = np.empty(x.shape[:-1], x.dtype)
    fill(result, x, x.shape[-1])
    return result


@overload(policy.categorical_entropy)
def _categorical_entropy(logits):
    check_rows("logits", logits)
    return lambda logits: one_a_row(categorical_entropy, "logits", logits)


@overload(policy.gaussian_entropy)
def _gaussian_entropy(log_std):
    check_rows("log_std", log_std)
    return lambda log_std: one_a_row(gaussian_entropy, "log_std", log_std)


# ---- sampling --------------------------------------------------------------------------------------------------------


@overload(policy.categorical_sample)
def _categorical_sample(logits, rng=None):
    check_rows("logits", logits)
    check_rng(rng)

    def implementation(logits, rng=None):
        rows_of("logits", logits)
        check_address(rng[0], rng[1])
        actions = np.empty(logits.shape[:-1], np.int64)
        categorical_sample(logits, actions, logits.shape[-1], rng[0], rng[1], DOMAIN_ACTION)
        return actions

    return implementation


@overload(policy.gaussian_sample)
def _gaussian_sample(mean, log_std, rng=None, out=None):
    check_rows("mean", mean)
    shared = check_log_std("log_std", log_std, mean, "mean")
    check_rng(rng)
    if not is_none(out):
        raise refuse("out", "None inside @njit", out)

    def implementation(mean, log_std, rng=None, out=None):
        rows_of("mean", mean)
        check_spread("log_std", log_std, mean, "mean", shared)
        check_address(rng[0], rng[1])
        actions, columns = np.empty_like(mean), mean.shape[-1]
        stride = 0 if shared else columns
        gaussian_sample(actions, mean, log_std, columns, stride, rng[0], rng[1], DOMAIN_ACTION)
        return actions

    return implementation


# ---- policy gradients ------------------------------------------------------------------------------------------------


@overload(policy.categorical_policy_gradient)
def _categorical_policy_gradient(logits, actions, advantages, entropy_coef=0.0, valid=None, out=None):
    check_rows("logits", logits)
    whole = check_actions(actions, logits)
    check_batch("advantages", advantages, logits, "logits")
    check_numbers(entropy_coef=entropy_coef)
    check_valid(valid, logits.ndim - 1)
    check_output("out", out, logits, "logits")

    def implementation(logits, actions, advantages, entropy_coef=0.0, valid=None, out=None):
        rows = filled_rows_of("logits", logits)
        check_batch_shape("actions", actions, logits, "logits")
        check_batch_shape("advantages", advantages, logits, "logits")
        check_finite("entropy_coef", entropy_coef)
        check_valid_shape(valid, advantages.shape, "advantages")
        dlogits = new_or_checked(out, logits)
        losses, loss, columns = np.empty(rows, logits.dtype), np.empty(1), logits.shape[-1]
        chosen = actions if whole else actions.astype(np.int64)
        arrays = (losses, dlogits, logits, advantages, chosen, valid, loss)
        wrong = categorical_policy_gradient(*arrays, columns, entropy_coef)
        check_some_valid(wrong)
        if wrong == NO_ACTION:
            raise Refused("actions: expected numbers from 0 to {}, got others", columns - 1)
        if wrong:
            raise ValueError("out: expected logits itself or memory apart, got arrays that overlap")
        return loss[0], dlogits

    return implementation


@register_jitable
def row_blocks(rows):
    return (rows + ROW_BLOCK - 1) // ROW_BLOCK


@register_jitable
def column_sums_of(rows, columns):
    return np.empty((row_blocks(rows), columns))


@overload(policy.gaussian_policy_gradient)
def _gaussian_policy_gradient(mean, log_std, actions, advantages, entropy_coef=0.0, valid=None, out=None):
    check_rows("mean", mean)
    shared = check_log_std("log_std", log_std, mean, "mean")
    check_array("actions", actions, mean, "mean")
    check_batch("advantages", advantages, mean, "mean")
    check_numbers(entropy_coef=entropy_coef)
    check_valid(valid, mean.ndim - 1)
    if not is_none(out):
        raise refuse("out", "None inside @njit", out)

    def implementation(mean, log_std, actions, advantages, entropy_coef=0.0, valid=None, out=None):
        rows = filled_rows_of("mean", mean)
        check_spread("log_std", log_std, mean, "mean", shared)
        check_shape("actions", actions, mean.shape, "mean")
        check_batch_shape("advantages", advantages, mean, "mean")
        check_finite("entropy_coef", entropy_coef)
        check_valid_shape(valid, advantages.shape, "advantages")
        dmean, dlog_std, losses = np.empty_like(mean), np.empty_like(log_std), np.empty(rows, mean.dtype)
        loss, columns = np.empty(1), mean.shape[-1]
        arrays = (losses, dmean, dlog_std, mean, log_std, actions, advantages, valid)
        if shared:
            wrong = gaussian_policy_gradient(*arrays, column_sums_of(rows, columns), loss, columns, entropy_coef)
        else:
            wrong = gaussian_policy_gradient(*arrays, None, loss, columns, entropy_coef)
        check_some_valid(wrong)
        return loss[0], dmean, dlog_std

    return implementation


# ---- advantages ------------------------------------------------------------------------------------------------------


def check_steps(rewards, terminated, truncated):
    check_array("rewards", rewards)
    if rewards.ndim == 0:
        raise refuse("rewards", "at least one dimension", "0")
    check_whole("terminated", terminated, types.boolean, rewards.ndim)
    check_whole("truncated", truncated, types.boolean, rewards.ndim)


@overload(policy.discounted_returns)
def _discounted_returns(rewards, terminated, truncated, gamma, next_values=None):
    check_steps(rewards, terminated, truncated)
    check_numbers(gamma=gamma)
    if not is_none(next_values):
        check_array("next_values", next_values, rewards, "rewards")

    def implementation(rewards, terminated, truncated, gamma, next_values=None):
        check_shape("terminated", terminated, rewards.shape, "rewards")
        check_shape("truncated", truncated, rewards.shape, "rewards")
        if next_values is not None:
            check_shape("next_values", next_values, rewards.shape, "rewards")
        if not 0 <= gamma <= 1:
            raise Refused("gamma: expected a number from 0 to 1, got {}", gamma)
        returns = np.empty_like(rewards)
        discounted_returns(returns, rewards, next_values, terminated, truncated, len(rewards), gamma)
        return returns

    return implementation


@overload(policy.gae)
def _gae(rewards, values, next_values, terminated, truncated, gamma, lam, valid=None):
    check_steps(rewards, terminated, truncated)
    check_array("values", values, rewards, "rewards")
    check_array("next_values", next_values, rewards, "rewards")
    check_numbers(gamma=gamma, lam=lam)
    check_valid(valid, rewards.ndim)

    def implementation(rewards, values, next_values, terminated, truncated, gamma, lam, valid=None):
        check_steps_shape(rewards, values, next_values, terminated, truncated, gamma, lam)
        check_valid_shape(valid, rewards.shape, "rewards")
        advantages, returns = np.empty_like(rewards), np.empty_like(rewards)
        arrays = (advantages, returns, rewards, values, next_values, terminated, truncated, valid)
        gae(*arrays, len(rewards), gamma, lam)
        return advantages, returns

    return implementation


@register_jitable
def check_steps_shape(rewards, values, next_values, terminated, truncated, gamma, lam):
    check_shape("values", values, rewards.shape, "rewards")
    check_shape("next_values", next_values, rewards.shape, "rewards")
    check_shape("terminated", terminated, rewards.shape, "rewards")
    check_shape("truncated", truncated, rewards.shape, "rewards")
    if not 0 <= gamma <= 1:
        raise Refused("gamma: expected a number from 0 to 1, got {}", gamma)
    if not 0 <= lam <= 1:
        raise Refused("lam: expected a number from 0 to 1, got {}", lam)


@overload(policy.vtrace)
def _vtrace(log_ratios, rewards, values, next_values, terminated, truncated, gamma, lam=1.0, rho_clip=1.0, c_clip=1.0):
    check_steps(rewards, terminated, truncated)
    check_array("log_ratios", log_ratios, rewards, "rewards")
    check_array("values", values, rewards, "rewards")
    check_array("next_values", next_values, rewards, "rewards")
    check_numbers(gamma=gamma, lam=lam, rho_clip=rho_clip, c_clip=c_clip)

    def implementation(
        log_ratios, rewards, values, next_values, terminated, truncated, gamma, lam=1.0, rho_clip=1.0, c_clip=1.0
    ):
        check_shape("log_ratios", log_ratios, rewards.shape, "rewards")
        check_steps_shape(rewards, values, next_values, terminated, truncated, gamma, lam)
        if not 0 < rho_clip < inf:
            raise Refused("rho_clip: expected a finite number > 0, got {}", rho_clip)
        if not 0 < c_clip < inf:
            raise Refused("c_clip: expected a finite number > 0, got {}", c_clip)
        targets, advantages = np.empty_like(rewards), np.empty_like(rewards)
        arrays = (targets, advantages, log_ratios, rewards, values, next_values, terminated, truncated)
        vtrace(*arrays, len(rewards), gamma, lam, rho_clip, c_clip)
        return targets, advantages

    return implementation


@overload(policy.normalize_advantage)
def _normalize_advantage(advantages, eps=1e-8, ddof=0, out=None):
    check_array("advantages", advantages)
    check_numbers(eps=eps)
    check_integers(ddof=ddof)
    check_output("out", out, advantages, "advantages")

    def implementation(advantages, eps=1e-8, ddof=0, out=None):
        if not 0 < eps < inf:
            raise Refused("eps: expected a finite number > 0, got {}", eps)
        if advantages.size == 0:
            raise Refused("advantages: expected a batch of at least one, got shape {}", advantages.shape)
        if not 0 <= ddof < 2**62:
            raise Refused("ddof: expected 0 <= ddof < 2**62, got {}", ddof)
        if advantages.size <= ddof:
            raise Refused("advantages: expected more than ddof = {} elements, got shape {}", ddof, advantages.shape)
        y = new_or_checked(out, advantages)
        if normalize_advantage(y, advantages, ddof, eps):
            raise ValueError("out: expected advantages itself or memory apart, got arrays that overlap in part")
        return y

    return implementation
